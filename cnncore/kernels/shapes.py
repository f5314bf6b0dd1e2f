"""Kernels that compute nothing but the shape of their result.

Every result is *hollow*: a read-only array of the right shape and type in which all elements are
one zero in memory, so VGG-19 on a photograph costs kilobytes and milliseconds.  The functions have
the names and signatures of ``contract.py``.  Missing are ``nms``, whose shape depends on values,
and the optimisers' updates, which have no result.

Letters as in ``contract.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cnncore.geometry import Pair, Window2d
from cnncore.kernels import dispatch
from cnncore.taps import Bins, Taps

Array = Any


def hollow(shape: Sequence[int], dtype: Any = np.float32, value: float = 0) -> Array:
    """A read-only array that holds one number in memory.

    >>> hollow((4096, 25088)).strides
    (0, 0)
    """
    return np.broadcast_to(np.asarray(value, dtype), tuple(shape))


def is_hollow(array: Array) -> bool:
    """Whether an array has a shape and no memory of its own that could be written."""
    return isinstance(array, np.ndarray) and not array.flags.writeable and not any(array.strides)


@contextlib.contextmanager
def computing_shapes_only() -> Iterator[None]:
    """Replace all kernels by those of this file inside a ``with`` block."""
    with contextlib.ExitStack() as stack:
        for name in dispatch.KERNELS:
            if name in globals():
                stack.enter_context(dispatch.override(name, globals()[name]))
        yield


# --- matrices and convolution ---------------------------------------------------------------------


def matmul(a: Array, b: Array) -> Array:
    """``(..., M, L) @ (..., L, N) -> (..., M, N)``"""
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return hollow((*lead, a.shape[-2], b.shape[-1]), a.dtype)


def im2col(x: Array, window: Window2d) -> Array:
    """``(N, C, H, W) -> (N, C·KH·KW, OH·OW)``"""
    N, C, *plane = x.shape
    OH, OW = window.output_size((plane[0], plane[1]))
    return hollow((N, C * window.kernel[0] * window.kernel[1], OH * OW), x.dtype)


def col2im(cols: Array, size: Pair, window: Window2d) -> Array:
    """``(N, C·KH·KW, OH·OW) -> (N, C, H, W)``"""
    channels = cols.shape[1] // (window.kernel[0] * window.kernel[1])
    return hollow((cols.shape[0], channels, *size), cols.dtype)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """``(N, C, H, W) -> (N, O, OH, OW)``"""
    return hollow((x.shape[0], weight.shape[0], *window.output_size(x.shape[2:])), x.dtype)


def conv_transpose2d(
    y: Array,
    weight: Array,
    bias: Array | None,
    size: Pair,
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """``(N, O, OH, OW) -> (N, C, H, W)``"""
    return hollow((y.shape[0], weight.shape[1] * groups, *size), y.dtype)


def conv2d_weight(
    x: Array, gy: Array, window: Window2d, groups: int = 1, algorithm: str = "auto"
) -> Array:
    """``(O, C/G, KH, KW)``"""
    return hollow((gy.shape[1], x.shape[1] // groups, *window.kernel), x.dtype)


# --- pooling, sampling ----------------------------------------------------------------------------


def max_pool2d(x: Array, window: Window2d, output_size: Pair) -> tuple[Array, Array]:
    """Maxima and switches, ``(N, C, OH, OW)`` each."""
    shape = (*x.shape[:2], *output_size)
    return hollow(shape, x.dtype), hollow(shape, np.int64)


def bin_max(x: Array, image: Array, rows: Bins, cols: Bins) -> tuple[Array, Array]:
    """Maxima and switches, ``(R, C, PH, PW)`` each."""
    shape = (len(image), x.shape[1], rows.length, cols.length)
    return hollow(shape, x.dtype), hollow(shape, np.int64)


def gather(x: Array, index: Array) -> Array:
    """``(O, A, I)`` -> ``(O, J, I)``"""
    return hollow((x.shape[0], index.shape[1], x.shape[2]), x.dtype)


def scatter_add(src: Array, index: Array, size: int, skips: bool = True) -> Array:
    """``(O, J, I) -> (O, size, I)``"""
    return hollow((src.shape[0], size, src.shape[2]), src.dtype)


def region_gather(x: Array, image: Array, switches: Array) -> Array:
    """``(R, C, PH, PW)``, as the switches."""
    return hollow(switches.shape, x.dtype)


def region_scatter(gy: Array, image: Array, switches: Array, images: int, size: Pair) -> Array:
    """``(R, C, PH, PW) -> (images, C, H, W)``"""
    return hollow((images, gy.shape[1], *size), gy.dtype)


def resample(
    x: Array, image: Array | None, rows: Taps, cols: Taps, position_sensitive: bool = False
) -> Array:
    """``(N, C, H, W) -> (R, C, PH, PW)``"""
    bins = rows.length * cols.length if position_sensitive else 1
    regions = x.shape[0] if image is None else len(image)
    return hollow((regions, x.shape[1] // bins, rows.length, cols.length), x.dtype)


def resample_adjoint(
    gy: Array,
    image: Array | None,
    rows: Taps,
    cols: Taps,
    images: int,
    position_sensitive: bool = False,
) -> Array:
    """``(R, C, PH, PW) -> (images, C_in, H, W)``"""
    bins = rows.length * cols.length if position_sensitive else 1
    return hollow((images, gy.shape[1] * bins, rows.size, cols.size), gy.dtype)


# --- rows, elements, reductions -------------------------------------------------------------------


def row_moments(x: Array) -> tuple[Array, Array]:
    """``(R, I) -> (R,), (R,)``"""
    return hollow(x.shape[:1], x.dtype), hollow(x.shape[:1], x.dtype)


def row_products(gy: Array, x: Array, mean: Array) -> tuple[Array, Array]:
    """``(R, I) -> (R,), (R,)``"""
    return row_moments(x)


def row_linear(x: Array, a: Array, b: Array, epilogue: Any = None) -> Array:
    """Same shape."""
    return hollow(x.shape, x.dtype)


def row_linear2(x: Array, z: Array, a: Array, b: Array, c: Array) -> Array:
    """Same shape."""
    return hollow(x.shape, x.dtype)


def normalize(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    joined: int,
    eps: float,
    epilogue: Any = None,
) -> tuple[Array, Array, Array]:
    """Same shape, and two numbers a group."""
    groups = tuple(1 if axis == joined else n for axis, n in enumerate(x.shape[:3]))
    return hollow(x.shape, x.dtype), hollow(groups, np.float64), hollow(groups, np.float64)


def normalize_backward(
    gy: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    rstd: Array,
    joined: int,
    fixed: bool = False,
    gate: Any = None,
) -> tuple[Array, Array, Array]:
    """The shape of x, and two numbers a channel."""
    channels = (x.shape[1] * x.shape[2],)
    return hollow(x.shape, x.dtype), hollow(channels, x.dtype), hollow(channels, x.dtype)


def pointwise(
    x: Array, kind: str, params: Sequence[float] = (), order: int = 0, scale: Array | None = None
) -> Array:
    """Same shape."""
    return hollow(x.shape, x.dtype)


def ufunc(name: str, *arrays: Array) -> Array:
    """The broadcast shape, and the type that NumPy gives single elements."""
    element = getattr(np, name)(*(np.ones(1, array.dtype) for array in arrays))
    return hollow(np.broadcast_shapes(*(array.shape for array in arrays)), element.dtype)


def reduce_sum(x: Array, axes: tuple[int, ...]) -> Array:
    """Without ``axes``."""
    return hollow([n for axis, n in enumerate(x.shape) if axis not in axes], x.dtype)


def reduce_max(x: Array, axis: int) -> tuple[Array, Array]:
    """Without ``axis``: maxima and positions."""
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    return hollow(shape, x.dtype), hollow(shape, np.int64)


def softmax(x: Array, log: bool = False) -> Array:
    """Same shape."""
    return hollow(x.shape, x.dtype)


def softmax_backward(gy: Array, y: Array, log: bool = False) -> Array:
    """Same shape."""
    return hollow(gy.shape, gy.dtype)


def box_iou(a: Array, b: Array) -> Array:
    """``(M, 4), (N, 4) -> (M, N)``"""
    return hollow((len(a), len(b)), a.dtype)


def take(x: Array, key: Any) -> Array:
    """The shape of ``x[key]``; masks are read, so they must hold values."""
    positions = np.broadcast_to(np.zeros((), np.int8), x.shape)
    return hollow(positions[key].shape, x.dtype)


def put_add(src: Array, key: Any, shape: tuple[int, ...]) -> Array:
    """``shape``"""
    return hollow(shape, src.dtype)
