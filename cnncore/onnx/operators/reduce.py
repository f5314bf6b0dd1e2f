"""Reductions over axes, and the positions of extremes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.onnx.node import Node
from cnncore.onnx.operators.support import axis_of, ints, is_float
from cnncore.onnx.registry import ALL, operator

Array = Any
Axes = tuple[int, ...]


class Reduction(NamedTuple):
    """How floats are reduced (differentiably), and how anything else is."""

    smooth: Callable[[Tensor, Axes, bool], Tensor]
    plain: Callable[[Array, Axes, bool], Any]
    empty: float = 0.0  # the reduction of nothing


def _extreme(x: Array, axes: Axes, keep: bool, largest: bool) -> Any:
    if x.dtype.kind == "b":
        return x.any(axes, keepdims=keep) if largest else x.all(axes, keepdims=keep)
    limit = np.iinfo(x.dtype).min if largest else np.iinfo(x.dtype).max
    return (np.max if largest else np.min)(x, axis=axes, keepdims=keep, initial=limit)


def _square(x: Tensor) -> Tensor:
    return ops.mul(x, x)


REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": Reduction(ops.sum, lambda x, a, k: x.sum(a, x.dtype, keepdims=k)),
    "ReduceMean": Reduction(ops.mean, lambda x, a, k: x.mean(a, keepdims=k), np.nan),
    "ReduceMax": Reduction(ops.amax, lambda x, a, k: _extreme(x, a, k, True), -np.inf),
    "ReduceMin": Reduction(ops.amin, lambda x, a, k: _extreme(x, a, k, False), np.inf),
    "ReduceL1": Reduction(
        lambda x, a, k: ops.sum(ops.abs(x), a, k), lambda x, a, k: np.abs(x).sum(a, keepdims=k)
    ),
    "ReduceL2": Reduction(
        lambda x, a, k: ops.sqrt(ops.sum(_square(x), a, k)),
        lambda x, a, k: np.sqrt((x.astype(np.float64) ** 2).sum(a, keepdims=k)),
    ),
    "ReduceSumSquare": Reduction(
        lambda x, a, k: ops.sum(_square(x), a, k), lambda x, a, k: (x * x).sum(a, keepdims=k)
    ),
    "ReduceLogSum": Reduction(
        lambda x, a, k: ops.log(ops.sum(x, a, k)),
        lambda x, a, k: np.log(x.sum(a, keepdims=k)),
        -np.inf,
    ),
    "ReduceLogSumExp": Reduction(
        ops.logsumexp, lambda x, a, k: np.log(np.exp(x).sum(a, keepdims=k)), -np.inf
    ),
}


def _axes(node: Node, given: Array | None, ndim: int) -> Axes | None:
    """The axes to reduce: None for "leave x alone"."""
    axes = node.get("axes") if given is None else ints(given)
    if not axes:
        return None if node.get("noop_with_empty_axes", 0) else tuple(range(ndim))
    return tuple(axis_of(a, ndim) for a in axes)


@operator(*REDUCTIONS, arrays=(1,))
def _reduce(node: Node, x: Tensor, axes: Array | None = None) -> Any:
    reduction, keep = REDUCTIONS[node.spec.op_type], bool(node.get("keepdims", 1))
    chosen = _axes(node, axes, x.ndim)
    if chosen is None:
        # Every number is its own group: absolute values, squares and logarithms are still taken.
        return reduction.smooth(ops.unsqueeze(x, 0), (0,), False) if is_float(x) else x
    if not chosen and is_float(x):
        return reduction.smooth(ops.unsqueeze(x, 0), (0,), False)
    if not is_float(x):
        return np.asarray(reduction.plain(x.data, chosen, keep)).astype(x.dtype)
    if x.size == 0:
        shape = [1 if i in chosen else n for i, n in enumerate(x.shape) if keep or i not in chosen]
        return np.full(shape, reduction.empty, x.dtype)
    return reduction.smooth(x, chosen, keep)


@operator("ReduceProd", arrays=ALL)
def _reduce_prod(node: Node, x: Array, axes: Array | None = None) -> Any:
    chosen = _axes(node, axes, x.ndim)
    if chosen is None:
        return x
    return np.prod(x, axis=chosen, dtype=x.dtype, keepdims=bool(node.get("keepdims", 1)))


@operator("ArgMax", "ArgMin", arrays=ALL, flat=True)
def _arg_extreme(node: Node, x: Array) -> Array:
    axis, keep = axis_of(node.get("axis", 0), x.ndim), bool(node.get("keepdims", 1))
    find = np.argmax if node.spec.op_type == "ArgMax" else np.argmin
    if node.get("select_last_index", 0):
        place = x.shape[axis] - 1 - find(np.flip(x, axis), axis=axis, keepdims=keep)
    else:
        place = find(x, axis=axis, keepdims=keep)
    return np.asarray(place, np.int64)
