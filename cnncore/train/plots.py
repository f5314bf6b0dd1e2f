"""The pictures of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnncore.data import Sample
from cnncore.errors import require
from cnncore.train.loop import History
from cnncore.vision import nms
from cnncore.vision.draw import DrawSettings, Picture, draw_objects, tile
from cnncore.vision.metrics import Objects

SURE = 0.5  # detections shown have at least this score
SAME = 0.5  # and no surer one of any class overlaps them by more than this IoU


def shown(found: Objects, least: float = SURE) -> Objects:
    """The detections a person would be shown: sure ones, never two of them on one object.

    Scores of average precision are computed on all detections; this is for pictures and counts.
    """
    assert found.scores is not None
    sure = np.flatnonzero(found.scores >= least)
    kept = sure[nms(found.boxes[sure], found.scores[sure], SAME)]
    masks = None if found.masks is None else found.masks[kept]
    return Objects(found.boxes[kept], found.labels[kept], masks, found.scores[kept])


def draw_losses(history: History, window: int = 50) -> Any:
    """Every loss term over the steps with its moving average, on a logarithmic axis."""
    plt = require("matplotlib.pyplot", "vision")
    figure, axis = plt.subplots(figsize=(9, 4), layout="constrained")
    for name, values in history.terms.items():
        (line,) = axis.plot(values, alpha=0.15, linewidth=0.8)
        if len(values) >= window:
            smooth = np.convolve(values, np.full(window, 1 / window), "valid")
            steps = np.arange(window - 1, len(values))
            axis.plot(steps, smooth, color=line.get_color(), label=name)
        else:
            line.set(alpha=1, label=name)
    axis.set(xlabel="step", ylabel="loss", yscale="log")
    axis.grid(alpha=0.3)
    axis.legend(ncols=2, fontsize="small")
    return figure


def draw_class_scores(scores: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Bars of AP50 a class, one group a class, one bar a kind (boxes, masks)."""
    plt = require("matplotlib.pyplot", "vision")
    figure, axis = plt.subplots(figsize=(9, 3), layout="constrained")
    width = 0.8 / len(scores)
    for position, (kind, values) in enumerate(scores.items()):
        axis.bar(np.arange(len(names)) + position * width, values, width, label=kind)
    axis.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names)
    axis.set(ylim=(0, 1), ylabel="AP50")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(loc="lower right", fontsize="small")
    return figure


def prediction_sheet(
    samples: Sequence[Sample],
    predictions: Sequence[Any],
    which: Sequence[int],
    names: Sequence[str],
) -> Picture:
    """Truth above, prediction below, scenes side by side."""
    settings = DrawSettings(scale=2, class_names=tuple(names))
    if not len(which):
        return np.full((24, 24, 3), 255, np.uint8)
    columns = 4
    pictures: list[Picture] = []
    for start in range(0, len(which), columns):
        row = which[start : start + columns]
        for i in row:
            s = samples[i]
            pictures.append(draw_objects(s.image, s.boxes, s.labels, s.masks, settings=settings))
        pictures += [np.full_like(pictures[0], 255)] * (columns - len(row))
        for i in row:
            p = shown(predictions[i])
            pictures.append(
                draw_objects(samples[i].image, p.boxes, p.labels, p.masks, p.scores, settings)
            )
        pictures += [np.full_like(pictures[0], 255)] * (columns - len(row))
    return tile(pictures, columns)
