"""NumPy's universal functions and NumPy's indexing, with its transpose."""

from __future__ import annotations

from typing import Any

from cnncore.errors import ArgumentError, ShapeError
from cnncore.kernels.array.modules import Array, array_module, finish, native, quiet


@quiet
def ufunc(name: str, *arrays: Array) -> Array:
    """See ``contract.ufunc``."""
    xp = array_module(arrays[0])
    return finish(xp, getattr(xp, name)(*arrays))


def take(x: Array, key: Any) -> Array:
    """See ``contract.take``."""
    xp = array_module(x)
    return native(xp.array(indexed(x, key), order="C", copy=True))


@quiet
def put_add(src: Array, key: Any, shape: tuple[int, ...]) -> Array:
    """See ``contract.put_add``."""
    xp = array_module(src)
    src = native(src)
    out = xp.zeros(shape, src.dtype)
    target = indexed(out, key).shape
    if target != src.shape:
        raise ShapeError("src", f"the shape of x[key], {target}", src.shape)
    if may_repeat(key):
        xp.add.at(out, key, src)
    else:
        out[key] += src
    return out


def indexed(x: Array, key: Any) -> Array:
    """``x[key]``, a bad key named."""
    try:
        return x[key]
    except (IndexError, TypeError, ValueError) as error:
        raise ArgumentError(
            "key", f"a NumPy index into shape {x.shape}", f"{key!r} ({error})"
        ) from error


def may_repeat(key: Any) -> bool:
    """Whether an index can name one element twice: only lists and integer arrays can."""
    parts = key if isinstance(key, tuple) else (key,)
    return any(
        isinstance(part, list) or (hasattr(part, "dtype") and part.dtype.kind != "b" and part.ndim)
        for part in parts
    )
