"""How many objects a number of proposals finds: the curve by which proposal methods are compared.

Source: Hosang et al., "What makes for effective detection proposals?", 2016, section 4; best
overlap: Uijlings et al., "Selective Search for Object Recognition", 2013, section 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnncore.errors import ArgumentError, require
from cnncore.geometry import as_int
from cnncore.vision.boxes import as_boxes, box_iou
from cnncore.vision.metrics import NOTHING

Floats = NDArray[np.float64]
COUNTS = (1, 3, 10, 30, 100, 300, 1000, 3000)
COCO_IOUS = tuple(0.5 + 0.05 * step for step in range(10))


def best_overlaps(
    proposals: Sequence[ArrayLike], truth: Sequence[ArrayLike], counts: Sequence[int] = COUNTS
) -> Floats:
    """The best IoU of every true box with the first ``n`` proposals of its image.

    ``(len(counts), G)``; ``proposals`` and ``truth`` hold boxes ``(R, 4)`` for each image, the best
    proposals first.

    >>> best_overlaps([[[0, 0, 4, 4], [0, 0, 2, 4]]], [[[0, 0, 2, 4]]], (1, 2)).tolist()
    [[0.5], [1.0]]
    """
    if len(proposals) != len(truth):
        raise ArgumentError("proposals", f"boxes for each image, {len(truth)}", len(proposals))
    numbers = [as_int("counts", count, 0) for count in counts]
    columns = [np.zeros((len(numbers), 0))]
    for image, (found, true) in enumerate(zip(proposals, truth, strict=True)):
        boxes = as_boxes(found, f"proposals[{image}]")
        iou = box_iou(boxes, as_boxes(true, f"truth[{image}]")).astype(np.float64)
        # Row n: the best of the first n; row 0, of none, is 0.
        best = np.maximum.accumulate(np.concatenate([np.zeros((1, iou.shape[1])), iou]), 0)
        columns.append(best[np.minimum(numbers, len(boxes))])
    return np.concatenate(columns, 1)


def proposal_recall(
    proposals: Sequence[ArrayLike],
    truth: Sequence[ArrayLike],
    counts: Sequence[int] = COUNTS,
    iou: float | Sequence[float] = 0.5,
) -> Floats:
    """The share of true boxes that one of the first ``n`` proposals overlaps by ``iou``, per count.

    Of several ``iou`` (``COCO_IOUS``, say) the mean: average recall.  -1 without true boxes.

    >>> proposal_recall([[[0, 0, 4, 4], [0, 0, 2, 4]]], [[[0, 0, 2, 4]]], (1, 2), 0.6).tolist()
    [0.0, 1.0]
    """
    thresholds = np.atleast_1d(np.asarray(iou, np.float64))
    if (
        thresholds.ndim != 1
        or not len(thresholds)
        or not ((thresholds >= 0) & (thresholds <= 1)).all()
    ):
        raise ArgumentError("iou", "a number in 0..1, or several", iou)
    best = best_overlaps(proposals, truth, counts)
    if not best.shape[1]:
        return np.full(len(best), NOTHING)
    hits: Floats = (best[..., None] >= thresholds).mean((1, 2))
    return hits


def draw_proposal_recall(
    recalls: Mapping[str, ArrayLike], counts: Sequence[int] = COUNTS, iou: str = "0.5"
) -> Any:
    """Recall over the number of proposals, one line a method; a matplotlib figure."""
    plt = require("matplotlib.pyplot", "vision")
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, values in recalls.items():
        axis.plot(counts, np.asarray(values), marker="o", markersize=3, label=name)
    axis.set(xlabel="proposals", ylabel=f"recall at IoU {iou}", xscale="log", ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    return figure
