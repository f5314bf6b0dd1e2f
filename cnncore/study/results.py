"""Finished runs of an experiment, in a file that is whole at any moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError
from cnncore.io import atomic_write
from cnncore.study.experiment import Expectation, Experiment

SCHEMA = 1
HINT = "another --output, or --fresh to begin anew"


@dataclass(frozen=True)
class Run:
    """One condition with one seed, when and where it ran, and what was measured."""

    condition: str
    seed: int
    measures: Mapping[str, float]
    seconds: float
    date: str  # UTC, ISO 8601
    machine: str


@dataclass(frozen=True)
class Spread:
    """A measure over the seeds."""

    mean: float
    least: float
    most: float


@dataclass
class Results:
    """The runs so far; ``add`` writes them before it returns."""

    experiment: Experiment
    path: Path
    runs: list[Run] = field(default_factory=list)

    @staticmethod
    def open(experiment: Experiment, folder: Path) -> Results:
        """Those in ``folder``, or none yet; runs of other settings are refused."""
        results = Results(experiment, folder / f"{experiment.name}.json")
        if results.path.exists():
            results.runs = _read(results.path, experiment)
        return results

    def add(self, run: Run) -> None:
        """Append a run and save all of them."""
        self.runs.append(run)
        with atomic_write(self.path) as file:
            file.write((json.dumps(self.plain(), indent=1, ensure_ascii=False) + "\n").encode())

    def plain(self) -> dict[str, Any]:
        """What the file holds."""
        return {
            "schema": SCHEMA,
            **_identity(self.experiment),
            "title": self.experiment.title,
            "claim": self.experiment.claim,
            "source": self.experiment.source,
            "runs": [asdict(run) for run in self.runs],
        }

    def has(self, condition: str, seed: int) -> bool:
        """Whether that run is finished."""
        return any(run.condition == condition and run.seed == seed for run in self.runs)

    def values(self, condition: str, measure: str) -> dict[int, float]:
        """A measure by seed."""
        found = {r.seed: r.measures[measure] for r in self.runs if r.condition == condition}
        return dict(sorted(found.items()))

    def spread(self, condition: str, measure: str) -> Spread | None:
        """Mean, least and most over the seeds; ``None`` without a run."""
        values = list(self.values(condition, measure).values())
        if not values:
            return None
        return Spread(float(np.mean(values)), min(values), max(values))

    def mean(self, condition: str, measure: str) -> float:
        """The mean over the seeds; NaN without a run."""
        spread = self.spread(condition, measure)
        return float("nan") if spread is None else spread.mean

    def differences(self, expectation: Expectation) -> list[float]:
        """``better − worse`` of every seed that has both: one seed, the same scenes."""
        better = self.values(expectation.better, expectation.measure)
        worse = self.values(expectation.worse, expectation.measure)
        return [value - worse[seed] for seed, value in better.items() if seed in worse]

    @property
    def seeds(self) -> list[int]:
        """All seeds that have a run."""
        return sorted({run.seed for run in self.runs})


def _identity(experiment: Experiment) -> dict[str, Any]:
    """What must agree for runs to belong together, as JSON gives it back."""
    own = {
        "experiment": experiment.name,
        "settings": dict(experiment.settings),
        "conditions": {name: dict(settings) for name, settings in experiment.conditions.items()},
    }
    plain: dict[str, Any] = json.loads(json.dumps(own))
    return plain


def _read(path: Path, experiment: Experiment) -> list[Run]:
    """The runs in a file; conditions that have no run yet may have come or gone."""
    wanted = {"schema": SCHEMA, **_identity(experiment), "measures": sorted(experiment.measures)}
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        found = {key: plain[key] for key in ("schema", *_identity(experiment))}
        runs = [Run(**run) for run in plain["runs"]]
        used = {run.condition for run in runs}
        found["measures"] = sorted({name for run in runs for name in run.measures})
        for side in (wanted, found):
            side["conditions"] = {k: v for k, v in side["conditions"].items() if k in used}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        got = f"{path}: {type(error).__name__} {error}"
        raise ArgumentError("output", "results of this experiment", got, HINT) from error
    if runs and wanted != found:
        expected = f"the settings that {path} was begun with"
        raise ArgumentError("settings", expected, "; ".join(_differing(wanted, found)), HINT)
    return runs


def _differing(wanted: Any, found: Any, name: str = "") -> list[str]:
    """What differs, down to single settings."""
    if not (isinstance(wanted, dict) and isinstance(found, dict)):
        return [f"{name} {wanted!r} instead of {found!r}"]
    return [
        text
        for key in {**wanted, **found}
        if wanted.get(key) != found.get(key)
        for text in _differing(wanted.get(key), found.get(key), f"{name} {key}".strip())
    ]
