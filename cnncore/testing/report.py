"""What a gradient check found, in words."""

from __future__ import annotations

from dataclasses import dataclass, field

from cnncore.errors import CnncoreError
from cnncore.testing.differences import Sweep
from cnncore.testing.problem import Place

CORRECT = "correct"
WRONG = "wrong gradient"
KINK = "at a kink or tie"
INCONCLUSIVE = "inconclusive"
RANDOM = "not deterministic"

_ADVICE = {
    KINK: (
        "no derivative exists at this input, so nothing can be said about the gradient; "
        "try: inputs away from kinks and without equal values (cnncore.testing.strategies.spaced), "
        "or allow_kinks=True to accept any gradient between the two one-sided slopes"
    ),
    INCONCLUSIVE: (
        "the finite differences themselves are not accurate enough here; "
        "try: another input, a smaller problem, eps=..., or larger atol and rtol"
    ),
    RANDOM: "two calls with the same input differ; try: a fixed seed, or dropout switched off",
}


@dataclass(frozen=True)
class Entry:
    """One compared number: a Jacobian entry, or one element of the gradient of ``<v, output>``."""

    argument: Place
    output: Place | None  # None: a random combination of all outputs
    analytic: float
    numeric: float
    uncertainty: float  # of the numeric value
    tolerance: float
    left: float  # one-sided slopes
    right: float

    @property
    def error(self) -> float:
        """``|analytic − numeric|``."""
        return abs(self.analytic - self.numeric)

    @property
    def relative_error(self) -> float:
        """``|analytic − numeric| / max(|analytic|, |numeric|)``; 0 where both are 0."""
        largest = max(abs(self.analytic), abs(self.numeric))
        return self.error / largest if largest else 0.0

    def __str__(self) -> str:
        of = str(self.output) if self.output else "<v, outputs> (v random)"
        return (
            f"d {of} / d {self.argument}: analytic {self.analytic:.10g}, "
            f"numeric {self.numeric:.10g} (± {self.uncertainty:.1g}), "
            f"relative error {self.relative_error:.3g}, tolerance {self.tolerance:.2g}"
        )


@dataclass(frozen=True)
class Kink:
    """An element of an argument at which an output has no derivative."""

    argument: Place
    output: Place | None
    left: float
    right: float
    jump: bool  # the output itself leaps
    tied: tuple[Place, ...] = ()  # further elements at which the same output breaks

    def __str__(self) -> str:
        of = str(self.output) if self.output else "some output"
        if self.jump:
            what = f"{of} leaps when {self.argument} moves"
        else:
            what = f"{self.argument} sits on a kink of {of}: slope {self.left:.6g} to the left, "
            what += f"{self.right:.6g} to the right"
        if self.tied:
            what += f"; so do {', '.join(map(str, self.tied))} (a tie between them)"
        return what


@dataclass
class Report:
    """The result of a check; true when it passed.  ``str`` tells the story."""

    title: str
    verdict: str = CORRECT
    worst: Entry | None = None
    kinks: tuple[Kink, ...] = ()
    notes: list[str] = field(default_factory=list)
    directions: int = 0  # random directions compared
    entries: int = 0  # Jacobian entries compared
    sweep: Sweep | None = None  # steps tried for the worst entry, or for the first direction
    step: float = 0.0  # the one chosen
    show_sweep: bool = False

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong or undecided."""
        return self.verdict == CORRECT

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        did = f"{self.directions} random directions"
        if self.entries:
            did += f" and {self.entries} Jacobian entries"
        lines = [f"{self.title}: {self.verdict} ({did})"]
        if self.worst is not None and not self.passed:
            lines.append(f"  worst: {self.worst}")
        lines += [f"  {kink}" for kink in self.kinks]
        lines += [f"  {note}" for note in self.notes]
        if self.verdict in _ADVICE:
            lines.append(f"  {_ADVICE[self.verdict]}")
        if self.sweep is not None and self.show_sweep:
            lines.append(f"  steps tried (chosen {self.step:.2e}):")
            lines += [f"  {line}" for line in self.sweep.table().splitlines()]
        return "\n".join(lines)


class CheckError(CnncoreError, AssertionError):
    """A check of ``cnncore.testing`` failed; ``.report`` holds what was found."""

    def __init__(self, report: object) -> None:
        self.report = report
        super().__init__(str(report))
