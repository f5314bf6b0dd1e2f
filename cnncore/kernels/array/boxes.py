"""Overlap of boxes and greedy suppression."""

from __future__ import annotations

import numpy as np

from cnncore.kernels.array.modules import Array, array_module, finish, native, quiet, to_host


@quiet
def box_iou(a: Array, b: Array) -> Array:
    """See ``contract.box_iou``."""
    xp = array_module(a)
    a, b = native(a)[:, None, :], native(b)[None, :, :]
    low, high = xp.maximum(a[..., :2], b[..., :2]), xp.minimum(a[..., 2:], b[..., 2:])
    width, height = (xp.maximum(high[..., k] - low[..., k], 0) for k in (0, 1))
    common = width * height
    union = _area(a) + _area(b) - common
    return finish(xp, xp.where(union > 0, common / union, xp.zeros((), a.dtype)))


def _area(boxes: Array) -> Array:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def nms(boxes: Array, scores: Array, iou_threshold: float) -> Array:
    """See ``contract.nms``: keep the best box, drop what overlaps it, repeat.

    The loop over kept boxes is serial by nature, so it runs on the host for arrays of a device.
    """
    xp = array_module(boxes)
    boxes, scores = to_host(native(boxes)), to_host(native(scores))
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while waiting.size:
        best, waiting = waiting[0], waiting[1:]
        kept.append(int(best))
        overlap = box_iou(boxes[best : best + 1], boxes[waiting])[0]
        waiting = waiting[~(overlap > boxes.dtype.type(iou_threshold))]
    return xp.asarray(np.array(kept, np.int64))
