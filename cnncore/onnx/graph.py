"""From ONNX's protocol buffers to plain Python: nodes, weights, and what a graph takes and gives.

Nothing below this file sees a protocol buffer.  Weights may lie in the file, in ``Constant`` nodes,
or in files beside it; those are read only from inside the model's own folder.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, CnncoreError, require
from cnncore.onnx.registry import UnsupportedOperator

Array = Any
Source = str | os.PathLike[str] | bytes | Any


class ModelError(CnncoreError, ValueError):
    """A file that is no valid ONNX model, or reaches outside its folder."""


# Types of which a file packs several into a byte.
PACKED_BITS = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4_e2m1fn": 4}


@dataclass(frozen=True)
class Value:
    """A declared input or output: its element type, and its shape as far as the file says."""

    name: str
    dtype: Any  # None: unknown
    shape: tuple[int | str | None, ...] | None
    kind: str = "tensor"  # or "sequence", "optional", …; empty: unknown


@dataclass(frozen=True)
class NodeSpec:
    """One operator of a graph.  Empty names stand for absent optional inputs and outputs."""

    op_type: str
    domain: str
    opset: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    proto: Any = None  # for operators that ONNX defines by other operators
    functions: Any = None  # the model's own operators


@dataclass
class Graph:
    """A whole model."""

    name: str
    inputs: list[Value]
    outputs: list[Value]
    nodes: list[NodeSpec]
    weights: dict[str, Array]  # initialisers and constants of more than one number
    opsets: dict[str, int] = field(default_factory=dict)


def read(source: Source, folder: str | os.PathLike[str] | None = None) -> Graph:
    """Parse a path, bytes, or an ``onnx.ModelProto``.

    ``folder``: where external weights may lie; a path's own folder by default, nowhere for bytes.
    """
    onnx = require("onnx", "onnx")
    model = source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if not path.is_file():
            raise ModelError(f"{path}: there is no such file")
        folder = path.parent if folder is None else folder
        model = _parse(onnx, path.read_bytes(), str(path))
    elif isinstance(source, (bytes, bytearray)):
        model = _parse(onnx, bytes(source), "bytes")
    if not isinstance(model, onnx.ModelProto):
        raise ArgumentError("source", "a path, bytes or an onnx.ModelProto", type(source).__name__)
    return _graph(onnx, model, None if folder is None else Path(folder))


def _parse(onnx: Any, content: bytes, what: str) -> Any:
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own errors have no common public base
        raise ModelError(f"{what}: no ONNX model ({error})") from None


def _graph(onnx: Any, model: Any, folder: Path | None) -> Graph:
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    opset = opsets.setdefault("", opsets.get("ai.onnx", 1))
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ModelError(
            f"opset {opset}: the installed onnx package reads up to {newest}; "
            "try: a newer onnx package, or onnx.version_converter"
        )
    functions = {(f.domain, f.name): f for f in model.functions}
    weights = dict(_initialisers(onnx, model.graph, folder))
    nodes = []
    for spec in nodes_of(onnx, model.graph.node, opsets, functions, folder):
        value = constant_of(spec)
        if value is not None and value.size > 1:
            weights[spec.outputs[0]] = value
        else:
            nodes.append(spec)
    declared = [_value(onnx, v) for v in (*model.graph.input, *model.graph.output)]
    other = [v.name for v in declared if v.kind not in ("", "tensor")]
    if other:
        raise UnsupportedOperator(f"values that are no tensors are not supported: {other}")
    return Graph(
        model.graph.name,
        [v for v in declared[: len(model.graph.input)] if v.name not in weights],
        declared[len(model.graph.input) :],
        nodes,
        weights,
        opsets,
    )


def nodes_of(
    onnx: Any,
    protos: Iterable[Any],
    opsets: dict[str, int],
    functions: Any,
    folder: Path | None = None,
) -> Iterator[NodeSpec]:
    """Node protos as ``NodeSpec``."""
    for proto in protos:
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        yield NodeSpec(
            proto.op_type,
            domain,
            opsets.get(domain, 1),
            proto.name,
            tuple(proto.input),
            tuple(proto.output),
            {a.name: _attribute(onnx, a, folder) for a in proto.attribute},
            proto,
            functions,
        )


def constant_of(spec: NodeSpec) -> Array | None:
    """The value of a ``Constant`` node of numbers; None for every other node."""
    if spec.op_type != "Constant" or spec.domain:
        return None
    for name, dtype in CONSTANTS.items():
        if name in spec.attributes:
            return np.asarray(spec.attributes[name], dtype)
    return None


# Attributes of a Constant node -> element type of its value (None: the value's own).
CONSTANTS = {
    "value": None,
    "sparse_value": None,
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def _initialisers(onnx: Any, graph: Any, folder: Path | None) -> Iterator[tuple[str, Array]]:
    for tensor in graph.initializer:
        yield tensor.name, array_of(onnx, tensor, folder)
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, _dense(onnx, sparse, folder)


def _attribute(onnx: Any, proto: Any, folder: Path | None) -> Any:
    kind = onnx.AttributeProto
    if proto.ref_attr_name:
        return None  # filled in by whoever calls the function
    value = onnx.helper.get_attribute_value(proto)
    if proto.type == kind.TENSOR:
        return array_of(onnx, value, folder)
    if proto.type == kind.SPARSE_TENSOR:
        return _dense(onnx, value, folder)
    if proto.type == kind.STRING:
        return value.decode("utf-8", "replace")
    if proto.type == kind.STRINGS:
        return tuple(text.decode("utf-8", "replace") for text in value)
    return tuple(value) if proto.type in (kind.INTS, kind.FLOATS) else value


def _value(onnx: Any, proto: Any) -> Value:
    if not proto.type.HasField("tensor_type"):
        kind = proto.type.WhichOneof("value") or ""
        return Value(proto.name, None, None, kind.removesuffix("_type"))
    tensor = proto.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else None
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(
            d.dim_value if d.HasField("dim_value") else d.dim_param or None
            for d in tensor.shape.dim
        )
    return Value(proto.name, dtype, shape)


# --- weights --------------------------------------------------------------------------------------


def array_of(onnx: Any, tensor: Any, folder: Path | None) -> Array:
    """A tensor proto as an array of native byte order, external files included."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        inline = onnx.TensorProto()
        inline.CopyFrom(tensor)
        inline.ClearField("external_data")
        inline.data_location = onnx.TensorProto.DEFAULT
        inline.raw_data = _external(tensor, _bytes_of(onnx, tensor), folder)
        tensor = inline
    try:
        array = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"tensor {tensor.name!r}: {error}") from None
    return np.asarray(array)


def _bytes_of(onnx: Any, tensor: Any) -> int:
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    bits = PACKED_BITS.get(dtype.name, 8 * dtype.itemsize)
    return int(-(-math.prod(tensor.dims) * bits // 8))


def _external(tensor: Any, size: int, folder: Path | None) -> bytes:
    """The bytes of a tensor that lies in a file beside the model; never one outside its folder."""
    where = {entry.key: entry.value for entry in tensor.external_data}
    location = where.get("location", "")
    problem = f"tensor {tensor.name!r}: external data {location!r}"
    if folder is None:
        raise ModelError(f"{problem}: bytes have no folder to look in; try: load(bytes, folder=…)")
    home = folder.resolve()
    path = (home / location).resolve()
    if not location or Path(location).is_absolute() or not path.is_relative_to(home):
        raise ModelError(f"{problem}: expected a file inside the model's folder {home}")
    if not path.is_file():
        raise ModelError(f"{problem}: there is no such file in {home}")
    try:
        offset, length = int(where.get("offset", 0)), int(where.get("length", size))
    except ValueError:
        raise ModelError(f"{problem}: offset and length are not numbers") from None
    if length != size or offset < 0 or offset + length > path.stat().st_size:
        raise ModelError(
            f"{problem}: expected {size} bytes for shape {tuple(tensor.dims)} inside a file of "
            f"{path.stat().st_size}, got bytes {offset} .. {offset + length}"
        )
    with path.open("rb") as file:
        file.seek(offset)
        content: bytes = file.read(length)
    return content


def _dense(onnx: Any, sparse: Any, folder: Path | None) -> Array:
    values, index = (array_of(onnx, t, folder) for t in (sparse.values, sparse.indices))
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if index.ndim == 1:
        dense.reshape(-1)[index] = values
    else:
        dense[tuple(index.T)] = values
    return dense


# --- and back -------------------------------------------------------------------------------------


def to_proto(graph: Graph, weights: dict[str, Array]) -> Any:
    """The graph as an ``onnx.ModelProto`` with these weights as initialisers."""
    onnx = require("onnx", "onnx")
    helper = onnx.helper
    functions = list(next((n.functions for n in graph.nodes if n.functions), {}).values())
    body = helper.make_graph(
        [node.proto for node in graph.nodes],
        graph.name or "cnncore",
        [_declared(helper, v) for v in graph.inputs],
        [_declared(helper, v) for v in graph.outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
    model = helper.make_model(
        body, producer_name="cnncore", opset_imports=imports, functions=functions
    )
    if any(v.dtype is None for v in graph.outputs):
        model = onnx.shape_inference.infer_shapes(model)
    if graph.opsets[""] <= 21:  # what older runtimes read
        model.ir_version = 10
    onnx.checker.check_model(model)
    return model


def _declared(helper: Any, value: Value) -> Any:
    if value.dtype is None:
        return helper.make_empty_tensor_value_info(value.name)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return helper.make_tensor_value_info(value.name, kind, value.shape)
