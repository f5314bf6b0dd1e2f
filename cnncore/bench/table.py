"""Results as text: a table that grows while it is measured, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from cnncore.bench.goals import findings, goals_table
from cnncore.bench.results import (
    CaseResult,
    NetworkResult,
    Results,
    Row,
    geometric_mean,
    rates,
)
from cnncore.bench.roof import Roof
from cnncore.bench.runner import UNSERVED

HEADING = (
    "contender", "median ms", "quartiles", "GFLOP/s", "peak", "GB/s", "roof", "error", "ratio",
)  # fmt: skip
WIDTHS = (30, 10, 17, 8, 6, 6, 6, 8, 6)


def machine_lines(results: Results) -> list[str]:
    """What it ran on, what the machine can do, who is missing."""
    s, roof = results.settings, results.roof
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return [
        f"{results.machine}",
        f"{results.date}, cnncore {results.cnncore}, {versions}; {s['dtype']}, {s['threads']} "
        f"threads, {s['rounds']} interleaved rounds",
        f"peak {roof.flops / 1e9:.0f} GFLOP/s, memory {roof.bandwidth / 1e9:.1f} GB/s, "
        f"near cache {roof.cache_bandwidth / 1e9:.0f} GB/s ({roof.method})",
        *results.remarks,
    ]


def head() -> str:
    """The heading of the text table."""
    return _line(HEADING)


def case_lines(case: CaseResult, roof: Roof) -> list[str]:
    """A case: its title, then one line a contender."""
    count = f"  ×{case.count}" if case.count > 1 else ""
    work = f"{case.nbytes / 1e6:.1f} MB"
    if case.flops:
        work = f"{case.flops / 1e9:.2f} GFLOP, {work}, {case.flops / case.nbytes:.1f} FLOP/byte"
    lines = [f"{case.label}{count}  ({work}; verified against {case.reference})"]
    unserved = [row.algorithm for row in case.rows if row.note == UNSERVED]
    for row in case.rows:
        if row.note != UNSERVED:
            lines.append(_noted(row) if row.note else _line(cells(case, row, roof)))
    if unserved:
        lines.append(f"  cnncore {', '.join(unserved)}: not for this shape")
    return lines


def _noted(row: Row) -> str:
    return f"  {row.title}: {row.note}"


def cells(case: CaseResult, row: Row, roof: Roof) -> tuple[str, ...]:
    """One contender in figures."""
    assert row.timing is not None
    found, t, ratio = rates(case, row, roof), row.timing, case.ratio_of(row)
    assert found["flops"] is not None
    assert found["bandwidth"] is not None
    assert found["peak_share"] is not None
    assert found["roof_share"] is not None
    return (
        f"  {row.title}",
        f"{t.median * 1e3:.3f}",
        f"{t.q1 * 1e3:.3f}–{t.q3 * 1e3:.3f}",
        f"{found['flops'] / 1e9:.0f}" if case.flops else "",
        f"{found['peak_share']:.0%}" if case.flops else "",
        f"{found['bandwidth'] / 1e9:.1f}",
        f"{found['roof_share']:.0%}",
        "" if row.error is None else f"{row.error:.0e}",
        "" if ratio is None or row.who == "peer" else f"{ratio:.2f}",
    )


def _line(parts: Sequence[str]) -> str:
    first, *rest = (
        part.ljust(width) if i == 0 else part.rjust(width)
        for i, (part, width) in enumerate(zip(parts, WIDTHS, strict=True))
    )
    return " ".join([first, *rest]).rstrip()


def network_lines(network: NetworkResult) -> list[str]:
    """A whole network: one line a contender, and what memory a step takes."""
    ratio = network.ratio
    title = f"{network.label} ({network.detail})"
    lines = [title if ratio is None else f"{title}: ratio {ratio:.2f}"]
    for row in network.rows:
        if row.timing is None:
            lines.append(_noted(row))
            continue
        t = row.timing
        error = "" if row.error is None else f", deviates by {row.error:.0e}"
        lines.append(
            f"  {row.title:30} {t.median * 1e3:9.1f} ms ({t.q1 * 1e3:.1f}–{t.q3 * 1e3:.1f}){error}"
        )
    lines += [f"  peak memory, {k}: {v / 1e6:.0f} MB" for k, v in network.peak_bytes.items()]
    return lines


def closing_lines(results: Results) -> list[str]:
    """Geometric means of the ratios by suite, and what was refused."""
    lines = [
        f"models, {job}: geometric mean of the ratios to the best format {mean:.2f} "
        f"({count} networks)"
        for job, mean, count in network_means(results)
    ]
    lines += [
        f"{name}: geometric mean of the ratios to the best peer {mean:.2f} ({count} cases"
        + (f"; all layers together {whole:.2f})" if whole is not None else ")")
        for name, mean, count, whole in summaries(results)
    ]
    wrong = results.refusals
    if wrong:
        lines.append(f"REFUSED, because wrong: {', '.join(row.title for row in wrong)}")
    return lines


def summaries(results: Results) -> list[tuple[str, float, int, float | None]]:
    """(suite, geometric mean of ratios, cases, ratio of total times where layers are counted)."""
    found = []
    for suite in results.suites():
        cases = [c for c in results.cases if c.suite == suite and c.ratio is not None]
        mean = geometric_mean(c.ratio for c in cases)
        if mean is None:
            continue
        whole = None
        if any(c.count > 1 for c in cases):
            theirs = sum(c.count * c.best_peer.seconds for c in cases if c.best_peer)
            whole = theirs / sum(c.count * c.ours.seconds for c in cases if c.ours)
        found.append((suite or "these", mean, len(cases), whole))
    return found


def network_means(results: Results) -> list[tuple[str, float, int]]:
    """(job, geometric mean of ratios, networks)."""
    found = []
    for job in dict.fromkeys(net.job for net in results.networks):
        ratios = [n.ratio for n in results.networks if n.job == job and n.ratio is not None]
        mean = geometric_mean(ratios)
        if mean is not None:
            found.append((job, mean, len(ratios)))
    return found


# --- Markdown -------------------------------------------------------------------------------------


def markdown(results: Results, title: str = "") -> str:
    """The whole run as a page of Markdown."""
    lines = [f"# {title or results.machine}", ""]
    lines += [f"{line}  " for line in machine_lines(results)]
    lines += [
        "",
        "Every result was verified against a float64 reference before it was timed. Ratio: time of "
        "the best peer, in whichever of its formats, over ours; above 1, cnncore is faster. Peak: "
        "share of the multiply-add rate (algorithms that save operations pass 100 %). Roof: share "
        "of the roofline, whichever of arithmetic and memory limits.",
        "",
        *summary_table(results),
    ]
    if findings(results):
        lines += ["", "## Goals", "", "Ratios to the named peer, bold where reached.", ""]
        lines += goals_table(results)
    for suite in results.suites():
        cases = [case for case in results.cases if case.suite == suite]
        lines += ["", f"## {suite}", "", *_suite_table(cases, results.roof)]
    if results.networks:
        lines += ["", "## models", "", *network_table(results)]
    return "\n".join(lines) + "\n"


def _suite_table(cases: Sequence[CaseResult], roof: Roof) -> list[str]:
    lines = [
        "| case | × | algorithm | ms | GFLOP/s | peak | roof | best peer | ms | ratio |",
        "|---|---:|---|---:|---:|---:|---:|---|---:|---:|",
    ]
    for case in cases:
        ours, peer, ratio = case.ours, case.best_peer, case.ratio
        if ours is None:
            notes = "; ".join(f"{r.title}: {r.note}" for r in case.rows if r.note)
            lines.append(f"| {case.label} | {case.count} | {notes} | | | | | | | |")
            continue
        _, ms, _, flops, peak, _, share, _, _ = cells(case, ours, roof)
        theirs = ("", "") if peer is None else (peer.title, f"{peer.seconds * 1e3:.3f}")
        lines.append(
            f"| {case.label} | {case.count} | {ours.algorithm} | {ms} | {flops} | {peak} | {share} "
            f"| {' | '.join(theirs)} | {'' if ratio is None else f'{ratio:.2f}'} |"
        )
    return lines


def network_table(results: Results) -> list[str]:
    """Whole networks."""
    lines = [
        "| network | job | cnncore ms | best peer ms | ratio | peak memory |",
        "|---|---|---:|---:|---:|---|",
    ]
    for net in results.networks:
        ours = next((r for r in net.rows if r.who == "ours" and r.timing), None)
        peers = [r for r in net.rows if r.who == "peer" and r.timing]
        peer = min(peers, key=lambda r: r.seconds, default=None)
        memory = ", ".join(f"{k} {v / 1e6:.0f} MB" for k, v in net.peak_bytes.items())
        mine = "refused" if ours is None else f"{ours.seconds * 1e3:.1f}"
        best = "" if peer is None else f"{peer.seconds * 1e3:.1f} ({peer.title})"
        ratio = "" if net.ratio is None else f"{net.ratio:.2f}"
        lines.append(
            f"| {net.network} ({net.detail}) | {net.job} | {mine} | {best} | {ratio} | {memory} |"
        )
    return lines


def summary_table(results: Results) -> list[str]:
    """One line a suite."""
    lines = [
        "| suite | cases | geometric mean of ratios | all layers together |",
        "|---|---:|---:|---:|",
    ]
    for name, mean, count, whole in summaries(results):
        total = "" if whole is None else f"{whole:.2f}"
        lines.append(f"| {name} | {count} | {mean:.2f} | {total} |")
    for job, mean, count in network_means(results):
        lines.append(f"| models, {job} | {count} | {mean:.2f} | |")
    return lines
