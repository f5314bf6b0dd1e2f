"""Checks of pooling, of switches and of separable sampling."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.geometry import Pair, Window2d, as_int, checked_size
from cnncore.kernels.checks.arrays import F64, I64, Array, floats, indices, rank, shape, switches
from cnncore.kernels.checks.convolution import valid_window
from cnncore.taps import Bins, Taps


@functools.lru_cache(maxsize=4096)
def _windows_see_pixels(window: Window2d, size: Pair, output_size: Pair) -> None:
    """In max pooling padding is absent, so a window with padding only would have no maximum."""
    valid_window(window)
    for axis, name in enumerate(("height", "width")):
        as_int("output_size", output_size[axis], 1)
        taps = [window.dilation[axis] * k for k in range(window.kernel[axis])]
        for window_index in range(output_size[axis]):
            first = window_index * window.stride[axis] - window.padding[axis][0]
            if not any(0 <= first + tap < size[axis] for tap in taps):
                raise ShapeError(
                    "x",
                    f"a {name} of which every window sees at least one pixel",
                    f"{name} {size[axis]}, window {window_index} beginning at {first}",
                    "less padding or dilation, a smaller output_size, or a larger input",
                )


def max_pool2d(x: Array, window: Window2d, output_size: Pair) -> bool:
    on_device = floats(("x",), x)
    rank("x", x, "N C H W")
    if not isinstance(output_size, tuple) or len(output_size) != 2:
        raise ArgumentError("output_size", "a pair (h, w)", repr(output_size))
    _windows_see_pixels(window, x.shape[2:], output_size)
    checked_size("output_size", *x.shape[:2], *output_size)
    return on_device


def _image(image: Array, images: int, beside: Array) -> int:
    """The number of regions, each of an image that exists."""
    if getattr(image, "ndim", None) != 1:
        raise ShapeError("image", "shape (R,)", getattr(image, "shape", type(image).__name__))
    indices("image", image, 0, images, beside)
    return int(image.shape[0])


def _axis(argument: str, table: Any, kind: type, size: int, regions: int) -> None:
    """Taps or bins of one axis: their type, the axis they are made for, the number of regions."""
    made_for_it = isinstance(table, kind)  # a name, so that the type checker does not narrow to it
    if not made_for_it:
        raise ArgumentError(argument, f"{kind.__name__} from cnncore.taps", type(table).__name__)
    if isinstance(table, Taps):
        _taps(argument, table)
        groups = table.index.shape[0]
    else:
        _bins(argument, table)
        groups = table.start.shape[0]
    if table.size != size:
        raise ShapeError(argument, f"an axis of {size} pixels", table.size)
    if groups not in (1, regions):
        raise ShapeError(argument, f"1 or {regions} regions", groups)


def _host(argument: str, dtype: Any, *arrays: Array) -> None:
    for array in arrays:
        if type(array) is not np.ndarray or array.dtype != dtype:
            got = getattr(array, "dtype", type(array).__name__)
            raise DTypeError(argument, f"NumPy arrays of {dtype}", got)


def _taps(argument: str, taps: Taps) -> None:
    if taps.trusted:
        return
    _host(argument, I64, taps.index, taps.count)
    _host(argument, F64, taps.weight)
    if taps.index.ndim != 3 or taps.weight.shape != taps.index.shape:
        raise ShapeError(argument, "index and weight of shape (G, P, T)", taps.weight.shape)
    shape(f"{argument}.count", taps.count, taps.index.shape[:2], "(G, P)")
    if not taps.count.size:
        return
    if taps.count.min() < 0 or taps.count.max() > taps.index.shape[2]:
        expected = f"counts in 0 .. {taps.index.shape[2]}"
        raise ArgumentError(argument, expected, f"{taps.count.min()} .. {taps.count.max()}")
    index = taps.index
    if index.size and (index.min() < 0 or index.max() >= taps.size):
        # only the first ``count`` taps of a row mean anything; the rest may hold what it likes
        index = index[np.arange(index.shape[2]) < taps.count[:, :, None]]
        if index.size and (index.min() < 0 or index.max() >= taps.size):
            got = f"{index.min()} .. {index.max()}"
            raise ArgumentError(argument, f"indices in 0 .. {taps.size - 1}", got)


def _bins(argument: str, bins: Bins) -> None:
    _host(argument, I64, bins.start, bins.end)
    if bins.start.ndim != 2 or bins.start.shape != bins.end.shape:
        raise ShapeError(argument, "start and end of shape (G, P)", bins.end.shape)
    for edge in (bins.start, bins.end):
        if edge.size and (edge.min() < 0 or edge.max() > bins.size):
            got = f"{edge.min()} .. {edge.max()}"
            raise ArgumentError(argument, f"edges in 0 .. {bins.size}", got)


def bin_max(x: Array, image: Array, rows: Bins, cols: Bins) -> bool:
    on_device = floats(("x",), x)
    rank("x", x, "N C H W")
    regions = _image(image, x.shape[0], x)
    _axis("rows", rows, Bins, x.shape[2], regions)
    _axis("cols", cols, Bins, x.shape[3], regions)
    checked_size("rows", regions, x.shape[1], rows.length, cols.length)
    return on_device


def _switches(
    index: Array, outer: int, inner: int, size: int, beside: Array, low: int = -1
) -> None:
    rank("index", index, "O J I")
    if index.shape[0] not in (1, outer) or index.shape[2] not in (1, inner):
        raise ShapeError("index", f"shape ({outer} or 1, J, {inner} or 1)", index.shape)
    switches("index", index, size, beside, low)


def gather(x: Array, index: Array) -> bool:
    on_device = floats(("x",), x)
    rank("x", x, "O A I")
    _switches(index, x.shape[0], x.shape[2], x.shape[1], x)
    checked_size("index", x.shape[0], index.shape[1], x.shape[2])
    return on_device


def scatter_add(src: Array, index: Array, size: int, skips: bool = True) -> bool:
    on_device = floats(("src",), src)
    rank("src", src, "O J I")
    size = as_int("size", size, 0)
    checked_size("size", src.shape[0], size, src.shape[2])
    _switches(index, src.shape[0], src.shape[2], size, src, -1 if skips else 0)
    if index.shape[1] != src.shape[1]:
        raise ShapeError("index", f"{src.shape[1]} along its middle axis, as src has", index.shape)
    return on_device


def region_gather(x: Array, image: Array, switches: Array) -> bool:
    on_device = floats(("x",), x)
    rank("x", x, "N C H W")
    regions = _image(image, x.shape[0], x)
    _region_switches(switches, regions, x.shape[1], x.shape[2] * x.shape[3], x)
    return on_device


def region_scatter(gy: Array, image: Array, switches: Array, images: int, size: Pair) -> bool:
    on_device = floats(("gy",), gy)
    rank("gy", gy, "R C PH PW")
    images = as_int("images", images, 0)
    regions = _image(image, images, gy)
    if not isinstance(size, tuple) or len(size) != 2:
        raise ArgumentError("size", "a pair (h, w)", repr(size))
    height, width = as_int("size", size[0], 0), as_int("size", size[1], 0)
    checked_size("size", images, gy.shape[1], height, width)
    _region_switches(switches, regions, gy.shape[1], height * width, gy)
    shape("gy", gy, switches.shape, "that of switches")
    return on_device


def _region_switches(table: Array, regions: int, channels: int, size: int, beside: Array) -> None:
    rank("switches", table, "R C PH PW")
    if table.shape[:2] != (regions, channels):
        raise ShapeError("switches", f"shape ({regions}, {channels}, PH, PW)", table.shape)
    switches("switches", table, size, beside)


def _sampled_regions(image: Array | None, images: int, beside: Array) -> int:
    return images if image is None else _image(image, images, beside)


def resample(
    x: Array, image: Array | None, rows: Taps, cols: Taps, position_sensitive: bool = False
) -> bool:
    on_device = floats(("x",), x)
    rank("x", x, "N C H W")
    regions = _sampled_regions(image, x.shape[0], x)
    _axis("rows", rows, Taps, x.shape[2], regions)
    _axis("cols", cols, Taps, x.shape[3], regions)
    bins = rows.length * cols.length
    if position_sensitive and (bins == 0 or x.shape[1] % bins):
        expected = f"a multiple of PH·PW = {rows.length}·{cols.length} channels"
        raise ShapeError("x", expected, x.shape)
    checked_size("x", regions, x.shape[1], rows.length, cols.length)
    checked_size("x", regions, x.shape[1], rows.length, x.shape[3])
    return on_device


def resample_adjoint(
    gy: Array,
    image: Array | None,
    rows: Taps,
    cols: Taps,
    images: int,
    position_sensitive: bool = False,
) -> bool:
    on_device = floats(("gy",), gy)
    rank("gy", gy, "R C PH PW")
    images = as_int("images", images, 0)
    regions = _sampled_regions(image, images, gy)
    _axis("rows", rows, Taps, rows.size, regions)
    _axis("cols", cols, Taps, cols.size, regions)
    expected = (regions, gy.shape[1], rows.length, cols.length)
    shape("gy", gy, expected, "(R, C, PH, PW)")
    channels = gy.shape[1] * (rows.length * cols.length if position_sensitive else 1)
    checked_size("images", images, channels, rows.size, cols.size)
    return on_device
