"""Detectors that train on scenes in minutes.

Letters: ``N C H W`` images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnncore import models
from cnncore.data import Sample
from cnncore.nn import init
from cnncore.train.loop import LossTerms, Recipe, Rng
from cnncore.train.tasks import Task, Tasks, images_of
from cnncore.vision import Objects, coco_metrics


def detection_task(recipe: Recipe) -> Task:
    """Mask R-CNN on scenes: boxes, classes and masks of digits."""
    init.seed(recipe.seed)
    model = models.create("maskrcnn_small", num_classes=10)

    def loss(batch: Sequence[Sample], rng: Rng, progress: float) -> LossTerms:
        terms: LossTerms = model.loss(model(images_of(batch).to(model.device)), batch, rng)
        return terms

    def predict(samples: Sequence[Sample]) -> list[Any]:
        found: list[Any] = model.decode(model(images_of(samples).to(model.device)))
        return found

    def score(predictions: Sequence[Any], samples: Sequence[Sample]) -> dict[str, float]:
        truth = [Objects(s.boxes, s.labels, s.masks) for s in samples]
        scores = {}
        for kind in ("boxes", "masks"):
            for name, value in coco_metrics(predictions, truth, kind).items():
                scores[f"{kind.removesuffix('es').removesuffix('s')} {name}"] = value
        return scores

    return Task("maskrcnn_small", model, recipe, loss, predict, score, ("box AP50", "mask AP50"))


DETECTION: Tasks = {"maskrcnn_small": (detection_task, Recipe(steps=3000))}
