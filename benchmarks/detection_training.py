"""What each small detector reaches on scenes: docs/detection.json, which docs/detection.md shows.

    python -m benchmarks.detection_training ssd_small      # train with seed 0, score, write
    python -m benchmarks.detection_training --time         # the time of a step, of all of them

Trainings resume from ``runs/`` (``--runs``), where ``cnncore train`` keeps them, too.  Scores do
not depend on the number of threads; times do, and belong on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.segmentation_training import step_seconds
from cnncore.inspect import machine
from cnncore.train import make_task
from cnncore.train.detection import DETECTION

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "detection.json"


def trained(name: str, runs: Path) -> dict[str, Any]:
    """AP50 and AP of boxes on scenes that neither training nor the choice of settings has seen."""
    task = make_task(name)
    task.train(runs / name, progress=False)
    _, scores = task.evaluate(task.held_out("test", task.held_out_count))
    found = {key: round(scores[f"box {key}"], 4) for key in ("AP50", "AP")}
    return found | {"steps": task.recipe.steps, "scenes": task.held_out_count}


def main() -> int:
    """Measure what is asked for, keep the rest."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="detectors (default: all)")
    parser.add_argument("--time", action="store_true", help="measure steps, train nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    for name in options.names or [name for name in DETECTION if name != "maskrcnn_small"]:
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
