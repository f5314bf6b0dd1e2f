"""Matrix products, im2col and the convolution family.

float16 and bfloat16 are multiplied on tensor cores and summed in float32; so is float32 where
``allow_tf32`` is on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnncore.geometry import Pair, Window2d
from cnncore.kernels import switches
from cnncore.kernels.array.modules import Array, Module, array_module
from cnncore.kernels.cuda import runtime
from cnncore.kernels.cuda.runtime import call, empty, ready
from cnncore.kernels.epilogue import Epilogue

# What computes each algorithm of the contract; Winograd's are implicit products here.
_METHODS = {
    "auto": "auto",
    "im2col": "im2col",
    "implicit_gemm": "implicit_gemm",
    "winograd": "implicit_gemm",
    "winograd_2x2": "implicit_gemm",
    "winograd_4x4": "implicit_gemm",
    "winograd_phases_3x3": "implicit_gemm",
    "winograd_phases_4x4": "implicit_gemm",
    "direct": "direct",
    "depthwise": "direct",
}


def call_with_room(name: str, xp: Module, *args: Any) -> None:
    """Call a kernel twice: with None before its last argument it only says how much room it needs.

    The room (bytes) comes from the array module's pool and takes None's place.
    """
    bytes_needed = call(name, xp, *args[:-1], None, args[-1])
    call(name, xp, *args[:-1], empty(name, xp, (bytes_needed,), np.uint8), args[-1])


def im2col(x: Array, window: Window2d) -> Array:
    """See ``contract.im2col``."""
    xp = array_module(x)
    oh, ow = window.output_size(x.shape[2:])
    taps = window.kernel[0] * window.kernel[1]
    cols = empty("im2col", xp, (x.shape[0], x.shape[1] * taps, oh * ow), x.dtype)
    call("im2col", xp, ready(x), window.flat(), cols)
    return cols


def col2im(cols: Array, size: Pair, window: Window2d) -> Array:
    """See ``contract.col2im``: every pixel gathers its columns."""
    xp = array_module(cols)
    channels = cols.shape[1] // (window.kernel[0] * window.kernel[1])
    x = empty("col2im", xp, (cols.shape[0], channels, *size), cols.dtype)
    call("col2im", xp, ready(cols), window.flat(), x)
    return x


def matmul(a: Array, b: Array) -> Array:
    """See ``contract.matmul``."""
    xp = array_module(a)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = (*batch, a.shape[-2], b.shape[-1])
    c = empty("matmul", xp, shape, a.dtype)
    if c.size == 0:
        return c
    if a.shape[-1] == 0:
        return xp.zeros(shape, a.dtype)

    def stacked(x: Array) -> Array:  # one leading axis, of 1 where all products share the matrix
        if math.prod(x.shape[:-2]) != 1:
            x = xp.broadcast_to(x, (*batch, *x.shape[-2:]))
        return ready(x).reshape(-1, *x.shape[-2:])

    whole = c.reshape(-1, *shape[-2:])
    call_with_room("matmul", xp, stacked(a), stacked(b), switches.tf32_allowed(), whole)
    return c


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
    epilogue: Epilogue | None = None,
) -> Array:
    """See ``contract.conv2d``; the epilogue is applied as results are written."""
    xp = array_module(x)
    y = empty(
        "conv2d", xp, (x.shape[0], weight.shape[0], *window.output_size(x.shape[2:])), x.dtype
    )
    arrays = (ready(x), ready(weight), bias if bias is None else ready(bias))
    settings = (window.flat(), groups, _METHODS[algorithm], switches.tf32_allowed())
    call_with_room("conv2d", xp, *arrays, *settings, *_finish(epilogue), y)
    return y


def conv_transpose2d(
    y: Array,
    weight: Array,
    bias: Array | None,
    size: Pair,
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
    epilogue: Epilogue | None = None,
) -> Array:
    """See ``contract.conv_transpose2d``; the epilogue is applied as results are written."""
    xp = array_module(y)
    x = empty("conv_transpose2d", xp, (y.shape[0], weight.shape[1] * groups, *size), y.dtype)
    arrays = (ready(y), ready(weight), bias if bias is None else ready(bias))
    settings = (tuple(size), window.flat(), groups, _METHODS[algorithm], switches.tf32_allowed())
    call_with_room("conv_transpose2d", xp, *arrays, *settings, *_finish(epilogue), x)
    return x


def conv2d_weight(
    x: Array, gy: Array, window: Window2d, groups: int = 1, algorithm: str = "auto"
) -> Array:
    """See ``contract.conv2d_weight``; a sum in parts is added up in an order of shapes only."""
    xp = array_module(x)
    shape = (gy.shape[1], x.shape[1] // groups, *window.kernel)
    gweight = empty("conv2d_weight", xp, shape, x.dtype)
    settings = (window.flat(), groups, _METHODS[algorithm], switches.tf32_allowed())
    call_with_room("conv2d_weight", xp, ready(x), ready(gy), *settings, gweight)
    return gweight


def _finish(epilogue: Epilogue | None) -> tuple[Array | None, tuple[int, float, float]]:
    """The residual, and an activation's number (-1: none) and parameters."""
    if epilogue is None:
        return None, (-1, 0.0, 0.0)
    residual = None if epilogue.residual is None else ready(epilogue.residual)
    if not epilogue.activation:
        return residual, (-1, 0.0, 0.0)
    return residual, _activating(epilogue.activation, epilogue.params)


def _activating(kind: str, params: Sequence[float]) -> tuple[int, float, float]:
    p, q = (*params, 0.0, 0.0)[:2]
    return int(runtime.compiled.activations()[kind][0]), float(p), float(q)
