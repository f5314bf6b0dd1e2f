"""Gathering, scattering, sorting and searching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.onnx.node import Node
from cnncore.onnx.operators.support import axis_of, every_index, is_float
from cnncore.onnx.registry import ALL, operator
from cnncore.ops.linear import apply
from cnncore.ops.shape import gather_map

Array = Any


def _wrapped(index: Array, size: int) -> Array:
    """Indices from the end made non-negative; out of range is an error, not a wrap."""
    index = index.astype(np.int64)
    index = np.where(index < 0, index + size, index)
    if index.size and (index.min() < 0 or index.max() >= size):
        raise IndexError(f"an index outside an axis of size {size}")
    return index


@operator("Gather", arrays=(1,), widen=False)
def _gather(node: Node, x: Tensor, indices: Array) -> Tensor:
    axis = axis_of(node.get("axis", 0), x.ndim)
    return ops.getitem(x, (slice(None),) * axis + (_wrapped(indices, x.shape[axis]),))


def along_axis(x: Tensor, index: Array, axis: int) -> Tensor:
    """``y[…, i, …] = x[…, index[…, i, …], …]``: an index of its own for every element."""
    key = every_index(index.shape)
    key[axis] = index
    return ops.getitem(x, tuple(key))


@operator("GatherElements", arrays=(1,), widen=False)
def _gather_elements(node: Node, x: Tensor, indices: Array) -> Tensor:
    axis = axis_of(node.get("axis", 0), x.ndim)
    return along_axis(x, _wrapped(indices, x.shape[axis]), axis)


@operator("GatherND", arrays=(1,), widen=False)
def _gather_nd(node: Node, x: Tensor, indices: Array) -> Tensor:
    shared = node.get("batch_dims", 0)
    ones = (1,) * (indices.ndim - 1 - shared)
    key = [g.reshape(*g.shape, *ones) for g in every_index(x.shape[:shared])]
    key += [_wrapped(indices[..., i], x.shape[shared + i]) for i in range(indices.shape[-1])]
    return ops.getitem(x, tuple(key))


@operator("Compress", arrays=(1,), widen=False)
def _compress(node: Node, x: Tensor, condition: Array) -> Tensor:
    chosen = np.flatnonzero(condition)
    if not node.has("axis"):
        return ops.getitem(ops.reshape(x, -1), chosen)
    return ops.getitem(x, (slice(None),) * axis_of(node.get("axis"), x.ndim) + (chosen,))


# --- scattering -----------------------------------------------------------------------------------

COMBINE: dict[str, Callable[[Array, Array, Array], None]] = {
    "add": np.add.at,
    "mul": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def _scatter(node: Node, x: Tensor, flat: Array, updates: Tensor) -> Any:
    """``x`` with ``updates`` written (or combined) at flat positions."""
    how = node.get("reduction", "none")
    flat = flat.reshape(-1)
    if how in ("none", "add") and is_float(x):
        spread = gather_map(flat.reshape(1, -1, 1), x.size).T
        added = ops.reshape(apply(spread, ops.reshape(updates, (1, -1, 1))), x.shape)
        if how == "add":
            return ops.add(x, added)
        written = np.zeros(x.size, bool)
        written[flat] = True
        if int(written.sum()) == flat.size:
            return ops.where(written.reshape(x.shape), added, x)
    y = x.data.reshape(-1).copy()
    values = updates.data.reshape(-1)
    if how == "none":
        y[flat] = values  # of several at one place the last stays
    else:
        COMBINE[how](y, flat, values)
    return y.reshape(x.shape)


@operator("Scatter", "ScatterElements", arrays=(1,))
def _scatter_elements(node: Node, x: Tensor, indices: Array, updates: Tensor) -> Any:
    axis = axis_of(node.get("axis", 0), x.ndim)
    key = every_index(indices.shape)
    key[axis] = _wrapped(indices, x.shape[axis])
    return _scatter(node, x, _flat(key, x.shape, indices.shape), updates)


@operator("ScatterND", arrays=(1,))
def _scatter_nd(node: Node, x: Tensor, indices: Array, updates: Tensor) -> Any:
    depth, lead = indices.shape[-1], indices.shape[:-1]
    rest = x.shape[depth:]
    ones = (1,) * len(rest)
    key = [_wrapped(indices[..., i], x.shape[i]).reshape(*lead, *ones) for i in range(depth)]
    return _scatter(node, x, _flat([*key, *every_index(rest)], x.shape, (*lead, *rest)), updates)


def _flat(key: list[Array], shape: tuple[int, ...], result: tuple[int, ...]) -> Array:
    if not key:
        return np.zeros(result, np.int64)
    return np.ravel_multi_index(np.broadcast_arrays(*key), shape).reshape(result)


@operator("TensorScatter", arrays=(2,))
def _tensor_scatter(node: Node, past: Tensor, update: Tensor, starts: Array | None = None) -> Any:
    """A cache with new entries written from each batch's start on, wrapping round if circular."""
    axis = axis_of(node.get("axis", -2), past.ndim)
    first = np.zeros(past.shape[0], np.int64) if starts is None else starts.astype(np.int64)
    key = every_index(update.shape)
    key[axis] = key[axis] + first.reshape(-1, *(1,) * (past.ndim - 1))
    if node.get("mode", "linear") == "circular":
        key[axis] = key[axis] % past.shape[axis]
    return _scatter(node, past, _flat(key, past.shape, update.shape), update)


# --- sorting and searching ------------------------------------------------------------------------


@operator("TopK", arrays=(1,))
def _top_k(node: Node, x: Tensor, k: Array | None = None) -> tuple[Tensor, Array]:
    """The k largest (or smallest) along an axis, equal ones by lower index first."""
    count = node.get("k") if k is None else int(k.reshape(-1)[0])
    axis = axis_of(node.get("axis", -1), x.ndim)
    if count > x.shape[axis]:
        raise ValueError(f"the {count} largest of {x.shape[axis]}")
    if node.get("largest", 1):
        # Descending and stable: sort the reversed axis ascending, and reverse again.
        order = np.argsort(np.flip(x.data, axis), axis, kind="stable")
        order = x.shape[axis] - 1 - np.flip(order, axis)
    else:
        order = np.argsort(x.data, axis, kind="stable")
    order = np.take(order, np.arange(count), axis)
    return along_axis(x, order, axis), order


@operator("NonZero", arrays=ALL, flat=True)
def _non_zero(node: Node, x: Array) -> Array:
    return np.array(np.nonzero(np.atleast_1d(x)), np.int64)


@operator("Unique", arrays=ALL, widen=False)
def _unique(node: Node, x: Array) -> tuple[Array, ...]:
    axis = node.get("axis")
    y, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not node.get("sorted", 1):
        order = np.argsort(first, kind="stable")
        y = np.take(y, order, 0 if axis is None else axis)
        first, counts = first[order], counts[order]
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        inverse = rank[inverse]
    return y, *(a.astype(np.int64) for a in (first, inverse, counts))
