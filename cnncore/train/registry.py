"""The tasks by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cnncore.errors import ArgumentError
from cnncore.train.classification import digits_task, fashion_task
from cnncore.train.loop import Recipe
from cnncore.train.tasks import Task, detection_task, segmentation_task

# What `cnncore train NAME` knows, with the recipe of a few minutes on two cores.
TASKS: dict[str, tuple[Callable[[Recipe], Task], Recipe]] = {
    "lenet5": (digits_task, Recipe(steps=2000, batch_size=32, learning_rate=0.001)),
    "maskrcnn_small": (detection_task, Recipe(steps=2000)),
    "resnet_fashion": (fashion_task, Recipe(steps=5000, batch_size=64, learning_rate=0.005)),
    "unet": (segmentation_task, Recipe(steps=5000, batch_size=4, learning_rate=0.004)),
}


def make_task(name: str, **changes: Any) -> Task:
    """A task by name, its recipe changed where asked (``steps=…``, ``seed=…``)."""
    if name not in TASKS:
        raise ArgumentError("name", f"one of {sorted(TASKS)}", repr(name))
    build, recipe = TASKS[name]
    return build(replace(recipe, **{k: v for k, v in changes.items() if v is not None}))
