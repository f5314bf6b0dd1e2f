"""Instance masks: between a region's small square grid and the image, and as run lengths.

Both directions are linear and separable: with one small matrix of bilinear weights per axis, a crop
is ``Y M Xᵀ`` (RoI Align), and pasting is the same with other sample points.  Pixel ``j`` has its
centre at ``j + 0.5``, as everywhere in this package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnncore import kernels
from cnncore.errors import ArgumentError, DTypeError, ShapeError, require
from cnncore.geometry import as_int, as_pair
from cnncore.roi_grid import RoiGrid
from cnncore.vision.boxes import BoolArray, FloatArray, Size, as_boxes, as_floats, as_labels

Rle = dict[str, Any]  # {"size": [H, W], "counts": bytes}: COCO's compressed run lengths


def as_masks(masks: ArrayLike, argument: str = "masks") -> BoolArray:
    """Masks ``(R, H, W)`` as booleans; integers 0 and 1 are accepted, anything else is refused."""
    array = np.asarray(masks)
    if array.ndim != 3:
        raise ShapeError(argument, "shape (R, H, W)", f"shape {array.shape}")
    if array.dtype.kind in "iu" and (array.size == 0 or 0 <= array.min() <= array.max() <= 1):
        array = array != 0
    if array.dtype.kind != "b":
        hint = "probabilities > 0.5 for a network's output"
        raise DTypeError(argument, "booleans, or integers 0 and 1", f"dtype {array.dtype}", hint)
    return array


def boxes_of_masks(masks: ArrayLike) -> NDArray[np.float32]:
    """The tight box of each mask, ``(R, H, W) -> (R, 4)`` float32; zeros for an empty mask.

    >>> boxes_of_masks(np.array([[[0, 0, 0], [0, 1, 1]]])).tolist()
    [[1.0, 1.0, 3.0, 2.0]]
    """
    array = as_masks(masks)
    sides = []
    for axis in (2, 1):  # columns give x, rows give y
        used: BoolArray = np.asarray(array.any(axis=3 - axis))
        length = used.shape[1]
        first = used.argmax(1) if length else np.zeros(len(used), np.int64)
        last = length - used[:, ::-1].argmax(1) if length else first
        empty = ~used.any(1)
        sides.append((np.where(empty, 0, first), np.where(empty, 0, last)))
    (x1, x2), (y1, y2) = sides
    return np.stack([x1, y1, x2, y2], 1).astype(np.float32)


def _bilinear(points: FloatArray, length: int) -> FloatArray:
    """Weights ``(P, length)`` of a bilinear sample at each point; outside, the edge goes on."""
    clamped = np.clip(points - 0.5, 0, length - 1)
    weights: FloatArray = np.maximum(0, 1 - np.abs(clamped[:, None] - np.arange(length)))
    return weights


def crop_masks(
    masks: ArrayLike, boxes: ArrayLike, index: ArrayLike, size: int, aligned: bool = True
) -> NDArray[np.float32]:
    """The training target of a mask head: each box's view of its mask on an ``S x S`` grid.

    ``target[r] = Y_r masks[index[r]] X_rᵀ``: RoI Align, so every cell is the mean of bilinear
    samples, at least one a pixel.  ``aligned``: pixels have their centres at halves; without it,
    samples lie half a pixel off, as in networks that pool their features that way.

    masks ``(G, H, W)`` bool, boxes ``(R, 4)``, index ``(R,)`` into the masks -> ``(R, S, S)``
    float32 in ``0..1``.  A box without width or height gives zeros.
    Source: He et al., "Mask R-CNN", 2017, section 3.

    >>> crop_masks(np.eye(2, dtype=bool)[None], [[0, 0, 2, 2]], [0], 2).tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    array, regions, side = as_masks(masks), as_boxes(boxes), as_int("size", size, 1)
    chosen = as_labels(index, len(regions), "index")
    if len(regions) and (chosen.min() < 0 or chosen.max() >= len(array)):
        raise ArgumentError("index", f"0..{len(array) - 1}, a mask a box", chosen.tolist())
    if len(regions) and 0 in array.shape[1:]:
        raise ShapeError("masks", "at least one pixel", f"shape {array.shape}")
    rois = np.concatenate([chosen[:, None].astype(np.float64), regions], 1)
    rows, columns = RoiGrid.make(rois, side, 1.0, len(array)).align(
        array.shape[1:], aligned=aligned
    )
    planes = array[:, None].astype(np.float32)
    targets: NDArray[np.float32] = kernels.resample(planes, chosen, rows, columns)[:, 0]
    return targets


def paste_masks(
    masks: ArrayLike, boxes: ArrayLike, image_size: Size, threshold: float = 0.5
) -> BoolArray:
    """Masks predicted on ``S x S`` grids at full size: bilinear inside their boxes, then cut.

    masks ``(R, S, S)`` probabilities, boxes ``(R, 4)`` -> ``(R, H, W)`` bool, true where the mask
    at the pixel's centre is ``>= threshold``.  Only pixels whose centre is in the box can be true.

    >>> paste_masks([[[0.9, 0.1]]], [[1, 0, 3, 1]], (1, 4)).astype(int).tolist()
    [[[0, 1, 0, 0]]]
    """
    grids = as_floats(masks if np.size(masks) else np.zeros((0, 1, 1), np.float32), "masks")
    regions = as_boxes(boxes)
    height, width = as_pair("image_size", image_size, 1)
    if grids.ndim != 3 or len(grids) != len(regions):
        expected = f"shape ({len(regions)}, S, S): one grid a box"
        raise ShapeError("masks", expected, f"shape {grids.shape}")
    if np.isnan(grids).any():
        index = np.argwhere(np.isnan(grids))[0].tolist()
        raise ArgumentError("masks", "numbers", f"NaN at {index}", "find what gave NaN")
    pasted = np.zeros((len(grids), height, width), np.bool_)
    for canvas, grid, (x1, y1, x2, y2) in zip(pasted, grids, regions.tolist(), strict=True):
        top, bottom = _centres_inside(y1, y2, height)
        left, right = _centres_inside(x1, x2, width)
        if top >= bottom or left >= right:
            continue
        rows = (np.arange(top, bottom) + 0.5 - y1) * (grid.shape[0] / (y2 - y1))
        columns = (np.arange(left, right) + 0.5 - x1) * (grid.shape[1] / (x2 - x1))
        value = _bilinear(rows, grid.shape[0]) @ grid @ _bilinear(columns, grid.shape[1]).T
        canvas[top:bottom, left:right] = value >= threshold
    return pasted


def _centres_inside(start: float, end: float, length: int) -> tuple[int, int]:
    """The half-open range of pixels whose centres lie in ``start <= centre < end``."""
    return max(0, int(np.ceil(start - 0.5))), min(length, int(np.ceil(end - 0.5)))


def mask_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union in pixels of all pairs, ``(M, H, W), (N, H, W) -> (M, N)``; 0/0 is 0.

    >>> mask_iou(np.array([[[1, 1, 0]]]), np.array([[[0, 1, 0]], [[0, 0, 1]]])).tolist()
    [[0.5, 0.0]]
    """
    left, right = as_masks(a, "a"), as_masks(b, "b")
    if left.shape[1:] != right.shape[1:]:
        raise ShapeError("b", f"the size of a, {left.shape[1:]}", right.shape[1:])
    # Counts stay exact: float32 represents every integer up to 2**24.
    exact = np.float32 if left[0:1].size < 2**24 else np.float64
    pixels = left.shape[1] * left.shape[2]
    rows = left.reshape(len(left), pixels).astype(exact)
    columns = right.reshape(len(right), pixels).astype(exact)
    shared = (rows @ columns.T).astype(np.float64)
    union = left.sum((1, 2))[:, None] + right.sum((1, 2))[None, :] - shared
    iou: NDArray[np.float64] = shared / np.maximum(union, 1)
    return iou


def encode_rle(masks: ArrayLike) -> list[Rle]:
    """Masks ``(R, H, W)`` as COCO's compressed run lengths, one dict each; needs ``vision``."""
    array = as_masks(masks)
    if len(array) == 0:
        return []
    columns_first = np.asfortranarray(array.transpose(1, 2, 0), np.uint8)
    rles: list[Rle] = require("pycocotools.mask", "vision").encode(columns_first)
    return rles


def decode_rle(rles: list[Rle], image_size: Size | None = None) -> BoolArray:
    """The masks ``(R, H, W)`` of run lengths; ``image_size`` is needed only for an empty list."""
    if not rles:
        if image_size is None:
            hint = "pass it: an empty list has no size of its own"
            raise ArgumentError("image_size", "(H, W) for an empty list", None, hint)
        return np.zeros((0, *as_pair("image_size", image_size, 0)), np.bool_)
    sizes = {tuple(rle["size"]) for rle in rles}
    if len(sizes) != 1:
        raise ArgumentError("rles", "masks of one size", sorted(sizes), "decode them one by one")
    decoded = require("pycocotools.mask", "vision").decode(rles)
    return np.ascontiguousarray(decoded.transpose(2, 0, 1)).astype(np.bool_)
