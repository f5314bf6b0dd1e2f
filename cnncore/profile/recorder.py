"""Where the time of a step goes, op by op: in kernels, or in the Python around them.

Two things are watched.  The event stream of autograd (``cnncore.autograd.events``) says when each
op begins and ends, forward and backward; and every kernel is called through a stopwatch while the
profile runs.  What an op took beyond its kernels is its Python.

Watching costs time itself, so a step is timed unwatched first.  Those figures, not the watched
ones, give the whole step and the Python a step costs.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cnncore.autograd import Event, Function, observe
from cnncore.bench.convolution import cheapest
from cnncore.errors import BackendError
from cnncore.explain.cost import MULTIPLY_ADDS
from cnncore.geometry import as_int
from cnncore.kernels import dispatch

OUTSIDE = "(outside ops)"  # optimiser, losses on arrays, gradients added up by the engine


@dataclass
class OpRow:
    """All calls of one op (with one algorithm; of one shape, if asked for).  Seconds in a step.

    ``flops``: multiply-adds counted twice, as the definition has them, both passes together.
    ``nbytes``: inputs and results of the forward pass.
    """

    name: str
    algorithm: str = ""
    shape: str = ""
    calls: int = 0
    forward: float = 0.0
    backward: float = 0.0
    forward_kernels: float = 0.0
    backward_kernels: float = 0.0
    backward_calls: int = 0
    flops: float = 0.0
    nbytes: float = 0.0

    @property
    def total(self) -> float:
        """Both passes."""
        return self.forward + self.backward

    @property
    def kernels(self) -> float:
        """In kernels, both passes."""
        return self.forward_kernels + self.backward_kernels

    @property
    def python(self) -> float:
        """Seconds of Python around the kernels in one forward call."""
        return (self.forward - self.forward_kernels) / self.calls if self.calls else 0.0


@dataclass(frozen=True)
class Span:
    """One op or kernel of the last step watched; seconds from its beginning."""

    name: str
    kind: str  # forward, backward, kernel
    start: float
    seconds: float


@dataclass
class Profile:
    """A step in figures.

    ``seconds``: the median of unwatched steps; ``watched``: of watched ones.  ``rows`` and
    ``kernels`` hold medians over the watched steps, each figure by itself.
    """

    seconds: float
    watched: float
    steps: int
    rows: list[OpRow]
    kernels: dict[str, tuple[int, float]]  # name -> calls, seconds in a step
    spans: list[Span] = field(default_factory=list)

    @property
    def ops(self) -> int:
        """Ops in a step: forward calls and backward calls."""
        return sum(row.calls + row.backward_calls for row in self.rows)

    @property
    def kernel_seconds(self) -> float:
        """In kernels, whole step."""
        return sum(seconds for _, seconds in self.kernels.values())

    @property
    def python_seconds(self) -> float:
        """The rest of an unwatched step."""
        return max(0.0, self.seconds - self.kernel_seconds)

    @property
    def python_per_op(self) -> float:
        """Seconds of Python an op costs on average, everything between ops included."""
        return self.python_seconds / self.ops if self.ops else 0.0


class _Frame:
    __slots__ = ("kernels", "start", "subject")

    def __init__(self, subject: Any, start: float) -> None:
        self.subject, self.start, self.kernels = subject, start, 0.0


class _Recorder:
    """The observer and the stopwatch of one watched step."""

    takes_fused = True  # what is timed is what runs unwatched

    def __init__(self, by_shape: bool) -> None:
        self.by_shape = by_shape
        self.rows: dict[tuple[str, str, str], OpRow] = {}
        self.owner: dict[int, tuple[OpRow, float, Function]] = {}  # op -> row, flops; kept alive
        self.stack: list[_Frame] = []
        self.kernels: dict[str, tuple[int, float]] = {}
        self.spans: list[Span] = []
        self.began = time.perf_counter()

    def __call__(self, event: Event) -> None:
        now = time.perf_counter()
        if event.kind == "after_forward":
            frame = self.stack.pop()
            if not self.stack:
                self._forward(event, frame, now)
            else:  # an op inside a backward pass: that op's business
                self.stack[-1].kernels += frame.kernels
        elif event.kind == "after_backward":
            self._backward(self.stack.pop(), now)
        if event.kind in ("before_forward", "before_backward"):
            self.stack.append(_Frame(event.subject, time.perf_counter()))

    def _forward(self, event: Event, frame: _Frame, now: float) -> None:
        op = event.subject
        inputs = [t for t in event.inputs if t is not None]
        row = self._row(op, event)
        row.calls += 1
        row.forward += now - frame.start
        row.forward_kernels += frame.kernels
        row.nbytes += sum(float(t.data.nbytes) for t in (*inputs, *event.outputs))
        rule = MULTIPLY_ADDS.get(op.name)
        flops = 0.0
        if rule is not None:
            flops = 2.0 * rule(inputs[0].shape, inputs[1].shape, event.outputs[0].shape)
            row.flops += flops
        self.owner[id(op)] = (row, flops, op)
        self.spans.append(Span(op.name, "forward", frame.start - self.began, now - frame.start))

    def _backward(self, frame: _Frame, now: float) -> None:
        op, took = frame.subject, now - frame.start
        row, flops, _ = self.owner.get(id(op), (self._outside(), 0.0, op))
        row.backward_calls += 1
        row.backward += took
        row.backward_kernels += frame.kernels
        row.flops += flops * sum(op.needs[:2])  # one product of the same size for each gradient
        self.spans.append(Span(op.name, "backward", frame.start - self.began, took))

    def _outside(self) -> OpRow:
        return self.rows.setdefault((OUTSIDE, "", ""), OpRow(OUTSIDE))

    def _row(self, op: Any, event: Event) -> OpRow:
        shapes = [t.shape for t in event.inputs if t is not None]
        text = " ".join("×".join(map(str, s)) for s in shapes[:2]) if self.by_shape else ""
        key = (op.name, algorithm_of(op, event), text)
        return self.rows.setdefault(key, OpRow(*key))

    def count(self, name: str, start: float, seconds: float) -> None:
        """A kernel has run."""
        calls, so_far = self.kernels.get(name, (0, 0.0))
        self.kernels[name] = calls + 1, so_far + seconds
        self.spans.append(Span(name, "kernel", start - self.began, seconds))
        if self.stack:
            self.stack[-1].kernels += seconds
        else:
            row = self._outside()
            row.forward += seconds
            row.forward_kernels += seconds


def algorithm_of(op: Any, event: Event) -> str:
    """The convolution algorithm of a forward pass; "" for other ops and other backends."""
    asked = getattr(op, "algorithm", None)
    if asked is None or op.name not in ("Conv2d", "ConvTranspose2d"):
        return ""
    if asked != "auto" or dispatch.resolve("conv2d")[0] != "native":
        return str(asked)
    x, weight, y = event.inputs[0], event.inputs[1], event.outputs[0]
    shape, direction = (x.shape, "output") if op.name == "Conv2d" else (y.shape, "input")
    return cheapest(shape, weight.shape[0], op.window, op.groups, direction, x.dtype)


@contextlib.contextmanager
def _stopwatch(recorder: _Recorder) -> Iterator[None]:
    """Every kernel through a clock."""

    def timed(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = kernel(*args, **kwargs)
            recorder.count(name, start, time.perf_counter() - start)
            return result

        return run

    with contextlib.ExitStack() as stack:
        for name in dispatch.KERNELS:
            try:
                kernel = dispatch.resolve(name)[1]
            except BackendError:
                continue
            stack.enter_context(dispatch.override(name, timed(name, kernel)))
        yield


def profile(step: Callable[[], Any], steps: int = 10, by_shape: bool = False) -> Profile:
    """Where a step's time goes: ``step()`` runs twice to warm up, then ``steps`` times, twice over.

    ``by_shape``: a row for every shape of an op's first two inputs.

    >>> from cnncore import ops, tensor
    >>> x = tensor([[1.0, 2.0]], requires_grad=True)
    >>> found = profile(lambda: ops.relu(x).sum().backward(), steps=2)
    >>> [(row.calls, row.backward_calls) for row in found.rows if row.name == "Relu"]
    [(1, 1)]
    """
    as_int("steps", steps, 1)
    for _ in range(2):
        step()
    plain = [_seconds(step) for _ in range(steps)]
    watched = []
    recorders = []
    for _ in range(steps):
        recorder = _Recorder(by_shape)
        with _stopwatch(recorder), observe(recorder):
            watched.append(_seconds(step))
        recorder.owner.clear()
        recorders.append(recorder)
    return Profile(
        statistics.median(plain), statistics.median(watched), steps, _rows(recorders),
        _kernels(recorders), recorders[-1].spans,
    )  # fmt: skip


def _seconds(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


_FIGURES = (
    "calls", "forward", "backward", "forward_kernels", "backward_kernels", "backward_calls",
    "flops", "nbytes",
)  # fmt: skip


def _rows(recorders: list[_Recorder]) -> list[OpRow]:
    """A row for each op of the last step, the longest first."""
    rows = []
    for key in recorders[-1].rows:
        found = [r.rows[key] for r in recorders if key in r.rows]
        row = OpRow(*key)
        for name in _FIGURES:
            middle = statistics.median(getattr(one, name) for one in found)
            setattr(row, name, round(middle) if name.endswith("calls") else middle)
        rows.append(row)
    return sorted(rows, key=lambda row: -row.total)


def _kernels(recorders: list[_Recorder]) -> dict[str, tuple[int, float]]:
    found = {}
    for name, (calls, _) in recorders[-1].kernels.items():
        seconds = [r.kernels[name][1] for r in recorders if name in r.kernels]
        found[name] = calls, statistics.median(seconds)
    return found
