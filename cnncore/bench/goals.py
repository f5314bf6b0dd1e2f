"""What the kernels are meant to reach beside their peers, and what a run found of it.

A goal is a ratio of times, the peer's best format over ours, of all cases that its words describe;
of memory, the peer's bytes over ours.  A case that several suites have counts once.  Goals are left
out where a kind of their cases was not run.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from cnncore.bench.results import CaseResult, NetworkResult, Results


@dataclass(frozen=True)
class Goal:
    """``least``: that the ratio should be.

    ``kinds`` and ``label`` (a pattern somewhere in it) say which cases; ``suite``: of these only.
    ``floor``: below which no single case should be.  ``layers``: the ratio is that of the sums over
    a network's layers instead of the geometric mean.
    """

    what: str
    least: float
    kinds: tuple[str, ...]
    label: str = ""
    suite: str = ""
    peer: str = "torch"
    floor: float | None = None
    layers: bool = False


@dataclass(frozen=True)
class Finding:
    """A goal and what was measured: ``ratio`` over all, the lowest of one case, how many."""

    what: str
    least: float
    peer: str
    ratio: float
    lowest: float
    count: int
    floor: float | None = None

    @property
    def reached(self) -> bool:
        """Over all, and in every single case."""
        return self.ratio >= self.least and self.lowest >= (self.floor or 0.0)


CONV, CONV_GRADIENTS = ("conv2d",), ("conv2d.input", "conv2d.weight")
UP = ("conv_transpose2d",)
UP_GRADIENTS = ("conv_transpose2d.input", "conv_transpose2d.weight")
PLAIN = r"3×3$"  # stride 1, neither dilated nor depthwise

GOALS = (
    Goal("3×3 stride 1", 2.1, CONV, PLAIN),
    Goal("3×3 stride 1, input gradient", 2.0, ("conv2d.input",), PLAIN),
    Goal("3×3 stride 1, weight gradient", 2.4, ("conv2d.weight",), PLAIN),
    Goal("1×1", 1.0, CONV, r"1×1$", floor=0.9),
    Goal("stem and stride 2", 1.0, CONV, r"s2$", floor=0.9),
    Goal("depthwise", 1.1, CONV, "depthwise"),
    Goal("depthwise, gradients", 1.1, CONV_GRADIENTS, "depthwise"),
    Goal("all convolutions of ResNet-50", 1.4, CONV, suite="resnet50", layers=True),
    Goal(
        *("all convolutions of ResNet-50, with gradients", 1.5, (*CONV, *CONV_GRADIENTS)),
        suite="resnet50",
        layers=True,
    ),
    Goal("transposed convolution", 1.8, UP),
    Goal("transposed convolution, gradients", 1.4, UP_GRADIENTS),
    Goal("max pool with indices, unpool", 1.4, ("max_pool2d", "max_unpool2d")),
    Goal("max pool with indices", 10.0, ("max_pool2d",), peer="torch NCHW"),
    Goal("RoI align", 3.0, ("roi_align",), peer="onnxruntime"),
    Goal("RoI align and its gradient", 20.0, ("roi_align", "roi_align.backward"), peer="numpy"),
    Goal("SGEMM", 1.8, ("matmul",), suite="gemm", peer="numpy"),
)
STEPS = {"unet": 1.8, "vgg16": 1.8, "resnet50": 1.4, "mobilenet_v2": 1.1, "lenet5": 1.0}


def seconds(case: CaseResult, name: str) -> float | None:
    """Of the fastest contender whose name begins so; ours is the case's own choice."""
    if name == "cnncore":
        return None if case.ours is None else case.ours.seconds
    return min((row.seconds for row in case.timed if row.name.startswith(name)), default=None)


def findings(results: Results) -> list[Finding]:
    """Every goal that this run says something about."""
    found = [_of_cases(goal, results.cases) for goal in GOALS]
    for network in results.networks:
        if network.job == "training":
            found += [_of_step(network), _of_memory(network)]
    return [finding for finding in found if finding is not None]


def _of_cases(goal: Goal, cases: Iterable[CaseResult]) -> Finding | None:
    described = {
        case.label: case
        for case in cases
        if case.kind in goal.kinds
        and goal.suite in ("", case.suite)
        and re.search(goal.label, case.label)
    }
    measured = [
        (case, ours, theirs)
        for case in described.values()
        if (ours := seconds(case, "cnncore")) and (theirs := seconds(case, goal.peer))
    ]
    if {case.kind for case, _, _ in measured} != set(goal.kinds):
        return None
    ratios = [theirs / ours for _, ours, theirs in measured]
    if goal.layers:
        ratio = sum(c.count * theirs for c, _, theirs in measured) / sum(
            c.count * ours for c, ours, _ in measured
        )
    else:
        ratio = statistics.geometric_mean(ratios)
    return Finding(goal.what, goal.least, goal.peer, ratio, min(ratios), len(ratios), goal.floor)


def _of_step(network: NetworkResult) -> Finding | None:
    if network.ratio is None or network.network not in STEPS:
        return None
    what, least = f"training step, {network.network}", STEPS[network.network]
    return Finding(what, least, "torch", network.ratio, network.ratio, 1)


def _of_memory(network: NetworkResult) -> Finding | None:
    peaks = network.peak_bytes
    others = [value for name, value in peaks.items() if name.startswith("torch")]
    if "cnncore" not in peaks or not others:
        return None
    ratio = min(others) / peaks["cnncore"]
    return Finding(f"peak memory of a step, {network.network}", 1.0, "torch", ratio, ratio, 1)


def goals_table(results: Results) -> list[str]:
    """Markdown: asked, measured (bold where reached), the lowest of a single case."""
    lines = [
        "| goal | peer | at least | measured | lowest | cases |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for f in findings(results):
        least = f"{f.least:g}" if f.floor is None else f"{f.least:g}, each {f.floor:g}"
        ratio = f"**{f.ratio:.2f}**" if f.reached else f"{f.ratio:.2f}"
        lines.append(f"| {f.what} | {f.peer} | {least} | {ratio} | {f.lowest:.2f} | {f.count} |")
    return lines
