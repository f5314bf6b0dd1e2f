"""The native backend: compiled, threaded kernels for NumPy.

What each kernel means stands in ``contract.py``.  Here arguments are only brought into the form the
compiled code takes (contiguous, aligned, native byte order) and its refusals become ArgumentError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError
from cnncore.geometry import Pair, Window2d
from cnncore.kernels import array, switches
from cnncore.kernels.array import (
    put_add as put_add,  # NumPy's indexing is compiled already
    take as take,
)
from cnncore.kernels.epilogue import Epilogue, Gate, limits
from cnncore.kernels.native_runtime import (
    AVAILABLE as AVAILABLE,
    REASON as REASON,
    _call as _call,
    _native as _native,
    _ready as _ready,
    describe as describe,
    empty as empty,
    get_num_threads as get_num_threads,
    memory_stats as memory_stats,
    probe_arithmetic as probe_arithmetic,
    probe_memory as probe_memory,
    reset_memory_peak as reset_memory_peak,
    set_memory_limit as set_memory_limit,
    set_num_threads as set_num_threads,
    sources as sources,
)
from cnncore.taps import Bins, Taps

Array = Any


# --- matrices and convolution ---------------------------------------------------------------------


def _strided(x: Array) -> Array:
    """The array itself where its strides are whole elements in native order, else a copy."""
    whole = all(stride % x.itemsize == 0 for stride in x.strides)
    return x if whole and x.flags.aligned and x.dtype.isnative else _ready(x)


def matmul(a: Array, b: Array) -> Array:
    """See ``contract.matmul``; transposed and broadcast factors are read in place."""
    return _call(_native.matmul, _strided(a), _strided(b))


def im2col(x: Array, window: Window2d) -> Array:
    """See ``contract.im2col``."""
    return _call(_native.im2col, _ready(x), window.flat())


def col2im(cols: Array, size: Pair, window: Window2d) -> Array:
    """See ``contract.col2im``."""
    return _call(_native.col2im, _ready(cols), size, window.flat())


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
    epilogue: Epilogue | None = None,
) -> Array:
    """See ``contract.conv2d``; the epilogue is applied while results are in the cache."""
    if algorithm == "auto" and switches.measures_algorithms():
        layer = ("output", x.shape, weight.shape[0], window, groups, x.dtype)
        rest = (window, groups)
        algorithm = _fastest(*layer, lambda a: conv2d(x, weight, bias, *rest, a, epilogue))
    residual, activating = _finish(epilogue)
    return _call(
        _native.conv2d,
        _ready(x),
        _ready(weight),
        bias if bias is None else _ready(bias),
        window.flat(),
        groups,
        algorithm,
        residual,
        activating,
    )


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
    """See ``contract.conv_transpose2d``; the epilogue is applied while results are in the cache."""
    if algorithm == "auto" and switches.measures_algorithms():
        shape = (y.shape[0], weight.shape[1] * groups, *size)
        layer = ("input", shape, weight.shape[0], window, groups, y.dtype)
        rest = (size, window, groups)
        algorithm = _fastest(
            *layer, lambda a: conv_transpose2d(y, weight, bias, *rest, a, epilogue)
        )
    residual, activating = _finish(epilogue)
    return _call(
        _native.conv_transpose2d,
        _ready(y),
        _ready(weight),
        bias if bias is None else _ready(bias),
        size,
        window.flat(),
        groups,
        algorithm,
        residual,
        activating,
    )


def _fastest(*args: Any) -> str:
    """See ``measured.choose``."""
    from cnncore.kernels import measured  # which times the functions of this module

    return measured.choose(*args)


Activating = tuple[int, float, float]  # number of the activation (-1: none), its parameters


def _finish(epilogue: Epilogue | None) -> tuple[Array | None, Activating]:
    if epilogue is None:
        return None, (-1, 0.0, 0.0)
    residual = None if epilogue.residual is None else _ready(epilogue.residual)
    if not epilogue.activation:
        return residual, (-1, 0.0, 0.0)
    return residual, _activating(epilogue.activation, epilogue.params)


def prepare_convolution(
    weight: Array,
    bias: Array | None,
    shape: tuple[int, ...],
    window: Window2d,
    groups: int,
    size: Pair | None,
    activation: str,
    params: Sequence[float],
) -> Any:
    """See ``prepared.prepare``: an object with ``run(x, residual, out)`` and ``nbytes``."""
    # With weights packed for good a product of matrices has nothing that "auto" could save.
    product = groups == 1 and window.kernel == (1, 1)
    return _call(
        _native.PreparedConvolution,
        _ready(weight),
        bias if bias is None else _ready(bias),
        shape,
        size,
        window.flat(),
        groups,
        _activating(activation, params) if activation else (-1, 0.0, 0.0),
        "implicit_gemm" if product else "auto",
    )


def conv2d_weight(
    x: Array, gy: Array, window: Window2d, groups: int = 1, algorithm: str = "auto"
) -> Array:
    """See ``contract.conv2d_weight``."""
    if algorithm == "auto" and switches.measures_algorithms():
        layer = ("weight", x.shape, gy.shape[1], window, groups, x.dtype)
        algorithm = _fastest(*layer, lambda a: conv2d_weight(x, gy, window, groups, a))
    return _call(_native.conv2d_weight, _ready(x), _ready(gy), window.flat(), groups, algorithm)


def convolution_estimates(
    shape: tuple[int, ...],
    outputs: int,
    window: Window2d,
    groups: int,
    direction: str,
    dtype: Any,
) -> list[tuple[str, float, bool]]:
    """What the rule of ``"auto"`` compares: a row for every algorithm that serves.

    A row is ``(algorithm, millions of vector multiply-adds, allowed by the precision)``.  ``shape``
    is that of x, ``direction`` what is computed: ``"output"``, ``"input"`` or ``"weight"``.
    """
    double = np.dtype(dtype) == np.float64
    arguments = (shape, outputs, window.flat(), groups, direction, double)
    return [tuple(row) for row in _call(_native.convolution_estimates, *arguments)]


# --- pooling, gather, sampling --------------------------------------------------------------------


def max_pool2d(x: Array, window: Window2d, output_size: Pair) -> tuple[Array, Array]:
    """See ``contract.max_pool2d``."""
    first, second = _call(_native.max_pool2d, _ready(x), window.flat(), *output_size)
    return first, second


def bin_max(x: Array, image: Array, rows: Bins, cols: Bins) -> tuple[Array, Array]:
    """See ``contract.bin_max``."""
    first, second = _call(_native.bin_max, _ready(x), _ready(image), *_bins(rows), *_bins(cols))
    return first, second


def gather(x: Array, index: Array) -> Array:
    """See ``contract.gather``."""
    return _call(_native.gather, _ready(x), _ready(index))


def scatter_add(src: Array, index: Array, size: int, skips: bool = True) -> Array:
    """See ``contract.scatter_add``."""
    return _call(_native.scatter_add, _ready(src), _ready(index), size, skips)


def region_gather(x: Array, image: Array, switches: Array) -> Array:
    """See ``contract.region_gather``."""
    return _call(_native.region_gather, _ready(x), _ready(image), _ready(switches))


def region_scatter(gy: Array, image: Array, switches: Array, images: int, size: Pair) -> Array:
    """See ``contract.region_scatter``."""
    of = (_ready(image), _ready(switches))
    return _call(_native.region_scatter, _ready(gy), *of, images, *size)


def resample(
    x: Array, image: Array | None, rows: Taps, cols: Taps, position_sensitive: bool = False
) -> Array:
    """See ``contract.resample``."""
    image = image if image is None else _ready(image)
    return _call(_native.resample, _ready(x), image, *_taps(rows), *_taps(cols), position_sensitive)


def resample_adjoint(
    gy: Array,
    image: Array | None,
    rows: Taps,
    cols: Taps,
    images: int,
    position_sensitive: bool = False,
) -> Array:
    """See ``contract.resample_adjoint``."""
    image = image if image is None else _ready(image)
    sampling = (*_taps(rows), *_taps(cols))
    return _call(_native.resample_adjoint, _ready(gy), image, *sampling, images, position_sensitive)


def _taps(taps: Taps) -> tuple[Any, ...]:
    return taps.size, _ready(taps.index), _ready(taps.weight), _ready(taps.count)


def _bins(bins: Bins) -> tuple[Any, ...]:
    return bins.size, _ready(bins.start), _ready(bins.end)


# --- rows, pointwise, reductions ------------------------------------------------------------------


def row_moments(x: Array) -> tuple[Array, Array]:
    """See ``contract.row_moments``."""
    first, second = _call(_native.row_moments, _ready(x))
    return first, second


def row_products(gy: Array, x: Array, mean: Array) -> tuple[Array, Array]:
    """See ``contract.row_products``."""
    first, second = _call(_native.row_products, _ready(gy), _ready(x), _ready(mean))
    return first, second


def _limited(epilogue: Epilogue | None) -> tuple[Array | None, float, float]:
    """The residual, and the limits that the activation is."""
    if epilogue is None:
        return None, math.nan, math.nan
    residual = None if epilogue.residual is None else _ready(epilogue.residual)
    return residual, *limits(epilogue.activation, epilogue.params)


def row_linear(x: Array, a: Array, b: Array, epilogue: Epilogue | None = None) -> Array:
    """See ``contract.row_linear``."""
    return _call(_native.row_linear, _ready(x), _ready(a), _ready(b), *_limited(epilogue))


def row_linear2(x: Array, z: Array, a: Array, b: Array, c: Array) -> Array:
    """See ``contract.row_linear2``."""
    return _call(_native.row_linear2, _ready(x), _ready(z), _ready(a), _ready(b), _ready(c))


def normalize(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    joined: int,
    eps: float,
    epilogue: Epilogue | None = None,
) -> tuple[Array, Array, Array]:
    """See ``contract.normalize``."""
    affine = (None if v is None else _ready(v) for v in (weight, bias))
    ending = _limited(epilogue)
    y, mean, variance = _call(_native.normalize, _ready(x), *affine, joined == 0, eps, *ending)
    return y, mean, variance


def normalize_backward(
    gy: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    rstd: Array,
    joined: int,
    fixed: bool = False,
    gate: Gate | None = None,
) -> tuple[Array, Array, Array]:
    """See ``contract.normalize_backward``."""
    factors = None if weight is None else _ready(weight)
    statistics = (_ready(mean), _ready(rstd), joined == 0, fixed)
    ending: tuple[Any, ...] = (None, math.nan, math.nan)
    if gate is not None:
        ending = (_ready(gate.y), *limits(gate.activation, gate.params))
    gx, gweight, gbias = _call(
        _native.normalize_backward, _ready(gy), _ready(x), factors, *statistics, *ending
    )
    return gx, gweight, gbias


# {name: (number in the compiled table, parameters)}
_ACTIVATIONS: dict[str, tuple[int, int]] = _native.activations() if _native else {}
_BINARY = {"add": 0, "subtract": 1, "multiply": 2, "divide": 3, "maximum": 4}


def _activating(kind: str, params: Sequence[float]) -> Activating:
    number, count = _ACTIVATIONS.get(kind, (-1, 0))
    if number < 0 or len(params) != count:
        expected = f"{count} parameters" if number >= 0 else f"one of {tuple(_ACTIVATIONS)}"
        raise ArgumentError("kind", expected, f"{kind!r} with {tuple(params)}")
    p, q = (*params, 0.0, 0.0)[:2]
    return number, p, q


def pointwise(
    x: Array, kind: str, params: Sequence[float] = (), order: int = 0, scale: Array | None = None
) -> Array:
    """See ``contract.pointwise``."""
    number, p, q = _activating(kind, params)
    scale = scale if scale is None else _ready(scale)
    return _call(_native.pointwise, _ready(x), number, p, q, order, scale)


def ufunc(name: str, *arrays: Array) -> Array:
    """See ``contract.ufunc``: compiled for two float arrays alike or a number, else NumPy."""
    number = _BINARY.get(name)
    if number is not None and len(arrays) == 2:
        a, b = arrays
        alike = a.dtype is b.dtype and (a.shape == b.shape or not a.ndim or not b.ndim)
        if alike and a.dtype.char in "fd":
            return _call(_native.binary, number, _ready(a), _ready(b))
    return array.ufunc(name, *arrays)


def reduce_sum(x: Array, axes: tuple[int, ...]) -> Array:
    """See ``contract.reduce_sum``."""
    return _call(_native.reduce_sum, _ready(x), axes)


def reduce_max(x: Array, axis: int) -> tuple[Array, Array]:
    """See ``contract.reduce_max``."""
    first, second = _call(_native.reduce_max, _ready(x), axis)
    return first, second


def softmax(x: Array, log: bool = False) -> Array:
    """See ``contract.softmax``."""
    return _call(_native.softmax, _ready(x), log)


def softmax_backward(gy: Array, y: Array, log: bool = False) -> Array:
    """See ``contract.softmax_backward``."""
    return _call(_native.softmax_backward, _ready(gy), _ready(y), log)


# --- boxes, optimisers ----------------------------------------------------------------------------


def box_iou(a: Array, b: Array) -> Array:
    """See ``contract.box_iou``."""
    return _call(_native.box_iou, _ready(a), _ready(b))


def nms(boxes: Array, scores: Array, iou_threshold: float) -> Array:
    """See ``contract.nms``."""
    return _call(_native.nms, _ready(boxes), _ready(scores), iou_threshold)


def sgd_update(
    param: Array,
    grad: Array,
    velocity: Array | None,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> None:
    """See ``contract.sgd_update``; what is updated must be contiguous, nothing copies it."""
    settings = (lr, momentum, dampening, weight_decay, nesterov)
    _call(_native.sgd_update, param, _ready(grad), velocity, *settings)


def adam_update(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> None:
    """See ``contract.adam_update``; what is updated must be contiguous, nothing copies it."""
    settings = (step, lr, beta1, beta2, eps, weight_decay, decoupled)
    _call(_native.adam_update, param, _ready(grad), m, v, *settings)
