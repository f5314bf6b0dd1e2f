"""One operator of an ONNX graph as a module: what stands between the graph and a handler.

It finds the handler, hands over arrays where the handler wants arrays, computes half precision in
float32, and makes sure that a gradient never silently ends at an operator without derivative.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnncore.autograd import Function, Tensor, is_grad_enabled
from cnncore.errors import CnncoreError, GraphError
from cnncore.nn import Module
from cnncore.onnx.graph import NodeSpec
from cnncore.onnx.registry import Operator, UnsupportedOperator
from cnncore.ops.linear import LinearMap, apply

Array = Any

HALF = frozenset(("float16", "bfloat16"))


class NodeError(CnncoreError, RuntimeError):
    """An operator that failed on the inputs it got; names the node."""


class NoGradient(Function):
    """Marks the result of an operator without derivative; complains when a gradient arrives."""

    def __init__(self, operator: str, result: Array) -> None:
        self.operator, self.result = operator, result

    @property
    def name(self) -> str:
        return self.operator

    def forward(self, *_: Array) -> Array:
        return self.result

    def backward(self, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        raise GraphError(f"ONNX operator {self.operator} has no derivative here")


class Node(Module):
    """One operator.  Its parameters are the weights that no earlier node uses."""

    def __init__(self, spec: NodeSpec, operator: Operator) -> None:
        self.spec, self.operator = spec, operator
        self.training = False

    @property
    def opset(self) -> int:
        """Version of the operator set this node is written for."""
        return self.spec.opset

    @property
    def wanted(self) -> int:
        """How many outputs the graph uses, counted to the last one."""
        return len(self.spec.outputs)

    def has(self, attribute: str) -> bool:
        """Whether the file sets an attribute."""
        return attribute in self.spec.attributes

    def get(self, attribute: str, default: Any = None) -> Any:
        """An attribute's value: a number, string, tuple of those, or array."""
        value = self.spec.attributes.get(attribute)
        return default if value is None else value

    def refuse(self, what: str) -> UnsupportedOperator:
        """The error for a form of this operator that is not served."""
        return UnsupportedOperator(f"{self.described}: {what}")

    @property
    def described(self) -> str:
        """Operator, opset and name, for errors."""
        domain = f"{self.spec.domain}." if self.spec.domain else ""
        name = f" (node {self.spec.name!r})" if self.spec.name else ""
        return f"ONNX operator {domain}{self.spec.op_type} of opset {self.opset}{name}"

    def extra_repr(self) -> str:
        """The attributes that are no arrays."""
        shown = {k: v for k, v in self.spec.attributes.items() if not hasattr(v, "dtype")}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())

    def forward(self, *inputs: Tensor | None) -> tuple[Tensor | None, ...]:
        """All outputs, in order."""
        half = next((t.dtype for t in inputs if t is not None and t.dtype.name in HALF), None)
        half = half if self.operator.widen else None
        wide = [_widened(t) for t in inputs] if half is not None else inputs
        given = [
            t.numpy() if t is not None and i in self.operator.arrays else t
            for i, t in enumerate(wide)
        ]
        try:
            results = self.operator.function(self, *given)
        except CnncoreError as error:
            raise _located(self, error) from None
        except (ValueError, IndexError, TypeError, KeyError, ZeroDivisionError) as error:
            raise NodeError(f"{self.described}: {error}") from error
        if not isinstance(results, tuple):
            results = (results,)
        outputs = tuple(self._output(result, inputs) for result in results)
        if half is not None:
            outputs = tuple(
                retyped(t, half) if t is not None and t.dtype == np.float32 else t for t in outputs
            )
        return outputs

    def _output(self, result: Any, inputs: tuple[Tensor | None, ...]) -> Tensor | None:
        if result is None or isinstance(result, Tensor):
            return result
        array = np.asarray(result)
        cut = array.dtype.kind == "f" and not self.operator.flat and is_grad_enabled()
        sources = [t for t in inputs if t is not None and t.requires_grad] if cut else []
        return NoGradient(self.spec.op_type, array)(*sources) if sources else Tensor(array)


def retyped(t: Tensor, dtype: Any) -> Tensor:
    """Another floating type, bfloat16 included; the gradient is converted back."""
    wanted, present = np.dtype(dtype), t.dtype
    return apply(LinearMap("To", "To", lambda a: a.astype(wanted), lambda g: g.astype(present)), t)


def _widened(t: Tensor | None) -> Tensor | None:
    return retyped(t, np.float32) if t is not None and t.dtype.name in HALF else t


def _located(node: Node, error: CnncoreError) -> CnncoreError:
    """The same kind of error where it can say which node failed, else a ``NodeError``."""
    if isinstance(error, (NodeError, UnsupportedOperator)):
        return error
    return NodeError(f"{node.described}: {error}")


_CLASSES: dict[str, type[Node]] = {}


def make_node(spec: NodeSpec, operator: Operator) -> Node:
    """A node whose type has the operator's name: tables of layers show types."""
    name = spec.op_type
    if name not in _CLASSES:
        _CLASSES[name] = type(name, (Node,), {"__doc__": f"ONNX operator {name}."})
    return _CLASSES[name](spec, operator)
