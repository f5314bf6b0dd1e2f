"""How long each step of a compiled network takes, and how much arithmetic it does in that time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cnncore.inference.layout import BlockedInverted
from cnncore.inference.plan import Convolution, Node
from cnncore.inference.report import StepReport


@dataclass(frozen=True)
class StepTime:
    """One step: the median of its seconds, and its multiply-adds (0 where it has no weights)."""

    step: StepReport
    seconds: float
    multiply_adds: int

    @property
    def rate(self) -> float:
        """Thousand million operations a second, a multiply-add counted as two."""
        return 2e-9 * self.multiply_adds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Profile:
    """The steps of a run, in the order in which they run; as text, the slowest come first.

    >>> step = StepReport(("Relu",), (1, 2), (1, 2), ("act",))
    >>> print(Profile((StepTime(step, 0.001, 0),)))
    1 steps, 1.000 ms
          ms  GFLOP/s  step
       1.000              0  Relu  1×2 -> 1×2  (act)
    """

    steps: tuple[StepTime, ...]

    @property
    def seconds(self) -> float:
        """Of all steps together."""
        return math.fsum(step.seconds for step in self.steps)

    def __str__(self) -> str:
        lines = [f"{len(self.steps)} steps, {self.seconds * 1e3:.3f} ms", "      ms  GFLOP/s  step"]
        for i in sorted(range(len(self.steps)), key=lambda i: -self.steps[i].seconds):
            time = self.steps[i]
            rate = f"{time.rate:7.1f}" if time.multiply_adds else " " * 7
            lines.append(f"{time.seconds * 1e3:8.3f}  {rate}  {i:4d}  {time.step}")
        return "\n".join(lines)


def multiply_adds(node: Node) -> int:
    """Of a step's convolutions; 0 where there are none."""
    if isinstance(node.work, BlockedInverted):
        work = node.work
        source = math.prod(node.inputs[0].shape[2:])
        target = math.prod(node.output.shape[2:])
        total = target * work.filter.weight.size
        total += 0 if work.expand is None else source * work.expand.weight.size
        total += 0 if work.project is None else target * work.project.weight.size
        return int(node.output.shape[0] * total)
    convolution = getattr(node.work, "work", node.work)
    if not isinstance(convolution, Convolution):
        return 0
    # Every output pixel of a convolution, every input pixel of a transposed one, meets all taps.
    pixels = node.inputs[0] if convolution.size is not None else node.output
    images, _, *plane = pixels.shape
    return int(images * math.prod(plane) * convolution.weight.size)
