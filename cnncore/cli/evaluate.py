"""``cnncore evaluate NAME``: a trained network on a data set; table, pictures, results as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, require
from cnncore.io import atomic_write


def add_parser(commands: Any) -> None:
    """Register the command."""
    from cnncore.train.sources import FORMS

    parser = commands.add_parser("evaluate", help="score a trained network on a data set")
    parser.add_argument("name", help="which network, as for cnncore train")
    parser.add_argument("--data", help=f"{', '.join(FORMS)} (default: what it was trained on)")
    parser.add_argument("--split", help="validation or test; of voc:… any image set")
    parser.add_argument("--count", type=int, help="images to score on (default: all of the split)")
    parser.add_argument(
        "--checkpoint", type=Path, help="of cnncore train (default: runs/NAME/checkpoint.npz)"
    )
    parser.add_argument(
        "--output", type=Path, help="folder of the results (default: runs/NAME/evaluation)"
    )
    parser.add_argument("--pictures", type=int, default=12, help="images to draw (default 12)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Score, print, write."""
    from cnncore.models.detection import Detector
    from cnncore.models.segmentation import Segmenter
    from cnncore.train import load_task
    from cnncore.train.sources import open_source

    checkpoint = options.checkpoint or Path("runs") / options.name / "checkpoint.npz"
    task = load_task(checkpoint, options.name)
    if task.source is None or not isinstance(task.model, (Segmenter, Detector)):
        raise ArgumentError("name", "a segmentation network or a detector", options.name)
    boxes = isinstance(task.model, Detector)
    source = open_source(options.data or task.source.text, boxes=boxes)
    if source.class_names != task.source.class_names:
        got = f"{', '.join(source.class_names)}"
        expected = f"data of the classes that it knows: {', '.join(task.source.class_names)}"
        raise ArgumentError("data", expected, got)
    split = options.split or source.held_out or "all"
    samples = source.scored(split, options.count, ignored=boxes)
    folder = options.output or Path("runs") / options.name / "evaluation"
    evaluate = _objects if boxes else _maps
    scores = evaluate(task, source, samples, folder, options)
    print(f"{options.name} on {len(samples)} images of {source.text}, {split}:")
    print("\n".join(f"  {line}".rstrip() for line in scores.lines()))
    record = {
        "network": options.name,
        "checkpoint": str(checkpoint),
        "data": source.text,
        "split": split,
        **scores.record(),
    }
    with atomic_write(folder / "results.json") as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())
    print(f"Results: {folder / 'results.json'}, pictures beside it")
    return 0


def _maps(task: Any, source: Any, samples: Any, folder: Path, options: Any) -> Any:
    """Label maps: overlays beside the truth, and the confusion matrix."""
    from cnncore.autograd import no_grad
    from cnncore.evaluate import MapScores, evaluate_maps
    from cnncore.evaluate.plots import draw_confusion
    from cnncore.vision import compare_labels

    names, ignored = source.label_names, source.ignore_index

    def draw(index: int, sample: Any, labels: Any) -> None:
        if index < options.pictures:
            pairs = (("truth", sample.semantic), ("prediction", labels))
            scale = max(1, 256 // max(sample.semantic.shape))
            sheet = compare_labels(sample.image, pairs, names, ignored, scale)
            write_picture(folder / f"{index:04}.png", sheet)

    scores = MapScores(names, ignored)
    task.model.eval()
    with no_grad():
        evaluate_maps(task.predict, samples, scores, draw, progress=not options.quiet)
    figure = draw_confusion(scores.confusion, names)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "confusion.png", dpi=130)
    require("matplotlib.pyplot", "vision").close(figure)
    return scores


def _objects(task: Any, source: Any, samples: Any, folder: Path, options: Any) -> Any:
    """Detections: drawn beside the truth, and written as COCO's results."""
    from cnncore.autograd import no_grad
    from cnncore.data import write_coco_results
    from cnncore.evaluate.objects import ObjectScores, evaluate_objects
    from cnncore.train.plots import shown
    from cnncore.vision import DrawSettings, beside, draw_objects, titled

    settings = DrawSettings(scale=2, class_names=source.class_names)

    def draw(index: int, sample: Any, found: Any) -> None:
        if index < options.pictures:
            sure = shown(found)
            pictures = [
                draw_objects(
                    sample.image, o.boxes, o.labels, o.masks, getattr(o, "scores", None), settings
                )
                for o in (sample, sure)
            ]
            words = ("truth", "prediction")
            sheet = beside([titled(p, w) for p, w in zip(pictures, words, strict=True)])
            write_picture(folder / f"{index:04}.png", sheet)

    scores = ObjectScores(source.class_names, masks=not source.boxes_only)
    task.model.eval()
    with no_grad():
        evaluate_objects(task.predict, samples, scores, draw, progress=not options.quiet)
    images = getattr(samples.dataset, "image_ids", range(1, len(samples) + 1))[: len(samples)]
    categories = getattr(samples.dataset, "category_ids", range(1, len(source.class_names) + 1))
    write_coco_results(folder / "detections.json", scores.found, images, categories)
    return scores


def write_picture(path: Path, picture: np.ndarray[Any, Any]) -> None:
    """As PNG."""
    image = require("PIL.Image", "vision").fromarray(picture)
    with atomic_write(path) as file:
        image.save(file, format="PNG")
