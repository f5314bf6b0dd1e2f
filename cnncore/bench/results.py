"""What a run found, as objects and as JSON.

The JSON has ``schema`` (1), ``cnncore``, ``date``, ``machine``, ``versions``, ``settings``,
``roof``, ``cases`` and ``networks``; ``docs/benchmarks.md`` explains every field.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cnncore.bench.measure import Timing
from cnncore.bench.roof import Roof
from cnncore.errors import ArgumentError
from cnncore.io import atomic_write

SCHEMA = 1


@dataclass(frozen=True)
class Row:
    """One contender on one problem.

    ``error``: its largest deviation from the reference, relative to the largest value.  ``timing``
    is None where it was not timed; ``note`` says why (refused, or cannot serve the problem).
    """

    name: str
    who: str  # ours, user, peer
    algorithm: str = ""
    error: float | None = None
    timing: Timing | None = None
    note: str = ""
    refused: bool = False

    @property
    def seconds(self) -> float:
        """The median."""
        assert self.timing is not None
        return self.timing.median

    @property
    def title(self) -> str:
        """Name and algorithm."""
        return f"{self.name} {self.algorithm}".strip()


@dataclass(frozen=True)
class CaseResult:
    """All contenders on one problem."""

    suite: str
    kind: str
    label: str
    name: str
    count: int
    flops: float
    nbytes: float
    reference: str
    allowed: float
    rows: tuple[Row, ...]

    @property
    def timed(self) -> list[Row]:
        """The rows with a time."""
        return [row for row in self.rows if row.timing is not None]

    @property
    def ours(self) -> Row | None:
        """What ``auto`` did; else our fastest."""
        mine = [row for row in self.timed if row.who == "ours"]
        automatic = [row for row in mine if row.algorithm.split()[0:1] in ([], ["auto"])]
        return min(automatic or mine, key=lambda row: row.seconds, default=None)

    @property
    def best_peer(self) -> Row | None:
        """The fastest peer, in whichever of its formats."""
        return min(
            (row for row in self.timed if row.who == "peer"),
            key=lambda row: row.seconds,
            default=None,
        )

    @property
    def ratio(self) -> float | None:
        """Time of the best peer over ours: above 1, we are faster."""
        peer, ours = self.best_peer, self.ours
        return None if peer is None or ours is None else peer.seconds / ours.seconds

    @property
    def refusals(self) -> list[Row]:
        """Rows whose results were wrong."""
        return [row for row in self.rows if row.refused]

    def ratio_of(self, row: Row) -> float | None:
        """Time of the best peer over that of a row."""
        peer = self.best_peer
        return None if peer is None or row.timing is None else peer.seconds / row.seconds


@dataclass(frozen=True)
class NetworkResult:
    """A whole network: ``job`` is inference or training; seconds as timings, bytes of a step."""

    network: str
    job: str
    detail: str
    rows: tuple[Row, ...]
    peak_bytes: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``resnet50, training``"""
        return f"{self.network}, {self.job}"

    @property
    def ratio(self) -> float | None:
        """Time of the best peer over ours."""
        ours = [r for r in self.rows if r.who == "ours" and r.timing]
        peers = [r.seconds for r in self.rows if r.who == "peer" and r.timing]
        return min(peers) / ours[0].seconds if ours and peers else None


@dataclass
class Results:
    """A whole run."""

    cnncore: str
    date: str
    machine: str
    versions: dict[str, str]
    settings: dict[str, Any]
    roof: Roof
    cases: list[CaseResult] = field(default_factory=list)
    networks: list[NetworkResult] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # peers left out, and why

    @property
    def refusals(self) -> list[Row]:
        """All wrong results."""
        kernels = [row for case in self.cases for row in case.refusals]
        return kernels + [row for net in self.networks for row in net.rows if row.refused]

    def suites(self) -> list[str]:
        """Names, in the order in which they ran."""
        return list(dict.fromkeys(case.suite for case in self.cases))

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, with the figures that follow from others written out, too."""
        plain = {"schema": SCHEMA, **asdict(self)}
        for written, case in zip(plain["cases"], self.cases, strict=True):
            written["ratio"] = case.ratio
            peer = case.best_peer
            written["best_peer"] = None if peer is None else peer.title
            for line, row in zip(written["rows"], case.rows, strict=True):
                line.update(rates(case, row, self.roof))
        return plain

    def write(self, path: Path) -> None:
        """As a JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write((json.dumps(self.to_json(), indent=1) + "\n").encode())


def rates(case: CaseResult, row: Row, roof: Roof) -> dict[str, float | None]:
    """What follows from a time: operations and bytes a second, and shares of the machine's best.

    ``peak_share``: of the multiply-add peak (an algorithm that saves operations may pass 1);
    ``roof_share``: the least time by the roofline over the time taken (above 1 where the arrays
    were in a cache).
    """
    if row.timing is None:
        return {"flops": None, "bandwidth": None, "peak_share": None, "roof_share": None}
    seconds = row.seconds
    return {
        "flops": case.flops / seconds,
        "bandwidth": case.nbytes / seconds,
        "peak_share": case.flops / seconds / roof.flops,
        "roof_share": roof.seconds(case.flops, case.nbytes) / seconds,
    }


def join(parts: Sequence[Results]) -> Results:
    """One result of several runs on one machine with the same settings, a suite at a time, say.

    A case measured again replaces the earlier one; limits of the machine are the best seen.
    """
    first = parts[0]
    for part in parts[1:]:
        for name in ("cnncore", "machine", "settings"):
            mine, other = getattr(first, name), getattr(part, name)
            if mine != other:
                raise ArgumentError("join", f"runs with the same {name}, {mine}", other)
    best = {k: max(getattr(p.roof, k) for p in parts) for k in ("flops", "bandwidth")}
    near = max(part.roof.cache_bandwidth for part in parts)
    cases = {(c.suite, c.label, c.name): c for part in parts for c in part.cases}
    networks = {(n.label, n.detail): n for part in parts for n in part.networks}
    return Results(
        first.cnncore,
        max(part.date for part in parts),
        first.machine,
        {k: v for part in parts for k, v in part.versions.items()},
        first.settings,
        Roof(**best, cache_bandwidth=near, method=first.roof.method),
        list(cases.values()),
        list(networks.values()),
        list(dict.fromkeys(remark for part in parts for remark in part.remarks)),
    )


def geometric_mean(values: Iterable[float | None]) -> float | None:
    """Of those that are there; None of none."""
    present = [value for value in values if value is not None]
    return statistics.geometric_mean(present) if present else None


def load(path: str | Path) -> Results:
    """Read a file of ``Results.write``; anything else is refused."""
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentError("file", "a JSON file of cnncore bench", f"{path} ({error})") from None
    found = plain.get("schema") if isinstance(plain, dict) else None
    if found != SCHEMA:
        raise ArgumentError("file", f"results of schema {SCHEMA}", f"{path} with schema {found}")
    try:
        return Results(
            **{k: plain[k] for k in ("cnncore", "date", "machine", "versions", "settings")},
            roof=Roof(**plain["roof"]),
            cases=[_case(case) for case in plain["cases"]],
            networks=[_network(network) for network in plain["networks"]],
            remarks=plain["remarks"],
        )
    except (KeyError, TypeError) as error:
        raise ArgumentError("file", f"results of schema {SCHEMA}", f"{path}: {error!r}") from None


def _rows(plain: Any) -> tuple[Row, ...]:
    names = ("name", "who", "algorithm", "error", "note", "refused")
    return tuple(
        Row(
            **{k: row[k] for k in names},
            timing=None if row["timing"] is None else Timing(**row["timing"]),
        )
        for row in plain
    )


def _case(plain: dict[str, Any]) -> CaseResult:
    more = {k: v for k, v in plain.items() if k not in ("rows", "ratio", "best_peer")}
    return CaseResult(**more, rows=_rows(plain["rows"]))


def _network(plain: dict[str, Any]) -> NetworkResult:
    return NetworkResult(**{**plain, "rows": _rows(plain["rows"])})
