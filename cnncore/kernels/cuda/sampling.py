"""Maxima with their switches, gather and scatter, separable sampling.

All backwards own what they write and add in a fixed order: the same bits in every run.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from cnncore.geometry import Pair, Window2d
from cnncore.kernels.array.modules import Array, Module, array_module
from cnncore.kernels.cuda.convolution import call_with_room
from cnncore.kernels.cuda.runtime import call, empty, ready
from cnncore.taps import Bins, Taps

# Tables that are on a device already, as long as the host's live: layers use theirs in every step.
_tables: dict[tuple[int, str, int, str], tuple[Any, ...]] = {}


def _uploaded(xp: Module, table: Taps | Bins, dtype: Any = None) -> tuple[Any, ...]:
    """A table as kernels read it: short indices, weights of the element type."""
    key = (id(table), xp.__name__, int(xp.cuda.Device().id), str(dtype))
    if key not in _tables:
        parts: tuple[Any, ...]
        if isinstance(table, Taps):
            index, weight = table.index.astype(np.int32), table.weight.astype(dtype)
            parts = (index, weight, table.count.astype(np.int32))
        else:
            parts = (table.start, table.end)
        _tables[key] = (table.size, *(xp.asarray(np.ascontiguousarray(part)) for part in parts))
        weakref.finalize(table, _tables.pop, key, None)
    return _tables[key]


def max_pool2d(x: Array, window: Window2d, output_size: Pair) -> tuple[Array, Array]:
    """See ``contract.max_pool2d``."""
    xp = array_module(x)
    y = empty("max_pool2d", xp, (*x.shape[:2], *output_size), x.dtype)
    winners = empty("max_pool2d", xp, y.shape, np.int64)
    call("max_pool2d", xp, ready(x), window.flat(), y, winners)
    return y, winners


def bin_max(x: Array, image: Array, rows: Bins, cols: Bins) -> tuple[Array, Array]:
    """See ``contract.bin_max``."""
    xp = array_module(x)
    y = empty("bin_max", xp, (image.shape[0], x.shape[1], rows.length, cols.length), x.dtype)
    winners = empty("bin_max", xp, y.shape, np.int64)
    tables = (_uploaded(xp, rows), _uploaded(xp, cols))
    call("bin_max", xp, ready(x), ready(image), *tables, y, winners)
    return y, winners


def gather(x: Array, index: Array) -> Array:
    """See ``contract.gather``."""
    xp = array_module(x)
    y = empty("gather", xp, (x.shape[0], index.shape[1], x.shape[2]), x.dtype)
    call("gather", xp, ready(x), ready(index), y)
    return y


def scatter_add(src: Array, index: Array, size: int, skips: bool = True) -> Array:
    """See ``contract.scatter_add``; indices have been looked at before."""
    xp = array_module(src)
    x = empty("scatter_add", xp, (src.shape[0], size, src.shape[2]), src.dtype)
    call("scatter_add", xp, ready(src), ready(index), x)
    return x


def region_gather(x: Array, image: Array, switches: Array) -> Array:
    """See ``contract.region_gather``."""
    xp = array_module(x)
    y = empty("region_gather", xp, switches.shape, x.dtype)
    call("region_gather", xp, ready(x), ready(image), ready(switches), y)
    return y


def region_scatter(gy: Array, image: Array, switches: Array, images: int, size: Pair) -> Array:
    """See ``contract.region_scatter``."""
    xp = array_module(gy)
    gx = empty("region_scatter", xp, (images, gy.shape[1], *size), gy.dtype)
    call("region_scatter", xp, ready(gy), ready(image), ready(switches), gx)
    return gx


def resample(
    x: Array, image: Array | None, rows: Taps, cols: Taps, position_sensitive: bool = False
) -> Array:
    """See ``contract.resample``."""
    xp = array_module(x)
    bins = rows.length * cols.length if position_sensitive else 1
    regions = x.shape[0] if image is None else image.shape[0]
    channels = x.shape[1] // bins if bins else 0
    y = empty("resample", xp, (regions, channels, rows.length, cols.length), x.dtype)
    tables = (_uploaded(xp, rows, x.dtype), _uploaded(xp, cols, x.dtype))
    image = None if image is None else ready(image)
    call("resample", xp, ready(x), image, *tables, position_sensitive, y)
    return y


def resample_adjoint(
    gy: Array,
    image: Array | None,
    rows: Taps,
    cols: Taps,
    images: int,
    position_sensitive: bool = False,
) -> Array:
    """See ``contract.resample_adjoint``: a pixel gathers the outputs that it reaches."""
    xp = array_module(gy)
    channels = gy.shape[1] * (rows.length * cols.length if position_sensitive else 1)
    gx = empty("resample_adjoint", xp, (images, channels, rows.size, cols.size), gy.dtype)
    tables = (_uploaded(xp, rows, gy.dtype), _uploaded(xp, cols, gy.dtype))
    image = None if image is None else ready(image)
    call_with_room("resample_adjoint", xp, ready(gy), image, *tables, position_sensitive, gx)
    return gx
