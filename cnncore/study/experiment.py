"""What an experiment is: a claim with its source, conditions, and a function that runs one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cnncore.errors import ArgumentError

if TYPE_CHECKING:
    from cnncore.study.results import Results

Settings = Mapping[str, Any]  # plain values: they are written beside the results
Measures = Mapping[str, float]


@dataclass(frozen=True)
class Expectation:
    """The claim in numbers: ``measure`` is larger under ``better`` than under ``worse``."""

    measure: str
    better: str
    worse: str


@dataclass(frozen=True)
class Experiment:
    """``run(settings, seed)`` under several conditions; a condition's settings go over the common.

    >>> coin = Experiment(
    ...     "coin", "A coin", "It is fair.", "nobody", {"heads": ".2f"},
    ...     lambda settings, seed: {"heads": settings["bias"]},
    ...     settings={"bias": 0.5}, conditions={"fair": {}, "bent": {"bias": 0.6}},
    ... )
    >>> coin.measured("bent", seed=0)
    {'heads': 0.6}
    """

    name: str
    title: str
    claim: str
    source: str  # of the claim: paper, section
    measures: Mapping[str, str]  # what ``run`` gives, each with the format to show it in
    run: Callable[[Settings, int], Measures]
    settings: Settings
    conditions: Mapping[str, Settings]
    expected: Sequence[Expectation] = ()
    method: str = ""  # what is done, for the page
    # More to say about results than the expectations do, computed from them.
    conclude: Callable[[Results], Sequence[str]] | None = None
    draw: Callable[[Results], Any] | None = None  # a matplotlib figure; default: bars
    plotted: Sequence[str] = ()  # the measures of the default figure; none given: all

    def __post_init__(self) -> None:
        for expectation in self.expected:
            for condition in (expectation.better, expectation.worse):
                if condition not in self.conditions:
                    known = f"one of {sorted(self.conditions)}"
                    raise ArgumentError("expected", known, repr(condition))
            if expectation.measure not in self.measures:
                known = f"one of {sorted(self.measures)}"
                raise ArgumentError("expected", known, repr(expectation.measure))

    def changed(self, **settings: Any) -> Experiment:
        """The same with other common settings (``steps=10``); unknown names are refused."""
        for name in settings:
            if name not in self.settings:
                known = f"one of {sorted(self.settings)}"
                raise ArgumentError("settings", known, repr(name))
        return replace(self, settings={**self.settings, **settings})

    def measured(self, condition: str, seed: int) -> dict[str, float]:
        """One run; refuses measures other than those announced, and those that are not finite."""
        if condition not in self.conditions:
            raise ArgumentError("condition", f"one of {sorted(self.conditions)}", repr(condition))
        found = self.run({**self.settings, **self.conditions[condition]}, seed)
        if set(found) != set(self.measures):
            raise ArgumentError("measures", f"{sorted(self.measures)}", f"{sorted(found)}")
        values = {name: float(found[name]) for name in self.measures}
        if not all(map(math.isfinite, values.values())):
            raise ArgumentError("measures", "finite numbers", f"{values} of {condition!r}")
        return values
