"""The tasks by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cnncore.errors import ArgumentError
from cnncore.io import checkpoint_metadata, load_checkpoint
from cnncore.train.classification import CLASSIFICATION
from cnncore.train.detection import DETECTION, PROPOSED
from cnncore.train.segmentation import SEGMENTATION
from cnncore.train.sources import Source, known_source, open_source
from cnncore.train.tasks import Task, Tasks

# What `cnncore train NAME` knows; each family's file has its own names.
TASKS: Tasks = {**CLASSIFICATION, **DETECTION, **SEGMENTATION}
# Those that learn from whatever ``--data`` names; proposals of selective search are for scenes.
ANY_DATA = {*DETECTION, *SEGMENTATION} - set(PROPOSED)


def make_task(name: str, data: str | Source | None = None, **changes: Any) -> Task:
    """A task by name, its recipe changed where asked (``steps=…``, ``seed=…``).

    ``data``: what to learn from instead of the task's own, as ``open_source`` names it, or opened.
    """
    if name not in TASKS:
        raise ArgumentError("name", f"one of {sorted(TASKS)}", repr(name))
    build, recipe = TASKS[name]
    recipe = replace(recipe, **{k: v for k, v in changes.items() if v is not None})
    if data is None:
        return build(recipe)
    if name not in ANY_DATA:
        raise ArgumentError("data", f"none: {name} has its own", data, f"one of {sorted(ANY_DATA)}")
    opened = open_source(data, boxes=name in DETECTION) if isinstance(data, str) else data
    return build(recipe, source=opened)


def load_task(checkpoint: Path, name: str | None = None) -> Task:
    """The task that a checkpoint of training is about, its network with the trained weights.

    ``name``: what it should be about.
    """
    if not checkpoint.is_file():
        hint = f"cnncore train {name}" if name else ""
        raise ArgumentError("checkpoint", "a file that exists", str(checkpoint), hint)
    about = checkpoint_metadata(checkpoint).get("task") or {"name": name}
    if name is not None and about["name"] != name:
        raise ArgumentError("checkpoint", f"one of {name}", f"one of {about['name']}")
    source = known_source(about) if "classes" in about else None
    task = make_task(about["name"], source)
    load_checkpoint(checkpoint, task.model)
    return task
