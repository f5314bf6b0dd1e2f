"""Regions cut out of a picture, with some of what is around them, and warped to one size."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import as_int
from cnncore.vision.boxes import FloatArray, as_boxes, as_floats


def warp_crops(
    image: ArrayLike, boxes: ArrayLike, size: int = 227, context: int = 16, fill: float = 0.0
) -> FloatArray:
    """Each box of an image ``(C, H, W)`` as ``(R, C, size, size)``, stretched to a square.

    The box fills the middle ``size − 2 context`` pixels; around it is what surrounds it in the
    image, ``fill`` (the mean, that is 0 where the mean was subtracted) beyond the image.  Bilinear
    at pixel centres; nothing is smoothed first.
    Source: Girshick et al., "Rich feature hierarchies", 2014, appendix A.  Difference: there the
    part inside the image is stretched on its own, to whole pixels.

    >>> warp_crops(np.arange(16.0).reshape(1, 4, 4), [[1, 1, 3, 3]], 2, 0)[0, 0].tolist()
    [[5.0, 6.0], [9.0, 10.0]]
    """
    picture = as_floats(image, "image")
    if picture.ndim != 3 or 0 in picture.shape:
        raise ShapeError("image", "shape (C, H, W) with pixels", picture.shape)
    regions = as_boxes(boxes, positive=True).astype(np.float64)
    side, border = as_int("size", size, 1), as_int("context", context, 0)
    if side <= 2 * border:
        raise ArgumentError("context", f"less than half of size = {side}", border)
    # Pixel i of the crop looks at this part of the box: 0 its beginning, 1 its end.
    part = (np.arange(side) + 0.5 - border) / (side - 2 * border)
    axes = []
    for axis, length in ((1, picture.shape[1]), (0, picture.shape[2])):
        start, end = regions[:, axis, None], regions[:, axis + 2, None]
        axes.append(_sampling(start + part * (end - start), length))
    (y, fy, iny), (x, fx, inx) = axes
    # Rows first, then columns: the square is a product of two lines.
    result = np.empty((len(regions), len(picture), side, side), picture.dtype)
    for r, crop in enumerate(result):
        rows = (
            picture[:, y[r]] * (1 - fy[r])[:, None]
            + picture[:, y[r] + 1 - (fy[r] == 0)] * (fy[r][:, None])
        )
        crop[:] = rows[:, :, x[r]] * (1 - fx[r]) + rows[:, :, x[r] + 1 - (fx[r] == 0)] * fx[r]
        crop[:, ~(iny[r][:, None] & inx[r])] = fill
    return result


def _sampling(
    places: NDArray[np.float64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """For places along an axis: pixel before, share of the next, whether inside the image."""
    inside = (places >= 0) & (places <= length)
    centred = np.clip(places - 0.5, 0, length - 1)
    before = np.minimum(np.floor(centred).astype(np.int64), length - 1)
    return before, centred - before, inside
