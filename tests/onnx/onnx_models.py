"""Small ONNX models made for a test."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

NEWEST = onnx.defs.onnx_opset_version()


def value_info(name: str, x: np.ndarray | None):
    if x is None:
        return helper.make_empty_tensor_value_info(name)
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)


def model_of(
    nodes: list,
    inputs: dict[str, np.ndarray],
    outputs: list[str],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = NEWEST,
    **settings: Any,
) -> onnx.ModelProto:
    """A model whose inputs have the types and shapes of these arrays."""
    graph = helper.make_graph(
        nodes,
        "test",
        [value_info(name, x) for name, x in inputs.items()],
        [value_info(name, None) for name in outputs],
        [numpy_helper.from_array(w, name) for name, w in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *settings.pop("more_opsets", [])]
    return helper.make_model(graph, opset_imports=imports, **settings)


def one_node(
    op: str,
    inputs: list[np.ndarray | None],
    opset: int = NEWEST,
    outputs: int = 1,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of a single operator; absent optional inputs are None."""
    names = [f"i{k}" if x is not None else "" for k, x in enumerate(inputs)]
    results = [f"o{k}" for k in range(outputs)]
    node = helper.make_node(op, names, results, **attributes)
    given = {name: x for name, x in zip(names, inputs, strict=True) if x is not None}
    return model_of([node], given, results, opset=opset)
