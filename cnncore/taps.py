"""Where samples fall: every coordinate rule of pooling and resampling, once.

``Taps`` is a sparse matrix along one axis: output position -> weighted input positions.  Average
pooling, nearest, bed of nails, bilinear and bicubic resampling, RoI Align and crop-and-resize all
are ``y = Rows x Colsᵀ`` with one such matrix per axis, so the rules need one axis only, and one
pair of kernels (``resample`` and its transpose) applies them.  ``Bins`` are integer intervals along
one axis, for max pooling over regions.  Both are built on the host, in integers where a rule
rounds, and every backend receives the same numbers, so no two backends can round differently.

The rules for regions of interest stand on these and live next door in ``cnncore.roi_grid``.

Letters: ``R`` regions (``G`` is ``R``, or 1 when all share), ``P`` output positions, ``T`` taps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cnncore.geometry import Pair

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Taps:
    """``G`` sparse matrices of ``P x size``: row p is ``Σ_t weight[g,p,t] · e(index[g,p,t])``.

    Only the first ``count[g, p]`` taps of a row are valid; a row without any gives exactly zero
    (and reads nothing, so a NaN elsewhere cannot leak in).  ``G`` is 1 or the number of regions.
    """

    size: int  # length of the input axis
    index: Ints  # (G, P, T), 0 <= index < size where valid
    weight: Floats  # (G, P, T)
    count: Ints  # (G, P), 0 <= count <= T
    # Made here and read-only: nobody need look at the numbers again.
    trusted: bool = field(default=False, init=False, compare=False, repr=False)

    @property
    def length(self) -> int:
        """Output positions ``P``."""
        return int(self.index.shape[1])

    def dense(self) -> Floats:
        """The matrices in full, ``(G, P, size)``: for teaching and for tests.

        >>> repeat(2, 2).dense()[0]
        array([[1., 0.],
               [1., 0.],
               [0., 1.],
               [0., 1.]])
        """
        groups, length, _ = self.index.shape
        matrix = np.zeros((groups, length, self.size))
        for g in range(groups):
            for p in range(length):
                for t in range(int(self.count[g, p])):
                    matrix[g, p, self.index[g, p, t]] += self.weight[g, p, t]
        return matrix


@dataclass(frozen=True)
class Bins:
    """``G`` rows of ``P`` integer intervals ``start <= i < end`` along one axis of length ``size``.

    An interval may be empty (``end <= start``); all lie inside ``0..size``.
    """

    size: int
    start: Ints  # (G, P)
    end: Ints  # (G, P)

    @property
    def length(self) -> int:
        """Output positions ``P``."""
        return int(self.start.shape[1])


Build = TypeVar("Build", bound=Callable[..., Taps])


_memories: list[Callable[[], None]] = []


def forget() -> None:
    """Build every matrix anew: for those who change how they are built."""
    for clear in _memories:
        clear()


def _remembered(build: Build) -> Build:
    """The matrices of an axis depend on a few numbers only: build each once, read-only."""

    @functools.lru_cache(maxsize=1024, typed=True)
    def built(*args: Any, **kwargs: Any) -> Taps:
        made = build(*args, **kwargs)
        for array in (made.index, made.weight, made.count):
            array.flags.writeable = False
        object.__setattr__(made, "trusted", True)
        return made

    _memories.append(built.cache_clear)
    return functools.wraps(build)(built)  # type: ignore[return-value]


# --- intervals: average and adaptive pooling ------------------------------------------------------


def interval_sums(bins: Bins, weight: Floats) -> Taps:
    """Each output is the sum of its interval times ``weight[g, p]``; of an empty one, zero."""
    count = np.maximum(bins.end - bins.start, 0)
    step = np.arange(max(int(count.max(initial=1)), 1))
    index = np.minimum(bins.start[..., None] + step, bins.size - 1)
    weights = np.where(step < count[..., None], weight[..., None], 0.0)
    return Taps(bins.size, index, weights, count)


def interval_means(bins: Bins) -> Taps:
    """Each output is the mean of its interval; an empty interval gives zero."""
    return interval_sums(bins, 1.0 / np.maximum(bins.end - bins.start, 1))


@_remembered
def window_means(
    size: int,
    length: int,
    kernel: int,
    stride: int,
    padding: Pair,
    count_include_pad: bool = True,
    divisor: float | None = None,
) -> Taps:
    """Average pooling along one axis: window p covers ``p·stride − before .. + kernel``.

    The divisor is the window's length, with padding ``(before, after)`` included (but not what
    hangs over its far end in ceil mode) or excluded; ``divisor`` replaces it.  The divisor of a 2-D
    window is the product of both axes', which is why average pooling is separable.
    """
    start = np.arange(length, dtype=np.int64)[None] * stride - padding[0]
    end = np.minimum(start + kernel, size + padding[1])
    inside = Bins(size, np.maximum(start, 0), np.minimum(end, size))
    if divisor is not None:
        return interval_sums(inside, np.full(start.shape, 1.0 / divisor))
    return (
        interval_sums(inside, 1.0 / (end - start)) if count_include_pad else interval_means(inside)
    )


@_remembered
def adaptive_means(size: int, length: int) -> Taps:
    """Means over the intervals of ``adaptive_bins``."""
    return interval_means(adaptive_bins(size, length))


def adaptive_bins(size: int, length: int) -> Bins:
    """``length`` intervals over the axis: ``floor(p·size/length) .. ceil((p+1)·size/length)``.

    Neighbours overlap by one where the division is not exact.

    >>> adaptive_bins(5, 3).start, adaptive_bins(5, 3).end
    (array([[0, 1, 3]]), array([[2, 4, 5]]))
    """
    p = np.arange(length, dtype=np.int64)[None]
    return Bins(size, p * size // length, -((p + 1) * -size // length))


# --- single pixels: nearest, unpooling ------------------------------------------------------------


def _pixels(size: int, index: Any, valid: Any = True) -> Taps:
    """Each output copies one input pixel, or is zero where not ``valid``."""
    index = np.clip(np.asarray(index, np.int64), 0, size - 1)[None, :, None]
    count = np.broadcast_to(valid, index.shape[1]).astype(np.int64)[None]
    return Taps(size, index, count[..., None].astype(np.float64), count)


@_remembered
def nearest(size: int, length: int, scale: float | None = None, exact: bool = False) -> Taps:
    """Position p copies pixel ``floor(p · ratio)``; ``exact``: ``floor((p + ½) · ratio)``.

    ``ratio`` is ``1/scale`` where a scale factor is given, else ``size/length``.  It is rounded to
    float32, and equal and doubled lengths copy and repeat, because PyTorch does so: in exact
    arithmetic one pixel in thousands would differ (size 2 -> 82).
    """
    p = np.arange(length)
    if not exact and length in (size, 2 * size):
        return _pixels(size, p * size // length)
    ratio = np.float32(1.0 / scale) if scale else np.float32(size) / np.float32(length)
    position = (p + (0.5 if exact else 0.0)).astype(np.float32) * ratio
    return _pixels(size, np.floor(position))


@_remembered
def repeat(size: int, times: int) -> Taps:
    """Every pixel ``times`` times: nearest-neighbour unpooling."""
    return _pixels(size, np.arange(size * times) // times)


@_remembered
def nails(size: int, step: int) -> Taps:
    """Every pixel followed by ``step − 1`` zeros: bed-of-nails unpooling."""
    p = np.arange(size * step)
    return _pixels(size, p // step, p % step == 0)


# --- between pixels: linear and cubic interpolation -----------------------------------------------


def source_positions(
    size: int, length: int, align_corners: bool = False, scale: float | None = None
) -> Floats:
    """Where output positions lie between input pixels, ``(length,)``.

    ``align_corners``: the first and last pixel centres coincide, ``p · (size − 1)/(length − 1)``.
    Otherwise the pixels' outer edges do: ``(p + ½) · ratio − ½`` with ``ratio = 1/scale`` where a
    scale factor is given, else ``size/length``.
    """
    p = np.arange(length, dtype=np.float64)
    if align_corners:
        return p * ((size - 1) / (length - 1) if length > 1 else 0.0)
    return (p + 0.5) * (1.0 / scale if scale else size / length) - 0.5


@_remembered
def linear(size: int, length: int, align_corners: bool = False, scale: float | None = None) -> Taps:
    """Bilinear interpolation along one axis; outside the pixel centres the edge pixel continues.

    An axis that keeps its length is copied, whatever the scale factor: PyTorch's rule (for this
    mode; its bicubic resamples by the factor).
    """
    if length == size:
        scale = None
    position = source_positions(size, length, align_corners, scale)[None, :, None]
    return linear_samples(size, position, np.ones(position.shape, bool), np.ones((1, 1, 1)))


@_remembered
def cubic(size: int, length: int, align_corners: bool = False, scale: float | None = None) -> Taps:
    """Bicubic convolution along one axis with a = −0.75; the edge pixel continues outside.

    Source: Keys, "Cubic convolution interpolation for digital image processing", 1981, with the
    free parameter that PyTorch and OpenCV use.
    """
    position = source_positions(size, length, align_corners, scale)
    low = np.floor(position)
    t = position - low
    weight = np.stack([_keys(1.0 + t), _keys(t), _keys(1.0 - t), _keys(2.0 - t)], axis=-1)
    index = np.clip(low.astype(np.int64)[:, None] + np.arange(-1, 3), 0, size - 1)
    return Taps(size, index[None], weight[None], np.full((1, length), 4, np.int64))


def _keys(distance: Floats, a: float = -0.75) -> Floats:
    """Keys' kernel at ``0 <= distance <= 2``: two cubics that meet smoothly at 1 and end at 2."""
    d = distance
    near = ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    far = (((d - 5.0) * d + 8.0) * d - 4.0) * a
    return np.where(d <= 1.0, near, far)


def linear_samples(size: int, position: Floats, inside: NDArray[np.bool_], weight: Floats) -> Taps:
    """Sums of linearly interpolated samples: ``Σ_s weight · x(position[g, p, s])``.

    position ``(G, P, S)``, ascending in s; samples not ``inside`` count as zero and those inside
    lie in one run.  ``weight`` broadcasts.  Positions beyond the first or last pixel centre take
    the edge pixel.  Samples that share a pixel share its tap: ``T`` is at most ``2 S``, often less.
    """
    groups, length, _ = position.shape
    clipped = np.clip(position, 0.0, size - 1.0)
    low = clipped.astype(np.int64)
    # A sample reads pixels low and low + 1.  Against the sample before, its two taps begin 0, 1 or
    # (nothing shared) 2 slots further; the first one inside begins at slot 0.
    low = np.maximum.accumulate(np.where(inside, low, -2), axis=-1)
    step = np.diff(low, axis=-1, prepend=-2)
    slot = np.cumsum(np.minimum(step, 2), axis=-1) - 2
    count = slot[..., -1] + 2 if slot.shape[-1] else np.zeros((groups, length), np.int64)
    taps = max(int(count.max(initial=0)), 2)
    first = np.arange(groups * length).reshape(groups, length, 1) * taps + np.maximum(slot, 0)
    index = np.zeros(groups * length * taps, np.int64)
    index[first] = low
    index[first + 1] = low + 1
    upper = np.where(inside, (clipped - low) * weight, 0.0)
    lower = np.where(inside, weight, 0.0) - upper
    where = np.concatenate([first.ravel(), first.ravel() + 1])
    parts = np.concatenate([lower.ravel(), upper.ravel()])
    weights: Floats = np.bincount(where, parts, index.size).astype(np.float64, copy=False)
    shape = (groups, length, taps)
    return Taps(size, np.clip(index, 0, size - 1).reshape(shape), weights.reshape(shape), count)
