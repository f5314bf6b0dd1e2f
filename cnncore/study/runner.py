"""Run what is missing of an experiment, saving every finished run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from cnncore.errors import ArgumentError, require
from cnncore.inspect import machine
from cnncore.study.experiment import Experiment
from cnncore.study.results import Results, Run


def run(
    experiment: Experiment, folder: Path, seeds: Sequence[int], progress: bool = True
) -> Results:
    """Every condition with every seed that ``folder`` does not have yet.

    Seeds outermost: interrupted early, it has all conditions of the first seeds.  A run that is
    interrupted is not recorded; the same call begins it again.
    """
    if not seeds:
        raise ArgumentError("seeds", "at least one", "none")
    results = Results.open(experiment, folder)
    wanted = [(seed, condition) for seed in seeds for condition in experiment.conditions]
    missing = [pair for pair in wanted if not results.has(pair[1], pair[0])]
    tqdm = require("tqdm", "vision").tqdm
    with tqdm(
        total=len(wanted),
        initial=len(wanted) - len(missing),
        disable=not progress,
        unit="run",
        dynamic_ncols=True,
    ) as bar:
        for seed, condition in missing:
            bar.set_description(f"{experiment.name}: {condition}, seed {seed}")
            started = time.perf_counter()
            measures = experiment.measured(condition, seed)
            seconds = round(time.perf_counter() - started, 2)
            date = datetime.now(timezone.utc).isoformat(timespec="seconds")
            results.add(Run(condition, seed, measures, seconds, date, machine()))
            bar.update()
    return results
