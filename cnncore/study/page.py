"""Results as a table, as sentences, as a page with figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cnncore
from cnncore.errors import require
from cnncore.io import atomic_write
from cnncore.study.figures import draw_bars
from cnncore.study.results import Results

ENOUGH = 3  # seeds; fewer say little about spread


def cells(results: Results) -> list[list[str]]:
    """A line a condition, heading first: the mean over the seeds, in brackets least and most."""
    measures = results.experiment.measures
    table = [["", *measures]]
    for condition in results.experiment.conditions:
        row = [condition]
        for measure, style in measures.items():
            spread = results.spread(condition, measure)
            if spread is None:
                row.append("–")
                continue
            low, mean, high = (
                _plain(value, style) for value in (spread.least, spread.mean, spread.most)
            )
            row.append(mean if low == high else f"{mean} ({low} … {high})")
        table.append(row)
    return table


def _plain(value: float, style: str) -> str:
    text = format(value, style)
    return text.replace("-", "−") if text.strip("-0.,e+%") else text.replace("-0", "0")


def text_table(table: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def markdown_table(table: Sequence[Sequence[str]]) -> str:
    """The same for a page."""
    heading, *rows = table
    marks = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, marks, *rows))


def verdict(results: Results) -> list[str]:
    """Each expectation beside what was measured; a claim holds if it does in every seed.

    Fewer than ``ENOUGH`` seeds decide nothing.
    """
    lines = []
    for expectation in results.experiment.expected:
        found = results.differences(expectation)
        if not found:
            continue
        style = results.experiment.measures[expectation.measure]
        signed = f"+{style}" if style[0] not in "+-" else style
        larger = sum(difference > 0 for difference in found)
        word = "as claimed" if larger == len(found) else "undecided"
        if all(difference <= 0 for difference in found):
            word = "not as claimed"
        if len(found) < ENOUGH:
            word = "too few seeds"
        mean = sum(found) / len(found)
        span = f"{_plain(min(found), signed)} … {_plain(max(found), signed)}"
        lines.append(
            f"{word}: {expectation.measure}, {expectation.better} minus {expectation.worse}: "
            f"{_plain(mean, signed)} ({span}), larger in {larger} of {len(found)} seeds"
        )
    conclude = results.experiment.conclude
    return [*lines, *(conclude(results) if conclude is not None and results.runs else ())]


def section(results: Results, picture: str) -> str:
    """One experiment as Markdown; ``picture``: the address of its figure."""
    experiment = results.experiment
    parts = [
        f"## {experiment.title}",
        f"**Claim.** {experiment.claim} ({experiment.source})",
        *([experiment.method] if experiment.method else []),
        markdown_table(cells(results)),
        "\n".join(f"- {line}." for line in verdict(results)),
        f"![{experiment.title}]({picture})",
        _provenance(results),
    ]
    return "\n\n".join(part for part in parts if part)


def _provenance(results: Results) -> str:
    runs = results.runs
    count = len(results.seeds)
    words = f"{count} seed{'s' * (count != 1)}"
    if count < ENOUGH:
        words += f" (fewer than {ENOUGH}: no word on spread)"
    settings = ", ".join(f"{k} {v}" for k, v in results.experiment.settings.items())
    machines = "; ".join(sorted({run.machine for run in runs}))
    days = sorted({run.date[:10] for run in runs})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return (
        f"Mean, in brackets least and most, over {words}; {len(runs)} runs in "
        f"{sum(run.seconds for run in runs):.0f} s on {machines}, {when}. Settings: {settings}."
    )


def draw(results: Results) -> Any:
    """The experiment's figure (matplotlib)."""
    experiment = results.experiment
    return experiment.draw(results) if experiment.draw is not None else draw_bars(results)


def write_page(study: str, all_results: Mapping[str, Results], folder: Path) -> Path:
    """``folder/STUDY.md`` with a PNG an experiment, of all that have runs; its path."""
    sections = []
    for name, results in all_results.items():
        if not results.runs:
            continue
        figure = draw(results)
        with atomic_write(folder / f"{name}.png") as file:
            figure.savefig(file, format="png", dpi=80)
        require("matplotlib.pyplot", "vision").close(figure)
        sections.append(section(results, f"{name}.png"))
    heading = (
        f"# Study of {study}\n\nWritten by `cnncore study {study}`, cnncore {cnncore.__version__}. "
        "*As claimed*: in every seed; *not as claimed*: in none; *undecided*: in some; "
        f"*too few seeds*: fewer than {ENOUGH}."
    )
    path = folder / f"{study}.md"
    with atomic_write(path) as file:
        file.write(("\n\n".join([heading, *sections]) + "\n").encode())
    return path
