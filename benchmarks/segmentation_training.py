"""What each small segmentation system reaches: docs/segmentation.json, which the documents show.

    python benchmarks/segmentation_training.py unet fpn     # train with seed 0, score, write
    python benchmarks/segmentation_training.py --time       # the time of a step, of all systems

Trainings resume from ``runs/`` (``--runs``), where ``cnncore train`` keeps them, too.  Scores do
not depend on the number of threads; times do, and belong on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from cnncore.inspect import machine
from cnncore.optim import AdamW
from cnncore.train import make_task
from cnncore.train.loop import total_loss
from cnncore.train.segmentation import SYSTEMS

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "segmentation.json"
DATA = ("scenes", "large")  # not those on other data, which have tests of their own
STEPS = 8  # timed, after two that are not


def trained(name: str, runs: Path) -> dict[str, float]:
    """Mean IoU on both splits."""
    task = make_task(name)
    task.train(runs / name, progress=False)
    scores = {}
    for split in ("validation", "test"):
        _, found = task.evaluate(task.held_out(split, task.held_out_count))
        scores[split] = round(found["mean IoU"], 4)
    return scores


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


def main() -> int:
    """Measure what is asked for, keep the rest."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="systems (default: all)")
    parser.add_argument("--time", action="store_true", help="measure steps, train nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    on_scenes = [name for name, system in SYSTEMS.items() if system.data in DATA]
    for name in options.names or on_scenes:
        new = {"step_seconds": step_seconds(name)} if options.time else trained(name, options.runs)
        results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"systems": {}}
        results["systems"].setdefault(name, {}).update(new)
        if options.time:
            results["timed_on"] = machine()
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", "utf-8")
        print(name, new, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
