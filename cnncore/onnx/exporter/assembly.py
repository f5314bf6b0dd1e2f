"""From traced plans to nodes, and from nodes to a checked model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnncore.inference.plan import Activation, Plan
from cnncore.onnx.exporter.builder import IR_VERSION, OPSET, Builder
from cnncore.onnx.exporter.writers import WRITERS, activation

# name -> (element type, sizes; a text names a size that is open)
Declared = Mapping[str, tuple[Any, Sequence[int | str]]]


def write_plan(b: Builder, plan: Plan, inputs: Sequence[str]) -> list[str]:
    """Emit every node of a plan whose inputs have these names; the names of its results."""
    for name, value in zip(inputs, plan.inputs, strict=True):
        b.define(value, name)
    b.read |= {id(x) for node in plan.nodes for x in node.inputs}
    for node in plan.nodes:
        b.layer = node.layers[0]
        names = [b.name_of(x) for x in node.inputs]
        if isinstance(node.work, Activation):
            result = activation(b, node.work, names, node)
        else:
            kind = type(node.work).__name__
            writer = WRITERS.get(kind) or WRITERS.get(node.parts[0])
            if writer is None:
                raise b.refuse(f"the op {node.parts[0]}")
            result = writer(b, node.work, names, node)
        b.define(node.output, result)
    b.layer = ""
    return [b.name_of(value) for value in plan.outputs()]


def name_results(b: Builder, results: Sequence[str], names: Sequence[str]) -> None:
    """Give values of the graph the names that its outputs shall have."""
    for result, name in zip(results, names, strict=True):
        b.nodes.append(b.onnx.helper.make_node("Identity", [result], [b.free_name(name)]))


def assemble(b: Builder, inputs: Declared, outputs: Declared) -> Any:
    """The model of all that was emitted, as an ``onnx.ModelProto`` that ONNX's checker passed."""
    helper = b.onnx.helper

    def declared(values: Declared) -> list[Any]:
        return [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
            )
            for name, (dtype, shape) in values.items()
        ]

    graph = helper.make_graph(
        b.nodes,
        "cnncore",
        declared(inputs),
        declared(outputs),
        [b.onnx.numpy_helper.from_array(array, name) for name, array in b.weights.items()],
    )
    imports = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        graph, producer_name="cnncore", ir_version=IR_VERSION, opset_imports=imports
    )
    b.onnx.checker.check_model(model)
    return model
