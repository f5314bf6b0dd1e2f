"""Kernels on blocked arrays ``(N, C/B, H, W, B)``, for compiled networks; the native backend only.

B is the lanes of one vector.  Results go into ``out``; what each function means stands beside its
declaration in ``csrc/cpu/blocked``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnncore.geometry import Pair, Window2d
from cnncore.kernels import native

Array = Any


def block_lanes(dtype: Any) -> int:
    """B: the channels of a block, the lanes of one vector."""
    return int(native._native.block_lanes(np.empty(0, dtype)))


def serves(
    shape: tuple[int, ...], outputs: int, groups: int, transposed: bool, planar: bool
) -> bool:
    """Whether ``convolution`` can serve x of ``shape`` (N, C, H, W)."""
    return bool(native._native.blocked_serves(shape, outputs, groups, transposed, planar))


def convolution(
    weight: Array,
    bias: Array | None,
    shape: tuple[int, ...],
    window: Window2d,
    groups: int,
    size: Pair | None,
    activation: str,
    params: Sequence[float],
    planar: bool,
) -> Any:
    """As ``native.prepare_convolution``, for blocked arrays; ``planar``: x is ``(N, C, H, W)``."""
    return native._call(
        native._native.BlockedConvolution,
        native._ready(weight),
        bias if bias is None else native._ready(bias),
        shape,
        size,
        window.flat(),
        groups,
        native._activating(activation, params) if activation else (-1, 0.0, 0.0),
        planar,
    )


Stage = tuple[Array, Array | None, str, Sequence[float]]
"""Weight, bias, activation and its parameters of one layer of an inverted residual block."""


def inverted_pays(
    shape: tuple[int, ...],
    expanded: int,
    outputs: int,
    expands: bool,
    window: Window2d,
    dtype: Any,
) -> bool:
    """Whether ``inverted`` is expected to beat its layers; x ``(N, C, H, W)``, outputs 0: none."""
    like = np.empty(0, dtype)
    settings = (shape, expanded, outputs, expands, window.flat(), like)
    return bool(native._call(native._native.blocked_inverted_pays, *settings))


def inverted(shape: tuple[int, ...], window: Window2d, stages: Sequence[Stage | None]) -> Any:
    """1×1, depthwise and 1×1 in one (None: without): ``run(x, residual, out)``, ``nbytes``."""

    def ready(stage: Stage | None) -> tuple[Any, ...] | None:
        if stage is None:
            return None
        weight, bias, activation, params = stage
        activating = native._activating(activation, params) if activation else (-1, 0.0, 0.0)
        return native._ready(weight), bias if bias is None else native._ready(bias), activating

    return native._call(
        native._native.BlockedInverted, shape, window.flat(), *(ready(stage) for stage in stages)
    )


def to_blocked(x: Array, out: Array) -> None:
    """``(N, C, H, W)`` in blocks."""
    native._call(native._native.to_blocked, native._ready(x), out)


def from_blocked(x: Array, out: Array) -> None:
    """Blocks as ``(N, C, H, W)``."""
    native._call(native._native.from_blocked, x, out)


def pool(x: Array, shape: tuple[int, ...], window: Window2d, size: Pair, out: Array) -> None:
    """The maximum of each window; padding is absent."""
    native._call(native._native.blocked_pool, x, shape, window.flat(), size, True, 0, out)


def mean(x: Array, shape: tuple[int, ...], out: Array) -> None:
    """The mean of each plane."""
    native._call(native._native.blocked_mean, x, shape, out)


def affine(
    x: Array,
    shape: tuple[int, ...],
    a: Array,
    b: Array | None,
    residual: Array | None,
    activation: str,
    params: Sequence[float],
    out: Array,
) -> None:
    """``f(a · x + b + residual)``, a per channel or per image and channel, b per channel."""
    activating = native._activating(activation, params) if activation else (-1, 0.0, 0.0)
    native._call(native._native.blocked_affine, x, shape, a, b, residual, activating, out)


def select(
    x: Array, shape: tuple[int, ...], rows: Sequence[int], columns: Sequence[int], out: Array
) -> None:
    """``y[h, w] = x[rows[h], columns[w]]``."""
    native._call(native._native.blocked_select, x, shape, rows, columns, out)
