"""Keypoints of an object: where they lie on a grid over its box, and back.

Keypoints are ``(R, J, 3)``: x, y in pixels, and a third number: of true ones the visibility (0 not
labelled, 1 hidden, 2 visible), of found ones the score.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from cnncore import ops
from cnncore.autograd import no_grad
from cnncore.errors import ArgumentError, ShapeError
from cnncore.vision.boxes import BoolArray, FloatArray, IntArray, as_boxes, as_floats


def as_keypoints(
    keypoints: ArrayLike, objects: int, joints: int, argument: str = "keypoints"
) -> FloatArray:
    """Keypoints ``(R, J, 3)`` as finite floats."""
    array = as_floats(keypoints, argument)
    if array.shape != (objects, joints, 3):
        raise ShapeError(argument, f"shape {(objects, joints, 3)}", array.shape)
    if not np.isfinite(array).all():
        index = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ArgumentError(argument, "finite numbers", f"{array[tuple(index)]} at {index}")
    return array


def keypoint_cells(keypoints: ArrayLike, boxes: ArrayLike, size: int) -> tuple[IntArray, BoolArray]:
    """The cell of an ``S x S`` grid over its box that each keypoint falls into, ``row · S + col``.

    Keypoints ``(R, J, 3)``, boxes ``(R, 4)`` -> ``(R, J)``, and which of them count: labelled ones
    inside the box, its right and lower edge included.  The others' cell is 0.
    Source: He et al., "Mask R-CNN", 2017, section 5.

    >>> cells, inside = keypoint_cells([[[5, 1, 2], [8, 8, 1], [9, 1, 2]]], [[0, 0, 8, 8]], 4)
    >>> cells.tolist(), inside.tolist()
    ([[2, 15, 0]], [[True, True, False]])
    """
    regions = as_boxes(boxes, "boxes", positive=True)
    points = np.asarray(keypoints, regions.dtype)
    corner, far = regions[:, None, :2], regions[:, None, 2:]
    where = np.floor((points[..., :2] - corner) * (size / (far - corner)))
    where[points[..., :2] == far] = size - 1
    inside: BoolArray = ((where >= 0) & (where < size)).all(-1) & (points[..., 2] > 0)
    cells = where[..., 1] * size + where[..., 0]
    return np.where(inside, cells, 0).astype(np.int64), inside


def place_keypoints(heatmaps: ArrayLike, boxes: ArrayLike) -> FloatArray:
    """The most probable place of each keypoint in the image: heat maps are enlarged to their boxes.

    Heat maps ``(R, J, S, S)`` of logits, boxes ``(R, 4)`` -> ``(R, J, 3)``: x and y of the centre
    of the highest pixel of the bicubically enlarged map (the first of equal ones), and its value.
    Source: He et al., "Mask R-CNN", 2017, section 5; enlarging first is its published code's.
    """
    maps, regions = as_floats(heatmaps, "heatmaps"), as_boxes(boxes)
    if maps.ndim != 4 or len(maps) != len(regions):
        raise ShapeError("heatmaps", f"shape ({len(regions)}, J, S, S)", maps.shape)
    found = np.zeros((*maps.shape[:2], 3), maps.dtype)
    for row, (grid, box) in enumerate(zip(maps, regions, strict=True)):
        width, height = (max(float(side), 1.0) for side in box[2:] - box[:2])
        size = math.ceil(height), math.ceil(width)
        with no_grad():
            large = ops.interpolate(grid[None], size, mode="bicubic", align_corners=False)
        values = large.numpy()[0].reshape(len(grid), -1)
        best = values.argmax(1)
        rows, columns = np.divmod(best, size[1])
        found[row, :, 0] = box[0] + (columns + 0.5) * (width / size[1])
        found[row, :, 1] = box[1] + (rows + 0.5) * (height / size[0])
        found[row, :, 2] = values[np.arange(len(grid)), best]
    return found
