"""Sums, means, extremes and spreads over axes.

The sum is the transpose of the broadcast (``shape.spread_map``), so it needs no code of its own.
"""

from __future__ import annotations

import math
from typing import Any

from cnncore import kernels
from cnncore.autograd import Function, Tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.kernels.dispatch import array_module
from cnncore.ops.arguments import as_tensor, float_tensor
from cnncore.ops.elementwise import add, exp, log, mul, neg, sqrt, sub, where
from cnncore.ops.linear import apply
from cnncore.ops.shape import axes_of, expand, reshape, spread_map

Array = Any


def _reduced(shape: tuple[int, ...], axes: tuple[int, ...], keepdim: bool) -> tuple[int, ...]:
    if keepdim:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _count(x: Tensor, axes: tuple[int, ...], what: str) -> int:
    """Elements that go into one result; none at all is an error unless there is no result."""
    count = math.prod([x.shape[i] for i in axes])
    if count == 0 and 0 not in _reduced(x.shape, axes, False):
        raise ShapeError("x", f"at least one element for each {what}", x.shape)
    return count


def sum(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The sum over ``dim`` (an axis, several, or None for all).  Linear; keeps nothing.

    The sum of nothing is 0.  The transpose repeats the gradient.

    >>> from cnncore import tensor
    >>> sum(tensor([[1.0, 2.0], [3.0, 4.0]]), 0).numpy()
    array([4., 6.], dtype=float32)
    """
    x = as_tensor("x", x)
    axes = axes_of("dim", dim, x.ndim)
    if x.dtype.kind != "f":  # counting: outside the graph
        return Tensor(x.data.sum(axes, keepdims=keepdim))
    return apply(spread_map(_reduced(x.shape, axes, keepdim), x.shape, axes).T, x)


def mean(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The mean over ``dim``.  Linear; keeps nothing.

    The mean of nothing is refused (it would be NaN).

    >>> from cnncore import tensor
    >>> mean(tensor([1.0, 2.0, 6.0])).item()
    3.0
    """
    x = float_tensor("x", x)
    count = _count(x, axes_of("dim", dim, x.ndim), "mean")
    return mul(sum(x, dim, keepdim), 1.0 / max(count, 1))


class Amax(Function):
    """The maximum over axes; equal maxima share the gradient.  Keeps each element's share."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = axes

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        rest = tuple(i for i in range(x.ndim) if i not in self.axes)
        count = math.prod(x.shape[i] for i in self.axes)
        rows = x.transpose(*rest, *self.axes).reshape(-1, count)
        top = kernels.reduce_max(rows, 1)[0] if rows.size else rows.reshape(-1)
        y = top.reshape(_reduced(x.shape, self.axes, True))
        if self.needs[0]:
            ties = (x == y) | (x != x)  # where NaN won, the NaNs share
            share = ties / ties.sum(self.axes, keepdims=True).clip(1)
            self.keep(share.astype(x.dtype))
        return y

    def backward(self, gy: Tensor) -> tuple[Tensor]:
        (share,) = self.kept()
        return (mul(expand(gy, self.shape), Tensor(share)),)


def amax(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The maximum over ``dim``; NaN wins; equal maxima share the gradient equally.

    Keeps one array of the size of x.  The maximum of nothing is refused.

    >>> from cnncore import tensor
    >>> x = tensor([3.0, 1.0, 3.0], requires_grad=True)
    >>> amax(x).backward()
    >>> x.grad.numpy()
    array([0.5, 0. , 0.5], dtype=float32)
    """
    x = float_tensor("x", x)
    axes = axes_of("dim", dim, x.ndim)
    _count(x, axes, "maximum")
    return reshape(Amax(axes)(x), _reduced(x.shape, axes, keepdim))


def amin(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The minimum over ``dim``: ``−amax(−x)``."""
    return neg(amax(neg(x), dim, keepdim))


def var(x: Any, dim: Any = None, correction: float = 1, keepdim: bool = False) -> Tensor:
    """``Σ (x − mean)² / (n − correction)`` over ``dim``: unbiased by default, as in PyTorch.

    Keeps the deviations.  Too few values (``n <= correction``) are refused: it would be NaN.

    >>> from cnncore import tensor
    >>> var(tensor([1.0, 2.0, 3.0])).item()
    1.0
    """
    x = float_tensor("x", x)
    count = _count(x, axes_of("dim", dim, x.ndim), "variance")
    if count <= correction and x.size:
        raise ArgumentError(
            "x",
            f"more than correction={correction} values for each variance",
            count,
            "correction=0",
        )
    deviation = sub(x, mean(x, dim, True))
    return mul(sum(mul(deviation, deviation), dim, keepdim), 1.0 / max(count - correction, 1e-300))


def std(x: Any, dim: Any = None, correction: float = 1, keepdim: bool = False) -> Tensor:
    """The square root of ``var``; where that is 0 the gradient is 0, as in PyTorch."""
    variance = var(x, dim, correction, keepdim)
    flat = variance.data == 0
    return where(flat, 0.0, sqrt(where(flat, 1.0, variance)))


def logsumexp(x: Any, dim: Any, keepdim: bool = False) -> Tensor:
    """``log Σ exp(x)`` over ``dim``, with the maximum taken out first so that nothing overflows.

    >>> from cnncore import tensor
    >>> logsumexp(tensor([1000.0, 1000.0]), 0).item()
    1000.6931762695312
    """
    x = float_tensor("x", x)
    axes = axes_of("dim", dim, x.ndim)
    _count(x, axes, "logsumexp")
    peak = amax(x.detach(), axes, True)
    xp = array_module(x.data)
    peak = Tensor(xp.where(xp.isfinite(peak.data), peak.data, xp.zeros_like(peak.data)))
    total = log(sum(exp(sub(x, peak)), axes, keepdim))
    return add(total, reshape(peak, total.shape))
