"""What the scripts that train a family's small networks share: options, the table, a step's time.

    python -m benchmarks.segmentation_training unet fpn   # train with seed 0, score, write
    python -m benchmarks.detection_training --time        # the time of a step, of all of them

Trainings resume from ``runs/`` (``--runs``), where ``cnncore train`` keeps them, too.  Scores do
not depend on the number of threads; times do, and belong on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cnncore.inspect import machine
from cnncore.io import atomic_write
from cnncore.optim import AdamW
from cnncore.train import make_task
from cnncore.train.loop import total_loss

DOCS = Path(__file__).resolve().parents[1] / "docs"
STEPS = 8  # timed, after two that are not


def step_seconds(name: str) -> float:
    """Median seconds of a training step."""
    task = make_task(name)
    batch, optimizer = next(task.batches(0)), AdamW(task.model.parameters(), lr=1e-4)
    found = []
    for step in range(STEPS + 2):
        started = time.perf_counter()
        loss = total_loss(task.loss(batch, np.random.default_rng(step), 0.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(time.perf_counter() - started)
    return round(statistics.median(found[2:]), 4)


def measure(
    description: str,
    every: Iterable[str],
    trained: Callable[[str, Path], dict[str, Any]],
    results: Path,
) -> int:
    """The command: measure the names asked for (default: ``every``), keep the rest of the file."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("names", nargs="*", help="systems (default: all)")
    parser.add_argument("--time", action="store_true", help="measure steps, train nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    for name in options.names or every:
        new = {"step_seconds": step_seconds(name)} if options.time else trained(name, options.runs)
        table = json.loads(results.read_text("utf-8")) if results.exists() else {"systems": {}}
        table["systems"].setdefault(name, {}).update(new)
        if options.time:
            table["timed_on"] = machine()
        with atomic_write(results) as file:
            file.write((json.dumps(table, indent=1, sort_keys=True) + "\n").encode("utf-8"))
        print(name, new, flush=True)
    return 0
