"""Layer 6: ONNX models in and out.  Needs the extra ``onnx``, imported when it is used.

``load`` reads a model as an ordinary module, ``export`` writes one, ``backend`` is the interface
that the ONNX project's own conformance suite speaks to.
"""

from __future__ import annotations

import importlib
from typing import Any

from cnncore.onnx.exporter import ExportError, export, to_proto
from cnncore.onnx.graph import ModelError
from cnncore.onnx.model import OnnxModel, load
from cnncore.onnx.node import NodeError
from cnncore.onnx.registry import UnsupportedOperator

__all__ = [
    "ExportError",
    "ModelError",
    "NodeError",
    "OnnxModel",
    "UnsupportedOperator",
    "backend",
    "export",
    "load",
    "to_proto",
]


def __getattr__(name: str) -> Any:
    if name == "backend":  # its base class lives in the optional package
        return importlib.import_module("cnncore.onnx.backend")
    raise AttributeError(f"module 'cnncore.onnx' has no attribute {name!r}")
