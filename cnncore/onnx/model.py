"""An ONNX graph as a module: nodes run in order, every intermediate is dropped after its last use.

Each node is a child module under its own name, and holds the weights it is the first to use under
the name that the operator's definition gives them: ``Conv_3.W``, ``Conv_3.B``.  So an imported
model is trained, saved, observed and cost-counted like any other.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cnncore.autograd import Tensor, no_grad
from cnncore.errors import ArgumentError, DTypeError, ShapeError, require
from cnncore.nn import Buffer, Module, Parameter
from cnncore.onnx import functions
from cnncore.onnx.graph import Graph, NodeSpec, Source, Value, read
from cnncore.onnx.node import Node, make_node
from cnncore.onnx.registry import NEWEST, Operator, UnsupportedOperator, find

Array = Any
Environment = dict[str, Tensor | None]


class OnnxModel(Module):
    """A network read from an ONNX file.

    Called like any module, with tensors or arrays in the order of ``input_names`` or by name, it
    gives a tensor, or a tuple where the graph has several outputs.  It starts in evaluation mode;
    after ``train()`` batch norm uses and moves its statistics and dropout drops.
    """

    shown = ("input_names", "output_names")

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.training = False
        self.input_names = [v.name for v in graph.inputs]
        self.output_names = [v.name for v in graph.outputs]
        self._steps: list[Node] = []
        self._constants: Environment = {}
        # ONNX name of a weight -> (module, attribute) that holds it.
        self._held: dict[str, tuple[Module, str]] = {}
        operators = [_operator(spec) for spec in graph.nodes]
        states = _states(graph, operators)
        for spec, operator in zip(graph.nodes, operators, strict=True):
            node = make_node(spec, operator)
            for position, name in enumerate(spec.inputs):
                if name in graph.weights and name not in self._held:
                    self._hold(node, _formal_name(spec, position), name, states[name])
            setattr(self, self._free_name(spec), node)
            self._steps.append(node)
        for name in graph.weights:  # used by nobody, or outputs of the graph
            if name not in self._held:
                self._constants[name] = Tensor(graph.weights[name])
        self._last_use = _last_uses(graph)

    def _hold(self, module: Module, attribute: str, name: str, is_state: bool) -> None:
        array = self.graph.weights[name]
        if array.dtype.kind == "f" and not is_state:
            setattr(module, attribute, Parameter(array))
        elif array.dtype.kind in "fiub":
            setattr(module, attribute, Buffer(array))
        else:
            self._constants[name] = Tensor(array)  # bfloat16, strings: no part of a state
            return
        self._held[name] = (module, attribute)
        self.graph.weights[name] = vars(module)[attribute].data  # one copy is enough

    def _free_name(self, spec: NodeSpec) -> str:
        """An attribute name for a node: its own, or its type and place; always another."""
        name = spec.name.strip("/").replace("/", ".") or f"{spec.op_type}_{len(self._steps)}"
        while hasattr(self, name):
            name += "_"
        return name

    def weights(self) -> dict[str, Array]:
        """The arrays of all initialisers as they are now, by ONNX name."""
        tensors = {name: self.weight(name) for name in self.graph.weights}
        return {name: t.numpy() for name, t in tensors.items() if t is not None}

    def weight(self, name: str) -> Tensor | None:
        """The tensor of an initialiser, by its ONNX name."""
        if name in self._held:
            module, attribute = self._held[name]
            return vars(module)[attribute]  # type: ignore[no-any-return]
        return self._constants[name]

    def forward(self, *args: Any, **named: Any) -> Any:
        """The outputs: one tensor, or a tuple."""
        outputs = self._execute(self._bound(args, named), self.output_names)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(
        self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> list[np.ndarray[Any, Any]]:
        """Inputs by name to a list of arrays: all outputs, or those named (any value of the graph).

        Records nothing for backward; call the model to differentiate.
        """
        with no_grad():
            tensors = self._execute(self._bound((), feeds), list(outputs or self.output_names))
        return [t.numpy() for t in tensors]

    def _bound(self, args: Sequence[Any], named: Mapping[str, Any]) -> Environment:
        values = dict(zip(self.input_names, args, strict=False))
        twice = sorted(values.keys() & named.keys())
        if len(args) > len(self.input_names) or twice:
            raise ArgumentError(
                "inputs", f"each of {self.input_names} once", twice or f"{len(args)} inputs"
            )
        values.update(named)
        missing = [name for name in self.input_names if name not in values]
        unknown = [name for name in values if not self._is_input(name)]
        if missing or unknown:
            got = f"{'no ' + str(missing) if missing else 'also ' + str(unknown)}"
            raise ArgumentError("inputs", f"the inputs {self.input_names}", got)
        declared = {v.name: v for v in self.graph.inputs}
        return {name: _input(declared.get(name), name, x) for name, x in values.items()}

    def _is_input(self, name: str) -> bool:
        return name in self.input_names or name in self.graph.weights

    def _execute(self, env: Environment, outputs: list[str]) -> list[Tensor]:
        keep = set(outputs)
        for name in self.graph.weights:
            if name not in env:
                env[name] = self.weight(name)
        for number, node in enumerate(self._steps):
            _step(node, env)
            for name in self._last_use[number]:
                if name not in keep:
                    env.pop(name, None)
        lost = [name for name in outputs if env.get(name) is None]
        if lost:
            raise ArgumentError("outputs", "values that the graph computes", lost)
        return [env[name] for name in outputs]  # type: ignore[misc]


def _input(value: Value | None, name: str, x: Any) -> Tensor:
    """An input checked against its declaration: element type and rank, not sizes.

    Sizes in a file are those of the example it was exported with; most networks take others.
    """
    t = x if isinstance(x, Tensor) else Tensor(np.asarray(x))
    if value is None:
        return t
    if value.dtype is not None and t.dtype != value.dtype:
        raise DTypeError(name, str(np.dtype(value.dtype)), str(t.dtype), f"{name}.astype(...)")
    if value.shape is not None and len(value.shape) != t.ndim:
        raise ShapeError(name, f"{len(value.shape)} axes, as in {value.shape}", t.shape)
    return t


def _step(node: Node, env: Environment) -> None:
    given = [env[name] if name else None for name in node.spec.inputs]
    results = node(*given)
    for name, result in zip(node.spec.outputs, results, strict=False):
        if name:
            env[name] = result


def execute(nodes: Iterable[Node], env: Environment) -> None:
    """Run the nodes of a function body in a scope of their own."""
    for node in nodes:
        _step(node, env)


def _operator(spec: NodeSpec) -> Operator:
    found = find(spec.domain, spec.op_type, spec.opset)
    if found is None and functions.has_body(spec):
        found = Operator(
            spec.op_type, 1, NEWEST, _call_function, frozenset(), frozenset(), False, False
        )
    if found is None:
        domain = f"{spec.domain}." if spec.domain else ""
        raise UnsupportedOperator(
            f"ONNX operator {domain}{spec.op_type} of opset {spec.opset} is not supported"
            + (f" (node {spec.name!r})" if spec.name else "")
        )
    return found


def _call_function(node: Node, *inputs: Tensor | None) -> tuple[Tensor | None, ...]:
    """An operator that is defined by other operators: run those."""
    body = functions.body(node.spec, inputs)
    steps = node.__dict__.setdefault("_bodies", {})
    key = body.key
    if key not in steps:
        steps[key] = [make_node(spec, _operator(spec)) for spec in body.nodes]
    for step in steps[key]:
        step.train(node.training)
    env: Environment = dict.fromkeys(body.inputs)
    env.update(zip(body.inputs, inputs, strict=False))
    execute(steps[key], env)
    return tuple(env.get(name) for name in body.outputs[: node.wanted])


def _states(graph: Graph, operators: list[Operator]) -> dict[str, bool]:
    """Weight name -> whether no use of it is as a parameter: all are as state or plain numbers."""
    state = dict.fromkeys(graph.weights, True)
    for spec, operator in zip(graph.nodes, operators, strict=True):
        for position, name in enumerate(spec.inputs):
            if name in state and position not in operator.arrays | operator.statistics:
                state[name] = False
    return state


def _formal_name(spec: NodeSpec, position: int) -> str:
    """What the operator's definition calls an input: ``W`` and ``B`` of a Conv."""
    onnx = require("onnx", "onnx")
    try:
        formal = onnx.defs.get_schema(spec.op_type, spec.opset, spec.domain).inputs
    except onnx.defs.SchemaError:
        return f"input_{position}"
    if position < len(formal) - 1 or formal[-1].option != formal[-1].option.Variadic:
        return str(formal[position].name)
    return f"{formal[-1].name}_{position}"


def _last_uses(graph: Graph) -> list[list[str]]:
    """For every node, the values that nobody needs after it."""
    last: dict[str, int] = {}
    for number, spec in enumerate(graph.nodes):
        last.update(dict.fromkeys((*spec.inputs, *spec.outputs), number))
    uses: list[list[str]] = [[] for _ in graph.nodes]
    for name, number in last.items():
        if name:
            uses[number].append(name)
    return uses


def load(source: Source, folder: Any = None) -> OnnxModel:
    """Read an ONNX model from a path, bytes or an ``onnx.ModelProto`` (needs the extra ``onnx``).

    Float weights become parameters (statistics of batch norm, and numbers that only shape the
    computation, buffers).  External weights are read from ``folder``, by default the file's own,
    and never from outside it.

    Errors: ``ModelError`` for what is no valid model; ``UnsupportedOperator`` with the operator's
    name and opset, before anything runs.
    """
    importlib.import_module("cnncore.onnx.operators")  # fills the table
    return OnnxModel(read(source, folder))
