"""Overlaps of boxes and greedy suppression."""

from __future__ import annotations

import numpy as np

from cnncore.kernels.array.modules import Array, array_module
from cnncore.kernels.cuda import runtime
from cnncore.kernels.cuda.runtime import call, empty, ready


def box_iou(a: Array, b: Array) -> Array:
    """See ``contract.box_iou``."""
    xp = array_module(a)
    y = empty("box_iou", xp, (a.shape[0], b.shape[0]), a.dtype)
    call("box_iou", xp, ready(a), ready(b), y)
    return y


def nms(boxes: Array, scores: Array, iou_threshold: float) -> Array:
    """See ``contract.nms``: a table of overlaps, 64 boxes a word, gone through from the best.

    Only the number of kept boxes comes to the host (a result has a shape); the rest stays.
    """
    xp = array_module(boxes)
    count, compiled = boxes.shape[0], runtime.compiled
    if count == 0:
        return empty("nms", xp, (0,), np.int64)
    order = xp.argsort(-scores, kind="stable")
    words = -(-count // compiled.nms_tile)
    overlaps = empty("nms", xp, (min(count, compiled.nms_strip), words), np.uint64)
    kept = empty("nms", xp, (count,), np.uint8)
    gone = xp.zeros(words, np.uint64)
    call("nms", xp, ready(boxes[order]), float(iou_threshold), overlaps, gone, kept)
    return order[kept > 0]
