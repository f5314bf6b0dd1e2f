"""The CUDA backend: the only importer of ``cnncore._cuda``.  Its kernels are not written yet."""

from __future__ import annotations

try:
    import cnncore._cuda as _cuda
except ImportError as error:
    AVAILABLE = False
    REASON = f"cnncore._cuda could not be imported ({error}); it is built only when asked for"
else:
    AVAILABLE = _cuda.device_count() > 0
    REASON = "" if AVAILABLE else "cnncore._cuda is built, but no CUDA device is present"
