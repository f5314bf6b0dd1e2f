"""The interface of ``onnx.backend.base.Backend``: what ONNX's conformance suite speaks to.

>>> from cnncore.onnx import backend
>>> backend.supports_device("CPU")
True
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnncore.errors import require
from cnncore.onnx.model import OnnxModel, load

base = require("onnx.backend.base", "onnx")
onnx = require("onnx", "onnx")

Array = Any


class PreparedModel(base.BackendRep):  # type: ignore[misc, name-defined]
    """A model ready to run on inputs in the order in which it declares them."""

    def __init__(self, model: OnnxModel) -> None:
        self.model = model

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """Inputs: a list, a mapping by name, or a single array."""
        if not isinstance(inputs, (list, tuple, dict)):
            inputs = [inputs]
        if not isinstance(inputs, dict):
            inputs = dict(zip(self.model.input_names, inputs, strict=False))
        return tuple(self.model.run(inputs))


class CnncoreBackend(base.Backend):  # type: ignore[misc, name-defined]
    """Runs ONNX models with cnncore, on the CPU."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> PreparedModel:
        """Check and load an ``onnx.ModelProto``."""
        onnx.checker.check_model(model)
        return PreparedModel(load(model))

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Array, ...]:
        """Run one node on arrays."""
        arrays: Sequence[Array] = [np.asarray(x) for x in inputs]
        helper = onnx.helper
        graph = helper.make_graph(
            [node],
            "node",
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape
                )
                for name, x in zip(node.input, arrays, strict=True)
            ],
            [helper.make_empty_tensor_value_info(name) for name in node.output],
        )
        opset = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        return PreparedModel(load(model)).run(list(arrays))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """The CPU only."""
        return device.split(":")[0] == "CPU"


prepare = CnncoreBackend.prepare
run_model = CnncoreBackend.run_model
run_node = CnncoreBackend.run_node
supports_device = CnncoreBackend.supports_device
is_compatible = CnncoreBackend.is_compatible
