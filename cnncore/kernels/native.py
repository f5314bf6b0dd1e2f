"""The native backend: compiled, threaded kernels for NumPy arrays.  The only importer of ``_native``.

What each kernel means stands in ``contract.py``.  Here arguments are only brought into the form the
compiled code takes (contiguous, aligned, native byte order) and its refusals become ArgumentError.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any, Callable, Optional

import numpy as np

from cnncore.errors import ArgumentError
from cnncore.geometry import Pair, Window2d

Array = Any


def _load() -> tuple[Optional[ModuleType], str]:
    if os.environ.get("CNNCORE_BACKEND") == "array":
        return None, "CNNCORE_BACKEND=array asks for the NumPy kernels"
    try:
        from cnncore import _native
    except (ImportError, RuntimeError) as error:
        return None, f"cnncore._native could not be imported ({error})"
    return _native, ""


_native, REASON = _load()
AVAILABLE = _native is not None


def _ready(x: Array) -> Array:
    """The array itself where compiled code can read it, else a contiguous, aligned, native copy."""
    if x.flags.c_contiguous and x.flags.aligned and x.dtype.isnative:
        return x
    return np.require(x, dtype=x.dtype.newbyteorder("="), requirements=["C", "ALIGNED"])


def _call(function: Callable[..., Any], *args: Any) -> Any:
    """Call compiled code; its refusals carry (argument, expected, got, hint)."""
    try:
        return function(*args)
    except ValueError as error:
        if len(error.args) != 4:
            raise
        raise ArgumentError(*error.args) from None


# --- the engine room: threads, memory, instruction sets -------------------------------------------


def get_num_threads() -> int:
    """Threads that kernels may use."""
    return int(_call(_native.get_num_threads)) if _native else 1


def set_num_threads(count: int) -> None:
    """Let kernels use ``count`` threads; no result depends on it, bit for bit."""
    if _native:
        _call(_native.set_num_threads, count)


def memory_stats() -> dict[str, int]:
    """Bytes of the memory pool: ``in_use``, ``cached``, ``peak``, ``limit``; ``hits``, ``misses``."""
    return dict(_native.memory_stats()) if _native else {}


def sources() -> dict[str, str]:
    """``{kernel: "csrc/cpu/file.cpp:line"}`` of every compiled kernel."""
    return dict(_native.sources()) if _native else {}


def describe() -> dict[str, Any]:
    """Instruction sets, threads, compiler: what ``cnncore.info()`` prints about this backend."""
    if _native is None:
        return {}
    return {
        "isa": _native.isa(),
        "available_isas": list(_native.available_isas()),
        "features": list(_native.features()),
        "threads": get_num_threads(),
        **_native.build_info(),
    }


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array whose memory comes from the pool."""
    return _call(_native.empty, shape, np.dtype(dtype)) if _native else np.empty(shape, dtype)
