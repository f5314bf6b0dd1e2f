"""Which arrays are blocked: ``(N, C/B, H, W, B)``, B channels of a pixel side by side.

B is the lanes of one vector.  In this layout a convolution stores its results as the registers hold
them, a depthwise convolution and a pooling work on whole vectors whatever the plane, and nothing is
transposed between layers.  The pass decides for every node, and puts a reordering where a blocked
result meets an op that knows planes only.  Without the native backend everything stays planar.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncore.geometry import Pair, Window2d
from cnncore.inference.plan import (
    Activation,
    Affine,
    Blocked,
    Convolution,
    Node,
    Plan,
    Sum,
    Value,
    replaced,
)
from cnncore.kernels import blocked, dispatch
from cnncore.ops.elementwise import Mul
from cnncore.ops.linear import Linear
from cnncore.ops.pool import MaxPool2d
from cnncore.ops.shape import Cat

Array = Any
Run = Callable[..., None]

PLANAR_CHANNELS = 4  # of an input that a first layer reads as it comes


def assign(plan: Plan) -> int:
    """Make what can be blocked blocked; the number of such nodes."""
    if dispatch.resolve("conv2d")[0] != "native":
        return 0
    layout = _Layout()
    count = 0
    for node in plan.nodes:
        count += layout.place(node)
    plan.results = replaced(plan.results, Value, layout.planar)
    plan.nodes = layout.nodes
    return count


def join_scales(plan: Plan) -> int:
    """Squeeze-and-excite: a product per channel before a 1×1 convolution is made by it."""
    count = 0
    for first in list(plan.nodes):
        user = plan.only_user(first.output)
        if not isinstance(first.work, BlockedScale) or user is None:
            continue
        if _pointwise(user) is None or user.inputs[0] is not first.output:
            continue
        assert isinstance(user.work, BlockedConvolution)
        x, scale = first.inputs
        _join(plan, [first, user], replace(user.work, scaled=True))
        user.inputs = [x, *user.inputs[2:], scale]
        count += 1
    return count


def join_inverted(plan: Plan) -> int:
    """1×1, depthwise and 1×1 convolutions that follow each other, or two of them, become one."""
    count = 0
    for first in list(plan.nodes):
        expand = _pointwise(first) if len(first.inputs) == 1 else None
        middle = first if expand is None else plan.only_user(first.output)
        filter = None if middle is None else _depthwise(middle)
        if middle is None or filter is None:
            continue
        last = plan.only_user(middle.output)
        project = None if last is None or last.inputs[0] is not middle.output else _pointwise(last)
        joined = [first] if expand is None else [first, middle]
        if last is not None and project is not None and _pays(joined, filter, project):
            joined.append(last)
        elif len(joined) == 2 and _pays(joined, filter, None):
            project = None
        else:
            continue
        _join(plan, joined, BlockedInverted(expand, filter, project))
        count += 1
    return count


def _pays(joined: list[Node], filter: Convolution, project: Convolution | None) -> bool:
    x, expanded = joined[0].inputs[0], joined[-1].output.shape[1]
    outputs = 0 if project is None else int(project.weight.shape[0])
    expands = len(joined) > 1
    return blocked.inverted_pays(x.shape, expanded, outputs, expands, filter.window, x.dtype)


def _join(plan: Plan, joined: list[Node], work: Blocked) -> None:
    node = joined[-1]
    node.inputs = joined[0].inputs + node.inputs[1:]
    node.work = work
    node.parts = [part for one in joined for part in one.parts]
    node.layers = [layer for one in joined for layer in one.layers]
    plan.nodes = [other for other in plan.nodes if other not in joined[:-1]]


def _pointwise(node: Node) -> Convolution | None:
    """The 1×1 convolution that a node is on blocked arrays."""
    if not isinstance(node.work, BlockedConvolution) or node.work.planar or node.work.scaled:
        return None
    work = node.work.work
    plain = work.size is None and work.groups == 1 and work.window == Window2d((1, 1))
    return work if plain else None


def _depthwise(node: Node) -> Convolution | None:
    """The depthwise convolution that a node is on blocked arrays, without a residual."""
    if not isinstance(node.work, BlockedConvolution) or len(node.inputs) > 1:
        return None
    work = node.work.work
    channels = node.output.shape[1]
    one = work.groups == channels == node.inputs[0].shape[1] and work.size is None
    return work if one and channels > 1 else None


class _Layout:
    """The new list of nodes, and the other form of every value that needed one."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.other: dict[int, Value] = {}

    def place(self, node: Node) -> bool:
        """Add a node, in blocked form if it has one."""
        work = _blocked_form(node)
        if work is None:
            node.inputs = [self.planar(x) for x in node.inputs]
            self.nodes.append(node)
            return False
        first = node.inputs[0]
        keep = isinstance(work, BlockedConvolution) and work.planar
        inputs = [x if keep and x is first else self.blocked(x) for x in node.inputs]
        node.work, node.inputs = work, inputs
        node.output.lanes = blocked.block_lanes(node.output.dtype)
        self.nodes.append(node)
        return True

    def planar(self, value: Value) -> Value:
        """The value as planes."""
        return self._turned(value, 0) if value.lanes else value

    def blocked(self, value: Value) -> Value:
        """The value in blocks."""
        return value if value.lanes else self._turned(value, blocked.block_lanes(value.dtype))

    def _turned(self, value: Value, lanes: int) -> Value:
        if id(value) not in self.other:
            turned = Value(value.shape, value.dtype, lanes=lanes)
            self.other[id(value)] = turned
            self.nodes.append(Node(Reorder(), [value], turned, [], ["Reorder"]))
        return self.other[id(value)]


def _blocked_form(node: Node) -> Blocked | None:
    """What a node is on blocked arrays, or None."""
    x, y, work = node.inputs[0], node.output, node.work
    if any(z.array is not None for z in node.inputs) or 0 in y.shape or 0 in x.shape:
        return None
    if len(y.shape) != 4 or np.dtype(y.dtype) not in (np.float32, np.float64):
        return None
    if isinstance(work, Convolution):
        planar = not x.lanes and x.shape[1] <= PLANAR_CHANNELS
        outputs, transposed = y.shape[1], work.size is not None
        if work.linear or not blocked.serves(x.shape, outputs, work.groups, transposed, planar):
            return None
        # Few channels (LeNet's 6) leave most of a block empty: not worth turning planes into it.
        fewest = outputs if planar else min(outputs, x.shape[1])
        if not x.lanes and 2 * fewest < blocked.block_lanes(y.dtype):
            return None
        return BlockedConvolution(work, planar)
    if not x.lanes:
        return None
    if isinstance(work, Affine):
        return BlockedAffine(work.a, work.b, work.activation)
    if isinstance(work, Activation):
        return BlockedAffine(None, None, work)
    if isinstance(work, Sum) and node.inputs[1].lanes:
        return BlockedAffine(None, None, work.activation)
    if isinstance(work, Mul):
        return _scale(node)
    if isinstance(work, MaxPool2d):
        return BlockedPool(work.window, work.output_size)
    if isinstance(work, Cat):
        return _cat(node)
    return _linear_map(node) if isinstance(work, Linear) else None


def _scale(node: Node) -> Blocked | None:
    x, scale = node.inputs
    if scale.shape != (*node.output.shape[:2], 1, 1):
        x, scale = scale, x
    fits = scale.shape == (*node.output.shape[:2], 1, 1) and x.shape == node.output.shape
    if not fits or not x.lanes or x.shape == scale.shape:
        return None
    node.inputs = [x, scale]
    return BlockedScale()


def _cat(node: Node) -> Blocked | None:
    lanes = blocked.block_lanes(node.output.dtype)
    whole = all(x.lanes and x.shape[1] % lanes == 0 for x in node.inputs[:-1])
    if not whole or not node.inputs[-1].lanes or getattr(node.work, "axis", None) != 1:
        return None
    return BlockedCat()


def _linear_map(node: Node) -> Blocked | None:
    assert isinstance(node.work, Linear)
    name, constants = node.work.name, node.work.map.constants
    if name == "AdaptiveAvgPool2d" and node.output.shape[2:] == (1, 1):
        return BlockedMean()
    if name.startswith("Interpolate_nearest"):
        rows, columns = (constants[i][0, :, 0].tolist() for i in (0, 3))
        return BlockedSelect(rows, columns)
    return None


# --- work on blocked arrays -----------------------------------------------------------------------


@dataclass
class Reorder:
    """From one layout to the other."""

    def prepare(self, node: Node) -> tuple[Run, int]:
        """See ``plan.Blocked``."""
        return (blocked.to_blocked if node.output.lanes else blocked.from_blocked), 0


@dataclass
class BlockedConvolution:
    """A ``Convolution``; ``planar``: x comes as planes; ``scaled``: the last input is a factor for
    each channel of x."""

    work: Convolution
    planar: bool
    scaled: bool = False

    def prepare(self, node: Node) -> tuple[Run, int]:
        """See ``plan.Blocked``."""
        work = self.work
        layer = blocked.convolution(
            work.weight,
            work.bias,
            node.inputs[0].shape,
            work.window,
            work.groups,
            work.size,
            work.activation.kind,
            work.activation.params,
            self.planar,
        )
        if self.scaled:
            return (
                lambda x, *rest: layer.run(
                    x, rest[0] if len(rest) > 2 else None, rest[-1], rest[-2]
                )
            ), layer.nbytes
        if len(node.inputs) > 1:
            return layer.run, layer.nbytes
        if self.planar:  # the caller's array, or a view
            return (lambda x, out: layer.run(np.ascontiguousarray(x), None, out)), layer.nbytes
        return (lambda x, out: layer.run(x, None, out)), layer.nbytes


@dataclass
class BlockedInverted:
    """``project(filter(expand(x)))``, the convolutions of an inverted residual block."""

    expand: Convolution | None
    filter: Convolution
    project: Convolution | None

    def prepare(self, node: Node) -> tuple[Run, int]:
        """See ``plan.Blocked``."""
        stages = [
            None if work is None else (work.weight, work.bias, work.activation.kind,
                                       work.activation.params)
            for work in (self.expand, self.filter, self.project)
        ]  # fmt: skip
        layer = blocked.inverted(node.inputs[0].shape, self.filter.window, stages)
        if len(node.inputs) > 1:
            return layer.run, layer.nbytes
        return (lambda x, out: layer.run(x, None, out)), layer.nbytes


@dataclass
class BlockedAffine:
    """``f(a · x + b + z)``, z where there is a second input; None is 1 and 0."""

    a: Array | None
    b: Array | None
    activation: Activation

    def prepare(self, node: Node) -> tuple[Run, int]:
        """See ``plan.Blocked``."""
        shape = node.output.shape
        a = _vector(np.ones(shape[1]) if self.a is None else self.a, node.output)
        b = None if self.b is None else _vector(self.b, node.output)
        kind, params = self.activation.kind, self.activation.params

        def run(x: Array, *rest: Array) -> None:
            residual = rest[0] if len(rest) > 1 else None
            blocked.affine(x, shape, a, b, residual, kind, params, rest[-1])

        return run, int(a.nbytes) + (0 if b is None else int(b.nbytes))


@dataclass
class BlockedScale:
    """``x · s``, s one value per image and channel."""

    def prepare(self, node: Node) -> tuple[Run, int]:
        """See ``plan.Blocked``."""
        shape = node.output.shape

        def run(x: Array, scale: Array, out: Array) -> None:
            blocked.affine(x, shape, scale, None, None, "", (), out)

        return run, 0


@dataclass
class BlockedPool:
    """The maximum of each window."""

    window: Window2d
    size: Pair

    def prepare(self, node: Node) -> tuple[Run, int]:
        """See ``plan.Blocked``."""
        shape, window, size = node.inputs[0].shape, self.window, self.size
        return (lambda x, out: blocked.pool(x, shape, window, size, out)), 0


@dataclass
class BlockedMean:
    """The mean of each plane."""

    def prepare(self, node: Node) -> tuple[Run, int]:
        """See ``plan.Blocked``."""
        shape = node.inputs[0].shape
        return (lambda x, out: blocked.mean(x, shape, out)), 0


@dataclass
class BlockedSelect:
    """Rows and columns by number."""

    rows: list[int]
    columns: list[int]

    def prepare(self, node: Node) -> tuple[Run, int]:
        """See ``plan.Blocked``."""
        shape, rows, columns = node.inputs[0].shape, self.rows, self.columns
        return (lambda x, out: blocked.select(x, shape, rows, columns, out)), 0


@dataclass
class BlockedCat:
    """Blocks after blocks; all inputs but the last have whole ones."""

    def prepare(self, node: Node) -> tuple[Run, int]:
        """See ``plan.Blocked``."""
        return (lambda *arrays: np.concatenate(arrays[:-1], 1, out=arrays[-1])), 0


def _vector(values: Array, like: Value) -> Array:
    """One value per channel as a blocked array of single pixels."""
    vector = Value((1, len(values), 1, 1), like.dtype, lanes=like.lanes)
    result = np.zeros(vector.memory_shape, like.dtype)
    result.reshape(-1)[: len(values)] = values
    return result
