"""The only importer of ``_cuda``: calls into it, room for results, errors.

Compiled code receives CuPy's current device and stream with every call, reads arrays through
``__cuda_array_interface__`` and writes results that come from CuPy's memory pool.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, CudaError, OutOfMemoryError
from cnncore.kernels.array.modules import array_module

Array = Any
Module = Any


def _load() -> tuple[Any, str]:
    try:
        import cnncore._cuda as _cuda
    except ImportError as error:
        return None, (
            f"cnncore._cuda could not be imported ({error}); it is built only when asked for: "
            "CNNCORE_CUDA=1 pip install ."
        )
    if _cuda.device_count() > 0:
        return _cuda, ""
    return _cuda, f"cnncore._cuda is built, but no device can be used: {_cuda.absence_reason()}"


compiled, REASON = _load()  # the tests put ``_cuda_host`` here
AVAILABLE = compiled is not None and not REASON


def architectures() -> list[str]:
    """What ``_cuda`` was compiled for, in CMake's spelling."""
    return list(compiled.compiled_architectures()) if compiled is not None else []


def ready(x: Array) -> Array:
    """The array itself where compiled code can read it, else a contiguous copy on its device."""
    return x if x.flags.c_contiguous else array_module(x).ascontiguousarray(x)


def empty(op: str, xp: Module, shape: tuple[int, ...], dtype: Any) -> Array:
    """Room for a result, from the array module's pool."""
    try:
        return xp.empty(shape, dtype)
    except MemoryError as error:
        asked = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        raise OutOfMemoryError(
            f"{op}: no room on the device for {asked:,} bytes, shape {shape} {np.dtype(dtype)} "
            f"({error}); try: a smaller batch, or cupy.get_default_memory_pool().free_all_blocks()"
        ) from error


def call(name: str, xp: Module, *args: Any) -> Any:
    """Start a compiled kernel on the current device and stream; failures become cnncore's errors.

    Nothing waits for the kernel: what goes wrong inside it shows at a later call.
    """
    queue = (int(xp.cuda.Device().id), int(xp.cuda.get_current_stream().ptr))
    try:
        return getattr(compiled, name)(queue, *args)
    except ValueError as error:
        if len(error.args) != 4:
            raise
        raise ArgumentError(*error.args) from None
    except RuntimeError as error:
        if len(error.args) != 3:
            raise
        _, code, reason = error.args
        raise CudaError(
            f"{reason} (CUDA error {code}); kernels run after the call that starts them, so an "
            "earlier one may have failed; try: CUDA_LAUNCH_BLOCKING=1"
        ) from None
