"""The main job: train a Mask R-CNN from scratch on scenes of real digits, score it, report it.

Everything goes to one folder: ``checkpoint.npz`` (so that a run can be stopped and resumed),
``metrics.json`` and ``index.html``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnncore.autograd import no_grad
from cnncore.data import Sample, Scenes
from cnncore.explain.cost import CostTable, record_cost
from cnncore.explain.matrix import convolution_matrix, draw_matrix_pair
from cnncore.explain.regions import draw_region, follow_region
from cnncore.inspect import machine
from cnncore.io import atomic_write
from cnncore.report import Picture, Report
from cnncore.train.loop import History, fit, total_loss
from cnncore.train.plots import draw_class_scores, draw_losses, prediction_sheet, shown
from cnncore.train.registry import make_task
from cnncore.train.tasks import Task, held_out, images_of
from cnncore.vision import box_iou
from cnncore.vision.metrics import Objects, coco_class_ap

TEST_SCENES = 300
SHOWN = 8


def run(folder: Path, fresh: bool = False, progress: bool = True, **changes: Any) -> dict[str, Any]:
    """Train (or resume), evaluate on held-out scenes, write the report; returns the metrics."""
    checkpoint = folder / "checkpoint.npz"
    if fresh:
        checkpoint.unlink(missing_ok=True)
    task = make_task("maskrcnn_small", **changes)
    history = fit(task.model, task.loss, task.batches, task.recipe, checkpoint, progress)
    samples = held_out("test", TEST_SCENES)
    predictions, scores = task.evaluate(samples)
    metrics = {
        "scores": scores,
        "test_scenes": len(samples),
        "steps": history.steps,
        "planned_steps": task.recipe.steps,
        "training_seconds": round(sum(history.seconds), 1),
        "seed": task.recipe.seed,
        "machine": machine(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "metrics.json") as file:
        file.write((json.dumps(metrics, indent=2) + "\n").encode())
    report = build_report(task, history, samples, predictions, metrics)
    report.write(folder / "index.html")
    return metrics


def build_report(
    task: Task,
    history: History,
    samples: Sequence[Sample],
    predictions: Sequence[Any],
    metrics: dict[str, Any],
) -> Report:
    """The page: what was found and missed, how training went, and a look inside the layers."""
    names = Scenes("test", 1).class_names
    report = Report(
        "Mask R-CNN on scenes of handwritten digits",
        f"{metrics['steps']} of {metrics['planned_steps']} steps from scratch in "
        f"{metrics['training_seconds']:.0f} s on {metrics['machine']}; scored on "
        f"{metrics['test_scenes']} scenes of digits that training has not seen.",
    )
    _add_scores(report, samples, predictions, metrics, names)
    _add_pictures(report, samples, predictions, names)
    report.add(
        "Loss",
        "Each term over the steps (faint) and its moving average.",
        pictures=[Picture(draw_losses(history), "Training loss, one line a term")],
    )
    table = measure_cost(task, samples[: task.recipe.batch_size])
    report.add(
        "What each layer costs",
        f"One training step on {task.recipe.batch_size} images, watched while it ran. Kept: bytes "
        "held for the backward pass, each array counted once, weights left out.",
        table=table.cells(),
        total=True,
    )
    _add_matrix(report)
    _add_region(report, task, samples)
    return report


def _add_scores(
    report: Report,
    samples: Sequence[Sample],
    predictions: Sequence[Any],
    metrics: dict[str, Any],
    names: Sequence[str],
) -> None:
    scores = metrics["scores"]
    shown = ("AP", "AP50", "AP75", "AR_10")
    table: list[tuple[str, ...]] = [("", *shown)]
    for kind in ("box", "mask"):
        table.append((kind, *(f"{scores[f'{kind} {name}']:.3f}" for name in shown)))
    truth = [Objects(s.boxes, s.labels, s.masks) for s in samples]
    per_class = {
        kind: coco_class_ap(predictions, truth, len(names), kind, 0.5)
        for kind in ("boxes", "masks")
    }
    report.add(
        "Scores",
        "Average precision as COCO defines it: AP over IoU 0.50 … 0.95, AP50 at 0.50 alone.",
        table=table,
        pictures=[Picture(draw_class_scores(per_class, names), "AP50 of each digit")],
    )


def _add_pictures(
    report: Report, samples: Sequence[Sample], predictions: Sequence[Any], names: Sequence[str]
) -> None:
    first = list(range(min(SHOWN, len(samples))))
    worst = worst_scenes(samples, predictions, SHOWN)
    report.add(
        "Predictions beside truth",
        "The first held-out scenes, not chosen: truth above, prediction below. Shown are "
        "detections with a score of at least 0.5, and of several on one object the surest.",
        pictures=[Picture(prediction_sheet(samples, predictions, first, names))],
    )
    report.add(
        "The misses",
        "The held-out scenes with the most objects missed or invented.",
        pictures=[Picture(prediction_sheet(samples, predictions, worst, names))],
    )


def worst_scenes(samples: Sequence[Sample], predictions: Sequence[Any], count: int) -> list[int]:
    """Scenes with the most objects without a detection shown plus detections without an object."""
    errors = []
    for sample, found in zip(samples, predictions, strict=True):
        detections = shown(found)
        overlap = box_iou(sample.boxes, detections.boxes.astype(np.float32))
        right = (overlap > 0.5) & (sample.labels[:, None] == detections.labels[None])
        errors.append(int((~right.any(axis=1)).sum() + (~right.any(axis=0)).sum()))
    return [int(i) for i in np.argsort(errors, kind="stable")[::-1][:count] if errors[i] > 0]


def measure_cost(task: Task, batch: Sequence[Sample]) -> CostTable:
    """The cost table of one training step (the second one: the first pays for memory)."""

    def step() -> None:
        total_loss(task.loss(batch, np.random.default_rng(0), 1.0)).backward()
        task.model.zero_grad()

    step()
    with record_cost(task.model) as table:
        step()
    return table


def _add_matrix(report: Report) -> None:
    weight = np.array([[[[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]]]])
    pair = convolution_matrix(weight, (7, 7), stride=2, padding=1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=pair.matrix.shape[1]), rng.normal(size=pair.matrix.shape[0])
    left, right = float((pair.matrix @ x) @ y), float(x @ (pair.matrix.T @ y))
    report.add(
        "A layer is a matrix",
        "A 3×3 edge filter with stride 2 and padding 1 on a 7×7 image, written out as the matrix A "
        f"of y = A x: a {pair.sharing}. Its transpose is the transposed convolution, and the "
        "gradient towards the input.",
        f"For random x and y: <A x, y> = {left:.12f}, <x, Aᵀ y> = {right:.12f}.",
        pictures=[Picture(draw_matrix_pair(pair))],
    )


def _add_region(report: Report, task: Task, samples: Sequence[Sample]) -> None:
    sample = next((s for s in samples if len(s.boxes)), None)
    if sample is None:
        return
    with no_grad():
        features = task.model.backbone(images_of([sample]))[0].numpy()[0]
    stride = sample.image.shape[1] / features.shape[1]
    followed = follow_region(features, sample.boxes[0], 1 / stride, (7, 7))
    report.add(
        "One region, two ways",
        f"A true box on the finest feature map (stride {stride:.0f}), one channel. RoI pooling "
        "rounds the box to whole cells and takes the maximum of each bin (dots: the switches "
        "that the gradient will follow); RoI Align rounds nothing and averages four bilinear "
        "samples a bin.",
        pictures=[Picture(draw_region(followed))],
    )
