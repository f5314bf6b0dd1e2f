"""Hypothesis strategies for testing layers, ours and yours (needs ``pip install "cnncore[test]"``).

Inputs of a gradient test should make it fail for one reason only: ``spaced`` values have no ties
for a maximum to hesitate at, ``away_from`` keeps clear of kinks, sizes are small enough for full
Jacobians and odd enough to tell height from width.  Numbers come from a seeded generator, so that
examples are drawn fast and shrink to small shapes; ``layouts`` then puts the same numbers into
memory in every order that NumPy allows.

>>> from hypothesis import given
>>> from cnncore import ops
>>> from cnncore.testing import gradcheck, strategies
>>> @given(strategies.conv_cases(max_size=4))
... def test_my_convolution(case):
...     gradcheck(lambda x, w: ops.conv2d(x, w, **case.options), [case.x, case.weight])
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnncore.errors import ArgumentError, require
from cnncore.geometry import Padding, Pair, Window2d

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy
else:
    DrawFn = SearchStrategy = Any

Array = NDArray[Any]
LAYOUTS = ("contiguous", "strided", "transposed", "reversed", "offset")


def _st() -> Any:
    return require("hypothesis.strategies", "test")


def _composite(function: Callable[..., Any]) -> Callable[..., Any]:
    """``st.composite``, importing Hypothesis when the strategy is made, not when this is."""

    @functools.wraps(function)
    def make(*args: Any, **kwargs: Any) -> Any:
        return _st().composite(function)(*args, **kwargs)

    return make


# --- numbers --------------------------------------------------------------------------------------


def generators() -> SearchStrategy[np.random.Generator]:
    """Seeded NumPy generators; shrinks towards seed 0."""
    seeds = _st().integers(0, 2**16 - 1)
    return seeds.map(np.random.default_rng)  # type: ignore[no-any-return]


def dtypes() -> SearchStrategy[Any]:
    """``float64`` or ``float32``."""
    both: SearchStrategy[Any] = _st().sampled_from([np.dtype(np.float64), np.dtype(np.float32)])
    return both


def layouts() -> SearchStrategy[str]:
    """Names for ``arrange``; shrinks towards ``"contiguous"``."""
    return _st().sampled_from(LAYOUTS)  # type: ignore[no-any-return]


def arrange(x: Array, layout: str) -> Array:
    """The same values, laid out in memory in another way.

    >>> arrange(np.arange(4.0), "reversed").strides
    (-8,)
    """
    if layout not in LAYOUTS:
        raise ArgumentError("layout", f"one of {LAYOUTS}", repr(layout))
    if layout == "contiguous" or x.ndim == 0:
        return np.ascontiguousarray(x)
    if layout == "transposed":
        return np.asfortranarray(x)
    if layout == "reversed":
        return np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    room = np.full((*x.shape[:-1], 2 * x.shape[-1] + 1), 7.25, x.dtype)
    view: Array = room[..., 1::2] if layout == "strided" else room[..., 1 : 1 + x.shape[-1]]
    view[...] = x
    return view


def values(shape: Sequence[int], dtype: Any = np.float64) -> SearchStrategy[Array]:
    """Arrays of standard normal numbers."""
    return generators().map(lambda rng: rng.normal(size=shape).astype(dtype))


def spaced(
    shape: Sequence[int], gap: float = 0.05, dtype: Any = np.float64
) -> SearchStrategy[Array]:
    """Arrays in which any two values differ by at least ``gap``: no ties, centred on zero.

    For whatever picks a largest element (max pooling, RoI pooling): finite differences with steps
    below ``gap / 2`` never change the winner.
    """
    return generators().map(lambda rng: spaced_values(rng, shape, gap).astype(dtype))


def spaced_values(rng: np.random.Generator, shape: Sequence[int], gap: float = 0.05) -> Array:
    """One array as ``spaced`` draws them: a shuffled grid of step 2·gap, jittered by gap / 2."""
    count = int(np.prod(shape))
    grid = (np.arange(count) - (count - 1) / 2) * 2 * gap
    jitter = rng.uniform(-gap / 2, gap / 2, count)
    return np.asarray(rng.permutation(grid + jitter).reshape(shape))


def away_from(
    shape: Sequence[int],
    points: Sequence[float] = (0.0,),
    margin: float = 0.05,
    dtype: Any = np.float64,
) -> SearchStrategy[Array]:
    """Normal numbers (twice as wide), at least ``margin`` from each of ``points``: the kinks."""

    def draw(rng: np.random.Generator) -> Array:
        x = 2 * rng.normal(size=shape)
        for point in points:
            near = np.abs(x - point) < margin
            x = np.where(near, point + np.where(x < point, -1, 1) * (margin + np.abs(x - point)), x)
        if any((np.abs(x - point) < margin).any() for point in points):
            raise ArgumentError("margin", "points further apart than 3 margins", margin)
        return x.astype(dtype)

    return generators().map(draw)


# --- windows --------------------------------------------------------------------------------------


@_composite
def windows(
    draw: DrawFn,
    size: Pair,
    max_kernel: int = 3,
    max_stride: int = 3,
    max_padding: int = 2,
    max_dilation: int = 2,
    asymmetric: bool = True,
) -> Window2d:
    """Windows that fit a plane of ``size = (H, W)``, padding of its own on each side."""
    st = _st()

    def axis(n: int) -> tuple[int, int, Pair, int]:
        kernel = draw(st.integers(1, max_kernel))
        dilation = draw(st.integers(1, max_dilation))
        before = draw(st.integers(0, max_padding))
        after = draw(st.integers(0, max_padding)) if asymmetric else before
        while dilation * (kernel - 1) + 1 > n + before + after:
            if dilation > 1:
                dilation -= 1
            else:
                kernel -= 1
        return kernel, draw(st.integers(1, max_stride)), (before, after), dilation

    (kh, sh, ph, dh), (kw, sw, pw, dw) = axis(size[0]), axis(size[1])
    return Window2d((kh, kw), (sh, sw), (ph, pw), (dh, dw))


@dataclass(frozen=True)
class ConvCase:
    """Arguments of one convolution; ``options`` are the keyword arguments of ``ops.conv2d``."""

    x: Array
    weight: Array
    bias: Array | None
    options: dict[str, Any]
    window: Window2d

    @property
    def inputs(self) -> list[Array]:
        """x, weight and, where there is one, bias."""
        return [self.x, self.weight] + ([] if self.bias is None else [self.bias])


@_composite
def conv_cases(
    draw: DrawFn,
    dtype: Any = np.float64,
    max_size: int = 6,
    max_batch: int = 2,
    max_channels: int = 2,
    max_groups: int = 2,
    asymmetric: bool = True,
    min_batch: int = 1,
) -> ConvCase:
    """Convolutions of all kinds: stride, padding (each side), dilation, groups, bias or none."""
    st = _st()
    size = draw(st.integers(1, max_size)), draw(st.integers(1, max_size))
    window = draw(windows(size, asymmetric=asymmetric))
    groups = draw(st.integers(1, max_groups))
    batch = draw(st.integers(min_batch, max_batch))
    c, o = draw(st.integers(1, max_channels)), draw(st.integers(1, max_channels))
    rng = draw(generators())
    x = rng.normal(size=(batch, c * groups, *size)).astype(dtype)
    weight = rng.normal(size=(o * groups, c, *window.kernel)).astype(dtype)
    bias = rng.normal(size=o * groups).astype(dtype) if draw(st.booleans()) else None
    return ConvCase(x, weight, bias, {**_options(window), "groups": groups}, window)


@_composite
def conv_transpose_cases(
    draw: DrawFn, dtype: Any = np.float64, max_size: int = 6, asymmetric: bool = True, **limits: Any
) -> ConvCase:
    """Transposed convolutions that give a plane of at least 1 x 1; options of ``conv_transpose2d``.

    The input has the size that a convolution with this window gives, so ``output_padding`` takes
    every legal value.
    """
    case = draw(conv_cases(dtype, max_size, asymmetric=asymmetric, **limits))
    size, window = case.x.shape[2:], case.window
    output = window.output_size(size)
    smallest = window.transposed_size(output)
    padding = tuple(max(0, n - s) for n, s in zip(size, smallest, strict=True))
    rng = np.random.default_rng(case.x.size)
    x = rng.normal(size=(len(case.x), len(case.weight), *output)).astype(dtype)
    bias = None if case.bias is None else rng.normal(size=case.x.shape[1]).astype(dtype)
    options = {**case.options, "output_padding": padding}
    return ConvCase(x, case.weight, bias, options, window)


def _options(window: Window2d) -> dict[str, Any]:
    return {
        "stride": window.stride,
        "padding": _padding(window.padding),
        "dilation": window.dilation,
    }


def _padding(padding: Padding) -> Any:
    """``(ph, pw)`` where it is symmetric, as most people write it."""
    (top, bottom), (left, right) = padding
    return (top, left) if (top, left) == (bottom, right) else padding


@dataclass(frozen=True)
class PoolCase:
    """Arguments of one pooling; ``options`` are those of ``ops.max_pool2d``."""

    x: Array
    options: dict[str, Any]


@_composite
def pool_cases(
    draw: DrawFn,
    dtype: Any = np.float64,
    max_size: int = 7,
    dilation: bool = True,
    ceil_mode: bool = True,
) -> PoolCase:
    """Max (or, without dilation, average) pooling; x is ``spaced``, so no window has a tie.

    Padding is at most half the kernel, and symmetric, as pooling layers demand.
    """
    st = _st()
    size = draw(st.integers(1, max_size)), draw(st.integers(1, max_size))
    window = draw(windows(size, max_padding=0, max_dilation=2 if dilation else 1))
    padding = tuple(draw(st.integers(0, k // 2)) for k in window.kernel)
    shape = draw(st.integers(1, 2)), draw(st.integers(1, 2)), *size
    options: dict[str, Any] = {
        "kernel_size": window.kernel,
        "stride": window.stride,
        "padding": padding,
        "ceil_mode": ceil_mode and draw(st.booleans()),
    }
    if dilation:
        options["dilation"] = window.dilation if _sees(size, window, padding, options) else (1, 1)
    return PoolCase(draw(spaced(shape, dtype=dtype)), options)


def _sees(size: Pair, window: Window2d, padding: Sequence[int], options: dict[str, Any]) -> bool:
    """Whether every window has a pixel: the holes of a dilated one can straddle a small plane."""
    around = (padding[0], padding[0]), (padding[1], padding[1])
    window = Window2d(window.kernel, window.stride, around, window.dilation)
    output = window.output_size(size, options["ceil_mode"])
    for axis in (0, 1):
        offset = np.arange(window.kernel[axis]) * window.dilation[axis] - padding[axis]
        position = np.arange(output[axis])[:, None] * window.stride[axis] + offset
        if not ((position >= 0) & (position < size[axis])).any(axis=1).all():
            return False
    return True


# --- regions of interest --------------------------------------------------------------------------


@_composite
def boxes(draw: DrawFn, size: Pair, max_boxes: int = 4, min_boxes: int = 0) -> Array:
    """``(R, 4)`` boxes xyxy of positive extent in and slightly beyond an ``(H, W)`` plane."""
    rng = draw(generators())
    count = draw(_st().integers(min_boxes, max_boxes))
    limit = np.array([size[1], size[0]], float)
    corner = rng.uniform(-0.1, 0.8, (count, 2)) * limit
    extent = rng.uniform(0.05, 0.9, (count, 2)) * limit
    return np.concatenate([corner, corner + extent], axis=1)


@dataclass(frozen=True)
class RoiCase:
    """Arguments of a RoI op: ``options`` fit ``ops.roi_align`` (``roi_pool``: the first two)."""

    x: Array
    boxes: Array  # (R, 5): image, x1, y1, x2, y2 in image coordinates
    options: dict[str, Any]


@_composite
def roi_cases(
    draw: DrawFn, dtype: Any = np.float64, max_size: int = 6, min_boxes: int = 0, align: bool = True
) -> RoiCase:
    """RoI pooling or (``align``) RoI Align over several images; x is ``spaced``, R may be zero.

    Boxes are at generic positions: no bin edge or sample falls exactly on a rounding boundary.
    """
    st = _st()
    size = draw(st.integers(2, max_size)), draw(st.integers(2, max_size))
    images, channels = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    scale = draw(st.sampled_from([1.0, 0.5, 0.25]))
    regions = draw(boxes(size, min_boxes=min_boxes)) / scale
    image = draw(generators()).integers(0, images, (len(regions), 1))
    options: dict[str, Any] = {
        "output_size": (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        "spatial_scale": scale,
    }
    if align:
        options["sampling_ratio"] = draw(st.sampled_from([-1, 1, 2]))
        options["aligned"] = draw(st.booleans())
    x = draw(spaced((images, channels, *size), dtype=dtype))
    return RoiCase(x, np.concatenate([image, regions], axis=1).astype(dtype), options)
