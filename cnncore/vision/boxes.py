"""Boxes: what a legal box is, and the geometry of one or two sets of them.

A box is ``(x1, y1, x2, y2)`` in pixels, floating, the edges of the region: pixel column ``j`` spans
``j … j+1``, so a box around columns 3 to 5 is ``x1 = 3, x2 = 6``; width is ``x2 - x1``, no ``+ 1``.
An array of boxes is ``(R, 4)``; ``R = 0`` is legal everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnncore import kernels
from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.geometry import as_pair

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Size = tuple[int, int]  # (height, width)


def as_floats(values: ArrayLike, argument: str) -> FloatArray:
    """The values as float32 or float64 in native byte order; float64 stays, the rest is float32."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise DTypeError(argument, "real numbers", f"dtype {array.dtype}", "a floating array")
    double = array.dtype.kind == "f" and array.dtype.itemsize >= 8
    return array.astype(np.float64 if double else np.float32, copy=False)


def as_boxes(boxes: ArrayLike, argument: str = "boxes", *, positive: bool = False) -> FloatArray:
    """Boxes as a checked ``(R, 4)`` floating array; the first bad box is named in the error.

    An empty list counts as zero boxes.  Refused: another shape, NaN or Inf, ``x2 < x1`` or
    ``y2 < y1``, and with ``positive`` also boxes without width or height.

    >>> as_boxes([[0, 0, 4, 2]]).tolist()
    [[0.0, 0.0, 4.0, 2.0]]
    >>> as_boxes([[0, 0, 4, 2], [5, 0, 4, 2]])
    Traceback (most recent call last):
        ...
    cnncore.errors.ArgumentError: boxes: expected x1 <= x2 and y1 <= y2 in every box, \
got box 1 = [5.0, 0.0, 4.0, 2.0]; try: order (x1, y1, x2, y2), or box_convert(boxes, 'xywh', 'xyxy')
    """
    array = np.asarray(boxes)
    array = as_floats(array if array.shape != (0,) else np.zeros((0, 4), np.float32), argument)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ShapeError(argument, "shape (R, 4)", f"shape {array.shape}", "boxes.reshape(-1, 4)")
    bad = ~np.isfinite(array).all(1)
    if bad.any():
        _refuse(
            argument, "finite coordinates in every box", array, bad, "find what gave NaN or Inf"
        )
    sides = array[:, 2:] - array[:, :2]
    bad = (sides < 0).any(1)
    if bad.any():
        hint = "order (x1, y1, x2, y2), or box_convert(boxes, 'xywh', 'xyxy')"
        _refuse(argument, "x1 <= x2 and y1 <= y2 in every box", array, bad, hint)
    if positive:
        bad = (sides <= 0).any(1)
        if bad.any():
            hint = "drop such boxes first: boxes[remove_small_boxes(boxes, 1e-3)]"
            _refuse(argument, "x1 < x2 and y1 < y2 in every box", array, bad, hint)
    return array


def _refuse(argument: str, expected: str, boxes: FloatArray, bad: Any, hint: str) -> None:
    index = int(np.flatnonzero(bad)[0])
    raise ArgumentError(argument, expected, f"box {index} = {boxes[index].tolist()}", hint)


def as_vector(values: ArrayLike, length: int, argument: str) -> FloatArray:
    """One finite number for each of ``length`` boxes, ``(length,)`` floating (scores)."""
    array = as_floats(np.asarray(values) if np.size(values) else np.zeros(0, np.float32), argument)
    if array.shape != (length,):
        raise ShapeError(argument, f"shape ({length},): one a box", f"shape {array.shape}")
    if np.isnan(array).any():
        index = int(np.flatnonzero(np.isnan(array))[0])
        raise ArgumentError(argument, "numbers", f"NaN at index {index}", "find what gave NaN")
    return array


def as_labels(values: ArrayLike, length: int, argument: str = "labels") -> IntArray:
    """One integer for each of ``length`` boxes, ``(length,)`` int64."""
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise DTypeError(argument, "integers", f"dtype {array.dtype}", "labels.astype('int64')")
    if array.shape != (length,):
        raise ShapeError(argument, f"shape ({length},): one a box", f"shape {array.shape}")
    return array.astype(np.int64, copy=False)


def box_area(boxes: ArrayLike) -> FloatArray:
    """``(x2 - x1)(y2 - y1)`` of each box, ``(R, 4) -> (R,)``, square pixels.

    >>> box_area([[1, 1, 4, 3]]).tolist()
    [6.0]
    """
    array = as_boxes(boxes)
    area: FloatArray = (array[:, 2] - array[:, 0]) * (array[:, 3] - array[:, 1])
    return area


def clip_boxes(boxes: ArrayLike, image_size: Size) -> FloatArray:
    """The part of each box inside an image ``(H, W)``: x into ``0..W``, y into ``0..H``.

    A box wholly outside collapses onto the border (zero width or height, still legal).

    >>> clip_boxes([[-2, 1, 9, 3]], (5, 6)).tolist()
    [[0.0, 1.0, 6.0, 3.0]]
    """
    array = as_boxes(boxes)
    height, width = as_pair("image_size", image_size, 1)
    limit = np.array([width, height, width, height], array.dtype)
    return np.clip(array, 0, limit)


def remove_small_boxes(boxes: ArrayLike, min_size: float) -> IntArray:
    """Indices, ascending, of the boxes whose width and height are at least ``min_size`` pixels.

    >>> remove_small_boxes([[0, 0, 3, 1], [0, 0, 2, 2]], 2).tolist()
    [1]
    """
    array = as_boxes(boxes)
    sides = array[:, 2:] - array[:, :2]
    return np.flatnonzero((sides >= min_size).all(1))


def box_convert(boxes: ArrayLike, in_fmt: str, out_fmt: str) -> FloatArray:
    """Boxes from one form to another: ``"xyxy"``, ``"xywh"`` (corner) or ``"cxcywh"`` (centre).

    >>> box_convert([[1, 2, 5, 4]], "xyxy", "cxcywh").tolist()
    [[3.0, 3.0, 4.0, 2.0]]
    """
    for argument, form in (("in_fmt", in_fmt), ("out_fmt", out_fmt)):
        if form not in ("xyxy", "xywh", "cxcywh"):
            raise ArgumentError(argument, '"xyxy", "xywh" or "cxcywh"', repr(form))
    array = as_floats(boxes if np.size(boxes) else np.zeros((0, 4), np.float32), "boxes")
    if array.ndim != 2 or array.shape[1] != 4:
        raise ShapeError("boxes", "shape (R, 4)", f"shape {array.shape}")
    first, second = array[:, :2], array[:, 2:]
    corner = first - second / 2 if in_fmt == "cxcywh" else first
    far = second if in_fmt == "xyxy" else corner + second
    checked = as_boxes(np.concatenate([corner, far], 1))
    corner, far = checked[:, :2], checked[:, 2:]
    if out_fmt == "xyxy":
        return checked
    return np.concatenate([corner if out_fmt == "xywh" else (corner + far) / 2, far - corner], 1)


def _as_pair_of_sets(a: ArrayLike, b: ArrayLike) -> tuple[FloatArray, FloatArray]:
    left, right = as_boxes(a, "a"), as_boxes(b, "b")
    dtype = np.result_type(left, right)
    return left.astype(dtype, copy=False), right.astype(dtype, copy=False)


def box_iou(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Intersection over union of all pairs, ``(M, 4), (N, 4) -> (M, N)``; 0/0 is 0.

    >>> box_iou([[0, 0, 4, 4]], [[0, 0, 4, 2], [4, 4, 5, 5]]).tolist()
    [[0.5, 0.0]]
    """
    left, right = _as_pair_of_sets(a, b)
    iou: FloatArray = kernels.box_iou(left, right)
    return iou


def generalized_box_iou(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """``IoU - (hull - union) / hull`` of all pairs, ``(M, 4), (N, 4) -> (M, N)``, in ``-1..1``.

    The hull is the smallest box around both.  Where it has no area the result is 0.
    Source: Rezatofighi et al., "Generalized Intersection over Union", 2019, algorithm 1.

    >>> generalized_box_iou([[0, 0, 1, 1]], [[3, 0, 4, 1]]).tolist()
    [[-0.5]]
    """
    left, right = _as_pair_of_sets(a, b)
    far = np.maximum(left[:, None, 2:], right[None, :, 2:])
    near = np.minimum(left[:, None, :2], right[None, :, :2])
    hull = (far - near).prod(2)
    overlap = np.minimum(left[:, None, 2:], right[None, :, 2:])
    overlap = overlap - np.maximum(left[:, None, :2], right[None, :, :2])
    shared = np.maximum(overlap, 0).prod(2)
    union = box_area(left)[:, None] + box_area(right)[None, :] - shared
    safe = np.where(hull > 0, hull, 1)
    result: FloatArray = np.where(hull > 0, box_iou(left, right) - (hull - union) / safe, 0)
    return result.astype(left.dtype, copy=False)
