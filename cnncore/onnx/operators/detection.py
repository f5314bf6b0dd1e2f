"""Detection: non-maximum suppression."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnncore import vision
from cnncore.onnx.node import Node
from cnncore.onnx.registry import ALL, operator

Array = Any


@operator("NonMaxSuppression", arrays=ALL, flat=True)
def non_max_suppression(
    node: Node,
    boxes: Array,
    scores: Array,
    most: Array | None = None,
    iou_threshold: Array | None = None,
    score_threshold: Array | None = None,
) -> Array:
    """Rows (image, class, box) of the boxes kept, by image, class, then descending score.

    boxes ``(N, R, 4)``: two opposite corners (y, x, y, x), or centre and size (x, y, w, h);
    scores ``(N, K, R)``.
    """
    limit = 0 if most is None else int(most.item())
    overlap = 0.0 if iou_threshold is None else float(iou_threshold.item())
    least = -np.inf if score_threshold is None else float(score_threshold.item())
    rows = [np.zeros((0, 3), np.int64)]
    for image, corners in enumerate(_corners(boxes, bool(node.get("center_point_box", 0)))):
        for label in range(scores.shape[1]):
            good = np.flatnonzero(scores[image, label] > least)
            kept = good[vision.nms(corners[good], scores[image, label, good], overlap)][:limit]
            rows.append(np.stack([np.full_like(kept, image), np.full_like(kept, label), kept], 1))
    return np.concatenate(rows)


def _corners(boxes: Array, centred: bool) -> Array:
    """Boxes as (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2."""
    if centred:
        centre, half = boxes[..., :2], np.abs(boxes[..., 2:]) / 2
        return np.concatenate([centre - half, centre + half], -1)
    low, high = (
        np.minimum(boxes[..., :2], boxes[..., 2:]),
        np.maximum(boxes[..., :2], boxes[..., 2:]),
    )
    return np.concatenate([low[..., ::-1], high[..., ::-1]], -1)
