"""cnncore: convolutional networks from first principles, readable, gradient-checked, fast on CPUs.

>>> import cnncore
>>> x = cnncore.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], requires_grad=True)
>>> cnncore.ops.conv2d(x, cnncore.tensor([[[[1.0, -1.0]]]])).sum().backward()
>>> x.grad.numpy()[0, 0]
array([[ 1., -1.],
       [ 1., -1.]], dtype=float32)

``docs/design.md`` says how the package is laid out.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cnncore import kernels, ops
from cnncore.autograd import (
    Tensor,
    detect_anomaly,
    enable_grad,
    from_dlpack,
    grad,
    no_grad,
    tensor,
)
from cnncore.kernels.dispatch import get_backend, set_backend
from cnncore.kernels.native import get_num_threads, memory_stats, set_num_threads
from cnncore.kernels.switches import (
    allow_tf32,
    deterministic,
    get_precision,
    measure_algorithms,
    set_precision,
)

if TYPE_CHECKING:
    from cnncore import bench, data, explain, io, models, nn, onnx, optim, testing, vision
    from cnncore.inference import compile
    from cnncore.inspect import info, where

__version__ = "0.1.0"

# Imported on first use, so that ``import cnncore`` costs little more than ``import numpy``.
_LAZY = frozenset(
    {
        "bench",
        "cli",
        "data",
        "explain",
        "inference",
        "io",
        "models",
        "nn",
        "onnx",
        "optim",
        "report",
        "testing",
        "train",
        "vision",
    }
)

__all__ = [
    "Tensor",
    "__version__",
    "allow_tf32",
    "bench",
    "compile",
    "data",
    "detect_anomaly",
    "deterministic",
    "enable_grad",
    "explain",
    "from_dlpack",
    "get_backend",
    "get_num_threads",
    "get_precision",
    "grad",
    "info",
    "io",
    "kernels",
    "measure_algorithms",
    "memory_stats",
    "models",
    "nn",
    "no_grad",
    "onnx",
    "ops",
    "optim",
    "set_backend",
    "set_num_threads",
    "set_precision",
    "tensor",
    "testing",
    "vision",
    "where",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"cnncore.{name}")
    if name == "compile":
        return importlib.import_module("cnncore.inference").compile
    if name in ("info", "where"):
        return getattr(importlib.import_module("cnncore.inspect"), name)
    raise AttributeError(f"module 'cnncore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *__all__})
