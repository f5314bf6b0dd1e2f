"""Has anything become slower?  Two runs compared by ratio, not by seconds.

Seconds depend on who else uses the machine; the ratio to a peer timed in turns with us, much less.
Where a case has no peer in both runs, the ratio to the roof of its own run stands in.

A case has become slower only if both hold: its ratio fell by more than ``threshold``, and the two
ranges that the quartiles allow (from the peer's fast quartile over our slow one, to the opposite)
do not touch.  The first alone would report noise, the second alone every tiny change of a quiet
machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnncore.bench.measure import Timing
from cnncore.bench.results import CaseResult, NetworkResult, Results

THRESHOLD = 0.1


@dataclass(frozen=True)
class Span:
    """A ratio, and the range that the quartiles allow."""

    low: float
    middle: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True)
class Change:
    """One case in both runs; ``verdict``: slower, faster or the same."""

    label: str
    against: str  # what the ratios are to
    old: Span
    new: Span
    verdict: str

    def __str__(self) -> str:
        factor = self.new.middle / self.old.middle
        return (
            f"{self.verdict:8} {self.label}: ratio to {self.against} {self.old} → {self.new}, "
            f"×{factor:.2f}"
        )


@dataclass(frozen=True)
class Comparison:
    """All cases that both runs have, and those that only one has."""

    changes: tuple[Change, ...]
    missing: tuple[str, ...]  # in the new run
    added: tuple[str, ...]
    remarks: tuple[str, ...]
    threshold: float

    @property
    def slower(self) -> list[Change]:
        """The regressions."""
        return [c for c in self.changes if c.verdict == "slower"]

    def lines(self) -> list[str]:
        """For people: changes first, then what could not be compared, then the count."""
        shown = [str(c) for c in self.changes if c.verdict != "same"]
        if self.missing:
            shown.append(f"not measured this time: {', '.join(self.missing)}")
        if self.added:
            shown.append(f"measured for the first time: {', '.join(self.added)}")
        shown += self.remarks
        shown.append(
            f"{len(self.changes)} compared, {len(self.slower)} slower by more than "
            f"{self.threshold:.0%} with ranges of quartiles apart"
        )
        return shown


def compare(old: Results, new: Results, threshold: float = THRESHOLD) -> Comparison:
    """What changed from ``old`` to ``new``."""
    before, after = _measured(old), _measured(new)
    changes = []
    for key in before.keys() & after.keys():
        peers = "peer" in before[key] and "peer" in after[key]
        against = "peer" if peers else "roof"
        if against not in before[key] or against not in after[key]:
            continue
        spans = before[key][against], after[key][against]
        name = "the best peer" if peers else "the roof"
        changes.append(Change(key, name, *spans, _verdict(*spans, threshold)))
    changes.sort(key=lambda change: change.new.middle / change.old.middle)
    remarks = [
        f"{what} differ: {a} then, {b} now; ratios may not be comparable"
        for what, a, b in (
            ("machines", old.machine, new.machine),
            ("settings", old.settings, new.settings),
        )
        if a != b
    ]
    return Comparison(
        tuple(changes),
        tuple(key for key in before if key not in after),
        tuple(key for key in after if key not in before),
        tuple(remarks),
        threshold,
    )


def _verdict(old: Span, new: Span, threshold: float) -> str:
    if new.middle < old.middle * (1 - threshold) and new.high < old.low:
        return "slower"
    if new.middle * (1 - threshold) > old.middle and new.low > old.high:
        return "faster"
    return "same"


def _measured(results: Results) -> dict[str, dict[str, Span]]:
    """``{label: {"peer": span, "roof": span}}`` of what we were timed on."""
    found: dict[str, dict[str, Span]] = {}
    for case in results.cases:
        ours, peer = case.ours, case.best_peer
        if ours is None or ours.timing is None:
            continue
        least = results.roof.seconds(case.flops, case.nbytes)
        found[_key(case)] = {"roof": _span(Timing(least, least, least, 1), ours.timing)}
        if peer is not None and peer.timing is not None:
            found[_key(case)]["peer"] = _span(peer.timing, ours.timing)
    for network in results.networks:
        mine = [r.timing for r in network.rows if r.who == "ours" and r.timing]
        theirs = [r.timing for r in network.rows if r.who == "peer" and r.timing]
        if mine and theirs:
            best = min(theirs, key=lambda timing: timing.median)
            found[_network_key(network)] = {"peer": _span(best, mine[0])}
    return found


def _key(case: CaseResult) -> str:
    return case.label


def _network_key(network: NetworkResult) -> str:
    return f"{network.label}, {network.detail}"


def _span(peer: Timing, ours: Timing) -> Span:
    return Span(peer.q1 / ours.q3, peer.median / ours.median, peer.q3 / ours.q1)
