"""Sums, maxima and softmax."""

from __future__ import annotations

import math

import numpy as np

from cnncore.kernels.array.modules import Array, Module, array_module
from cnncore.kernels.cuda.runtime import call, empty, ready

# Terms that one thread (or one team, where the reduced axis is the last) adds up before the sums
# themselves are added: enough work for each, enough of them for the device.
COLUMN_PIECE, ROW_PIECE = 512, 8192


def reduce_sum(x: Array, axes: tuple[int, ...]) -> Array:
    """See ``contract.reduce_sum``: one run of neighbouring axes after the other, the last first."""
    xp = array_module(x)
    shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    y = ready(x)
    for first, last in _runs(axes):
        middle = math.prod(x.shape[first:last])
        outer = math.prod(x.shape[:first])
        inner = math.prod(s for axis, s in enumerate(x.shape) if axis >= last and axis not in axes)
        y = _sum_middle(xp, y.reshape(outer, middle, inner), x.dtype)
    return y.reshape(shape) if axes else xp.array(y)


def _runs(axes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Neighbouring axes as ``first <= axis < last``, from the back."""
    runs: list[tuple[int, int]] = []
    for axis in sorted(axes, reverse=True):
        if runs and runs[-1][0] == axis + 1:
            runs[-1] = (axis, runs[-1][1])
        else:
            runs.append((axis, axis + 1))
    return runs


def _sum_middle(xp: Module, x: Array, dtype: np.dtype) -> Array:
    """``(O, K, I) -> (O, I)``; sums of pieces stay in float64 until there is one."""
    piece = ROW_PIECE if x.shape[2] == 1 else COLUMN_PIECE
    while True:
        pieces = max(1, -(-x.shape[1] // piece))
        kind = dtype if pieces == 1 else np.dtype(np.float64)
        y = empty("reduce_sum", xp, (x.shape[0], pieces, x.shape[2]), kind)
        call("sum_pieces", xp, x, piece, y)
        if pieces == 1:
            return y[:, 0]
        x = y


def reduce_max(x: Array, axis: int) -> tuple[Array, Array]:
    """See ``contract.reduce_max``."""
    xp = array_module(x)
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    shape = (math.prod(before), x.shape[axis], math.prod(after))
    values = empty("reduce_max", xp, (shape[0], shape[2]), x.dtype)
    indices = empty("reduce_max", xp, (shape[0], shape[2]), np.int64)
    call("max_middle", xp, ready(x).reshape(shape), values, indices)
    return values.reshape(before + after), indices.reshape(before + after)


def softmax(x: Array, log: bool = False) -> Array:
    """See ``contract.softmax``."""
    xp = array_module(x)
    y = empty("softmax", xp, x.shape, x.dtype)
    call("softmax", xp, ready(x), bool(log), y)
    return y


def softmax_backward(gy: Array, y: Array, log: bool = False) -> Array:
    """See ``contract.softmax_backward``."""
    xp = array_module(y)
    gx = empty("softmax_backward", xp, y.shape, y.dtype)
    call("softmax_backward", xp, ready(gy), ready(y), bool(log), gx)
    return gx
