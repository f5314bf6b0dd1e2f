"""A profile as text, JSON, a page, or a trace that Chrome and Perfetto draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cnncore.errors import require
from cnncore.profile.recorder import OpRow, Profile
from cnncore.report import Picture, Report

HEADING = (
    "op", "algorithm", "calls", "forward ms", "backward ms", "share", "in kernels", "µs Python",
    "GFLOP/s", "GB/s",
)  # fmt: skip


def cells(profile: Profile) -> list[tuple[str, ...]]:
    """The table, heading first."""
    whole = sum(row.total for row in profile.rows) or 1.0
    return [HEADING, *(_cells(row, whole) for row in profile.rows)]


def _cells(row: OpRow, whole: float) -> tuple[str, ...]:
    return (
        f"{row.name} {row.shape}".strip(),
        row.algorithm,
        f"{row.calls}",
        f"{row.forward * 1e3:.3f}",
        f"{row.backward * 1e3:.3f}" if row.backward_calls else "",
        f"{row.total / whole:.1%}",
        f"{row.kernels / row.total:.0%}" if row.total else "",
        f"{row.python * 1e6:.1f}" if row.calls else "",
        f"{row.flops / row.total / 1e9:.0f}" if row.flops and row.total else "",
        f"{row.nbytes / row.forward / 1e9:.1f}" if row.nbytes and row.forward else "",
    )


def summary(profile: Profile) -> list[str]:
    """The step in a few lines."""
    share = profile.kernel_seconds / profile.seconds if profile.seconds else 0.0
    return [
        f"a step takes {profile.seconds * 1e3:.3f} ms (median of {profile.steps}, unwatched; "
        f"{profile.watched * 1e3:.3f} ms watched)",
        f"in kernels {profile.kernel_seconds * 1e3:.3f} ms ({share:.0%}), in Python "
        f"{profile.python_seconds * 1e3:.3f} ms: {profile.python_per_op * 1e6:.1f} µs for each of "
        f"{profile.ops} ops",
    ]


def text(profile: Profile, limit: int | None = None) -> str:
    """Summary and table; ``limit`` rows at most."""
    lines = cells(profile)
    hidden = len(lines) - 1 - limit if limit is not None else 0
    if hidden > 0:
        lines = lines[: limit + 1] if limit is not None else lines
    table = _aligned(lines)
    more = [f"… and {hidden} more"] if hidden > 0 else []
    return "\n".join([*summary(profile), "", *table, *more])


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def to_json(profile: Profile, title: str, machine: str) -> dict[str, Any]:
    """Plain values; seconds, bytes, operations."""
    rows = [{**asdict(row), "python_per_call": row.python} for row in profile.rows]
    return {
        "schema": 1,
        "title": title,
        "machine": machine,
        "seconds": profile.seconds,
        "watched_seconds": profile.watched,
        "kernel_seconds": profile.kernel_seconds,
        "python_seconds": profile.python_seconds,
        "python_per_op": profile.python_per_op,
        "ops": profile.ops,
        "steps": profile.steps,
        "rows": rows,
        "kernels": {k: {"calls": n, "seconds": s} for k, (n, s) in profile.kernels.items()},
    }


def trace(profile: Profile) -> dict[str, Any]:
    """The last watched step in Chrome's trace format: ops above, the kernels they call below.

    Open it at ``chrome://tracing`` or in Perfetto.
    """
    lanes = {"forward": 1, "backward": 1, "kernel": 2}
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "ops"}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 2, "args": {"name": "kernels"}},
    ]
    for span in profile.spans:
        events.append({
            "ph": "X", "name": span.name, "cat": span.kind, "pid": 1, "tid": lanes[span.kind],
            "ts": span.start * 1e6, "dur": span.seconds * 1e6,
        })  # fmt: skip
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def page(profile: Profile, title: str, machine: str) -> Report:
    """A self-contained page: where the time goes as a picture, ops and kernels as tables."""
    report = Report(f"Profile of {title}", machine)
    caption = "A step by op: forward and backward, the part in kernels in full colour."
    report.add("Ops", *summary(profile), pictures=[Picture(draw(profile), caption)],
               table=cells(profile))  # fmt: skip
    lines = [("kernel", "calls", "ms", "share of the step")]
    for name, (calls, seconds) in sorted(profile.kernels.items(), key=lambda k: -k[1][1]):
        share = f"{seconds / profile.seconds:.1%}"
        lines.append((name, str(calls), f"{seconds * 1e3:.3f}", share))
    report.add("Kernels", table=lines)
    return report


def draw(profile: Profile, most: int = 15) -> Any:
    """Horizontal bars, the longest first."""
    pyplot = require("matplotlib.pyplot", "vision")
    rows = profile.rows[:most]
    figure, axes = pyplot.subplots(figsize=(10, 0.6 + 0.42 * len(rows)), layout="constrained")
    names = [" ".join(filter(None, (row.name, row.algorithm, row.shape))) for row in rows]
    places = range(len(rows))
    left = [0.0] * len(rows)
    for label, colour, values in (
        ("forward, kernels", "#2c6fbb", [row.forward_kernels for row in rows]),
        ("forward, Python", "#a9c8ea", [row.forward - row.forward_kernels for row in rows]),
        ("backward, kernels", "#c0392b", [row.backward_kernels for row in rows]),
        ("backward, Python", "#f0b4ad", [row.backward - row.backward_kernels for row in rows]),
    ):
        widths = [value * 1e3 for value in values]
        axes.barh(places, widths, left=left, color=colour, label=label)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.set_xlabel("ms a step (watched)")
    axes.legend(loc="lower right")
    return figure
