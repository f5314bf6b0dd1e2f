"""Writing models as ONNX: a network is traced, and every traced op has a writer.

What is written is read back and run on other numbers before the file is put in its place: an export
that does not compute the same is an error, not a file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnncore.autograd import Tensor, no_grad
from cnncore.errors import ArgumentError
from cnncore.inference.plan import Value, leaves
from cnncore.inference.trace import other_numbers, trace
from cnncore.io import atomic_write
from cnncore.nn import Module
from cnncore.onnx.exporter.assembly import Declared, assemble, name_results, write_plan
from cnncore.onnx.exporter.builder import Builder, ExportError
from cnncore.onnx.graph import to_proto as graph_to_proto
from cnncore.onnx.model import OnnxModel, load

Array = Any

# Largest difference to the model, relative to the largest number of an output.
TOLERANCE = {"float32": 1e-3, "float64": 1e-9}


def export(
    model: Module,
    example_inputs: Any,
    path: str | os.PathLike[str],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> None:
    """Write a model, in evaluation mode, as an ONNX file.

    ``example_inputs``: an array or tensor, or a sequence of them, as the model is called with.  The
    file takes inputs of these sizes; the size of the batch is left open where the network works for
    any (which is tried).  Inputs are called ``input`` (or ``input_0``, …), outputs likewise.

    Weights keep their state-dict keys as names.  A model read from ONNX is written back as the same
    graph with its present weights.

    Errors: ``ExportError`` for an op without a writer, or if the file, read back and run on other
    numbers, computes something else; ``ArgumentError`` for a model in training mode or one that
    decides by values.
    """
    proto = to_proto(model, example_inputs, input_names=input_names, output_names=output_names)
    with atomic_write(path) as file:
        file.write(proto.SerializeToString())


def to_proto(
    model: Module,
    example_inputs: Any,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Any:
    """What ``export`` writes, as an ``onnx.ModelProto``."""
    if any(module.training for module in model.modules()):
        raise ArgumentError("model", "a model in evaluation mode", "training", "model.eval()")
    examples = _arrays(example_inputs)
    if isinstance(model, OnnxModel):
        proto = graph_to_proto(model.graph, model.weights())
    else:
        proto = _traced(model, examples, input_names, output_names)
    read = load(proto)
    difference = _difference(model, read, other_numbers(examples))
    if difference:
        raise ExportError(f"the file does not compute what the model computes: {difference}")
    if not isinstance(model, OnnxModel) and _works_for_other_batches(model, read, examples):
        _open_batch(proto)
    return proto


def _arrays(example_inputs: Any) -> list[Array]:
    given = example_inputs if isinstance(example_inputs, (list, tuple)) else [example_inputs]
    return [x.numpy() if isinstance(x, Tensor) else np.asarray(x) for x in given]


def _traced(
    model: Module,
    examples: list[Array],
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
) -> Any:
    plan = trace(model, examples, switches=True)
    b = Builder(model)
    inputs = _names("input", plan.inputs, input_names)
    outputs = _names("output", plan.outputs(), output_names)
    results = write_plan(b, plan, [b.free_name(name) for name in inputs])
    name_results(b, results, outputs)

    def declared(names: list[str], values: Sequence[Value]) -> Declared:
        return {n: (v.dtype, v.shape) for n, v in zip(names, values, strict=True)}

    return assemble(b, declared(inputs, plan.inputs), declared(outputs, plan.outputs()))


def _names(kind: str, values: Sequence[Value], given: Sequence[str] | None) -> list[str]:
    if given is None:
        return [kind] if len(values) == 1 else [f"{kind}_{i}" for i in range(len(values))]
    if len(given) != len(values) or len(set(given)) != len(given):
        raise ArgumentError(f"{kind}_names", f"{len(values)} different names", list(given))
    return list(given)


def _open_batch(proto: Any) -> None:
    """Declare the first axis of every input and output as of any size, ``N``."""
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "N"


# --- reading back ---------------------------------------------------------------------------------


def _results(model: Module, inputs: Sequence[Array]) -> list[Array]:
    with no_grad():
        return [t.numpy() for t in leaves(model(*map(Tensor, inputs)), Tensor)]


def _difference(model: Module, read: OnnxModel, inputs: Sequence[Array]) -> str:
    """How what was read back differs from the model on these inputs; empty if it does not."""
    with np.errstate(all="ignore"):
        expected = _results(model, inputs)
        got = read.run(dict(zip(read.input_names, inputs, strict=True)))
    for name, y, z in zip(read.output_names, expected, got, strict=True):
        if y.shape != z.shape or y.dtype != z.dtype:
            return f"{name}: {y.dtype} {y.shape} became {z.dtype} {z.shape}"
        scale = max(float(np.abs(y).max(initial=0.0)), 1e-6)
        limit = TOLERANCE.get(str(y.dtype), 0.0) * scale
        worst = float(np.abs(y - z).max(initial=0.0))
        if not worst <= limit:
            return f"{name}: differs by {worst:.3g} where numbers are up to {scale:.3g}"
    return ""


def _works_for_other_batches(model: Module, read: OnnxModel, examples: list[Array]) -> bool:
    """Whether the graph is right for one more example, so that the batch's size can stay open."""
    sizes = {x.shape[0] for x in examples if x.ndim}
    if len(sizes) != 1 or any(x.ndim == 0 for x in examples):
        return False
    larger = [np.concatenate([x, x[:1]]) if len(x) else x for x in examples]
    try:
        return not _difference(model, read, larger)
    except Exception:  # whatever goes wrong, the size is part of the graph
        return False


__all__ = ["ExportError", "export", "to_proto"]
