"""What all checks share: device, element type, rank, shape, range of indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, DeviceError, DTypeError, ShapeError

Array = Any

NARROW = ("float16", "bfloat16")
F32, F64, I64 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)


def device(argument: str, x: Array) -> bool:
    """Whether an array is on a device; what is no array is refused."""
    if isinstance(x, np.ndarray):
        if isinstance(x, (np.matrix, np.ma.MaskedArray)):
            raise DTypeError(argument, "a plain array", type(x).__name__, "np.asarray(...)")
        return False
    if not hasattr(x, "__cuda_array_interface__"):
        raise DTypeError(
            argument, "a NumPy or CuPy array", type(x).__name__, "np.asarray(..., np.float32)"
        )
    return True


def same_device(names: Sequence[str], arrays: Sequence[Array]) -> bool:
    for array in arrays:  # the usual case
        if type(array) is not np.ndarray:
            break
    else:
        return False
    first = device(names[0], arrays[0])
    for name, array in zip(names[1:], arrays[1:], strict=True):
        if device(name, array) != first:
            places = ("the host (NumPy)", "a device (CuPy)")
            raise DeviceError(
                name,
                f"an array on {places[first]}, where {names[0]} is",
                f"one on {places[not first]}",
                'move one of them with Tensor.to("cpu") or Tensor.to("cuda")',
            )
    return first


def floats(names: Sequence[str], *arrays: Array) -> bool:
    """Float arrays of one type on one device; whether that is a GPU."""
    dtype = getattr(arrays[0], "dtype", None)
    if dtype is F32 or dtype is F64:  # the usual case, without a single call more
        for array in arrays:
            if type(array) is not np.ndarray or array.dtype is not dtype:
                break
        else:
            return False
    on_device = same_device(names, arrays)
    for name, array in zip(names, arrays, strict=True):
        if array.dtype.newbyteorder("=") not in (F32, F64):
            hint = f"{name}.astype(np.float32)"
            raise DTypeError(name, "float32 or float64", array.dtype, hint)
    first = arrays[0].dtype.newbyteorder("=")
    for name, array in zip(names[1:], arrays[1:], strict=True):
        if array.dtype.newbyteorder("=") != first:
            hint = f"{name}.astype({names[0]}.dtype)"
            raise DTypeError(name, f"{first}, the type of {names[0]}", array.dtype, hint)
    return on_device


def factors(names: Sequence[str], *arrays: Array) -> bool:
    """``floats`` or, on a device, float16 or bfloat16 (all of one type): what convolutions take."""
    first = getattr(arrays[0], "dtype", None)
    # a dtype's name takes a microsecond to make
    if first is F32 or first is F64 or getattr(first, "name", "") not in NARROW:
        return floats(names, *arrays)
    if not same_device(names, arrays):
        expected = f"float32 or float64 on the host ({first} needs a CUDA device)"
        raise DTypeError(names[0], expected, first, f"{names[0]}.astype(np.float32)")
    for name, array in zip(names[1:], arrays[1:], strict=True):
        if array.dtype != first:
            hint = f"{name}.astype({names[0]}.dtype)"
            raise DTypeError(name, f"{first}, the type of {names[0]}", array.dtype, hint)
    return True


def indices(argument: str, index: Array, low: int, high: int, beside: Array) -> None:
    """int64 on the device of ``beside``, all in ``low .. high - 1``."""
    same_device(("the float arrays", argument), (beside, index))
    if index.dtype.newbyteorder("=") != I64:
        raise DTypeError(argument, "int64", index.dtype, f"{argument}.astype(np.int64)")
    if index.size and not low <= int(index.min()) <= int(index.max()) < high:
        got = f"{int(index.min())} .. {int(index.max())}"
        raise ArgumentError(argument, f"indices in {low} .. {high - 1}", got)


def switches(argument: str, index: Array, size: int, beside: Array, low: int = -1) -> None:
    """As ``indices``; on the host the kernels themselves look at every index they follow,
    and a pass of its own would take as long as following them."""
    if type(index) is not np.ndarray or type(beside) is not np.ndarray or index.dtype is not I64:
        indices(argument, index, low, size, beside)


def rank(argument: str, x: Array, axes: str) -> None:
    """The rank that a description such as ``"N C H W"`` has."""
    if x.ndim != axes.count(" ") + 1:
        letters = ", ".join(axes.split())
        raise ShapeError(argument, f"shape ({letters})", x.shape, "x[None] adds an axis")


def shape(argument: str, x: Array, expected: tuple[int, ...], meaning: str) -> None:
    if x.shape != expected:
        raise ShapeError(argument, f"shape {meaning} = {expected}", x.shape)


def broadcast(argument: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(argument, f"axes that broadcast with {shapes[0]}", shapes[-1]) from None
