"""Draw docs/segmentation-pictures.md: what trained networks see, beside the truth.

    python docs/segmentation_pictures.py [--runs runs] [NAME …]

Uses the checkpoints ``RUNS/NAME/checkpoint.npz`` of ``cnncore train``; trains what is missing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from pictures import COUNT, MANY, SHOWN, rich, save, trained

from cnncore import vision
from cnncore.autograd import no_grad
from cnncore.evaluate import MapScores, evaluate_maps
from cnncore.evaluate.plots import draw_confusion
from cnncore.train import Task

HERE = Path(__file__).parent
NAMES = (  # of scenes of ordinary size
    *("fcn8s_at_once", "fcn_resnet", "deeplabv3", "fpn"),
    *("deconvnet", "segnet", "ternausnet16", "unet"),
)
NUCLEI = "unet_nuclei"


def scored(task: Task) -> MapScores:
    """Its scores on the held-out samples."""
    assert task.source is not None
    scores = MapScores(task.source.label_names, task.source.ignore_index)
    with no_grad():
        evaluate_maps(task.predict, task.source.scored("test", COUNT), scores)
    return scores


def faint(image: np.ndarray) -> np.ndarray:
    """Grey and dark, so that only classes have a colour."""
    return np.repeat(image.mean(0, keepdims=True) * np.float32(0.6), 3, 0)


def scenes_sheet(tasks: dict[str, Task]) -> None:
    """A column a scene; rows: image, truth, one network each; below, the legend."""
    source = next(iter(tasks.values())).source
    assert source is not None
    samples = rich(source.scored("test", COUNT))
    names, scale = source.label_names, 2

    def row(word: str, pictures: list[np.ndarray]) -> np.ndarray:
        large = [p.repeat(scale, 0).repeat(scale, 1) for p in pictures]
        return vision.beside([vision.titled(p, word if not k else "") for k, p in enumerate(large)])

    def over(maps: list[np.ndarray]) -> list[np.ndarray]:
        pairs = zip(samples, maps, strict=True)
        return [vision.overlay_labels(faint(s.image), m, len(names), 0.9) for s, m in pairs]

    rows = [
        row("held-out scenes", [vision.to_picture(s.image) for s in samples]),
        row("truth", over([s.semantic for s in samples])),
    ]
    for name, task in tasks.items():
        with no_grad():
            rows.append(row(name, over(task.predict(samples))))
    half = -(-len(rows) // 2)
    columns = [vision.above(rows[:half]), vision.above(rows[half:]), vision.legend(names)]
    save("segmentation-scenes", vision.beside(columns))


def nuclei_sheet(task: Task) -> None:
    """The unseen region: image, truth, prediction, and where they differ."""
    assert task.source is not None
    sample = task.source.split("test", False)[0]
    with no_grad():
        (labels,) = task.predict([sample])
    # Lying on its side, for a page is wider than high.
    image, truth, found = sample.image.transpose(0, 2, 1), sample.semantic.T, labels.T
    names = ("background", "nucleus", "missed", "invented")
    errors = np.where((truth == 1) & (found == 0), 2, np.where((truth == 0) & (found == 1), 3, 0))
    parts = [
        vision.titled(vision.to_picture(image), "microscope image, region not seen in training"),
        vision.titled(vision.overlay_labels(image, truth, 4), "truth"),
        vision.titled(vision.overlay_labels(image, found, 4), f"prediction of {task.name}"),
        vision.titled(vision.overlay_labels(image, errors, 4, 0.9), "errors"),
    ]
    save("segmentation-nuclei", vision.beside([vision.above(parts), vision.legend(names)]))


def page(rows: list[tuple[str, MapScores]], nuclei: MapScores) -> str:
    """The page in Markdown."""
    lines = [
        "| network | mean IoU | mean Dice | mean boundary F1 | pixel accuracy |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, scores in rows:
        means = scores.means()
        shown = ("mean IoU", "mean Dice", "mean boundary F1", "pixel accuracy")
        lines.append(f"| `{name}` | " + " | ".join(f"{means[key]:.3f}" for key in shown) + " |")
    nucleus = nuclei.classes()[1]
    return f"""# What the segmentation networks see

Made by `python docs/segmentation_pictures.py`, which trains with `cnncore train NAME` what is not
yet trained, scores it and draws this page. One seed each; the recipes are in
[train/segmentation.py](../cnncore/train/segmentation.py), the scores of all systems in
[segmentation.md](segmentation.md).

## Scenes

{COUNT} held-out scenes of digits that training has not seen; eleven classes. Boundaries count as
met within two pixels.

{chr(10).join(lines)}

The first {SHOWN} of these scenes with at least {MANY} digits; background is grey, a class is a
colour.

![Scenes, truth, and the prediction of each network](images/segmentation-scenes.png)

What `{rows[-1][0]}` takes for what, in per cent of each true class's pixels:

![Confusion matrix](images/segmentation-confusion.png)

## Nuclei

One microscope image of 512×512 pixels with 125 labelled nuclei, from the package `stardist`
(BSD-3). Columns 0–255 are for training (crops, mirrored, turned, scaled, deformed), 352–511 for the
test. On these, U-Net reaches an IoU of **{nucleus["IoU"]:.3f}** for nuclei (Dice
{nucleus["Dice"]:.3f}, boundary F1 {nucleus["boundary F1"]:.3f}). The best threshold on the smoothed
image, chosen on the training region, reaches 0.801. Here the region lies on its side.

![Nuclei: image, truth, prediction, errors](images/segmentation-nuclei.png)

`cnncore evaluate NAME` writes such pictures, the table of every class and the confusion matrix for
any trained network; `cnncore predict IMAGE --model runs/NAME/checkpoint.npz --overlay` draws the
label map of a picture of your own.
"""


def main() -> None:
    """Train, score, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    tasks = {name: trained(name, options.runs) for name in options.names}
    if len({task.source.text for task in tasks.values() if task.source}) > 1:
        parser.error("networks that learn from the same data: they share a sheet")
    rows = [(name, scored(task)) for name, task in tasks.items()]
    scenes_sheet(tasks)
    scores = rows[-1][1]
    draw_confusion(scores.confusion, scores.names).savefig(
        HERE / "images" / "segmentation-confusion.png", dpi=90
    )
    nuclei = trained(NUCLEI, options.runs)
    nuclei_sheet(nuclei)
    text = page(rows, scored(nuclei))
    (HERE / "segmentation-pictures.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
