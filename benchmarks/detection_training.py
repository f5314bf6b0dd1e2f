"""What each small detector reaches on scenes: docs/detection.json, which docs/detection.md shows.

``python -m benchmarks.detection_training NAME…``; options: ``trainings.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.trainings import DOCS, measure
from cnncore.train import make_task
from cnncore.train.detection import DETECTION


def trained(name: str, runs: Path) -> dict[str, Any]:
    """AP50 and AP of boxes on scenes that neither training nor the choice of settings has seen."""
    task = make_task(name)
    task.train(runs / name, progress=False)
    _, scores = task.evaluate(task.held_out("test", task.held_out_count))
    found = {key: round(scores[f"box {key}"], 4) for key in ("AP50", "AP")}
    return found | {"steps": task.recipe.steps, "scenes": task.held_out_count}


if __name__ == "__main__":
    names = [name for name in DETECTION if name != "maskrcnn_small"]  # that one is the demo
    raise SystemExit(measure(__doc__, names, trained, DOCS / "detection.json"))
