"""The compiled network: a list of steps on fixed buffers, and the report of what was fused."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnncore import kernels
from cnncore.autograd import Function, Tensor, no_grad
from cnncore.errors import ArgumentError, ShapeError
from cnncore.inference.buffers import Life, place
from cnncore.inference.fuse import fuse
from cnncore.inference.layout import Reorder, assign, join_inverted, join_scales
from cnncore.inference.plan import (
    Activation,
    Affine,
    Convolution,
    Node,
    Plan,
    Sum,
    Value,
    replaced,
)
from cnncore.inference.profile import Profile, StepTime, multiply_adds
from cnncore.inference.report import Report, StepReport, measured
from cnncore.inference.trace import other_numbers, trace
from cnncore.kernels import native
from cnncore.kernels.epilogue import Epilogue, finished
from cnncore.kernels.prepared import prepare
from cnncore.nn import Module

Array = Any
Step = Callable[[list[Any]], None]


class Compiled:
    """A network for inputs of one shape, made by ``compile``; call it like the network.

    Weights are copies: later changes of the network have no effect.  Calls from several threads
    take turns.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._index: dict[int, int] = {}  # id of a value -> its place among the arrays
        self._arrays: list[Any] = []
        self._steps: list[tuple[Node, Step]] = []
        self.weight_bytes = 0
        for value in plan.inputs:
            self._slot(value)
        self.buffer_bytes = self._allocate()
        for node in plan.nodes:
            if not self._view(node):
                self._steps.append((node, self._make_step(node)))
        self._drop = self._last_uses()
        self._report: Report | None = None

    def __call__(self, *inputs: Any) -> Any:
        """The network's result for inputs of the shapes it was compiled for; arrays or tensors."""
        return self._run(inputs, lambda step, arrays: step(arrays))

    def profile(self, *inputs: Any, rounds: int = 10) -> Profile:
        """The time of each step, the median of ``rounds`` runs: ``print(compiled.profile(x))``."""
        times: list[list[float]] = []

        def timed(step: Step, arrays: list[Any]) -> None:
            start = time.perf_counter()
            step(arrays)
            times[-1].append(time.perf_counter() - start)

        for _ in range(max(1, rounds)):
            times.append([])
            self._run(inputs, timed)
        seconds = np.median(times, 0)
        return Profile(
            tuple(
                StepTime(StepReport.of(node), float(t), multiply_adds(node))
                for (node, _), t in zip(self._steps, seconds, strict=True)
            )
        )

    def _run(self, inputs: Sequence[Any], call: Callable[[Step, list[Any]], None]) -> Any:
        if len(inputs) != len(self._plan.inputs):
            raise ArgumentError("inputs", f"{len(self._plan.inputs)} of them", len(inputs))
        given = [_checked(i, x, self._plan.inputs[i]) for i, x in enumerate(inputs)]
        with self._lock:
            arrays = self._arrays
            arrays[: len(given)] = given
            for (_, step), drop in zip(self._steps, self._drop, strict=True):
                call(step, arrays)
                for slot in drop:
                    arrays[slot] = None
            results = replaced(self._plan.results, Value, self._result)
            for node in self._plan.nodes:  # nothing that was made on the way is held
                slot = self._index[id(node.output)]
                arrays[slot] = arrays[slot] if slot in self._planned else None
            arrays[: len(given)] = [None] * len(given)
        return results

    def report(self) -> Report:
        """What was fused and how much memory it takes: ``print(compiled.report())``."""
        assert self._report is not None  # set by compile
        return self._report

    # Where results live.

    def _slot(self, value: Value) -> int:
        slot = self._index.setdefault(id(value), len(self._arrays))
        if slot == len(self._arrays):
            self._arrays.append(value.array)
        return slot

    def _allocate(self) -> int:
        """Give every result of a convolution its place in one block of memory."""
        last: dict[int, int] = {}
        base: dict[int, Value] = {}  # views live in the value they are views of
        for i, node in enumerate(self._plan.nodes):
            for x in node.inputs:
                last[id(base.get(id(x), x))] = i
            if node.view:
                base[id(node.output)] = base.get(id(node.inputs[0]), node.inputs[0])
        for y in self._plan.outputs():
            last[id(base.get(id(y), y))] = len(self._plan.nodes)
        planned, lives = [], []
        for i, node in enumerate(self._plan.nodes):
            planar = isinstance(node.work, (Convolution, Reorder))
            if (planar or node.output.lanes) and node.output.nbytes:
                planned.append(node.output)
                lives.append(Life(node.output.nbytes, i, last.get(id(node.output), i)))
        offsets, size = place(lives)
        block = native.empty((size,), np.uint8)
        self._planned: set[int] = set()
        for value, offset in zip(planned, offsets, strict=True):
            raw = block[offset : offset + value.nbytes].view(value.dtype)
            slot = self._slot(value)
            self._arrays[slot] = raw.reshape(value.memory_shape)
            self._planned.add(slot)
        return size

    def _last_uses(self) -> list[list[int]]:
        """After each step, the slots of results that nobody will read again."""
        drop: list[list[int]] = [[] for _ in self._steps]
        seen = {self._slot(y) for y in self._plan.outputs()} | self._planned
        for i, (node, _) in reversed(list(enumerate(self._steps))):
            for slot in {self._slot(x) for x in node.inputs if x.array is None} - seen:
                seen.add(slot)
                drop[i].append(slot)
        return drop

    def _result(self, value: Value) -> Tensor:
        array = value.array if value.array is not None else self._arrays[self._index[id(value)]]
        fresh = native.empty(array.shape, array.dtype)
        fresh[...] = array
        return Tensor(fresh)

    # What is run.

    def _view(self, node: Node) -> bool:
        """See planned memory otherwise, once and for all, if that is all that a node does."""
        source, target = self._slot(node.inputs[0]), self._slot(node.output)
        if not node.view or source not in self._planned or not isinstance(node.work, Function):
            return False
        seen = copy.copy(node.work).forward(self._arrays[source])
        if not np.shares_memory(seen, self._arrays[source]):
            return False
        self._arrays[target] = seen
        self._planned.add(target)
        return True

    def _make_step(self, node: Node) -> Step:
        work = node.work
        slots = [self._slot(x) for x in node.inputs]
        if isinstance(work, Convolution):
            return self._convolution(work, node, slots)
        target = self._slot(node.output)
        if node.output.lanes or isinstance(work, Reorder):
            return self._blocked(work, node, slots, target)
        if isinstance(work, Sum):
            return _sum(work, slots, target)
        if isinstance(work, Affine):
            return _affine(work, node, slots[0], target)
        if isinstance(work, Activation):
            return _activation(work, slots[0], target)
        assert isinstance(work, Function)  # every other kind was handled above
        return _call(work, slots, target)

    def _blocked(self, work: Any, node: Node, slots: list[int], target: int) -> Step:
        run, nbytes = work.prepare(node)
        self.weight_bytes += nbytes
        out = self._arrays[target]
        if len(slots) == 1:
            slot = slots[0]
            return lambda arrays: run(arrays[slot], out)
        return lambda arrays: run(*(arrays[slot] for slot in slots), out)

    def _convolution(self, work: Convolution, node: Node, slots: list[int]) -> Step:
        shape = node.inputs[0].shape
        images, *rest = shape
        if work.linear:
            shape = (images, rest[0], 1, 1)
        layer = prepare(
            work.weight,
            work.bias,
            shape,  # type: ignore[arg-type]
            work.window,
            work.groups,
            work.size,
            work.activation.kind,
            work.activation.params,
        )
        self.weight_bytes += layer.nbytes
        out = self._arrays[self._slot(node.output)]
        if out is None:  # a batch without images
            out = np.empty(node.output.shape, node.output.dtype)
            self._planned.add(self._slot(node.output))
            self._arrays[self._slot(node.output)] = out
        out = out.reshape(*out.shape, 1, 1) if work.linear else out
        source, residual, run = slots[0], slots[1] if len(slots) > 1 else None, layer.run

        def step(arrays: list[Any]) -> None:
            x = arrays[source]
            x = x if x.flags.c_contiguous else np.ascontiguousarray(x)
            r = None if residual is None else np.ascontiguousarray(arrays[residual])
            run(x.reshape(shape), r, out)

        return step


def _affine(work: Affine, node: Node, source: int, target: int) -> Step:
    images, channels, *plane = node.output.shape
    rows = int(np.prod(plane, dtype=np.int64))
    a, b = (np.tile(v, images).astype(node.output.dtype) for v in (work.a, work.b))
    epilogue = Epilogue(None, work.activation.kind, work.activation.params)

    def step(arrays: list[Any]) -> None:
        x = np.ascontiguousarray(arrays[source]).reshape(images * channels, rows)
        y = kernels.row_linear(x, a, b).reshape(node.output.shape)
        arrays[target] = finished(y, epilogue, kernels.ufunc, kernels.pointwise)

    return step


def _sum(work: Sum, slots: list[int], target: int) -> Step:
    first, second = slots

    def step(arrays: list[Any]) -> None:
        y = kernels.ufunc("add", arrays[first], arrays[second])
        epilogue = Epilogue(None, work.activation.kind, work.activation.params)
        arrays[target] = finished(y, epilogue, kernels.ufunc, kernels.pointwise)

    return step


def _activation(work: Activation, source: int, target: int) -> Step:
    def step(arrays: list[Any]) -> None:
        arrays[target] = kernels.pointwise(arrays[source], work.kind, work.params)

    return step


def _call(op: Function, slots: list[int], target: int) -> Step:
    """The traced op as it is.  A copy each time: a forward pass leaves notes on its op."""

    def step(arrays: list[Any]) -> None:
        y = copy.copy(op).forward(*(arrays[slot] for slot in slots))
        y = y[0] if isinstance(y, tuple) else y
        arrays[target] = np.asarray(y)

    return step


def _checked(position: int, x: Any, value: Value) -> Array:
    array = x.data if isinstance(x, Tensor) else x
    if not isinstance(array, np.ndarray) or array.shape != value.shape:
        got = getattr(array, "shape", type(array).__name__)
        raise ShapeError(
            f"inputs[{position}]", f"the shape compiled for, {value.shape}", got, "compile again"
        )
    if array.dtype != value.dtype:
        raise ArgumentError(f"inputs[{position}]", f"dtype {value.dtype}", array.dtype)
    return np.ascontiguousarray(array)


def compile(model: Module, *example: Any, verify: bool = True) -> Compiled:
    """A network, made ready to run many times on inputs of the shapes of ``example``.

    The model is run on the example and on other numbers while the event stream is recorded; the
    ops become a flat plan.  Batch norm is folded into the weights of convolutions; bias, residual
    sum and activation happen where a convolution stores its results; results live in buffers that
    are planned once and reused; weights are packed once.  The result is called like the model and
    gives the same to rounding (``verify`` compares on the other numbers).

    Errors: ``ArgumentError`` for a model in training mode, and for ops that are told what to do by
    values (non-maximum suppression, switches, RoI ops), with their names.

    >>> from cnncore import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()).eval()
    >>> compiled = compile(model, np.ones((1, 1, 5, 5), np.float32))
    >>> print(compiled.report().steps[0])
    Conv2d + Normalize + Relu  1×1×5×5 -> 1×2×3×3  (0, 1, 2)
    >>> compiled(np.zeros((1, 1, 5, 5), np.float32)).shape
    (1, 2, 3, 3)
    """
    inputs = [np.ascontiguousarray(x.data if isinstance(x, Tensor) else x) for x in example]
    if not inputs or any(x.dtype.kind not in "fiub" for x in inputs):
        raise ArgumentError("example", "one or more arrays or tensors", f"{len(inputs)}")
    training = [name for name, module in model.named_modules() if module.training]
    if training:
        raise ArgumentError(
            "model", "a model in evaluation mode", "training mode", "compile(model.eval(), …)"
        )
    plan = trace(model, inputs)
    before = len(plan.nodes)
    passes = fuse(plan)
    passes["steps on blocked arrays"] = assign(plan)
    passes["scales fused"] = join_scales(plan)
    passes["inverted residuals joined"] = join_inverted(plan)
    compiled = Compiled(plan)
    run_model = _running(model, inputs)
    peak = measured(run_model), measured(lambda: compiled(*inputs))
    compiled._report = Report.of(
        plan, before, passes, peak, compiled.buffer_bytes, compiled.weight_bytes
    )
    if verify:
        _verify(model, compiled, other_numbers(inputs))
    return compiled


def _running(model: Module, inputs: Sequence[Array]) -> Callable[[], Any]:
    def run() -> Any:
        with no_grad():
            return model(*(Tensor(x) for x in inputs))

    return run


def _verify(model: Module, compiled: Compiled, inputs: Sequence[Array]) -> None:
    wanted: list[Array] = []
    got: list[Array] = []
    replaced(_running(model, inputs)(), Tensor, lambda t: wanted.append(t.numpy()))
    replaced(compiled(*inputs), Tensor, lambda t: got.append(t.numpy()))
    for y, z in zip(wanted, got, strict=True):
        tolerance = 1e-3 if y.dtype == np.float32 else 1e-9
        scale = float(np.abs(y).max(initial=1e-30))
        error = float(np.abs(y.astype(np.float64) - z).max(initial=0.0)) / scale
        if not error <= tolerance and np.isfinite(y).all():
            raise ArgumentError(
                "model",
                "the same results compiled and not, on other numbers",
                f"a difference of {error:.1e} of the largest value",
                "a model without state that ops cannot see",
            )
