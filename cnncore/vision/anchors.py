"""Anchors: the boxes a dense detector starts from, over the levels of a feature pyramid."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnncore.errors import ArgumentError
from cnncore.geometry import as_pair
from cnncore.vision.boxes import FloatArray, Size


@dataclass(frozen=True)
class AnchorSettings:
    """Sizes and shapes of the anchors of every level, and where in a cell they sit.

    ``sizes[l]`` are square roots of anchor areas in pixels of level ``l``, ``ratios`` are height
    over width, the same on all levels: an anchor is ``h = size · √ratio``, ``w = size / √ratio``.
    Anchors are centred at ``((column + offset) · stride_w, (row + offset) · stride_h)``.
    The defaults are those of Faster and Mask R-CNN with a feature pyramid as most published weights
    expect them: centres on the cell's top left corner, sides rounded to even pixels.  Those of
    Faster R-CNN's own code are ``base=16``, ``offset=0.5``, ``rounded=False``: a width of
    ``round(16 / √ratio)``, a height of ``round(width · ratio)``, times ``size / 16``.
    Source: Lin et al., "Feature Pyramid Networks", 2017, section 4.1.
    """

    sizes: tuple[tuple[float, ...], ...] = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    offset: float = 0.0
    rounded: bool = True
    base: int | None = None  # sides are whole numbers for a square of ``base`` pixels, then scaled

    def __post_init__(self) -> None:
        for argument, values in (("ratios", (self.ratios,)), ("sizes", self.sizes)):
            if not values or not all(row and all(0 < v < np.inf for v in row) for row in values):
                raise ArgumentError(argument, "numbers > 0 in tuples, none empty", values)

    def per_cell(self, level: int) -> int:
        """``A``: anchors in one cell of a level."""
        return len(self.sizes[level]) * len(self.ratios)


def cell_anchors(settings: AnchorSettings, level: int) -> FloatArray:
    """The ``(A, 4)`` anchors of one cell around the origin, float32; ratio is the slow index.

    >>> cell_anchors(AnchorSettings(sizes=((16.0,),), ratios=(1.0, 4.0)), 0).tolist()
    [[-8.0, -8.0, 8.0, 8.0], [-4.0, -16.0, 4.0, 16.0]]
    """
    roots = np.sqrt(np.asarray(settings.ratios, np.float64))
    sizes = np.asarray(settings.sizes[level], np.float64)
    across, down = 1 / roots, roots
    if settings.base is not None:
        across = np.rint(settings.base / roots)
        down = np.rint(across * np.asarray(settings.ratios, np.float64)) / settings.base
        across = across / settings.base
    heights, widths = ((side[:, None] * sizes).reshape(-1) for side in (down, across))
    half = np.stack([widths, heights], 1) / 2
    if settings.rounded:
        half = np.rint(half)
    return np.concatenate([-half, half], 1).astype(np.float32)


@functools.lru_cache(maxsize=64)
def _level_anchors(settings: AnchorSettings, level: int, shape: Size, stride: Size) -> FloatArray:
    rows = (np.arange(shape[0]) + settings.offset) * stride[0]
    columns = (np.arange(shape[1]) + settings.offset) * stride[1]
    y, x = np.meshgrid(rows, columns, indexing="ij")
    centres = np.stack([x, y, x, y], -1).astype(np.float32)
    anchors = (centres[:, :, None, :] + cell_anchors(settings, level)).reshape(-1, 4)
    anchors.flags.writeable = False  # shared by every later call
    return anchors


def level_strides(shapes: Sequence[Size], lowest: int, image: Size | None = None) -> list[Size]:
    """The stride of every level of a pyramid whose finest is ``2**lowest``.

    Given the (padded) image's size: whole pixels a cell, rounded down, as published weights expect.

    >>> level_strides([(25, 42), (13, 21)], 5), level_strides([(25, 42), (13, 21)], 5, (800, 1344))
    ([(32, 32), (64, 64)], [(32, 32), (61, 64)])
    """
    if image is not None:
        return [(max(1, image[0] // max(1, h)), max(1, image[1] // max(1, w))) for h, w in shapes]
    return [(2 ** (lowest + level),) * 2 for level in range(len(shapes))]


def make_anchors(
    settings: AnchorSettings, shapes: Sequence[Size], strides: Sequence[int | Size]
) -> list[FloatArray]:
    """Anchors of every level, each ``(H·W·A, 4)`` float32, read-only, remembered between calls.

    Order within a level: row, then column, then ratio, then size, the last fastest; it is the order
    of a head's output ``(N, A·4, H, W)`` moved to ``(N, H, W, A, 4)``.  ``shapes`` are the levels'
    ``(H, W)``, ``strides`` pixels of the image a cell.  Anchors may reach out of the image.

    >>> settings = AnchorSettings(sizes=((4.0,),), ratios=(1.0,))
    >>> make_anchors(settings, [(1, 2)], [8])[0].tolist()
    [[-2.0, -2.0, 2.0, 2.0], [6.0, -2.0, 10.0, 2.0]]
    """
    levels = len(settings.sizes)
    for argument, values in (("shapes", shapes), ("strides", strides)):
        if len(values) != levels:
            expected = f"one a level of settings.sizes, {levels}"
            raise ArgumentError(argument, expected, len(values))
    return [
        _level_anchors(settings, level, as_pair("shapes", shape, 0), as_pair("strides", stride, 1))
        for level, (shape, stride) in enumerate(zip(shapes, strides, strict=True))
    ]
