"""The transpose of NumPy indexing, without atomics."""

from __future__ import annotations

import math
from typing import Any

from cnncore.errors import ShapeError
from cnncore.kernels import array
from cnncore.kernels.array.elementwise import indexed, may_repeat
from cnncore.kernels.array.modules import Array, array_module
from cnncore.kernels.cuda.runtime import call, ready


def put_add(src: Array, key: Any, shape: tuple[int, ...]) -> Array:
    """See ``contract.put_add``: places are sorted, and each is the sum of its run, in order.

    Keys that name no place twice (slices, masks) need no sorting.
    """
    if not may_repeat(key):
        return array.put_add(src, key, shape)
    xp = array_module(src)
    places = indexed(xp.arange(math.prod(shape)).reshape(shape), key)
    if places.shape != src.shape:
        raise ShapeError("src", f"the shape of x[key], {places.shape}", src.shape)
    flat = places.reshape(-1)
    order = xp.argsort(flat, kind="stable")
    y = xp.zeros(shape, src.dtype)
    call("add_segments", xp, ready(src).reshape(-1), order, flat[order], y)
    return y
