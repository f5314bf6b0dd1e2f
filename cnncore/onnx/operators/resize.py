"""Resizing in all of ONNX's modes, and sampling at given positions.

Resizing is one sparse matrix along each axis: where each output lies among the inputs is said by
``_positions``, how much it takes of which input by ``_weights``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.onnx.node import Node
from cnncore.onnx.operators.support import axis_of, is_float, separable
from cnncore.onnx.registry import operator
from cnncore.taps import Taps

Array = Any


@dataclass(frozen=True)
class Rule:
    """How positions are computed and values interpolated."""

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    rounding: str = "round_prefer_floor"
    a: float = -0.75  # of the cubic kernel
    antialias: bool = False
    exclude_outside: bool = False
    outside: float | None = None  # the value beyond the edges; None: the edge continues


@dataclass(frozen=True)
class Axis:
    """One resized axis.  ``scale · size`` need not be ``length``, which is whole."""

    size: int
    length: int
    scale: float
    start: float = 0.0  # the part to take, in shares of the axis
    end: float = 1.0

    @property
    def unchanged(self) -> bool:
        """Nothing to do: same length, whole axis."""
        return self.length == self.size and self.scale == 1 and (self.start, self.end) == (0, 1)


@operator("Resize", since=11, arrays=(1, 2, 3))
def _resize(
    node: Node,
    x: Tensor,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
) -> Tensor:
    coordinates = node.get("coordinate_transformation_mode", "half_pixel")
    crops = coordinates == "tf_crop_and_resize"
    rule = Rule(
        node.get("mode", "nearest"),
        coordinates,
        node.get("nearest_mode", "round_prefer_floor"),
        node.get("cubic_coeff_a", -0.75),
        bool(node.get("antialias", 0)),
        bool(node.get("exclude_outside", 0)),
        node.get("extrapolation_value", 0.0) if crops else None,
    )
    chosen = [axis_of(a, x.ndim) for a in node.get("axes", range(x.ndim))]
    if sizes is not None and sizes.size:
        policy = node.get("keep_aspect_ratio_policy", "stretch")
        axes = _to_sizes([x.shape[a] for a in chosen], sizes, policy)
    elif scales is not None and scales.size:
        axes = _by_scales([x.shape[a] for a in chosen], scales)
    else:
        raise ValueError("neither scales nor sizes")
    if crops and roi is not None and roi.size:
        half = roi.size // 2
        axes = [
            Axis(axis.size, axis.length, axis.scale, float(roi[i]), float(roi[half + i]))
            for i, axis in enumerate(axes)
        ]
    return resized(x, dict(zip(chosen, axes, strict=True)), rule)


@operator("Upsample", "Resize", until=10, arrays=(1,))
def _upsample(node: Node, x: Tensor, scales: Array | None = None) -> Tensor:
    factors = np.asarray(node.get("scales"), np.float32) if scales is None else scales
    mode = node.get("mode", "nearest")
    rule = Rule("linear" if mode == "bilinear" else mode, "asymmetric", "floor")
    return resized(x, dict(enumerate(_by_scales(x.shape, factors))), rule)


def _by_scales(shape: Sequence[int], scales: Array) -> list[Axis]:
    return [Axis(n, math.floor(n * float(s)), float(s)) for n, s in zip(shape, scales, strict=True)]


def _to_sizes(shape: Sequence[int], sizes: Array, policy: str) -> list[Axis]:
    wanted = [int(n) for n in sizes]
    factors = [m / n if n else 1.0 for n, m in zip(shape, wanted, strict=True)]
    if policy == "stretch":
        return [Axis(n, m, f) for n, m, f in zip(shape, wanted, factors, strict=True)]
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [Axis(n, math.floor(n * factor + 0.5), factor) for n in shape]


def resized(x: Tensor, axes: dict[int, Axis], rule: Rule) -> Tensor:
    """``x`` with some axes resized; integers are rounded and limited to their type's range."""
    if not is_float(x):
        limits = np.iinfo(x.dtype)
        y = resized(ops.to(x, np.float64), axes, rule).data
        return Tensor(np.rint(y).clip(limits.min, limits.max).astype(x.dtype))
    changed = {a: axis for a, axis in axes.items() if not axis.unchanged}
    positions = {a: _positions(axis, rule) for a, axis in changed.items()}
    y = separable(
        f"Resize_{rule.mode}",
        x,
        {a: _weights(axis, positions[a], rule) for a, axis in changed.items()},
    )
    if rule.outside is None:
        return y
    for a, axis in changed.items():
        lost = (positions[a] < 0) | (positions[a] > axis.size - 1)
        if lost.any():
            shape = [-1 if i == a else 1 for i in range(x.ndim)]
            y = ops.where(np.broadcast_to(lost.reshape(shape), y.shape), rule.outside, y)
    return y


def _positions(axis: Axis, rule: Rule) -> Array:
    """Where the outputs lie between the inputs, whose centres are whole numbers."""
    p, n, scale = np.arange(axis.length, dtype=np.float64), axis.size, axis.scale
    whole = scale * n  # the output's length before it was made whole
    if rule.coordinates == "align_corners":
        return p * ((n - 1) / (whole - 1) if whole != 1 else 0.0)
    if rule.coordinates == "asymmetric":
        return p / scale
    if rule.coordinates == "tf_crop_and_resize":
        part = (axis.end - axis.start) * (n - 1)
        inner = p * (part / (whole - 1)) if whole != 1 else p + part / 2
        return axis.start * (n - 1) + inner
    if rule.coordinates == "pytorch_half_pixel" and whole == 1:
        return p - 0.5
    centre = n / 2 * (1 - axis.length / whole) if "symmetric" in rule.coordinates else 0.0
    return centre + (p + 0.5) / scale - 0.5


def _weights(axis: Axis, position: Array, rule: Rule) -> Taps:
    if rule.mode == "nearest":
        index = NEAREST[rule.rounding](position)[:, None]
        return _taps(axis.size, index, np.ones(index.shape))
    kernel, radius = _KERNELS[rule.mode]
    shrink = min(axis.scale, 1.0) if rule.antialias else 1.0
    reach = math.ceil(radius / shrink)
    index = np.floor(position)[:, None] + np.arange(1 - reach, reach + 1)
    weight = kernel(np.abs(index - position[:, None]) * shrink, rule.a)
    if rule.exclude_outside:
        weight = np.where((index < 0) | (index >= axis.size), 0.0, weight)
    if rule.exclude_outside or rule.antialias:
        total = weight.sum(1, keepdims=True)
        weight = weight / np.where(total == 0, 1.0, total)
    return _taps(axis.size, index, weight)


def _taps(size: int, index: Array, weight: Array) -> Taps:
    """Beyond the edges the edge continues."""
    inside = index.clip(0, size - 1).astype(np.int64)
    return Taps(size, inside[None], weight[None], np.full((1, len(index)), index.shape[1]))


NEAREST: dict[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
}


def _triangle(distance: Array, _: float) -> Array:
    return np.maximum(1.0 - distance, 0.0)


def _cubic(distance: Array, a: float) -> Array:
    """Keys' kernel, zero from 2 on.  Source: Keys, "Cubic convolution interpolation", 1981."""
    d = distance
    near = ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    far = (((d - 5.0) * d + 8.0) * d - 4.0) * a
    return np.where(d <= 1.0, near, np.where(d < 2.0, far, 0.0))


_KERNELS: dict[str, tuple[Callable[[Array, float], Array], int]] = {
    "linear": (_triangle, 1),
    "cubic": (_cubic, 2),
}


# --- sampling at given positions ------------------------------------------------------------------


@operator("GridSample")
def _grid_sample(node: Node, x: Tensor, grid: Tensor) -> Tensor:
    """x ``(N, C, …)`` at grid ``(N, …, r)`` with coordinates in −1..1, the last axis's first."""
    corners, padding = bool(node.get("align_corners", 0)), node.get("padding_mode", "zeros")
    mode = node.get("mode", "linear").removeprefix("bi")
    N, r = x.shape[0], x.ndim - 2
    flat = ops.reshape(grid, (N, math.prod(grid.shape[1:-1]), r))
    positions = []
    for axis, size in enumerate(x.shape[2:]):
        g = ops.add(flat[:, :, r - 1 - axis], 1.0)
        position = g * ((size - 1) / 2.0) if corners else g * (size / 2.0) - 0.5
        positions.append(position)
    y = _SAMPLERS[mode](x, positions, padding, corners)
    return ops.reshape(y, (*x.shape[:2], *grid.shape[1:-1]))


def _brought_inside(position: Tensor, size: int, padding: str, corners: bool) -> Tensor:
    """A position beyond the edges moved to the edge, or mirrored at it."""
    if padding == "reflection":
        scale, shift = _mirror(position.data, size, corners)
        position = position * Tensor(scale) + Tensor(shift)
    return position if padding == "zeros" else ops.clamp(position, 0.0, float(size - 1))


def _mirror(position: Array, size: int, corners: bool) -> tuple[Array, Array]:
    """Sign and offset of the reflection that brings each position between the edges."""
    low, high = (0.0, size - 1.0) if corners else (-0.5, size - 0.5)
    span = high - low
    if span == 0:
        return np.zeros_like(position), np.zeros_like(position)
    folds = np.floor((position - low) / span)
    odd = folds % 2 != 0
    scale = np.where(odd, -1.0, 1.0)
    shift = np.where(odd, 2 * low + (folds + 1) * span, -folds * span)
    return scale.astype(position.dtype), shift.astype(position.dtype)


def _sample_linear(x: Tensor, positions: list[Tensor], padding: str, corners: bool) -> Tensor:
    moved = [
        _brought_inside(p, n, padding, corners) for p, n in zip(positions, x.shape[2:], strict=True)
    ]
    return sample_linear(x, moved, padding)


def sample_linear(x: Tensor, positions: list[Tensor], padding: str) -> Tensor:
    """x ``(N, C, …)`` between pixels: positions ``(N, P)`` for each spatial axis -> ``(N, C, P)``.

    Differentiable in x and in the positions.
    """
    taps = []
    for p in positions:
        low = np.floor(p.data)
        upper = p - Tensor(low)
        taps.append([(low, 1.0 - upper), (low + 1, upper)])
    return _weighted_sum(x, taps)


def _sample_nearest(x: Tensor, positions: list[Tensor], padding: str, corners: bool) -> Tensor:
    taps = []
    for p, n in zip(positions, x.shape[2:], strict=True):
        index = np.rint(_brought_inside(p, n, padding, corners).data)
        taps.append([(index, Tensor(np.ones(index.shape, x.dtype)))])
    return _weighted_sum(x, taps)


def _sample_cubic(x: Tensor, positions: list[Tensor], padding: str, corners: bool) -> Tensor:
    """Here every pixel read is brought inside by itself, not the position."""
    taps = []
    for p, n in zip(positions, x.shape[2:], strict=True):
        low = np.floor(p.data)
        t = p - Tensor(low)
        axis = []
        for i, weight in zip(range(-1, 3), _keys(t), strict=True):
            index = _brought_inside(Tensor(low + i), n, padding, corners).data
            axis.append((np.rint(index), weight))
        taps.append(axis)
    return _weighted_sum(x, taps)


def _keys(t: Tensor, a: float = -0.75) -> list[Tensor]:
    """Weights of the pixels at −1, 0, 1, 2 for a position t beyond pixel 0."""

    def near(d: Any) -> Any:
        return ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0

    def far(d: Any) -> Any:
        return (((d - 5.0) * d + 8.0) * d - 4.0) * a

    return [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]


def _weighted_sum(x: Tensor, taps: list[list[tuple[Array, Tensor]]]) -> Tensor:
    """``Σ w · x`` over all combinations of one (pixel, weight) from each axis; 0 outside."""
    N, C, sizes = x.shape[0], x.shape[1], x.shape[2:]
    flat = ops.reshape(x, (N, C, math.prod(sizes)))
    image, channel = np.arange(N)[:, None, None], np.arange(C)[:, None]
    total = None
    for combination in itertools.product(*taps):
        index: Array = 0
        inside: Array = True
        weight = None
        for (place, w), size in zip(combination, sizes, strict=True):
            inside = inside & (place >= 0) & (place < size)
            index = index * size + place.clip(0, size - 1).astype(np.int64)
            weight = w if weight is None else ops.mul(weight, w)
        values = ops.getitem(flat, (image, channel, index[:, None]))
        values = ops.where(np.broadcast_to(inside[:, None], values.shape), values, 0.0)
        part = ops.mul(values, ops.unsqueeze(weight, 1))
        total = part if total is None else ops.add(total, part)
    assert total is not None  # there is at least one spatial axis
    return total


_SAMPLERS = {"linear": _sample_linear, "nearest": _sample_nearest, "cubic": _sample_cubic}
