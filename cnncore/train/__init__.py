"""Training: the loop, what can be trained, and the main job."""

from cnncore.train.loop import DivergedError, History, Recipe, fit
from cnncore.train.registry import TASKS, load_task, make_task
from cnncore.train.tasks import Task, held_out

__all__ = [
    "TASKS",
    "DivergedError",
    "History",
    "Recipe",
    "Task",
    "fit",
    "held_out",
    "load_task",
    "make_task",
]
