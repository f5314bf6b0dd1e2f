"""The CUDA backend: compiled kernels for CuPy arrays; the only importer of ``_cuda``.

What each kernel means stands in ``contract.py``.  Here arguments are made contiguous, results come
from CuPy's memory pool, and the compiled code receives both, with CuPy's current device and stream,
through ``__cuda_array_interface__``.  A kernel that is not here runs through ``array`` (dispatch).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, CudaError, OutOfMemoryError
from cnncore.kernels.array.modules import array_module

Array = Any
Module = Any

try:
    import cnncore._cuda as _cuda
except ImportError as error:
    _cuda = None
    AVAILABLE = False
    REASON = f"cnncore._cuda could not be imported ({error}); it is built only when asked for"
else:
    AVAILABLE = _cuda.device_count() > 0
    REASON = "" if AVAILABLE else f"cnncore._cuda is built, but: {_cuda.absence_reason()}"


def architectures() -> list[str]:
    """What ``_cuda`` was compiled for, in CMake's spelling."""
    return list(_cuda.compiled_architectures()) if _cuda is not None else []


def _ready(x: Array) -> Array:
    """The array itself where compiled code can read it, else a contiguous copy on its device."""
    return x if x.flags.c_contiguous else array_module(x).ascontiguousarray(x)


def _empty(op: str, xp: Module, shape: tuple[int, ...], dtype: Any) -> Array:
    """Room for a result, from the array module's pool."""
    try:
        return xp.empty(shape, dtype)
    except MemoryError as error:
        asked = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        raise OutOfMemoryError(
            f"{op}: no room on the device for a result of {asked:,} bytes, shape {shape} "
            f"{np.dtype(dtype)} ({error}); try: a smaller batch, or "
            "cupy.get_default_memory_pool().free_all_blocks()"
        ) from error


def _call(function: Callable[..., Any], xp: Module, *args: Any) -> Any:
    """Start compiled code on the current device and stream; its failures become our errors."""
    queue = (int(xp.cuda.Device().id), int(xp.cuda.get_current_stream().ptr))
    try:
        return function(queue, *args)
    except ValueError as error:
        if len(error.args) != 4:
            raise
        raise ArgumentError(*error.args) from None
    except RuntimeError as error:
        if len(error.args) != 3:
            raise
        raise CudaError(
            f"{error.args[2]} (CUDA error {error.args[1]}); kernels run after the call that starts "
            "them, so an earlier one may have failed; try: CUDA_LAUNCH_BLOCKING=1"
        ) from None


# --- pointwise ------------------------------------------------------------------------------------


def pointwise(
    x: Array, kind: str, params: Sequence[float] = (), order: int = 0, scale: Array | None = None
) -> Array:
    """See ``contract.pointwise``."""
    xp = array_module(x)
    number, _ = _cuda.activations()[kind]
    p, q = (*params, 0.0, 0.0)[:2]
    scale = scale if scale is None else _ready(scale)
    y = _empty("pointwise", xp, x.shape, x.dtype)
    _call(_cuda.pointwise, xp, _ready(x), number, p, q, order, scale, y)
    return y
