"""Operators that are defined by other operators: ONNX's own functions, and those of a model file.

ONNX defines some operators (Attention, CenterCropPad, …) by a graph of simpler ones.  Where this
package has no handler of its own it runs that graph.  Some definitions depend on the element types
of the inputs, so a body is made at the call, once for each combination of types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnncore.autograd import Tensor
from cnncore.errors import require
from cnncore.onnx.graph import NodeSpec, nodes_of


@dataclass(frozen=True)
class Body:
    """The graph of a function.  ``key`` tells bodies of one node apart."""

    key: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: list[NodeSpec]


def has_body(spec: NodeSpec) -> bool:
    """Whether the operator is defined by others."""
    if (spec.domain, spec.op_type) in (spec.functions or {}):
        return True
    schema = _schema(spec)
    if schema is None or _subgraphs(spec):
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def _subgraphs(spec: NodeSpec) -> bool:
    return any(hasattr(value, "node") for value in spec.attributes.values())


def _schema(spec: NodeSpec) -> Any:
    onnx = require("onnx", "onnx")
    try:
        return onnx.defs.get_schema(spec.op_type, spec.opset, spec.domain)
    except onnx.defs.SchemaError:
        return None


def body(spec: NodeSpec, inputs: Sequence[Tensor | None]) -> Body:
    """The definition of a node for these inputs."""
    onnx = require("onnx", "onnx")
    key = tuple(None if t is None else (t.dtype.name, t.ndim) for t in inputs)
    proto = (spec.functions or {}).get((spec.domain, spec.op_type))
    if proto is None:
        proto = _definition(onnx, spec, inputs)
    opsets = {"": spec.opset, **{entry.domain: entry.version for entry in proto.opset_import}}
    prepared = [_with_attributes(onnx, node, proto, spec) for node in proto.node]
    nodes = list(nodes_of(onnx, prepared, opsets, spec.functions))
    return Body(key, tuple(proto.input), tuple(proto.output), nodes)


def _definition(onnx: Any, spec: NodeSpec, inputs: Sequence[Tensor | None]) -> Any:
    schema = _schema(spec)
    proto = onnx.FunctionProto()
    if schema.has_function:
        proto.CopyFrom(schema.function_body)
        return proto
    types = [_type(onnx, t).SerializeToString() for t in inputs]
    proto.ParseFromString(
        schema.get_context_dependent_function(spec.proto.SerializeToString(), types)
    )
    return proto


def _type(onnx: Any, t: Tensor | None) -> Any:
    if t is None:
        return onnx.TypeProto()
    kind = onnx.helper.np_dtype_to_tensor_dtype(t.dtype)
    return onnx.helper.make_tensor_type_proto(kind, t.shape)


def _with_attributes(onnx: Any, node: Any, proto: Any, spec: NodeSpec) -> Any:
    """A copy of a body's node in which references to the call's attributes are filled in."""
    given = {a.name: a for a in proto.attribute_proto}
    given.update({a.name: a for a in spec.proto.attribute})
    if not spec.domain and _schema(spec) is not None:
        for name, formal in _schema(spec).attributes.items():
            if name not in given and formal.default_value.name:
                given[name] = formal.default_value
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            copy.attribute.append(attribute)
        elif attribute.ref_attr_name in given:
            filled = copy.attribute.add()
            filled.CopyFrom(given[attribute.ref_attr_name])
            filled.name = attribute.name
    return copy
