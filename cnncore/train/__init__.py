"""Training: the loop, what can be trained, and the main job."""

from cnncore.train.loop import DivergedError, History, Recipe, fit
from cnncore.train.tasks import TASKS, Task, held_out, make_task

__all__ = ["TASKS", "DivergedError", "History", "Recipe", "Task", "fit", "held_out", "make_task"]
