"""What a compiled network does, step by step, and the memory it takes, as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cnncore.inference.plan import Node, Plan
from cnncore.kernels import native


@dataclass(frozen=True)
class StepReport:
    """One step: the ops it does, shapes in and out, the layer."""

    parts: tuple[str, ...]
    source: tuple[int, ...]
    target: tuple[int, ...]
    layers: tuple[str, ...]

    def __str__(self) -> str:
        shapes = " -> ".join("×".join(map(str, shape)) for shape in (self.source, self.target))
        layers = f"  ({', '.join(self.layers)})" if self.layers else ""
        return f"{' + '.join(self.parts)}  {shapes}{layers}"

    @staticmethod
    def of(node: Node) -> StepReport:
        """What a node says of itself."""
        source = node.inputs[0].shape if node.inputs else ()
        return StepReport(tuple(node.parts), source, node.output.shape, tuple(node.layers))


@dataclass(frozen=True)
class Report:
    """``ops``: before; ``steps``: after.  Memory in bytes: ``peak_before`` and ``peak_after`` are
    what a run took from the memory pool beside the weights (None where that cannot be measured),
    ``buffer_bytes`` of the latter is planned, ``weight_bytes`` are packed weights."""

    ops: int
    steps: tuple[StepReport, ...]
    passes: dict[str, int]
    peak_before: int | None
    peak_after: int | None
    buffer_bytes: int
    weight_bytes: int

    @staticmethod
    def of(
        plan: Plan,
        ops: int,
        passes: dict[str, int],
        peak: tuple[int | None, int | None],
        buffer_bytes: int,
        weight_bytes: int,
    ) -> Report:
        """Gather it."""
        steps = tuple(StepReport.of(node) for node in plan.nodes)
        before, after = peak
        if after is not None:
            after += buffer_bytes  # taken when the plan was made
        return Report(ops, steps, passes, before, after, buffer_bytes, weight_bytes)

    def __str__(self) -> str:
        lines = [f"{self.ops} ops -> {len(self.steps)} steps"]
        lines += [f"  {count} {what}" for what, count in self.passes.items() if count]
        lines += [f"packed weights: {_mb(self.weight_bytes)}"]
        lines += [f"planned buffers: {_mb(self.buffer_bytes)}"]
        if self.peak_before is not None and self.peak_after is not None:
            lines.append(
                f"memory of a run at its peak: {_mb(self.peak_before)} before, "
                f"{_mb(self.peak_after)} after"
            )
        lines += [f"  {i:3d}  {step}" for i, step in enumerate(self.steps)]
        return "\n".join(lines)


def _mb(count: int) -> str:
    return f"{count / 1e6:,.2f} MB"


def measured(run: Callable[[], Any]) -> int | None:
    """The most that ``run`` takes from the memory pool; None without a pool."""
    run()
    stats = native.memory_stats()
    if not stats.get("enabled"):
        return None
    before = stats["in_use"]
    native.reset_memory_peak()
    run()
    return native.memory_stats()["peak"] - before
