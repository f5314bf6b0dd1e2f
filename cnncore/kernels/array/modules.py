"""Which array module an array belongs to, and the few steps all plain kernels share."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from cnncore.errors import ArgumentError

Array = Any
Module = Any
F = TypeVar("F", bound=Callable[..., Any])

# Largest temporary, in elements, that a kernel over many regions makes at once.
CHUNK = 2**22


def array_module(x: Array) -> Module:
    """The module whose functions serve ``x``: NumPy, or the one that made ``x``."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np
    return importlib.import_module(type(x).__module__.partition(".")[0])


def native(x: Array) -> Array:
    """``x`` in the machine's byte order (the same array where it already is)."""
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def in_range(argument: str, index: Array, size: int, low: int = -1) -> Array:
    """``index``, all of it in ``low .. size - 1`` (those of a device are checked before)."""
    inside = not isinstance(index, np.ndarray) or not index.size
    if not inside and not low <= index.min() <= index.max() < size:
        got = f"{index.min()} .. {index.max()}"
        raise ArgumentError(argument, f"indices in {low} .. {size - 1}", got)
    return index


def finish(xp: Module, y: Array) -> Array:
    """A result as the contract promises it: an array (0-d included), C-contiguous, native."""
    return native(xp.asarray(y, order="C"))


def to_host(x: Array) -> Array:
    """A NumPy array with the values of ``x``."""
    return x if isinstance(x, np.ndarray) else x.get()


def quiet(function: F) -> F:
    """Let NaN and Inf pass through arithmetic without NumPy's warnings, as compiled kernels do."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return wrapped  # type: ignore[return-value]


def chunks(count: int, elements_each: int) -> Iterator[slice]:
    """Slices of ``range(count)`` whose temporaries stay below ``CHUNK`` elements."""
    step = max(1, CHUNK // max(1, elements_each))
    for first in range(0, count, step):
        yield slice(first, min(first + step, count))
