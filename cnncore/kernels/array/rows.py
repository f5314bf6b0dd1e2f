"""Sums, maxima, moments and softmax: the building blocks of every normalisation and loss."""

from __future__ import annotations

import sys

from cnncore.kernels.array import normalization
from cnncore.kernels.array.activation import pointwise
from cnncore.kernels.array.elementwise import ufunc
from cnncore.kernels.array.modules import Array, array_module, finish, native, quiet
from cnncore.kernels.epilogue import Epilogue, Gate, finished

_ROWS = sys.modules[__name__]


@quiet
def row_moments(x: Array) -> tuple[Array, Array]:
    """See ``contract.row_moments``: two passes, the second corrects the rounding of the first.

    With ``d = x − m`` for any m near the mean, ``Σ(x − mean)² = Σd² − (Σd)²/I`` exactly, and
    nothing cancels because ``Σd`` is only the rounding error of m.  Source: Chan, Golub & LeVeque,
    "Algorithms for computing the sample variance", 1983.
    """
    x = native(x)
    length = x.shape[1]
    mean = x.mean(axis=1)
    deviation = x - mean[:, None]
    rest = deviation.sum(axis=1)
    squares = (deviation * deviation).sum(axis=1) - rest * rest / length
    return mean + rest / length, squares


@quiet
def row_products(gy: Array, x: Array, mean: Array) -> tuple[Array, Array]:
    """See ``contract.row_products``."""
    gy = native(gy)
    return gy.sum(axis=1), (gy * (native(x) - native(mean)[:, None])).sum(axis=1)


@quiet
def row_linear(x: Array, a: Array, b: Array, epilogue: Epilogue | None = None) -> Array:
    """See ``contract.row_linear``."""
    xp = array_module(x)
    y = finish(xp, native(a)[:, None] * native(x) + native(b)[:, None])
    return finished(y, epilogue, ufunc, pointwise)


@quiet
def row_linear2(x: Array, z: Array, a: Array, b: Array, c: Array) -> Array:
    """See ``contract.row_linear2``."""
    xp = array_module(x)
    a, b, c = (native(v)[:, None] for v in (a, b, c))
    return finish(xp, a * native(x) + b * native(z) + c)


def normalize(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    joined: int,
    eps: float,
    epilogue: Epilogue | None = None,
) -> tuple[Array, Array, Array]:
    """See ``contract.normalize``."""
    return normalization.forward(_ROWS, x, weight, bias, joined, eps, epilogue)


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
    return normalization.backward(_ROWS, gy, x, weight, mean, rstd, joined, fixed, gate)


@quiet
def reduce_sum(x: Array, axes: tuple[int, ...]) -> Array:
    """See ``contract.reduce_sum``."""
    xp = array_module(x)
    # sum() over no axes may hand back the array itself
    total = native(x).sum(axis=axes) if axes else xp.array(x)
    return finish(xp, total)


def reduce_max(x: Array, axis: int) -> tuple[Array, Array]:
    """See ``contract.reduce_max``: argmax finds the first NaN, else the first maximum."""
    xp = array_module(x)
    x = native(x)
    index = xp.expand_dims(x.argmax(axis=axis), axis)
    y = xp.take_along_axis(x, index, axis)
    return finish(xp, y.squeeze(axis)), finish(xp, index.squeeze(axis).astype(xp.int64))


@quiet
def softmax(x: Array, log: bool = False) -> Array:
    """See ``contract.softmax``."""
    xp = array_module(x)
    x = native(x)
    shifted = x - x.max(axis=1, keepdims=True)
    powers = xp.exp(shifted)
    total = powers.sum(axis=1, keepdims=True)
    return finish(xp, shifted - xp.log(total) if log else powers / total)


@quiet
def softmax_backward(gy: Array, y: Array, log: bool = False) -> Array:
    """See ``contract.softmax_backward``."""
    xp = array_module(y)
    gy, y = native(gy), native(y)
    if log:
        return finish(xp, gy - xp.exp(y) * gy.sum(axis=1, keepdims=True))
    return finish(xp, y * (gy - (gy * y).sum(axis=1, keepdims=True)))
