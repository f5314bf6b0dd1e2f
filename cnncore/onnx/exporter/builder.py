"""The graph under construction: nodes and weights with names that say where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnncore.errors import CnncoreError, require
from cnncore.inference.plan import Node, Value
from cnncore.nn import Module

Array = Any

OPSET = 21  # the first with group norm per channel
IR_VERSION = 10


class ExportError(CnncoreError, ValueError):
    """A model that cannot be written as ONNX, with the op and the layer that prevent it."""


class Builder:
    """Collects what a writer emits.

    A writer is called for one traced op; ``node`` gives it names for inputs and returns the name of
    the result.
    """

    def __init__(self, model: Module) -> None:
        self.onnx = require("onnx", "onnx")
        self.nodes: list[Any] = []
        self.weights: dict[str, Array] = {}
        self.names: dict[int, str] = {}  # id of a value -> name
        self.read: set[int] = set()  # ids of the values that some node reads
        self.pooled: dict[str, tuple[str, tuple[int, ...]]] = {}  # switches -> what was pooled
        self.layer = ""
        self._known: list[Value] = []  # keeps those ids unique
        self._used: set[str] = set()
        self._states = {
            id(tensor.data): name
            for name, tensor in (*model.named_buffers(), *model.named_parameters())
        }

    def free_name(self, wish: str) -> str:
        """The wished name, with a number if it is taken."""
        name, number = wish, 1
        while name in self._used:
            number += 1
            name = f"{wish}_{number}"
        self._used.add(name)
        return name

    def define(self, value: Value, name: str) -> None:
        """Say what a traced value is called."""
        self.names[id(value)] = name
        self._known.append(value)

    def name_of(self, value: Value) -> str:
        """The name of a traced value; constants become weights, absent ones have no name."""
        if id(value) not in self.names:
            if value.array is None:
                return ""
            state = self._states.get(id(value.array))
            self.define(
                value, self.weight(value.array, state or f"{self.layer or 'model'}.constant")
            )
        return self.names[id(value)]

    def weight(self, array: Array, wish: str = "") -> str:
        """A constant array as a weight of the file."""
        name = self.free_name(wish or f"{self.layer or 'model'}.constant")
        self.weights[name] = np.ascontiguousarray(array)
        return name

    def ints(self, *values: int) -> str:
        """A constant list of integers: a shape, axes, pads."""
        return self.weight(np.array(values, np.int64))

    def scalar(self, number: float, dtype: Any) -> str:
        """A constant number of an element type."""
        return self.weight(np.array(number, dtype))

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """One ONNX node with one result."""
        return self.results(op, 1, *inputs, **attributes)[0]

    def results(self, op: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """One ONNX node with several results."""
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        name = self.free_name(f"{self.layer}/{op}" if self.layer else op)
        given_attributes = {k: v for k, v in attributes.items() if v is not None}
        outputs = [f"{name}:{i}" for i in range(count)]
        self.nodes.append(self.onnx.helper.make_node(op, given, outputs, name, **given_attributes))
        return outputs

    def refuse(self, what: str) -> ExportError:
        """The error for an op that has no ONNX form."""
        where = f" in layer {self.layer!r}" if self.layer else ""
        return ExportError(f"{what}{where} has no form in ONNX here")


def shape_of(node: Node) -> tuple[int, ...]:
    """The shape of a node's first input."""
    return node.inputs[0].shape


def flat_pads(pads: Sequence[tuple[int, int]]) -> list[int]:
    """((before, after), …) as ONNX lists them: all before, then all after."""
    return [b for b, _ in pads] + [a for _, a in pads]
