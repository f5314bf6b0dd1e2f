"""Non-maximum suppression: of many boxes on the same thing keep the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cnncore import kernels
from cnncore.errors import ArgumentError
from cnncore.geometry import as_int
from cnncore.vision.boxes import FloatArray, IntArray, as_boxes, as_labels, as_vector


def _checked(boxes: ArrayLike, scores: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Both in the wider of their types: narrowing scores would make ties."""
    array = as_boxes(boxes)
    values = as_vector(scores, len(array), "scores")
    dtype = np.result_type(array, values)
    return array.astype(dtype, copy=False), values.astype(dtype, copy=False)


def _check_threshold(iou_threshold: float) -> float:
    if not 0 <= iou_threshold <= 1:
        raise ArgumentError("iou_threshold", "a number in 0..1", iou_threshold)
    return float(iou_threshold)


def top_k(scores: FloatArray, k: int) -> IntArray:
    """Indices of the ``k`` highest scores (all, if fewer), descending, ties by lower index.

    Unlike ``argpartition`` the choice among equal scores does not depend on the machine.

    >>> top_k(np.array([1.0, 3.0, 3.0, 2.0]), 2).tolist()
    [1, 2]
    """
    count = len(scores)
    if k >= count:
        return np.argsort(-scores, kind="stable")
    if k == 0:
        return np.zeros(0, np.int64)
    threshold = np.partition(scores, count - k)[count - k]
    above = np.flatnonzero(scores > threshold)
    ties = np.flatnonzero(scores == threshold)[: k - len(above)]
    chosen = np.sort(np.concatenate([above, ties]))
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def nms(boxes: ArrayLike, scores: ArrayLike, iou_threshold: float) -> IntArray:
    """Indices of the boxes kept, by descending score, ties by lower index.

    Greedy: the best box stays, all that overlap it by *more* than the threshold go, and so on.

    >>> nms([[0, 0, 4, 4], [0, 0, 4, 5], [8, 8, 9, 9]], [0.5, 0.9, 0.1], 0.5).tolist()
    [1, 2]
    """
    array, values = _checked(boxes, scores)
    kept: IntArray = kernels.nms(array, values, _check_threshold(iou_threshold))
    return kept


def batched_nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    iou_threshold: float,
    max_count: int | None = None,
) -> IntArray:
    """``nms`` within each group (class, level or image) on its own, kept indices merged by score.

    ``groups (R,)`` integers.  Each group is suppressed with its own call: shifting groups apart by
    an offset needs one call only, but rounds coordinates and so can keep other boxes.

    >>> batched_nms([[0, 0, 4, 4], [0, 0, 4, 5]], [0.5, 0.9], [0, 1], 0.5).tolist()
    [1, 0]
    """
    array, values = _checked(boxes, scores)
    labels = as_labels(groups, len(array), "groups")
    threshold = _check_threshold(iou_threshold)
    kept = [np.zeros(0, np.int64)]
    for group in np.unique(labels):
        members = np.flatnonzero(labels == group)
        kept.append(members[kernels.nms(array[members], values[members], threshold)])
    merged = np.sort(np.concatenate(kept))
    limit = len(merged) if max_count is None else as_int("max_count", max_count, 0)
    return merged[top_k(values[merged], limit)]
