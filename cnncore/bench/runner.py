"""Verify, then time: every contender on every problem, one result at a time.

Nothing is timed before its result has been compared with a float64 reference.  A wrong result is
refused and reported, whoever gave it; so is a kernel that writes into its arguments.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import cnncore
from cnncore.bench import convolution, operations, plugins
from cnncore.bench.measure import PAUSE, PAUSES, interleaved
from cnncore.bench.peers import Peer
from cnncore.bench.problem import Array, CannotError, Case, Contender, Problem
from cnncore.bench.results import CaseResult, Results, Row
from cnncore.bench.roof import measure_roof
from cnncore.errors import ArgumentError
from cnncore.inspect import machine
from cnncore.kernels import native

CONVOLUTIONS = ("conv2d", "conv_transpose2d")
UNSERVED = "does not serve this shape"
OPS = (*CONVOLUTIONS, *operations.OPERATIONS)


@dataclass(frozen=True)
class Settings:
    """How to run: ``algorithms`` may hold ``all``; ``threads`` None means as many as now."""

    algorithms: tuple[str, ...] = ("auto",)
    dtype: str = "float32"
    rounds: int = 20
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float64"):
            raise ArgumentError("dtype", "float32 or float64", repr(self.dtype))
        if self.rounds < 1:
            raise ArgumentError("rounds", "an integer >= 1", self.rounds)
        known = ("all", *cnncore.kernels.contract.CONV_ALGORITHMS)
        for name in self.algorithms:
            if name not in known:
                raise ArgumentError("algorithm", f"one of {', '.join(known)}", repr(name))


def make_problem(case: Case, dtype: Any = np.float32) -> Problem:
    """The arrays of a case."""
    if case.op not in OPS:
        raise ArgumentError("op", f"one of {', '.join(OPS)}", repr(case.op))
    family = convolution if case.op in CONVOLUTIONS else operations
    if case.direction not in family.DIRECTIONS:
        expected = f"one of {', '.join(family.DIRECTIONS)} for {case.op}"
        raise ArgumentError("direction", expected, repr(case.direction))
    problem: Problem = family.make(case, np.dtype(dtype))
    return problem


def start(settings: Settings, peers: Sequence[Peer], remarks: Sequence[str]) -> Results:
    """An empty table with the machine's limits measured."""
    threads = settings.threads or native.get_num_threads()
    native.set_num_threads(threads)
    return Results(
        cnncore.__version__,
        datetime.date.today().isoformat(),
        machine(),
        {"numpy": np.__version__, **{peer.name: peer.version for peer in peers}},
        {"rounds": settings.rounds, "threads": threads, "dtype": settings.dtype},
        measure_roof(settings.dtype),
        remarks=list(remarks),
    )


class Neighbours:
    """How much of the processors others use while we measure (Linux; elsewhere never a remark).

    Teams of threads suffer unequally from neighbours, so ratios of a busy machine mislead.
    """

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Seconds: used by all processes, used by this one, passed on all processors."""
        try:
            words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
        except OSError:
            return 0.0, 0.0, 0.0
        ticks = [float(word) / os.sysconf("SC_CLK_TCK") for word in words]
        idle, own = ticks[3] + ticks[4], os.times()  # idle, and idle waiting for a disk
        mine = own.user + own.system + own.children_user + own.children_system
        return sum(ticks) - idle, mine, sum(ticks)

    def remarks(self) -> list[str]:
        """A line if others used more than a twentieth of the processors."""
        used, mine, passed = (b - a for a, b in zip(self._before, self._now(), strict=True))
        share = (used - mine) / passed if passed > 0 else 0.0
        if share < 0.05:
            return []
        return [
            f"others used {share:.0%} of the processors meanwhile: ratios of these figures favour "
            "whoever copes better with that; repeat them on a quiet machine"
        ]


def run_case(
    case: Case,
    settings: Settings = Settings(),
    peers: Sequence[Peer] = (),
    suite: str = "",
    tick: Callable[[], Any] = lambda: None,
) -> CaseResult:
    """Verify and time all contenders on one case."""
    problem = make_problem(case, settings.dtype)
    reference = problem.reference()
    rows: list[Row] = []
    runs: dict[int, Contender] = {}
    for found in contenders(problem, settings, peers):
        row = found if isinstance(found, Row) else verify(problem, found, reference)
        if not row.note and isinstance(found, Contender):
            runs[len(rows)] = found
        rows.append(row)
    timings = interleaved(
        {str(i): contender.run for i, contender in runs.items()},
        settings.rounds,
        lambda i: pause_after(runs[int(i)]),
        tick=tick,
    )
    for i in runs:
        rows[i] = replace(rows[i], timing=timings[str(i)])
    return CaseResult(
        suite, problem.kind, problem.label, case.name, case.count, problem.flops, problem.nbytes,
        problem.reference_is, problem.allowed, tuple(rows),
    )  # fmt: skip


def pause_after(contender: Contender) -> float:
    """None after ours, whose threads sleep at once; the longest after a stranger's."""
    if contender.who == "ours":
        return 0.0
    return PAUSES.get(contender.name.split()[0], PAUSE) if contender.who == "peer" else PAUSE


def contenders(
    problem: Problem, settings: Settings, peers: Sequence[Peer]
) -> Iterator[Contender | Row]:
    """Ours by every algorithm asked for, those of users, those of peers (a Row: cannot)."""
    conv = problem.case.op in CONVOLUTIONS
    asked = settings.algorithms if conv else ("auto",)
    if "all" in asked:
        # A name that only chooses between others (winograd: its two forms) would be timed twice.
        every = problem.algorithms
        asked = tuple(a for a in every if not any(b.startswith(f"{a}_") for b in every))
    for algorithm in asked:
        if conv:
            ours = convolution.ours(problem, algorithm)
            picked = convolution.chosen(problem) if algorithm == "auto" else algorithm
            yield replace(ours, algorithm=f"auto ({picked})") if picked != algorithm else ours
        else:
            yield operations.ours(problem, "")
    for name, fn in plugins.registered(problem.kind).items():
        yield _user(problem, name, fn)
    for peer in peers:
        try:
            yield from peer.contenders(problem)
        except CannotError as error:
            yield Row(peer.name, "peer", note=str(error))


def _user(problem: Problem, name: str, fn: Callable[..., Any]) -> Contender:
    arrays, settings = tuple(problem.arrays.values()), dict(problem.settings)
    return Contender(name, "user", lambda: fn(*arrays, **settings))


def verify(problem: Problem, contender: Contender, reference: Array) -> Row:
    """A row with its error, or with the reason why it will not be timed."""
    row = Row(contender.name, contender.who, contender.algorithm)
    guarded = contender.who == "user"
    before = [a.copy() for a in problem.arrays.values()] if guarded else []
    try:
        got = np.asarray(contender.read(contender.run()))
    except ArgumentError as error:
        if contender.who == "ours" and error.argument == "algorithm":
            return replace(row, note=UNSERVED)
        if contender.who == "ours":
            raise
        return replace(row, note=f"refused: {error}", refused=True)
    except Exception as error:  # whatever a stranger's kernel raises
        if contender.who == "ours":
            raise
        note = f"{type(error).__name__}: {error}".splitlines()[0]
        guilty = contender.who == "user"
        return replace(row, note=f"refused: {note}" if guilty else note, refused=guilty)
    for name, old in zip(problem.arrays, before, strict=False):
        if not np.array_equal(old, problem.arrays[name], equal_nan=True):
            problem.arrays[name][...] = old
            return replace(row, note=f"refused: it wrote into its argument {name}", refused=True)
    off, where = deviation(got, reference)
    if off is None:
        return replace(row, note=f"refused: {where}", refused=True)
    if not off <= problem.allowed:
        note = (
            f"refused: deviates from {problem.reference_is} by {off:.1e} of its largest value at "
            f"{where} (allowed {problem.allowed:.0e})"
        )
        return replace(row, error=off, note=note, refused=True)
    return replace(row, error=off)


def deviation(got: Array, reference: Array) -> tuple[float | None, str]:
    """The largest deviation relative to the largest value, and where; None if shapes differ.

    >>> deviation(np.array([1.0, 2.5]), np.array([1.0, 2.0]))
    (0.25, '(1,)')
    """
    if got.shape != reference.shape:
        return None, f"expected shape {reference.shape}, got {got.shape}"
    if not got.size:
        return 0.0, ""
    difference = np.abs(np.asarray(got, np.float64) - reference)
    worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
    scale = float(np.abs(reference).max()) or 1.0
    place = tuple(int(i) for i in np.unravel_index(worst, got.shape))
    return float(difference.reshape(-1)[worst]) / scale, str(place)
