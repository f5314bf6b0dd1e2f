"""What every layer costs: shapes, parameters, multiply-adds, memory kept for backward, time.

The numbers come from watching one real run through the event stream; nothing is estimated from the
layer's type except multiply-adds, whose rule per op is the table below.

Letters: ``N C H W`` input, ``O`` output channels, ``KH KW`` kernel, ``OH OW`` output plane.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from cnncore.autograd import Event, Function, Tensor, no_grad, observe
from cnncore.autograd.graph import memory_owner
from cnncore.nn import Module, Parameter

Shape = tuple[int, ...]


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
}


@dataclass
class LayerCost:
    """One row: a module that ran ops of its own (not those of its children)."""

    name: str
    kind: str
    output_shape: Shape = ()
    parameters: int = 0
    multiply_adds: int = 0
    output_bytes: int = 0
    kept_bytes: int = 0
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0


@dataclass
class CostTable:
    """Rows in the order in which the layers first ran."""

    rows: list[LayerCost] = field(default_factory=list)

    def total(self, column: str) -> float:
        """The sum of a numeric column."""
        return float(sum(getattr(row, column) for row in self.rows))

    def cells(self) -> list[tuple[str, ...]]:
        """The table as text cells, heading first, totals last."""
        heading = (
            "layer",
            "type",
            "output",
            "parameters",
            "multiply-adds",
            "kept",
            "forward",
            "backward",
        )
        lines = [heading]
        for row in self.rows:
            shape = "×".join(map(str, row.output_shape))
            lines.append((row.name, row.kind, shape, *_numbers(row)))
        total = LayerCost(
            "total",
            "",
            parameters=int(self.total("parameters")),
            multiply_adds=int(self.total("multiply_adds")),
            kept_bytes=int(self.total("kept_bytes")),
            forward_seconds=self.total("forward_seconds"),
            backward_seconds=self.total("backward_seconds"),
        )
        return [*lines, ("total", "", "", *_numbers(total))]

    def __str__(self) -> str:
        lines = self.cells()
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )


def _numbers(row: LayerCost) -> tuple[str, str, str, str, str]:
    return (
        f"{row.parameters:,}",
        f"{row.multiply_adds / 1e6:,.2f} M",
        f"{row.kept_bytes / 2**20:,.2f} MiB",
        f"{row.forward_seconds * 1e3:,.2f} ms",
        f"{row.backward_seconds * 1e3:,.2f} ms",
    )


class _Recorder:
    """The observer: charges each op to the innermost module running when it was called."""

    def __init__(self, model: Module, table: CostTable) -> None:
        self.table = table
        self.names = {id(module): name for name, module in model.named_modules()}
        self.weights = {memory_owner(p.data) for p in model.parameters()}
        self.stack: list[Module] = []
        self.rows: dict[str, LayerCost] = {}
        self.owner: dict[int, LayerCost] = {}  # op -> row, for its backward
        self.nodes: list[Function] = []  # keeps ids unique while we record
        self.kept: set[int] = set()
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
        row = self._row()
        op, y = event.subject, event.outputs[0]
        row.forward_seconds += seconds
        row.output_shape = y.shape
        row.output_bytes += sum(int(out.data.nbytes) for out in event.outputs)
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
def record_cost(model: Module) -> Iterator[CostTable]:
    """Watch whatever runs inside the block and fill a table, one row a layer.

    Kept bytes count each array once, at the layer that kept it first, and leave out the weights.
    """
    table = CostTable()
    recorder = _Recorder(model, table)
    with observe(recorder):
        yield table
    recorder.nodes.clear()


def cost(model: Module, input_shape: Shape, batch: int = 1, backward: bool = True) -> CostTable:
    """The cost of one forward (and backward) pass on random input ``(batch, *input_shape)``.

    The times are of the second run: the first one pays for memory that is reused later.
    """
    x = Tensor(np.random.default_rng(0).normal(size=(batch, *input_shape)).astype(np.float32))

    def run() -> None:
        y = model(x)
        if backward:
            y.sum().backward()
            model.zero_grad()

    with contextlib.nullcontext() if backward else no_grad():
        run()
        with record_cost(model) as table:
            run()
    return table
