"""What each small segmentation system reaches: docs/segmentation.json, which the documents show.

``python -m benchmarks.segmentation_training NAME…``; options: ``trainings.py``.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.trainings import DOCS, measure
from cnncore.train import make_task
from cnncore.train.segmentation import SYSTEMS

DATA = ("scenes", "large")  # not those on other data, which have tests of their own


def trained(name: str, runs: Path) -> dict[str, float]:
    """Mean IoU on both splits."""
    task = make_task(name)
    task.train(runs / name, progress=False)
    scores = {}
    for split in ("validation", "test"):
        _, found = task.evaluate(task.held_out(split, task.held_out_count))
        scores[split] = round(found["mean IoU"], 4)
    return scores


if __name__ == "__main__":
    names = [name for name, system in SYSTEMS.items() if system.data in DATA]
    raise SystemExit(measure(__doc__, names, trained, DOCS / "segmentation.json"))
