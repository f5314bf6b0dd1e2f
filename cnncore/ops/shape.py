"""Reshaping, indexing, joining, padding: linear maps that move numbers and add at most.

Each is a pair (A, Aᵀ): the transpose of a permutation is the inverse permutation, of a selection
the scattering back, of a broadcast the sum, of a padding the cropping.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnncore import kernels
from cnncore.autograd import Function, Tensor
from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.geometry import as_int, checked_size
from cnncore.kernels.checks.arrays import same_device
from cnncore.kernels.dispatch import array_module, on_device
from cnncore.ops.arguments import as_tensor, axis_index
from cnncore.ops.linear import LinearMap, apply

Array = Any
Shape = tuple[int, ...]


# --- broadcasting and its transpose, the sum ------------------------------------------------------


# Maps depend on shapes only, and a training loop asks for the same few again and again.
@functools.lru_cache(maxsize=4096)
def spread_map(narrow: Shape, wide: Shape, axes: tuple[int, ...]) -> LinearMap:
    """Repeat an array of shape ``narrow`` along ``axes`` of ``wide``; the transpose sums over them.

    ``narrow`` is ``wide`` with the axes removed or set to 1.  Forward gives a read-only view.
    """
    kept = tuple(1 if i in axes else n for i, n in enumerate(wide))

    def repeat(x: Array) -> Array:
        return array_module(x).broadcast_to(x.reshape(kept), wide)

    def add_up(y: Array) -> Array:
        return kernels.reduce_sum(y, axes).reshape(narrow)

    return LinearMap("Expand", "Sum", repeat, add_up, settings={"axes": axes})


@functools.lru_cache(maxsize=4096)
def broadcast_map(narrow: Shape, wide: Shape) -> LinearMap:
    """NumPy's broadcast from ``narrow`` to ``wide``; the transpose sums back to ``narrow``."""
    lead = len(wide) - len(narrow)
    axes = [*range(lead)]
    axes += [lead + i for i, n in enumerate(narrow) if n == 1 and wide[lead + i] != 1]
    return spread_map(narrow, wide, tuple(axes))


def sum_to(gy: Tensor, shape: Shape) -> Tensor:
    """The gradient of a broadcast operand: ``gy`` summed over what was broadcast."""
    if gy.data.shape == shape:
        return gy
    return apply(broadcast_map(shape, gy.shape).T, gy)


def expand(x: Any, *shape: Any) -> Tensor:
    """``x`` repeated along axes of size 1 (and new leading axes) to ``shape``; -1 keeps a size.

    Linear; the transpose sums.  Keeps nothing, shares memory with x (read-only).

    >>> from cnncore import tensor
    >>> expand(tensor([[1.0], [2.0]]), (2, 2)).numpy()
    array([[1., 1.],
           [2., 2.]], dtype=float32)
    """
    x = as_tensor("x", x)
    wanted = _sizes("shape", shape, -1)
    lead = len(wanted) - x.ndim
    if lead < 0 or -1 in wanted[:lead]:
        raise ShapeError("shape", f"at least the axes of x {x.shape}", wanted)
    wide = (*wanted[:lead], *(x.shape[i] if n == -1 else n for i, n in enumerate(wanted[lead:])))
    if any(old not in (1, new) for old, new in zip(x.shape, wide[lead:], strict=True)):
        raise ShapeError("shape", f"sizes that x {x.shape} broadcasts to", wide)
    return x if wide == x.shape else apply(broadcast_map(x.shape, wide), x)


# --- the same numbers in another shape or order ---------------------------------------------------


def reshape(x: Any, *shape: Any) -> Tensor:
    """The same values in another shape; one size may be -1.

    Linear, its transpose reshapes back.  Keeps nothing; shares memory with x where it can.

    >>> from cnncore import tensor
    >>> reshape(tensor([1.0, 2.0, 3.0, 4.0]), 2, -1).shape
    (2, 2)
    """
    x = as_tensor("x", x)
    old, new = x.shape, _sizes("shape", shape, -1)
    if -1 in new:
        rest = math.prod(n for n in new if n != -1)
        if new.count(-1) > 1 or rest == 0 or x.size % rest:
            raise ShapeError("shape", f"sizes for {x.size} elements, at most one -1", new)
        new = tuple(x.size // rest if n == -1 else n for n in new)
    if math.prod(new) != x.size:
        raise ShapeError("shape", f"sizes for the {x.size} elements of {old}", new, "one size -1")
    return _reshaped(x, new)


def _reshaped(x: Tensor, new: Shape) -> Tensor:
    return x if new == x.shape else apply(_reshape_map(x.shape, new), x)


@functools.lru_cache(maxsize=4096)
def _reshape_map(old: Shape, new: Shape) -> LinearMap:
    return LinearMap("Reshape", "Reshape", lambda a: a.reshape(new), lambda g: g.reshape(old))


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes ``start_dim`` to ``end_dim`` (inclusive) merged into one.

    >>> from cnncore import tensor
    >>> flatten(tensor([[[1.0, 2.0]], [[3.0, 4.0]]]), 1).shape
    (2, 2)
    """
    x = as_tensor("x", x)
    start, end = axis_index("start_dim", start_dim, x.ndim), axis_index("end_dim", end_dim, x.ndim)
    if start > end:
        raise ArgumentError("start_dim", f"at most end_dim ({end})", start)
    merged = math.prod(x.shape[start : end + 1])
    return _reshaped(x, (*x.shape[:start], merged, *x.shape[end + 1 :]))


def squeeze(x: Any, dim: Any = None) -> Tensor:
    """Axes of size 1 removed: all, or those of ``dim`` (an axis or several) that have size 1.

    >>> from cnncore import tensor
    >>> squeeze(tensor([[[1.0, 2.0]]])).shape
    (2,)
    """
    x = as_tensor("x", x)
    axes = range(x.ndim) if dim is None else axes_of("dim", dim, x.ndim)
    return _reshaped(x, tuple(n for i, n in enumerate(x.shape) if n != 1 or i not in axes))


def unsqueeze(x: Any, dim: int) -> Tensor:
    """A new axis of size 1 at ``dim``.

    >>> from cnncore import tensor
    >>> unsqueeze(tensor([1.0, 2.0]), -1).shape
    (2, 1)
    """
    x = as_tensor("x", x)
    at = axis_index("dim", dim, x.ndim + 1)
    return _reshaped(x, (*x.shape[:at], 1, *x.shape[at:]))


def permute(x: Any, *dims: Any) -> Tensor:
    """Axes in the order ``dims``; a view.  Linear, its transpose is the inverse permutation.

    >>> from cnncore import tensor
    >>> permute(tensor([[1.0, 2.0, 3.0]]), 1, 0).shape
    (3, 1)
    """
    x = as_tensor("x", x)
    given = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    order = tuple(axis_index("dims", d, x.ndim) for d in given)
    if sorted(order) != list(range(x.ndim)):
        raise ArgumentError("dims", f"each of the {x.ndim} axes once", given)
    back = tuple(order.index(i) for i in range(x.ndim))
    turn = LinearMap(
        "Permute",
        "Permute",
        lambda a: a.transpose(order),
        lambda g: g.transpose(back),
        settings={"order": order},
    )
    return apply(turn, x)


def transpose(x: Any, dim0: int = -2, dim1: int = -1) -> Tensor:
    """Two axes exchanged (by default the last two); a view.

    >>> from cnncore import tensor
    >>> transpose(tensor([[1.0, 2.0, 3.0]]), 0, 1).shape
    (3, 1)
    """
    x = as_tensor("x", x)
    i, j = axis_index("dim0", dim0, x.ndim), axis_index("dim1", dim1, x.ndim)
    return apply(_swap_map(i, j), x)


@functools.lru_cache(maxsize=64)
def _swap_map(i: int, j: int) -> LinearMap:
    return LinearMap(
        "Transpose",
        "Transpose",
        lambda a: a.swapaxes(i, j),
        lambda g: g.swapaxes(i, j),
        settings={"axes": (i, j)},
    )


def flip(x: Any, dims: Any) -> Tensor:
    """Axes ``dims`` reversed; a view.  Its own transpose.

    >>> from cnncore import tensor
    >>> flip(tensor([1.0, 2.0, 3.0]), 0).numpy()
    array([3., 2., 1.], dtype=float32)
    """
    x = as_tensor("x", x)
    axes = axes_of("dims", dims, x.ndim)
    key = tuple(slice(None, None, -1 if i in axes else None) for i in range(x.ndim))
    mirror = LinearMap("Flip", "Flip", lambda a: a[key], lambda g: g[key], settings={"axes": axes})
    return apply(mirror, x)


# --- selecting ------------------------------------------------------------------------------------


def getitem(x: Any, key: Any) -> Tensor:
    """``x[key]`` for any NumPy index: slices, integers, None, ``...``, index arrays, masks.

    Linear; the transpose adds every selected gradient back to where it came from (repeats add up).
    Slices and integers give views; index arrays and masks are kept for backward.

    >>> from cnncore import tensor
    >>> x = tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> x[[0, 0, 2]].sum().backward()
    >>> x.grad.numpy()
    array([2., 0., 1.], dtype=float32)
    """
    x = as_tensor("x", x)
    shape = x.shape
    parts = key if isinstance(key, tuple) else (key,)
    basic = all(p is None or p is Ellipsis or type(p) in (int, slice) for p in parts)
    try:
        if basic:
            return apply(
                LinearMap(
                    "GetItem",
                    "PutAdd",
                    lambda a: a[key],
                    lambda g: kernels.put_add(g, key, shape),
                    settings={"key": key},
                ),
                x,
            )
        arrays = tuple(_index(part, x.data) for part in parts)
        index = arrays if isinstance(key, tuple) else arrays[0]
        constants = tuple(a for a in arrays if hasattr(a, "dtype"))
        return apply(
            LinearMap(
                "GetItem",
                "PutAdd",
                lambda a: kernels.take(a, index),
                lambda g: kernels.put_add(g, index, shape),
                constants,
                {"key": index},
            ),
            x,
        )
    except IndexError as error:
        raise ShapeError("key", f"an index into shape {shape}", f"{key!r} ({error})") from None


def _index(part: Any, like: Array) -> Any:
    """One part of an index, tensors and lists as arrays on the device of ``like``."""
    if part is None or part is Ellipsis or isinstance(part, (int, slice, np.integer)):
        return part
    if isinstance(part, Tensor):
        part = part.data
    if not hasattr(part, "dtype"):
        part = np.asarray(part)
        part = part.astype(np.int64) if part.size == 0 else part
    if part.dtype.kind not in "iub":
        raise DTypeError("key", "integers, booleans, slices", str(part.dtype), "astype('int64')")
    return array_module(like).asarray(part) if on_device(like) != on_device(part) else part


def gather_map(index: Array, size: int) -> LinearMap:
    """``y[o, j, i] = x[o, index[o, j, i], i]`` from ``(O, size, I)``; index -1 gives zero."""
    return LinearMap(
        "Gather",
        "ScatterAdd",
        lambda x: kernels.gather(x, index),
        lambda g: kernels.scatter_add(g, index, size),
        (index,),
    )


def split(x: Any, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces along ``dim``: of one size (the last may be smaller), or of the sizes listed.  Views.

    >>> from cnncore import tensor
    >>> [piece.shape for piece in split(tensor([1.0, 2.0, 3.0]), 2)]
    [(2,), (1,)]
    """
    x = as_tensor("x", x)
    axis = axis_index("dim", dim, x.ndim)
    length = x.shape[axis]
    if isinstance(split_size_or_sections, (list, tuple)):
        sizes = [as_int("sections", size, 0) for size in split_size_or_sections]
        if sum(sizes) != length:
            raise ArgumentError("sections", f"sizes that add up to {length}", sizes)
    else:
        size = as_int("split_size", split_size_or_sections, 1)
        sizes = [min(size, length - start) for start in range(0, max(length, 1), size)]
    ends = np.cumsum(sizes).tolist()
    lead = (slice(None),) * axis
    return tuple(
        getitem(x, (*lead, slice(end - n, end))) for n, end in zip(sizes, ends, strict=True)
    )


def chunk(x: Any, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most ``chunks`` pieces of equal size along ``dim`` (the last may be smaller).

    >>> from cnncore import tensor
    >>> len(chunk(tensor([1.0, 2.0, 3.0]), 2))
    2
    """
    x = as_tensor("x", x)
    length = x.shape[axis_index("dim", dim, x.ndim)]
    return split(x, max(1, -(-length // as_int("chunks", chunks, 1))), dim)


# --- joining --------------------------------------------------------------------------------------


class Cat(Function):
    """Tensors one after the other along an axis.  Keeps nothing: backward cuts again."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, *arrays: Array) -> Array:
        self.lengths = [a.shape[self.axis] for a in arrays]
        return array_module(arrays[0]).concatenate(arrays, self.axis)

    def backward(self, gy: Tensor) -> tuple[Tensor | None, ...]:
        lead, end = (slice(None),) * self.axis, 0
        pieces: list[Tensor | None] = []
        for length, needed in zip(self.lengths, self.needs, strict=True):
            end += length
            pieces.append(getitem(gy, (*lead, slice(end - length, end))) if needed else None)
        return tuple(pieces)


def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors joined along an existing axis; all other sizes must agree.  Keeps nothing.

    >>> from cnncore import tensor
    >>> cat([tensor([1.0]), tensor([2.0, 3.0])]).numpy()
    array([1., 2., 3.], dtype=float32)
    """
    parts = [as_tensor(f"tensors[{i}]", t) for i, t in enumerate(tensors)]
    if not parts:
        raise ArgumentError("tensors", "at least one tensor", "none")
    first = parts[0]
    axis = axis_index("dim", dim, first.ndim)
    for i, part in enumerate(parts):
        rest, expected = (*part.shape[:axis], *part.shape[axis + 1 :]), first.shape
        if part.ndim != first.ndim or rest != (*expected[:axis], *expected[axis + 1 :]):
            raise ShapeError(f"tensors[{i}]", f"shape {expected} but for axis {axis}", part.shape)
        if part.dtype != first.dtype:
            raise DTypeError(f"tensors[{i}]", str(first.dtype), str(part.dtype), ".to(dtype) first")
    same_device([f"tensors[{i}]" for i in range(len(parts))], [part.data for part in parts])
    return Cat(axis)(*parts)  # type: ignore[no-any-return]


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis.

    >>> from cnncore import tensor
    >>> stack([tensor([1.0, 2.0]), tensor([3.0, 4.0])], 1).numpy()
    array([[1., 3.],
           [2., 4.]], dtype=float32)
    """
    parts = [as_tensor(f"tensors[{i}]", t) for i, t in enumerate(tensors)]
    for i, part in enumerate(parts):
        if part.shape != parts[0].shape:
            raise ShapeError(f"tensors[{i}]", f"shape {parts[0].shape}", part.shape)
    return cat([unsqueeze(part, dim) for part in parts], dim)


# --- helpers --------------------------------------------------------------------------------------


def axes_of(argument: str, dim: Any, ndim: int) -> tuple[int, ...]:
    """An axis, several, or None for all: non-negative, distinct, in ascending order."""
    if dim is None:
        return tuple(range(ndim))
    given = dim if isinstance(dim, (tuple, list)) else (dim,)
    axes = tuple(sorted(axis_index(argument, d, ndim) for d in given))
    if len(set(axes)) != len(axes):
        raise ArgumentError(argument, "distinct axes", dim)
    return axes if ndim else ()


def _sizes(argument: str, shape: tuple[Any, ...], minimum: int) -> Shape:
    """``f(x, 2, 3)`` and ``f(x, (2, 3))`` alike."""
    given = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    sizes = tuple(as_int(argument, n, minimum) for n in given)
    checked_size(argument, *(abs(n) for n in sizes))
    return sizes
