"""The tasks by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cnncore.errors import ArgumentError
from cnncore.train.classification import CLASSIFICATION
from cnncore.train.detection import DETECTION
from cnncore.train.segmentation import SEGMENTATION
from cnncore.train.tasks import Task, Tasks

# What `cnncore train NAME` knows; each family's file has its own names.
TASKS: Tasks = {**CLASSIFICATION, **DETECTION, **SEGMENTATION}


def make_task(name: str, **changes: Any) -> Task:
    """A task by name, its recipe changed where asked (``steps=…``, ``seed=…``)."""
    if name not in TASKS:
        raise ArgumentError("name", f"one of {sorted(TASKS)}", repr(name))
    build, recipe = TASKS[name]
    return build(replace(recipe, **{k: v for k, v in changes.items() if v is not None}))
