"""The compiled module itself: loading it, its threads, memory and instruction sets.

The only importer of ``_native``; its kernels are wrapped in ``native.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, BackendError
from cnncore.kernels import switches

Array = Any


def _load() -> tuple[Any, str]:
    if os.environ.get("CNNCORE_BACKEND") == "array":
        return None, "CNNCORE_BACKEND=array asks for the NumPy kernels"
    try:
        import cnncore._native as _native
    except (ImportError, RuntimeError) as error:
        if "CNNCORE_ISA" in str(error):  # asked for what this machine lacks: never fall back
            raise BackendError(str(error)) from None
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


def get_num_threads() -> int:
    """Threads that kernels may use."""
    return int(_call(_native.get_num_threads)) if _native else 1


def set_num_threads(count: int) -> None:
    """Let kernels use ``count`` threads; no result depends on it, bit for bit."""
    if _native:
        _call(_native.set_num_threads, count)


def memory_stats() -> dict[str, int]:
    """The memory pool: bytes ``in_use``, ``cached``, ``peak``, ``limit``; ``hits``, ``misses``."""
    return dict(_native.memory_stats()) if _native else {}


def reset_memory_peak() -> None:
    """Let the ``peak`` of ``memory_stats`` start anew from what is in use now."""
    if _native:
        _native.reset_memory_peak()


def set_memory_limit(nbytes: int) -> None:
    """Keep at most so many bytes of freed blocks in the memory pool, from now on."""
    if _native:
        _call(_native.set_memory_limit, nbytes)


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


def probe_arithmetic(dtype: Any, rounds: int) -> float:
    """Run independent multiply-adds on all threads; the number of floating-point operations."""
    return float(_call(_native.probe_arithmetic, np.dtype(dtype), rounds))


def probe_memory(a: Array, b: Array, c: Array, sweeps: int) -> None:
    """``a[i] = b[i] + s · c[i]`` on all threads, ``sweeps`` times; contiguous float32."""
    _call(_native.probe_memory, a, b, c, sweeps)


if _native:
    switches.observers.append(lambda: _native.set_precision(switches.get_precision()))
