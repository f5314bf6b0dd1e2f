"""Watching a model run once: which ops, in which order, on what.

Whatever a model computes outside its ops becomes a constant of the plan.  That is right for tables
that depend on shapes, and wrong for anything that depends on values (which pixel won, which boxes
were kept); so the model is traced twice, on different numbers, and what differs is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnncore.autograd import Event, Function, Tensor, no_grad, observe
from cnncore.autograd.graph import memory_owner
from cnncore.errors import ArgumentError
from cnncore.inference.plan import Activation, Node, Plan, Value, leaves, replaced
from cnncore.nn import Module
from cnncore.ops.activation import Pointwise
from cnncore.ops.elementwise import Where
from cnncore.ops.linear import Linear

Array = Any


UNPOOL = "MaxUnpool2d"


class WherePositive(Function):
    """``x`` where x > 0, else ``y``: what a learned leaky slope is made of."""

    def forward(self, x: Array, y: Array) -> Array:
        return np.where(x > 0, x, y)


class _Recorder:
    """The observer that writes the plan."""

    def __init__(self, model: Module, inputs: Sequence[Tensor]) -> None:
        self.names = {id(module): name for name, module in model.named_modules()}
        self.layers: list[str] = []
        self.plan = Plan()
        self.values: dict[int, Value] = {}  # id of a tensor or of its array -> value
        self.seen: list[Any] = []  # keeps those ids unique
        for x in inputs:
            self.plan.inputs.append(self._define(x))

    def __call__(self, event: Event) -> None:
        if event.kind == "enter_module":
            self.layers.append(self.names.get(id(event.subject), type(event.subject).__name__))
        elif event.kind == "leave_module":
            self.layers.pop()
        elif event.kind == "after_forward":
            self._record(event.subject, event.inputs, event.outputs)

    def find(self, x: Tensor) -> Value:
        """The value of a tensor; one that was never seen is a constant."""
        for key in (id(x), id(x.data)):
            if key in self.values:
                return self.values[key]
        value = self._define(x)
        value.array = x.data
        return value

    def _define(self, x: Tensor) -> Value:
        value = Value(x.shape, x.dtype)
        self.values[id(x)] = self.values[id(x.data)] = value
        self.seen += [x, x.data]
        return value

    def _record(
        self, op: Function, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]
    ) -> None:
        given = [t for t in inputs if t is not None]
        values = [self.find(t) for t in given]
        y = self._define(outputs[0])
        others = [self._define(other) for other in outputs[1:]]  # switches
        if all(value.array is not None for value in values):
            y.array = outputs[0].data
            return
        work: Activation | Function = op
        if isinstance(op, Pointwise) and op.order == 0 and len(given) == 1:
            work = Activation(op.kind, op.params)
        elif isinstance(op, Where) and np.array_equal(op.condition, given[0].data > 0):
            work = WherePositive()
        owners = {memory_owner(t.data) for t in given}
        view = len(given) == 1 and memory_owner(outputs[0].data) in owners
        if len(given) < len(inputs):  # optional inputs keep their places
            values = [Value((), np.float32) if t is None else self.find(t) for t in inputs]
        if isinstance(op, Linear) and op.name == UNPOOL:
            switches = self.values.get(id(op.map.constants[0]))
            values += [switches] if switches is not None else []  # the places it goes by
        layer = self.layers[-1] if self.layers else ""
        self.plan.nodes.append(Node(work, values, y, [layer], [op.name], view, others))


def trace(model: Module, inputs: Sequence[Array], switches: bool = False) -> Plan:
    """Run the model once, and again on other numbers; the plan of what is common to both.

    With ``switches`` max unpooling by the switches of a traced pooling is part of the plan: these
    are in ``others`` of the pooling's node and the second input of the unpooling's (whose ``work``
    has those of the example, and must not be run).  Without, they are refused.
    """
    first, second = (_traced(model, arrays) for arrays in (inputs, other_numbers(inputs)))
    if len(first.nodes) != len(second.nodes):
        raise _refusal("a different number of ops for other numbers", "")
    for one, two in zip(first.nodes, second.nodes, strict=True):
        name = one.parts[0]
        if two.parts != one.parts or [x.shape for x in two.inputs] != [x.shape for x in one.inputs]:
            raise _refusal(f"{name} for one input and {two.parts[0]} for another", one.layers[0])
        by_switches = one.parts[0] == UNPOOL and len(one.inputs) == 2
        if not by_switches and not _same(one.work, two.work, 4):
            raise _refusal(f"{name}, which is told what to do by values", one.layers[0])
        for x, z in zip(one.inputs, two.inputs, strict=True):
            if not _same(x.array, z.array, 1):
                raise _refusal(f"{name} of a value computed outside the ops", one.layers[0])
    _check_known(first, switches)
    return first


def other_numbers(inputs: Sequence[Array]) -> list[Array]:
    """Inputs of the same shapes with other values of the same size."""
    rng = np.random.default_rng(1)
    result = []
    for x in inputs:
        if x.dtype.kind == "f":
            scale = float(np.abs(x).mean()) if x.size else 1.0
            noise = rng.normal(size=x.shape) * (scale or 1.0)
            result.append((np.flip(x) * 0.5 + noise).astype(x.dtype))
        else:
            result.append(x.copy())
    return result


def _traced(model: Module, inputs: Sequence[Array]) -> Plan:
    tensors = [Tensor(x) for x in inputs]
    recorder = _Recorder(model, tensors)
    with no_grad(), observe(recorder):
        outputs = model(*tensors)
    if not any(True for _ in leaves(outputs, Tensor)):
        raise ArgumentError("model", "a network that returns tensors", type(outputs).__name__)
    recorder.plan.results = replaced(outputs, Tensor, recorder.find)
    return recorder.plan


def _check_known(plan: Plan, switches: bool) -> None:
    """Every value that is read is an input, a constant, or the first result of a node.

    Or, with ``switches``, the second of a pooling that an unpooling goes by.
    """
    known = {id(x) for x in plan.inputs}
    chosen: set[int] = set()
    for node in plan.nodes:
        for position, x in enumerate(node.inputs):
            if switches and node.parts[0] == UNPOOL and position == 1 and id(x) in chosen:
                continue
            if x.array is None and x.shape and id(x) not in known:
                raise _refusal(f"{node.parts[0]} of a second result (switches)", node.layers[0])
        known.add(id(node.output))
        chosen |= {id(x) for x in node.others}
    if any(y.array is None and id(y) not in known for y in plan.outputs()):
        raise _refusal("a second result (switches) as output", "")


def _refusal(what: str, layer: str) -> ArgumentError:
    where = f" in layer {layer!r}" if layer else ""
    return ArgumentError(
        "model",
        "ops that do the same whatever the values are",
        f"{what}{where}",
        "compile the part of the network before it, say the backbone",
    )


def _same(a: Any, b: Any, depth: int) -> bool:
    """Whether two ops (or what they hold) do the same; what cannot be compared counts as equal."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, (str, bytes, bool, int, float, slice, type(None), np.generic)):
        return bool(a == b)
    if depth == 0:
        return True
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(_same(x, y, depth) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key], depth) for key in a)
    if callable(a) and getattr(a, "__closure__", None):
        cells = [[cell.cell_contents for cell in f.__closure__] for f in (a, b)]
        return _same(cells[0], cells[1], depth - 1)
    if hasattr(a, "__dict__") and not isinstance(a, (type, Tensor)):
        skip = {"_kept", "_arrays", "mean", "variance"}  # what a forward pass left behind
        left, right = ({k: v for k, v in vars(z).items() if k not in skip} for z in (a, b))
        return _same(left, right, depth - 1)
    return True
