"""A stand-in for CuPy: an array module that, like CuPy, never meets a NumPy array by accident.

Its arrays have an interface as CuPy's do, with an address on the host, so the device kernels
compiled for the host (``cnncore._cuda_host``) can run on them; ``cuda`` plays device, stream and
memory pool.

``Array`` holds its numbers out of reach: no implicit conversion to NumPy, no operator or function
that mixes the two, no NumPy array as an index.  Only ``asarray`` and ``array`` bring numbers in and
``get`` takes them out.  The functions offered are those used by the plain kernels; each of them
exists in CuPy under the same name with the same arguments.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

FUNCTIONS = frozenset(
    (
        "abs",
        "arange",
        "argsort",
        "array",
        "asarray",
        "ascontiguousarray",
        "bincount",
        "broadcast_to",
        "clip",
        "einsum",
        "exp",
        "expand_dims",
        "expm1",
        "full",
        "isnan",
        "log",
        "log1p",
        "matmul",
        "maximum",
        "minimum",
        "sign",
        "sqrt",
        "take",
        "take_along_axis",
        "tanh",
        "where",
        "zeros",
        "zeros_like",
        "add",
        "subtract",
        "multiply",
        "divide",
        "greater",
        "absolute",
        "concatenate",
        "empty_like",
        "cos",
        "cumsum",
        "diff",
        "equal",
        "flip",
        "full_like",
        "greater_equal",
        "isfinite",
        "less",
        "less_equal",
        "negative",
        "nonzero",
        "not_equal",
        "ones",
        "ones_like",
        "power",
        "sin",
        "sort",
        "stack",
        "vdot",
    )
)
TYPES = ("bool_", "int64", "uint8", "uint64", "float32", "float64")
COMES_IN = ("asarray", "array")


def _unwrap(value: Any) -> Any:
    if isinstance(value, Array):
        return value._hidden
    if isinstance(value, np.ndarray):
        raise TypeError("a NumPy array where one of the device is needed")
    if isinstance(value, (tuple, list)):
        return type(value)(_unwrap(v) for v in value)
    if isinstance(value, dict):
        return {key: _unwrap(v) for key, v in value.items()}
    return value


def _wrap(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return Array(np.asarray(value))
    if isinstance(value, tuple):
        return tuple(_wrap(v) for v in value)
    return value


def _operator(name: str) -> Any:
    def method(self: Array, *others: Any) -> Any:
        return _wrap(getattr(self._hidden, name)(*_unwrap(others)))

    return method


class Array:
    """An array on an imaginary device."""

    __array_ufunc__ = None  # NumPy gives way in ``numpy_array + this``
    __module__ = __name__

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        described = self._hidden.__array_interface__
        wanted = ("shape", "typestr", "data", "strides")
        return {**{key: described[key] for key in wanted}, "version": 3}

    def __init__(self, numbers: np.ndarray) -> None:
        self._hidden = numbers

    def get(self) -> np.ndarray:
        return self._hidden.copy()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("implicit conversion to NumPy")

    def __array_function__(self, function: Any, *rest: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} of an array of the device")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._hidden, name)
        if not callable(value) or isinstance(value, np.dtype):
            return _wrap(value)
        return lambda *args, **kwargs: _wrap(value(*_unwrap(args), **_unwrap(kwargs)))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._hidden[_unwrap(key)] = _unwrap(value)

    def __iter__(self) -> Any:
        return (Array(part) for part in self._hidden)

    for _name in (
        "add",
        "radd",
        "sub",
        "rsub",
        "mul",
        "rmul",
        "truediv",
        "rtruediv",
        "matmul",
        "neg",
        "invert",
        "and",
        "rand",
        "or",
        "ror",
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
        "getitem",
    ):
        locals()[f"__{_name}__"] = _operator(f"__{_name}__")

    def _in_place(name: str) -> Any:  # noqa: N805
        def method(self: Array, other: Any) -> Array:
            getattr(self._hidden, name)(_unwrap(other))
            return self

        return method

    for _name in ("iadd", "isub", "imul", "itruediv"):
        locals()[f"__{_name}__"] = _in_place(f"__{_name}__")

    def __bool__(self) -> bool:
        return bool(self._hidden)

    def __int__(self) -> int:
        return int(self._hidden)

    def __float__(self) -> float:
        return float(self._hidden)

    def __len__(self) -> int:
        return len(self._hidden)


def __getattr__(name: str) -> Any:
    if name in TYPES:
        return getattr(np, name)
    if name not in FUNCTIONS:
        raise AttributeError(f"the stand-in has no {name}; does CuPy?")
    function = getattr(np, name)

    def called(*args: Any, **kwargs: Any) -> Any:
        if name in COMES_IN and isinstance(args[0], np.ndarray):
            return _wrap(np.array(function(*args, **kwargs)))
        return _wrap(function(*_unwrap(args), **_unwrap(kwargs)))

    if name == "add":
        called.at = lambda *args: np.add.at(*_unwrap(args))  # type: ignore[attr-defined]
    return called


# --- device, stream, memory -----------------------------------------------------------------------


class OutOfMemoryError(MemoryError):
    """CuPy's name for a pool that cannot grow."""


class CUDARuntimeError(RuntimeError):
    """CuPy's name for a call of the runtime that failed."""


# Tests change these: bytes that one array may take, and what Device and stream say.
state = SimpleNamespace(room=2**40, device=0, stream=7)


class _Device:
    def __init__(self) -> None:
        self.id = state.device


cuda = SimpleNamespace(
    Device=_Device,
    get_current_stream=lambda: SimpleNamespace(ptr=state.stream),
    memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    runtime=SimpleNamespace(CUDARuntimeError=CUDARuntimeError),
)


def empty(shape: Any, dtype: Any = np.float64) -> Array:
    size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    if size > state.room:
        raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes")
    made = np.empty(shape, dtype)
    # an element that no kernel writes shows: NaN, or a number no index is near
    made.reshape(-1).view(np.uint8)[:] = 0xFF if np.dtype(dtype).kind == "f" else 0x3F
    return Array(made)
