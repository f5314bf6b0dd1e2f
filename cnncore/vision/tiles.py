"""Dense prediction of images that are too large for one pass: tile by tile, without visible seams.

    image    ├────────────── context │ kept │ context ──────────────┤
    network                  └──── one pass ────┘
    result   ├───────────────────────┤ kept ├───────────────────────┤

What a network says near the edge of what it is shown differs from what it would say in the middle,
so every tile is shown with ``context`` pixels around it that are thrown away.  Where the context is
at least the radius of the network's receptive field, and tiles begin at multiples of its total
stride, the result is that of one pass over the whole image.  Where it is not, neighbouring tiles
may be faded into each other (``overlap``).

Memory: one tile at a time; image and result may be arrays on disk (``numpy.memmap``).

Letters: ``C H W`` image, ``K`` channels of the result.

Source: Ronneberger, Fischer & Brox, "U-Net", 2015, section 2 and figure 2 (overlap-tile, mirrored
borders).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.errors import ArgumentError, ShapeError, require
from cnncore.geometry import as_int, as_pair

Array = NDArray[Any]
Predict = Callable[[Array], Any]  # (1, C, h, w) -> (1, K, h, w), or less by twice the margin


@dataclass(frozen=True)
class Span:
    """A tile along one axis: what is kept of it, what is shown, how much each pixel counts."""

    first: int
    last: int
    shown_first: int
    shown_last: int
    weight: NDArray[np.float64]  # (last - first,)


def spans(size: int, tile: int, context: int, overlap: int, multiple: int = 1) -> list[Span]:
    """Tiles of at most ``tile`` kept pixels that cover ``0..size``; neighbours share ``overlap``.

    Every pixel's weights add up to one.  ``shown`` begins at multiples of ``multiple``.

    >>> [(s.first, s.last, s.shown_first, s.shown_last) for s in spans(10, 6, 1, 2)]
    [(0, 6, 0, 7), (4, 10, 3, 10)]
    """
    step = (tile - overlap) // multiple * multiple
    if step < 1:
        raise ArgumentError(
            "tile", f"more than overlap + {multiple - 1} = {overlap + multiple - 1}", tile
        )
    starts = [0]
    while starts[-1] + tile < size:
        starts.append(starts[-1] + step)
    context = -(-context // multiple) * multiple
    fade = np.minimum(np.arange(1, tile + 1), np.arange(tile, 0, -1)).clip(max=overlap + 1)
    total = np.zeros(size)
    for start in starts:
        total[start : start + tile] += fade[: size - start]
    found = []
    for start in starts:
        end = min(size, start + tile)
        shown = max(0, start - context), min(size, end + context)
        found.append(Span(start, end, *shown, fade[: end - start] / total[start:end]))
    return found


def predict_tiled(
    predict: Predict,
    image: Any,
    tile: Any = 256,
    context: Any = 0,
    overlap: Any = 0,
    multiple: Any = 1,
    margin: int = 0,
    out: Array | None = None,
    progress: bool = False,
) -> Array:
    """``predict`` applied to ``image (C, H, W)`` in tiles -> ``(K, H, W)``.

    ``image``: an array, or anything with ``shape`` and slices that gives arrays when sliced
    (``vision.Pixels``): of it, only what a tile shows is read.

    ``predict``: ``(1, C, h, w)`` to ``(1, K, h, w)``, or for networks without padding to
    ``(1, K, h − 2·margin, w − 2·margin)``; these are shown mirrored pixels beyond the image's edge.
    ``tile``: pixels kept of a pass, ``context``: pixels shown around them, ``overlap``: pixels over
    which neighbours are faded, ``multiple``: where shown parts may begin (the network's total
    stride); each a number or (h, w).  ``out``: an array ``(K, H, W)`` to fill, on disk perhaps.

    >>> image = np.arange(12.0).reshape(1, 3, 4)
    >>> bool((predict_tiled(lambda x: 2 * x, image, tile=2) == 2 * image).all())
    True
    """
    if np.ndim(image) != 3:
        raise ShapeError("image", "(C, H, W)", np.shape(image))
    margin = as_int("margin", margin, 0)
    axes = [
        spans(
            image.shape[1 + axis],
            as_pair("tile", tile, 1)[axis],
            as_pair("context", context, 0)[axis] if margin == 0 else 0,
            as_pair("overlap", overlap, 0)[axis],
            as_pair("multiple", multiple, 1)[axis],
        )
        for axis in (0, 1)
    ]
    if out is not None:
        out[...] = 0
    for rows, columns in _progress(axes[0], axes[1], progress):
        shown = _shown(image, rows, columns, margin)
        result = np.asarray(_plain(predict(shown[None])))
        if out is None:
            out = np.zeros((result.shape[1], *image.shape[1:]), result.dtype)
        _add(out, result, rows, columns, margin)
    if out is None:
        raise ShapeError("image", "at least one pixel", image.shape)
    return out


def _plain(result: Any) -> Any:
    return result.numpy() if hasattr(result, "numpy") else result


def _progress(rows: list[Span], columns: list[Span], show: bool) -> Iterator[tuple[Span, Span]]:
    pairs = [(r, c) for r in rows for c in columns]
    if not show:
        return iter(pairs)
    bar = require("tqdm", "vision").tqdm
    return iter(bar(pairs, unit="tile", dynamic_ncols=True))


def _shown(image: Any, rows: Span, columns: Span, margin: int) -> Array:
    if margin == 0:
        part = image[
            :, rows.shown_first : rows.shown_last, columns.shown_first : columns.shown_last
        ]
        return np.ascontiguousarray(part)
    picked = [
        mirrored(np.arange(span.first - margin, span.last + margin), size)
        for span, size in zip((rows, columns), image.shape[1:], strict=True)
    ]
    top, left = (int(p.min()) for p in picked)
    part = image[:, top : int(picked[0].max()) + 1, left : int(picked[1].max()) + 1]
    return np.ascontiguousarray(part[:, picked[0] - top][:, :, picked[1] - left])


def mirrored(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Coordinates beyond ``0..size-1`` reflected at the outermost pixels, as often as needed.

    >>> mirrored(np.arange(-2, 6), 4).tolist()
    [2, 1, 0, 1, 2, 3, 2, 1]
    """
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    folded = np.abs(index) % period
    reflected: NDArray[np.int64] = np.minimum(folded, period - folded)
    return reflected


def _add(out: Array, result: Array, rows: Span, columns: Span, margin: int) -> None:
    kept: list[slice] = []
    for span, given in zip((rows, columns), result.shape[2:], strict=True):
        begin = 0 if margin else span.first - span.shown_first
        wanted = span.last - span.first if margin else span.shown_last - span.shown_first
        if given != wanted:
            raise ShapeError(
                "predict",
                f"a result of {wanted} pixels for {wanted + 2 * margin}",
                given,
                "margin=…, or tile and multiple so that the network returns what it is shown",
            )
        kept.append(slice(begin, begin + span.last - span.first))
    weight = np.outer(rows.weight, columns.weight).astype(out.dtype)
    target = out[:, rows.first : rows.last, columns.first : columns.last]
    target += result[0][:, kept[0], kept[1]] * weight
