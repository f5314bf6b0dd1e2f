"""What every layer costs: shapes, parameters, multiply-adds, memory, time.

``cost`` predicts: it runs the network as shapes alone (``cnncore.nn.shapes``), so a batch of 100
costs no more than one image.  ``record_cost`` watches a real run, and adds times.  Either way the
numbers come from the ops that ran, seen through the event stream; nothing is estimated from the
layer's type except multiply-adds, whose rule per op is the table below.

The lesson in the totals: inference needs the results of two layers at a time, training needs all
of them, because the backward pass reads them again.

Letters: ``N C H W`` input, ``O`` output channels, ``KH KW`` kernel, ``OH OW`` output plane.
"""

from __future__ import annotations

import contextlib
import html
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cnncore.autograd import Event, Function, Tensor, no_grad, observe
from cnncore.autograd.graph import memory_owner
from cnncore.errors import ArgumentError, require
from cnncore.explain.memory import MemoryMeter, meter_shapes, total_of
from cnncore.geometry import as_int
from cnncore.nn import Module, Parameter

Shape = tuple[int, ...]
MB = 1e6  # as in the text books: 12 MB are 12 million bytes


def _conv(_: Shape, weight: Shape, y: Shape) -> int:
    return math.prod(y) * math.prod(weight[1:])


def _conv_transpose(x: Shape, weight: Shape, _: Shape) -> int:
    return math.prod(x) * math.prod(weight[1:])


def _matmul(a: Shape, _: Shape, y: Shape) -> int:
    return math.prod(y) * a[-1]


# Multiply-adds of an op from the shapes of its first two inputs and its output; others have none.
MULTIPLY_ADDS: dict[str, Callable[[Shape, Shape, Shape], int]] = {
    "Conv2d": _conv,
    "ConvTranspose2d": _conv_transpose,
    "MatMul": _matmul,
    "Dense": _matmul,
}


@dataclass
class LayerCost:
    """One row: a module that ran ops of its own (not those of its children).

    ``activation_bytes``: new arrays that its ops made (views are free).  ``kept_bytes``: what it
    holds for the backward pass, each array counted at the layer that kept it first, without the
    weights.
    """

    name: str
    kind: str
    output_shape: Shape = ()
    parameters: int = 0
    multiply_adds: int = 0
    activation_bytes: int = 0
    kept_bytes: int = 0
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0


@dataclass
class CostTable:
    """Rows in the order in which the layers first ran, and what a whole pass needs.

    ``inference_bytes``: the largest sum of two consecutive results, all that inference must hold.
    ``training_bytes``: all results.  ``parameter_bytes``: the weights.  ``peak_bytes``: the most
    that is alive at any moment of the pass (weights, input, results, gradients; without the state
    of an optimiser), 0 where it was not predicted.
    """

    rows: list[LayerCost] = field(default_factory=list)
    timed: bool = True
    inference_bytes: int = 0
    training_bytes: int = 0
    parameter_bytes: int = 0
    peak_bytes: int = 0

    def total(self, column: str) -> float:
        """The sum of a numeric column."""
        return float(sum(getattr(row, column) for row in self.rows))

    def cells(self) -> list[tuple[str, ...]]:
        """The table as text cells, heading first, totals last; times only if there are any."""
        times = ("forward", "backward") if self.timed else ()
        heading = ("layer", "type", "output", "parameters", "multiply-adds", "activations", "kept")
        lines: list[tuple[str, ...]] = [(*heading, *times)]
        for row in self.rows:
            shape = "×".join(map(str, row.output_shape))
            lines.append((row.name, row.kind, shape, *self._numbers(row)))
        sums = {name: self.total(name) for name in _SUMMED}
        total = LayerCost("total", "", **sums)  # type: ignore[arg-type]
        return [*lines, ("total", "", "", *self._numbers(total))]

    def _numbers(self, row: LayerCost) -> tuple[str, ...]:
        seconds = (row.forward_seconds, row.backward_seconds) if self.timed else ()
        return (
            f"{row.parameters:,.0f}",
            f"{row.multiply_adds / 1e6:,.2f} M",
            megabytes(row.activation_bytes),
            megabytes(row.kept_bytes),
            *(f"{s * 1e3:,.2f} ms" for s in seconds),
        )

    def summary(self) -> list[tuple[str, str]]:
        """What a whole pass needs, as (what, how much)."""
        lines = [
            ("inference, results of two consecutive layers", megabytes(self.inference_bytes)),
            ("training, results of all layers", megabytes(self.training_bytes)),
            ("weights", megabytes(self.parameter_bytes)),
        ]
        if self.peak_bytes:
            lines.append(("most alive at any moment of this pass", megabytes(self.peak_bytes)))
        return lines

    def __str__(self) -> str:
        lines = self.cells()
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        table = [
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*table, *(f"{what}: {amount}" for what, amount in self.summary())])

    def frame(self) -> Any:
        """The rows as a pandas ``DataFrame``, plain numbers (bytes, seconds), one row a layer.

        Needs pandas: ``pip install "cnncore[explain]"``.
        """
        frame = require("pandas", "explain").DataFrame([asdict(row) for row in self.rows])
        return frame if self.timed else frame.drop(columns=["forward_seconds", "backward_seconds"])

    def html(self) -> str:
        """The table and the totals of a pass as HTML, for a page or a notebook."""
        heading, *lines = self.cells()

        def line(cells: tuple[str, ...], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

        body = "\n".join(line(cells, "td") for cells in lines)
        totals = "".join(
            f"<li>{html.escape(what)}: {html.escape(amount)}</li>"
            for what, amount in self.summary()
        )
        head = line(heading, "th")
        return f"<table><thead>{head}</thead>\n<tbody>{body}</tbody></table>\n<ul>{totals}</ul>"

    _repr_html_ = html


_SUMMED = (
    "parameters",
    "multiply_adds",
    "activation_bytes",
    "kept_bytes",
    "forward_seconds",
    "backward_seconds",
)


def megabytes(count: float) -> str:
    """Bytes as text, in millions.

    >>> megabytes(150 * 100 * 200 * 4)
    '12.00 MB'
    """
    return f"{count / MB:,.2f} MB"


class _Recorder:
    """The observer: charges each op to the innermost module running when it was called.

    ``outside``: whether ops that no module called (a loss) are charged to the whole.
    """

    def __init__(self, model: Module, table: CostTable, outside: bool) -> None:
        self.table, self.outside = table, outside
        self.names = {id(module): name for name, module in model.named_modules()}
        self.weights = {memory_owner(p.data) for p in model.parameters()}
        table.parameter_bytes = sum(int(p.data.nbytes) for p in model.parameters())
        self.stack: list[Module] = []
        self.rows: dict[str, LayerCost] = {}
        self.owner: dict[int, LayerCost] = {}  # op -> row, for its backward
        self.nodes: list[Function] = []  # keeps ids unique while we record
        self.kept: set[int] = set()
        self.last_result: int | None = None  # bytes
        self.started = 0.0
        self.inside_backward = False

    def __call__(self, event: Event) -> None:
        if event.kind == "enter_module":
            self.stack.append(event.subject)
        elif event.kind == "leave_module":
            self.stack.pop()
        elif event.kind == "before_backward":
            self.inside_backward, self.started = True, time.perf_counter()
        elif event.kind == "after_backward":
            self.inside_backward = False
            if id(event.subject) in self.owner:
                self.owner[id(event.subject)].backward_seconds += time.perf_counter() - self.started
        elif event.kind == "before_forward" and not self.inside_backward:
            self.started = time.perf_counter()
        elif event.kind == "after_forward" and not self.inside_backward:
            self._forward(event, time.perf_counter() - self.started)

    def _forward(self, event: Event, seconds: float) -> None:
        if not (self.stack or self.outside):
            return
        row = self._row()
        op, y = event.subject, event.outputs[0]
        row.forward_seconds += seconds
        row.output_shape = y.shape
        self._count_results(event, row)
        rule = MULTIPLY_ADDS.get(op.name)
        if rule is not None:
            row.multiply_adds += rule(event.inputs[0].shape, event.inputs[1].shape, y.shape)
        for array in op.kept_arrays():
            owner = memory_owner(array)
            if owner not in self.kept and owner not in self.weights:
                self.kept.add(owner)
                row.kept_bytes += int(array.nbytes)
        self.owner[id(op)] = row
        self.nodes.append(op)

    def _count_results(self, event: Event, row: LayerCost) -> None:
        inputs = [t for t in event.inputs if t is not None]
        seen = {memory_owner(t.data) for t in inputs}
        new = sum(int(y.data.nbytes) for y in event.outputs if memory_owner(y.data) not in seen)
        if new == 0 or seen <= self.weights:  # a view; or a weight transposed, say
            return
        if self.last_result is None:  # the input of the network
            self.last_result = int(inputs[0].data.nbytes)
        row.activation_bytes += new
        self.table.training_bytes += new
        self.table.inference_bytes = max(self.table.inference_bytes, self.last_result + new)
        self.last_result = new

    def _row(self) -> LayerCost:
        module = self.stack[-1] if self.stack else None
        name = self.names.get(id(module), "") if module is not None else ""
        if name not in self.rows:
            kind = "outside the layers" if module is None else type(module).__name__
            held = () if module is None else vars(module).values()
            own = sum(p.size for p in held if isinstance(p, Parameter))
            self.rows[name] = LayerCost(name or "(model)", kind, parameters=own)
            self.table.rows.append(self.rows[name])
        return self.rows[name]


@contextlib.contextmanager
def record_cost(model: Module, outside: bool = True) -> Iterator[CostTable]:
    """Watch whatever runs inside the block and fill a table, one row a layer.

    Kept bytes count each array once, at the layer that kept it first, and leave out the weights.
    ``outside``: count ops, too, that run outside all modules, such as a loss.
    """
    table = CostTable()
    recorder = _Recorder(model, table, outside)
    with observe(recorder):
        yield table
    recorder.nodes.clear()


def cost(
    model: Module,
    input_shape: Shape,
    batch: int = 1,
    backward: bool = True,
    timed: bool = False,
) -> CostTable:
    """The cost of a forward (and backward) pass on a batch ``(batch, *input_shape)``.

    Predicted from shapes alone, whatever the size: nothing is computed, and the model (its running
    statistics, too) is as before.  With ``timed`` the pass is really run, on random numbers, and
    rows have times (of the second run: the first one pays for memory that is reused later).

    Errors: networks whose shapes depend on values (those with non-maximum suppression inside
    ``forward``) can only be timed.

    >>> from cnncore.nn import Conv2d
    >>> table = cost(Conv2d(3, 200, 5, padding="same"), (3, 100, 150), batch=100)
    >>> table.rows[0].parameters, table.rows[0].multiply_adds, table.rows[0].activation_bytes
    (15200, 22500000000, 1200000000)
    """
    shape = (as_int("batch", batch, 0), *input_shape)
    dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    state = [(buffer, buffer.data.copy()) for buffer in model.buffers()]
    mode = contextlib.nullcontext() if backward else no_grad()
    try:
        with mode:
            return (_timed if timed else _predicted)(model, shape, dtype, backward)
    finally:
        for buffer, values in state:
            buffer.data[...] = values


def _timed(model: Module, shape: Shape, dtype: Any, backward: bool) -> CostTable:
    x = Tensor(np.random.default_rng(0).normal(size=shape).astype(dtype))

    def run() -> None:
        outputs = model(x)
        if backward and (total := total_of(outputs)).requires_grad:
            total.backward()
            model.zero_grad()

    run()
    with record_cost(model, outside=False) as table:
        run()
    return table


def _predicted(model: Module, shape: Shape, dtype: Any, backward: bool) -> CostTable:
    meter = MemoryMeter(model)
    with meter_shapes(meter), record_cost(model, outside=False) as table:
        try:
            meter.run_step(model, shape, dtype, backward)
        except NotImplementedError as error:
            raise ArgumentError("model", "shapes that do not depend on values", error) from error
    table.timed, table.peak_bytes = False, meter.peak
    return table
