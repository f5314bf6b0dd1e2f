"""Pooling over windows and over adaptive bins: maxima with switches, and means.

A mean is a matrix per axis (``resampling``).  A maximum is linear once it is known who won: forward
records the winner of each window (its *switch*), backward is max unpooling by these switches, and
the gradient of that gathers by them; so pooling can be differentiated any number of times.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from cnncore import kernels, taps
from cnncore.autograd import Function, Tensor
from cnncore.errors import ArgumentError
from cnncore.geometry import Pair, Window2d, as_int, as_pair, checked_size
from cnncore.kernels.dispatch import array_module
from cnncore.ops.linear import apply
from cnncore.ops.resample import plane_of, resampling
from cnncore.ops.unpool import unpooling
from cnncore.taps import Bins

Array = Any


class _SwitchedPool(Function):
    """Maxima and their switches.  Keeps the switches only; its gradient is max unpooling by
    them."""

    def forward(self, x: Array) -> tuple[Array, Array]:
        self.size: Pair = x.shape[2:]
        y, switches = self.pool(x)
        self.keep(switches)
        return y, switches

    def pool(self, x: Array) -> tuple[Array, Array]:
        """Values and flat indices, ``(N, C, OH, OW)`` each."""
        raise NotImplementedError

    def backward(self, gy: Tensor, _: Tensor | None) -> tuple[Tensor]:
        (switches,) = self.kept()
        return (apply(unpooling(switches, self.size), gy),)


class MaxPool2d(_SwitchedPool):
    """Maximum of each window."""

    def __init__(self, window: Window2d, output_size: Pair) -> None:
        self.window, self.output_size = window, output_size

    def pool(self, x: Array) -> tuple[Array, Array]:
        return kernels.max_pool2d(x, self.window, self.output_size)


class AdaptiveMaxPool2d(_SwitchedPool):
    """Maximum of each bin; every image is its own region."""

    def __init__(self, rows: Bins, cols: Bins) -> None:
        self.rows, self.cols = rows, cols

    def pool(self, x: Array) -> tuple[Array, Array]:
        image = array_module(x).arange(x.shape[0], dtype=np.int64)
        return kernels.bin_max(x, image, self.rows, self.cols)


def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest value in each window, and on request where it was.

    ``y[n, c, i, j] = max_{u,v} x[n, c, i·sh + u·dh − ph, j·sw + v·dw − pw]`` over pixels that
    exist: padding is absent, not zero, so it never wins.  Ties go to the lowest flat index; NaN
    wins.

    Shapes: x ``(N, C, H, W)`` -> ``(N, C, OH, OW)`` with
    ``OH = floor((H + 2·ph − dh·(KH − 1) − 1)/sh) + 1``; with ``ceil_mode`` the division rounds up,
    except for a window that would begin beyond the plane.  ``stride`` defaults to ``kernel_size``;
    padding is at most half of it.  With ``return_indices`` the result is ``(y, indices)``,
    indices ``h·W + w`` int64: what ``max_unpool2d`` takes.

    Kept for backward: the indices, nothing else.

    Errors: ``ArgumentError`` for windows that do not fit, too much padding, or a dilated window
    that sees no pixel at all.

    >>> from cnncore import tensor
    >>> y, where = max_pool2d(tensor([[[[1.0, 5.0, 2.0, 4.0]]]]), (1, 2), return_indices=True)
    >>> y.numpy()[0, 0], where.numpy()[0, 0]
    (array([[5., 4.]], dtype=float32), array([[1, 3]]))

    Source: Ranzato et al., "Unsupervised learning of invariant feature hierarchies", 2007; switches
    from Zeiler & Fergus, 2014.
    """
    x, plane = plane_of(x)
    stride = kernel_size if stride is None else stride
    window = Window2d.make(kernel_size, stride, padding, dilation)
    y, indices = MaxPool2d(window, _output_size(window, plane, bool(ceil_mode)))(x)
    return (y, indices) if return_indices else y


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window.

    ``y[n, c, i, j] = Σ_{u,v} x[n, c, i·sh + u − ph, j·sw + v − pw] / D``, where D is the number of
    pixels of the window, with padding (zeros) counted or not, or ``divisor_override``.

    Shapes: x ``(N, C, H, W)`` -> ``(N, C, OH, OW)``, sizes as ``max_pool2d``.

    Kept for backward: one small matrix per axis, not x.

    >>> from cnncore import tensor
    >>> avg_pool2d(tensor([[[[1.0, 5.0, 2.0, 4.0]]]]), (1, 2)).numpy()[0, 0]
    array([[3., 3.]], dtype=float32)

    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, II-B.
    """
    x, plane = plane_of(x)
    window = Window2d.make(kernel_size, kernel_size if stride is None else stride, padding)
    divisor = None if divisor_override is None else as_int("divisor_override", divisor_override, 1)
    size = _output_size(window, plane, bool(ceil_mode))
    divisors = (None, None) if divisor is None else (float(divisor), 1.0)
    rows, cols = (
        taps.window_means(
            plane[axis],
            size[axis],
            window.kernel[axis],
            window.stride[axis],
            window.padding[axis],
            count_include_pad,
            divisors[axis],
        )
        for axis in (0, 1)
    )
    how = {"window": window, "count_include_pad": count_include_pad, "divisor": divisor}
    return apply(resampling("AvgPool2d", rows, cols, x.shape[0], settings=how), x)


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Tensor:
    """The mean of each of ``output_size`` bins that cover the plane, whatever its size.

    Bin i of OH covers rows ``floor(i·H/OH) .. ceil((i + 1)·H/OH)``, exclusively.

    Shapes: x ``(N, C, H, W)`` -> ``(N, C, OH, OW)``; ``output_size`` an integer or ``(OH, OW)``,
    None for an axis that stays.  ``output_size=1`` is the global mean.

    Kept for backward: one small matrix per axis, not x.

    >>> from cnncore import tensor
    >>> adaptive_avg_pool2d(tensor([[[[1.0, 5.0, 2.0, 4.0]]]]), 1).item()
    3.0
    """
    x, plane, size = _adaptive(x, output_size)
    rows, cols = (taps.adaptive_means(plane[axis], size[axis]) for axis in (0, 1))
    return apply(resampling("AdaptiveAvgPool2d", rows, cols, x.shape[0]), x)


def adaptive_max_pool2d(x: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The largest value in each of ``output_size`` bins that cover the plane.

    Bins as in ``adaptive_avg_pool2d``; ties, NaN and ``return_indices`` as in ``max_pool2d``.

    Shapes: x ``(N, C, H, W)`` -> ``(N, C, OH, OW)``.

    Kept for backward: the indices, nothing else.

    >>> from cnncore import tensor
    >>> adaptive_max_pool2d(tensor([[[[1.0, 5.0, 2.0, 4.0]]]]), (1, 2)).numpy()[0, 0]
    array([[5., 4.]], dtype=float32)
    """
    x, plane, size = _adaptive(x, output_size)
    rows, cols = (taps.adaptive_bins(plane[a], size[a]) for a in (0, 1))
    y, indices = AdaptiveMaxPool2d(rows, cols)(x)
    return (y, indices) if return_indices else y


def _adaptive(x: Any, output_size: Any) -> tuple[Tensor, Pair, Pair]:
    x, plane = plane_of(x)
    if isinstance(output_size, (list, tuple)) and len(output_size) == 2:
        output_size = [plane[a] if output_size[a] is None else output_size[a] for a in (0, 1)]
    size = as_pair("output_size", output_size, 1)
    checked_size("output_size", *x.shape[:2], *size)
    return x, plane, size


@functools.lru_cache(maxsize=4096)
def _output_size(window: Window2d, plane: Pair, ceil_mode: bool) -> Pair:
    """Size of what a pooling gives, its padding checked."""
    for axis in (0, 1):
        if max(window.padding[axis]) > window.kernel[axis] // 2:
            raise ArgumentError(
                "padding",
                f"at most half the kernel, {window.kernel[axis] // 2}",
                max(window.padding[axis]),
                "a larger kernel_size, or ops.pad first",
            )
    return window.output_size(plane, ceil_mode)
