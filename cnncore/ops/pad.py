"""Padding of any axes: constant, reflected, replicated; negative amounts crop.

Zero padding by ``p`` has the transpose "pad by ``−p``", which crops: the same op with the sign
reversed.  Reflecting and replicating select rows by an index, one axis at a time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import as_int
from cnncore.kernels.dispatch import array_module
from cnncore.ops.arguments import as_tensor
from cnncore.ops.elementwise import add
from cnncore.ops.linear import LinearMap, apply
from cnncore.ops.shape import gather_map, reshape

Array = Any
Pads = tuple[tuple[int, int], ...]  # (before, after) of every axis, may be negative

MODES = ("constant", "reflect", "replicate")


def pad(x: Any, pad: Any, mode: str = "constant", value: float = 0.0) -> Tensor:
    """``x`` with rows added (or, for negative amounts, cut off) at the ends of its last axes.

    ``pad`` counts from the *last* axis, as in PyTorch: ``(left, right, top, bottom, …)``.  Modes:
    ``"constant"`` (filled with ``value``), ``"reflect"`` (mirrored without repeating the edge;
    amounts smaller than the axis), ``"replicate"`` (the edge repeated).  Linear (affine for a value
    other than 0).  Keeps nothing but index rows.

    >>> from cnncore import tensor
    >>> pad(tensor([1.0, 2.0, 3.0]), (2, 1), "reflect").numpy()
    array([3., 2., 1., 2., 3., 2.], dtype=float32)
    >>> pad(tensor([1.0, 2.0, 3.0]), (-1, 1), value=9.0).numpy()
    array([2., 3., 9.], dtype=float32)
    """
    x = as_tensor("x", x)
    pads = _pads(pad, x.shape)
    if mode == "constant":
        y = apply(_zero_pad_map(x.shape, pads), x)
        return y if value == 0 else add(y, _frame(x, pads, value))
    if mode not in MODES:
        raise ArgumentError("mode", f"one of {MODES}", repr(mode))
    for axis, amounts in enumerate(pads):
        if amounts != (0, 0):
            x = _select(x, axis, _source_rows(x.shape[axis], amounts, mode))
    return x  # type: ignore[no-any-return]


def _pads(pad: Any, shape: tuple[int, ...]) -> Pads:
    if not isinstance(pad, (tuple, list)) or len(pad) % 2 or len(pad) > 2 * len(shape):
        raise ArgumentError(
            "pad", f"pairs (before, after) from the last axis on, at most {len(shape)}", repr(pad)
        )
    amounts = [as_int("pad", p, -(2**31)) for p in pad]
    pairs = [(amounts[i], amounts[i + 1]) for i in range(0, len(amounts), 2)][::-1]
    result = ((0, 0),) * (len(shape) - len(pairs)) + tuple(pairs)
    if any(n + before + after < 0 for n, (before, after) in zip(shape, result, strict=True)):
        raise ShapeError("pad", f"to crop at most the sizes of x {shape}", tuple(pad))
    return result


def _zero_pad_map(shape: tuple[int, ...], pads: Pads) -> LinearMap:
    padded = tuple(n + b + a for n, (b, a) in zip(shape, pads, strict=True))
    # What remains of x, in the coordinates of x and of the result.
    inner = tuple(slice(max(0, -b), n - max(0, -a)) for n, (b, a) in zip(shape, pads, strict=True))
    outer = tuple(slice(max(0, b), n - max(0, a)) for n, (b, a) in zip(padded, pads, strict=True))

    def move(x: Array, size: tuple[int, ...], source: Any, target: Any) -> Array:
        y = array_module(x).zeros(size, x.dtype)
        y[target] = x[source]
        return y

    return LinearMap(
        "Pad",
        "Crop",
        lambda x: move(x, padded, inner, outer),
        lambda g: move(g, shape, outer, inner),
        settings={"pads": pads},
    )


def _frame(x: Tensor, pads: Pads, value: float) -> Tensor:
    """``value`` on what the padding adds, zero elsewhere."""
    xp = array_module(x.data)
    inside = _zero_pad_map(x.shape, pads).forward(xp.ones(x.shape, bool))
    return Tensor(xp.where(inside, xp.zeros((), x.dtype), xp.asarray(value, x.dtype)))


def _source_rows(size: int, amounts: tuple[int, int], mode: str) -> Any:
    """For every row of the result, the row of x that it copies."""
    before, after = amounts
    rows = np.arange(-before, size + after)
    if rows.size and size == 0:
        raise ShapeError("x", f"a non-empty axis to {mode}", "size 0")
    if mode == "replicate":
        return rows.clip(0, size - 1)
    if max(before, after) >= max(size, 1):
        raise ArgumentError(
            "pad", f"reflected amounts smaller than the axis ({size})", amounts, 'mode="replicate"'
        )
    rows = np.abs(rows)
    return np.where(rows >= size, 2 * (size - 1) - rows, rows)


def _select(x: Tensor, axis: int, rows: Any) -> Tensor:
    shape = x.shape
    index = array_module(x.data).asarray(rows.astype(np.int64)).reshape(1, -1, 1)
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    y = apply(gather_map(index, shape[axis]), reshape(x, outer, shape[axis], inner))
    return reshape(y, (*shape[:axis], len(rows), *shape[axis + 1 :]))
