"""The flat plan of a network: values, the nodes that make them, and how they are found and changed.

A node is one thing to run.  At first there is one for every op that was traced; the passes in
``fuse`` make fewer, larger ones.  Constants are values with an array; they have no node.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from cnncore.autograd import Function
from cnncore.geometry import Pair, Window2d

Array = Any
Shape = tuple[int, ...]


@dataclass(eq=False)
class Value:
    """An array that flows through the plan; ``array`` is set for constants only.

    ``lanes``: 0, or the channels of a block where its memory is blocked (see ``layout``).
    """

    shape: Shape
    dtype: Any
    array: Array | None = None
    lanes: int = 0

    @property
    def memory_shape(self) -> Shape:
        """The shape of the array that holds it."""
        if not self.lanes:
            return self.shape
        images, channels, *plane = self.shape
        return (images, -(-channels // self.lanes), *plane, self.lanes)

    @property
    def nbytes(self) -> int:
        """Bytes of the array that holds it."""
        return math.prod(self.memory_shape) * int(np.dtype(self.dtype).itemsize)


@dataclass(frozen=True)
class Activation:
    """A kind of ``kernels.pointwise`` with its parameters; ``""`` for none."""

    kind: str = ""
    params: tuple[float, ...] = ()


@dataclass
class Convolution:
    """A convolution with constant weights; ``size`` is set for a transposed one.

    The node's inputs are x and, where one was fused, a residual.  ``linear``: x is ``(N, C)``, a
    dense layer seen as a convolution of single pixels.
    """

    weight: Array
    bias: Array | None
    window: Window2d
    groups: int = 1
    size: Pair | None = None
    activation: Activation = Activation()
    linear: bool = False


@dataclass
class Affine:
    """``y = f(a · x + b)``, a and b one value per channel (axis 1)."""

    a: Array
    b: Array
    activation: Activation = Activation()


@dataclass
class Sum:
    """``y = f(x + z)``, both of the result's shape."""

    activation: Activation = Activation()


class Blocked(Protocol):
    """Work on blocked arrays, all results into planned memory (see ``layout``)."""

    def prepare(self, node: Node) -> tuple[Callable[..., None], int]:
        """``run(*inputs, out)``, and the bytes of weights it holds."""


@dataclass(eq=False)
class Node:
    """One thing to run.

    ``work`` says what: a ``Convolution``, an ``Affine``, an ``Activation``, a ``Sum``, something on
    blocked arrays, or the traced op, to be called as it is.  ``view``: the result is the input's
    memory seen otherwise.  ``parts`` names the ops it does, ``layers`` the modules they came from.
    ``others`` are results besides the first: the switches of a pooling.
    """

    work: Convolution | Affine | Activation | Sum | Blocked | Function
    inputs: list[Value]
    output: Value
    layers: list[str]
    parts: list[str]
    view: bool = False
    others: list[Value] = field(default_factory=list)


@dataclass
class Plan:
    """Nodes in the order in which they run; ``results`` is the model's result with values in the
    place of tensors."""

    inputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    results: Any = None

    def outputs(self) -> list[Value]:
        """The values that the caller gets."""
        return list(leaves(self.results, Value))

    def users(self, value: Value) -> list[Node]:
        """The nodes that read a value (twice if they read it twice)."""
        return [node for node in self.nodes for x in node.inputs if x is value]

    def producer(self, value: Value) -> Node | None:
        """The node that makes a value; None for constants and inputs."""
        return next((node for node in self.nodes if node.output is value), None)

    def only_user(self, value: Value) -> Node | None:
        """The node that alone reads a value nobody else sees."""
        if any(value is y for y in self.outputs()):
            return None
        users = self.users(value)
        return users[0] if len(users) == 1 else None

    def drop_unused(self) -> None:
        """Remove nodes whose result nobody reads."""
        needed = {id(y) for y in self.outputs()}
        kept = []
        for node in reversed(self.nodes):
            if id(node.output) in needed:
                needed |= {id(x) for x in node.inputs}
                kept.append(node)
        self.nodes = kept[::-1]


def leaves(structure: Any, kind: type) -> Iterator[Any]:
    """The objects of one type inside tuples, lists, mappings and dataclasses, in order."""
    found: list[Any] = []
    replaced(structure, kind, found.append)
    return iter(found)


def replaced(structure: Any, kind: type, replace: Any) -> Any:
    """A copy of a nest of tuples, lists, mappings, dataclasses, its ``kind`` objects replaced."""
    if isinstance(structure, kind):
        return replace(structure)
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(replaced(item, kind, replace) for item in structure))
    if isinstance(structure, (tuple, list)):
        return type(structure)(replaced(item, kind, replace) for item in structure)
    if isinstance(structure, dict):
        return {key: replaced(item, kind, replace) for key, item in structure.items()}
    if hasattr(structure, "__dataclass_fields__") and not isinstance(structure, type):
        changes = {
            entry.name: replaced(getattr(structure, entry.name), kind, replace)
            for entry in dataclasses.fields(structure)
            if entry.init
        }
        return dataclasses.replace(structure, **changes)
    return structure
