"""What Python costs an op: common ops on arrays so small that their arithmetic takes no time.

The time of such a call is everything around the arithmetic: arguments brought into form, checks,
the choice of a backend, the node of the graph, the result's tensor.  In a network the caches are
cold between ops and the same Python takes longer (``cnncore profile NETWORK`` shows how long);
these figures are its floor.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, grad, no_grad
from cnncore.geometry import as_int

ROUNDS = 7
# Of one kernel call each: what "a small op" means.  The others are made of several ops or kernels.
SMALL_OPS = ("add", "mul", "sum", "reshape", "relu", "tanh", "softmax", "max_pool2d")


@dataclass(frozen=True)
class OverheadRow:
    """Seconds of one call: recorded in a graph, under ``no_grad``, and of its backward pass."""

    name: str
    forward: float
    without_graph: float
    backward: float


def cases() -> dict[str, tuple[Callable[..., Any], list[Tensor]]]:
    """``{name: (op, its tensors)}``."""
    rng = np.random.default_rng(0)

    def leaf(*shape: int) -> Tensor:
        return Tensor(rng.normal(size=shape).astype(np.float32), requires_grad=True)

    x, plane = leaf(2, 3), leaf(1, 2, 4, 4)
    mean, variance = np.zeros(2, np.float32), np.ones(2, np.float32)
    return {
        "add": (ops.add, [x, leaf(2, 3)]),
        "mul": (ops.mul, [x, leaf(2, 3)]),
        "sum": (ops.sum, [x]),
        "reshape": (lambda x: ops.reshape(x, 3, 2), [x]),
        "relu": (ops.relu, [x]),
        "tanh": (ops.tanh, [x]),
        "softmax": (lambda x: ops.softmax(x, 1), [x]),
        "max_pool2d": (lambda x: ops.max_pool2d(x, 2), [plane]),
        "avg_pool2d": (lambda x: ops.avg_pool2d(x, 2), [plane]),
        "matmul": (ops.matmul, [x, leaf(3, 4)]),
        "linear": (ops.linear, [x, leaf(4, 3), leaf(4)]),
        "conv2d": (lambda x, w, b: ops.conv2d(x, w, b, 1, 1), [plane, leaf(2, 2, 3, 3), leaf(2)]),
        "batch_norm": (
            lambda x, w, b: ops.batch_norm(x, mean, variance, w, b, training=True),
            [plane, leaf(2), leaf(2)],
        ),
        "cross_entropy": (lambda x: ops.cross_entropy(x, np.array([0, 1])), [x]),
    }


def overhead(calls: int = 500) -> list[OverheadRow]:
    """The median of rounds of ``calls`` calls, op by op.

    >>> [row.name for row in overhead(calls=1)][:3]
    ['add', 'mul', 'sum']
    """
    as_int("calls", calls, 1)
    rows = []
    for name, (op, tensors) in cases().items():
        gradient = Tensor(np.ones_like(op(*tensors).data))

        def both(op: Any = op, tensors: Any = tensors, gradient: Tensor = gradient) -> None:
            grad(op(*tensors), tensors, gradient)

        forward = _median(lambda op=op, tensors=tensors: op(*tensors), calls)  # type: ignore[misc]
        with no_grad():
            plain = _median(lambda op=op, tensors=tensors: op(*tensors), calls)  # type: ignore[misc]
        rows.append(OverheadRow(name, forward, plain, max(0.0, _median(both, calls) - forward)))
    return rows


def _median(call: Callable[[], Any], calls: int) -> float:
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        found.append((time.perf_counter() - start) / calls)
    return statistics.median(found)


def overhead_text(rows: list[OverheadRow]) -> str:
    """A line an op in microseconds, and what a small op takes on average.

    >>> print(overhead_text([OverheadRow("add", 5e-6, 4e-6, 1e-5)]))
    op              forward µs  no_grad µs  backward µs
    add                   5.00        4.00        10.00
    a small op (add) takes 5.00 µs forward on average, 4.00 µs under no_grad
    """
    lines = [f"{'op':<14}{'forward µs':>12}{'no_grad µs':>12}{'backward µs':>13}"]
    for row in rows:
        times = (
            f"{row.forward * 1e6:12.2f}{row.without_graph * 1e6:12.2f}{row.backward * 1e6:13.2f}"
        )
        lines.append(f"{row.name:<14}{times}")
    small = [row for row in rows if row.name in SMALL_OPS]
    if small:
        forward = statistics.mean(row.forward for row in small) * 1e6
        plain = statistics.mean(row.without_graph for row in small) * 1e6
        names = ", ".join(row.name for row in small)
        lines.append(
            f"a small op ({names}) takes {forward:.2f} µs forward on average, "
            f"{plain:.2f} µs under no_grad"
        )
    return "\n".join(lines)
