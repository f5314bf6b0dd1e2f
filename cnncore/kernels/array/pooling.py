"""Maxima of windows and rectangles with their switches, and the moves that follow a switch."""

from __future__ import annotations

import math

from cnncore.geometry import Pair, Window2d
from cnncore.kernels.array.convolution import padded, positions
from cnncore.kernels.array.modules import (
    Array,
    Module,
    array_module,
    chunks,
    finish,
    in_range,
    native,
    quiet,
)
from cnncore.taps import Bins


def _challenge(
    xp: Module, best: Array, index: Array, value: Array, at: Array, present: Array
) -> tuple[Array, Array]:
    """Let ``value`` (from flat position ``at``) replace ``best`` where it is present and wins.

    It wins over nothing (index -1), over anything smaller, and, if NaN, over a number.  Challengers
    come in ascending position, so "strictly greater" leaves ties with the lowest.
    """
    wins = present & ((index < 0) | (value > best) | (xp.isnan(value) & ~xp.isnan(best)))
    return xp.where(wins, value, best), xp.where(wins, at, index)


@quiet
def max_pool2d(x: Array, window: Window2d, output_size: Pair) -> tuple[Array, Array]:
    """See ``contract.max_pool2d``: every kernel position challenges the best one so far."""
    xp = array_module(x)
    images, channels, height, width = x.shape
    plane = padded(x, window, output_size)
    best = xp.zeros((images, channels, *output_size), plane.dtype)
    index = xp.full(best.shape, -1, xp.int64)
    first_row = xp.arange(output_size[0])[:, None] * window.stride[0] - window.padding[0][0]
    first_col = xp.arange(output_size[1])[None, :] * window.stride[1] - window.padding[1][0]
    for u, v, (rows, columns) in positions(window, output_size):
        h, w = first_row + u * window.dilation[0], first_col + v * window.dilation[1]
        present = (h >= 0) & (h < height) & (w >= 0) & (w < width)
        value = plane[:, :, rows, columns]
        best, index = _challenge(xp, best, index, value, h * width + w, present)
    return best, index


@quiet
def bin_max(x: Array, image: Array, rows: Bins, cols: Bins) -> tuple[Array, Array]:
    """See ``contract.bin_max``: the winner of each row of pixels, then the winner of the rows.

    Rows are compared from the top and pixels from the left, so ties still go to the lowest index.
    """
    xp = array_module(x)
    regions, channels, height = image.shape[0], x.shape[1], x.shape[2]
    x, image = native(x), native(image)
    shape = (regions, channels, rows.length, cols.length)
    y, index = xp.zeros(shape, x.dtype), xp.full(shape, -1, xp.int64)
    for part in chunks(regions, channels * height * cols.length):
        in_row, col = _interval_max(xp, x[image[part]], cols, part)
        # (R, C, H, PW) -> the H axis last, the winning column travels along
        in_row, col = in_row.swapaxes(2, 3), col.swapaxes(2, 3)
        best, row = _interval_max(xp, in_row, rows, part, absent=col < 0)
        chosen = xp.take_along_axis(col, xp.maximum(row, 0), 3) if height else row
        flat = xp.where(row < 0, -1, row * cols.size + chosen)
        y[part], index[part] = best.swapaxes(2, 3), flat.swapaxes(2, 3)
    return y, index


def _interval_max(
    xp: Module, x: Array, bins: Bins, part: slice, absent: Array = None
) -> tuple[Array, Array]:
    """Maximum over each interval of the last axis and its position: ``(R, C, A, size)`` ->
    ``(R, C, A, P)`` twice.  An empty interval gives 0 and -1; ``absent`` values cannot win."""
    of = slice(None) if bins.start.shape[0] == 1 else part
    start, end = xp.asarray(bins.start[of]), xp.asarray(bins.end[of])
    start, end = start[:, None, None, :], end[:, None, None, :]
    best = xp.zeros((*x.shape[:3], bins.length), x.dtype)
    index = xp.full(best.shape, -1, xp.int64)
    longest = max(0, int((bins.end[of] - bins.start[of]).max(initial=0)))
    for step in range(longest):
        at = xp.broadcast_to(start + step, best.shape)
        present = at < end
        inside = xp.minimum(at, bins.size - 1)
        if absent is not None:
            present = present & ~xp.take_along_axis(absent, inside, 3)
        value = xp.take_along_axis(x, inside, 3)
        best, index = _challenge(xp, best, index, value, at, present)
    return best, index


def gather(x: Array, index: Array) -> Array:
    """See ``contract.gather``."""
    xp = array_module(x)
    x, index = native(x), in_range("index", native(index), x.shape[1])
    outer, positions_in, inner = x.shape
    if positions_in == 0:  # every index is -1
        return xp.zeros((outer, index.shape[1], inner), x.dtype)
    o, i = xp.arange(outer)[:, None, None], xp.arange(inner)[None, None, :]
    return finish(xp, xp.where(index < 0, xp.zeros((), x.dtype), x[o, xp.maximum(index, 0), i]))


@quiet
def scatter_add(src: Array, index: Array, size: int, skips: bool = True) -> Array:
    """See ``contract.scatter_add``: one histogram over flat positions, weighted by ``src``."""
    xp = array_module(src)
    outer, _, inner = src.shape
    dtype = native(src[:0]).dtype
    index = in_range("index", native(index), size, -1 if skips else 0)
    if src.size == 0 or size == 0:
        return xp.zeros((outer, size, inner), dtype)
    o, i = xp.arange(outer)[:, None, None], xp.arange(inner)[None, None, :]
    flat = xp.broadcast_to((o * size + index) * inner + i, src.shape)
    valid = xp.broadcast_to(index >= 0, src.shape)
    # bincount adds in float64 and in the order of src; the sum is rounded once
    total = xp.bincount(flat[valid], weights=src[valid], minlength=outer * size * inner)
    return total.reshape(outer, size, inner).astype(dtype)


def region_gather(x: Array, image: Array, switches: Array) -> Array:
    """See ``contract.region_gather``: the planes that hold the regions, one after the other."""
    channels, pixels = x.shape[1], x.shape[2] * x.shape[3]
    index = _flat_in_batch(image, switches, channels, pixels)
    return gather(x.reshape(1, x.size, 1), index.reshape(1, -1, 1)).reshape(switches.shape)


def region_scatter(gy: Array, image: Array, switches: Array, images: int, size: Pair) -> Array:
    """See ``contract.region_scatter``."""
    shape = (images, gy.shape[1], *size)
    index = _flat_in_batch(image, switches, gy.shape[1], size[0] * size[1])
    total = scatter_add(gy.reshape(1, gy.size, 1), index.reshape(1, -1, 1), math.prod(shape))
    return total.reshape(shape)


def _flat_in_batch(image: Array, switches: Array, channels: int, pixels: int) -> Array:
    """Flat indices in a plane as flat indices in the batch; -1 stays."""
    xp = array_module(switches)
    plane = image[:, None] * channels + xp.arange(channels)
    switches = in_range("switches", native(switches), pixels)
    return xp.where(switches < 0, switches, switches + (plane * pixels)[..., None, None])
