"""From what users pass to what ops need: tensors of one type, arrays of indices, checked axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.kernels.dispatch import array_module, on_device

Array = Any


def as_tensor(argument: str, value: Any, like: Tensor | None = None) -> Tensor:
    """A tensor as it is, an array wrapped; a number takes the type and device of ``like``."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) or on_device(value):
        return Tensor(value)
    if not isinstance(value, (bool, int, float, list, tuple, np.generic)):
        raise DTypeError(argument, "a tensor, array or number", type(value).__name__)
    if like is None:
        array = np.asarray(value)
        return Tensor(array.astype(np.float32) if array.dtype == np.float64 else array)
    dtype = like.dtype
    if dtype.kind != "f" and isinstance(value, float):
        dtype = np.dtype(np.float32)
    return Tensor(array_module(like.data).asarray(value, dtype=dtype))


def float_tensor(argument: str, value: Any, ndim: int | None = None) -> Tensor:
    """A float32 or float64 tensor, of rank ``ndim`` where given."""
    x = value if isinstance(value, Tensor) else as_tensor(argument, value)
    if x.data.dtype.char not in "fd":  # float32 and float64; comparing types takes far longer
        raise DTypeError(
            argument,
            "float32 or float64",
            str(x.dtype),
            ".to('float32') of a tensor, .astype('float32') of an array",
        )
    if ndim is not None and x.data.ndim != ndim:
        axes = {2: "(N, C)", 3: "(N, C, L)", 4: "(N, C, H, W)"}.get(ndim, f"{ndim} axes")
        raise ShapeError(
            argument,
            f"shape {axes}",
            x.shape,
            "add the batch axis with x[None]" if x.ndim == ndim - 1 else "reshape",
        )
    return x


def as_array(argument: str, value: Any, like: Array, dtype: Any) -> Array:
    """Indices, targets or boxes as an array on the device of ``like``, converted to ``dtype``."""
    if isinstance(value, Tensor):
        value = value.data
    if on_device(value) != on_device(like) and hasattr(value, "shape"):
        raise ArgumentError(argument, "the device of the input", "another", ".to(...) first")
    array = array_module(like).asarray(value)
    kind = np.dtype(dtype).kind
    if array.size and kind == "i" and array.dtype.kind not in "iu":
        raise DTypeError(argument, "integers", str(array.dtype), f"{argument}.astype('int64')")
    return array.astype(dtype, copy=False)


def axis_index(argument: str, axis: Any, ndim: int) -> int:
    """A possibly negative axis as ``0 <= axis < ndim``."""
    if not isinstance(axis, (int, np.integer)) or not -ndim <= axis < max(ndim, 1):
        raise ArgumentError(argument, f"an axis in [-{ndim}, {ndim})", repr(axis))
    return int(axis) % max(ndim, 1)
