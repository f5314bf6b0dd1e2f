"""Figures of results: bars with a dot for every seed, lines with a band from least to most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnncore.errors import require
from cnncore.study.results import Results

COLOURS = ("#2c6fbb", "#c0392b", "#2e8b57", "#8e5ea2", "#d98c1f", "#5f6b73", "#17a2b8")
PANEL = (4.2, 0.9)  # inches: width of a panel; height without bars
BAR = 0.34  # inches a bar


def pyplot() -> Any:
    """Matplotlib, drawing to memory."""
    require("matplotlib", "vision").use("Agg")
    return require("matplotlib.pyplot", "vision")


def draw_bars(results: Results) -> Any:
    """A panel a measure, a bar a condition: the mean, and a dot for every seed."""
    experiment = results.experiment
    measures = list(experiment.plotted or experiment.measures)
    names = [c for c in experiment.conditions if results.spread(c, measures[0]) is not None]
    figure, panels = pyplot().subplots(
        1,
        len(measures),
        figsize=(1.4 + PANEL[0] * len(measures), PANEL[1] + BAR * len(names)),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axes, measure in zip(panels[0], measures, strict=True):
        for place, name in enumerate(names):
            values = list(results.values(name, measure).values())
            axes.barh(place, results.mean(name, measure), color=COLOURS[0], alpha=0.55, height=0.7)
            axes.plot(values, [place] * len(values), "o", color="black", markersize=3.5)
        axes.set_xlabel(measure)
        axes.grid(axis="x", alpha=0.3)
    panels[0][0].set_yticks(range(len(names)), names)
    panels[0][0].invert_yaxis()
    return figure


def draw_lines(
    axes: Any,
    results: Results,
    measure: str,
    lines: Mapping[str, Sequence[tuple[float, str]]],
    colours: Sequence[str] = COLOURS,
) -> None:
    """Lines of ``(x, condition)`` points by label: the mean, a band from least to most."""
    for colour, (label, points) in zip(colours, lines.items(), strict=False):
        spreads = [(x, results.spread(condition, measure)) for x, condition in points]
        known = [(x, spread) for x, spread in spreads if spread is not None]
        xs = [x for x, _ in known]
        axes.plot(xs, [s.mean for _, s in known], "o-", color=colour, label=label, markersize=4)
        low, high = [s.least for _, s in known], [s.most for _, s in known]
        axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_ylabel(measure)
    axes.grid(alpha=0.3)
