"""A run as one self-contained page: a roofline plot and every table."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnncore.bench.results import CaseResult, Results
from cnncore.bench.table import HEADING, cells, machine_lines, summary_table
from cnncore.errors import require
from cnncore.report import Picture, Report

COLOURS = {"ours": "#c0392b", "user": "#8e44ad", "peer": "#2c6fbb"}
MARKERS = {"ours": "o", "user": "^", "peer": "s"}
WORDS = {"ours": "cnncore", "user": "yours", "peer": "best peer"}


def build(results: Results) -> Report:
    """The page; write it with ``.write(path)``."""
    machine, *lines = machine_lines(results)
    report = Report("Benchmark", machine)
    measured = [case for case in results.cases if case.ours is not None and case.flops]
    pictures = []
    if measured:
        caption = (
            "Each dot is one case: operations a byte (every argument and the result moved once) "
            "and operations a second; a thin line joins ours to the best peer's. Dots above the "
            "flat roof save operations (Winograd); dots above the slope had their arrays in a "
            "cache."
        )
        pictures.append(Picture(draw_roofline(results, measured), caption))
    report.add("Summary", *lines, pictures=pictures, table=_plain(summary_table(results)))
    for suite in results.suites():
        cases = [case for case in results.cases if case.suite == suite]
        report.add(suite or "Cases", table=_table(results, cases))
    if results.networks:
        report.add("Whole networks", table=_networks(results))
    return report


def _plain(lines: list[str]) -> list[tuple[str, ...]]:
    """The cells of a Markdown table."""
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    return [rows[0], *rows[2:]]


def _table(results: Results, cases: list[CaseResult]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("case", *HEADING)]
    for case in cases:
        for i, row in enumerate(case.rows):
            label = case.label if i == 0 else ""
            if row.note:
                rows.append((label, row.title, row.note, *[""] * (len(HEADING) - 2)))
            else:
                rows.append((label, *(c.strip() for c in cells(case, row, results.roof))))
    return rows


def _networks(results: Results) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("network", "contender", "median ms", "quartiles", "note")]
    for net in results.networks:
        for i, row in enumerate(net.rows):
            title = f"{net.label} ({net.detail})" if i == 0 else ""
            if row.timing is None:
                rows.append((title, row.title, "", "", row.note))
                continue
            t = row.timing
            ratio = f"ratio {net.ratio:.2f}" if row.who == "ours" and net.ratio else ""
            quartiles = f"{t.q1 * 1e3:.1f}–{t.q3 * 1e3:.1f}"
            rows.append((title, row.title, f"{t.median * 1e3:.1f}", quartiles, ratio))
        rows += [("", f"peak memory, {k}", f"{v / 1e6:.0f} MB", "", "")
                 for k, v in net.peak_bytes.items()]  # fmt: skip
    return rows


def draw_roofline(results: Results, cases: list[CaseResult]) -> Any:
    """Operations a second over operations a byte, both axes logarithmic, under the roof."""
    pyplot = require("matplotlib.pyplot", "vision")
    figure, axes = pyplot.subplots(figsize=(10, 6), layout="constrained")
    roof = results.roof
    intensities = [case.flops / case.nbytes for case in cases]
    x = np.geomspace(min([*intensities, 1.0]) / 2, max([*intensities, 10.0]) * 2, 200)
    for bandwidth, word, style in (
        (roof.bandwidth, "memory", "-"), (roof.cache_bandwidth, "near cache", ":"),
    ):  # fmt: skip
        label = f"{word} {bandwidth / 1e9:.0f} GB/s"
        limit = np.minimum(roof.flops, x * bandwidth) / 1e9
        axes.plot(x, limit, style, color="black", linewidth=1.3, label=label)
    peak = f"multiply-add peak {roof.flops / 1e9:.0f} GFLOP/s"
    axes.annotate(peak, (x[-1], roof.flops / 1e9), (-4, 4), ha="right", fontsize=9,
                  textcoords="offset points")  # fmt: skip
    labelled: set[str] = set()
    for case, intensity in zip(cases, intensities, strict=True):
        users = [row for row in case.timed if row.who == "user"]
        rows = [row for row in (case.ours, case.best_peer, *users) if row is not None]
        rates = [case.flops / row.seconds / 1e9 for row in rows]
        axes.plot([intensity] * len(rates), rates, color="#999", linewidth=0.6, zorder=1)
        for row, rate in zip(rows, rates, strict=True):
            name = None if row.who in labelled else WORDS[row.who]
            labelled.add(row.who)
            looks = {"color": COLOURS[row.who], "marker": MARKERS[row.who]}
            axes.scatter(intensity, rate, s=26, label=name, zorder=2, **looks)
    axes.set(
        xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s",
        title="Roofline",
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(
            require("matplotlib.ticker", "vision").FuncFormatter(
                lambda v, _: f"{v:g}" if f"{v:.0e}"[0] in "25" else ""
            )
        )
    axes.grid(True, which="both", color="#ddd", linewidth=0.5)
    axes.legend(loc="lower right")
    return figure
