"""Segmenters that learn the semantic map of scenes in minutes.

Letters: ``N C H W`` images, ``K`` classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cnncore import models, ops
from cnncore.data import Sample
from cnncore.models.segmentation import Segmenter
from cnncore.nn import init
from cnncore.train.loop import LossTerms, Recipe, Rng
from cnncore.train.tasks import Task, Tasks, standardised
from cnncore.vision import class_iou, confusion_matrix, mean_iou, pixel_accuracy

CLASSES = 11  # background and ten digits


@dataclass(frozen=True)
class System:
    """One network to train: a row of ``SYSTEMS``.

    ``scale``: the network sees images reduced by this factor (means of that many pixels each way),
    and its answer is enlarged again.
    """

    network: str  # in models.MODELS
    settings: Mapping[str, Any]
    recipe: Recipe
    scale: int = 1

    def model(self) -> Segmenter:
        """The network with fresh weights."""
        made = models.create(self.network, num_classes=CLASSES, **self.settings)
        assert isinstance(made, Segmenter)
        return made


def annealed_weights(progress: float) -> Any:
    """Class weights ``(K)``: background's is 0.1 until 60 % of the steps are done, then grows to 1.

    Background covers 95 % of the pixels: without that, a network says "background" for minutes.
    """
    weights = np.ones(CLASSES, np.float32)
    weights[0] = 0.1 + 0.9 * max(0.0, (progress - 0.6) / 0.4) ** 2
    return weights


def map_scores(predictions: Sequence[Any], samples: Sequence[Sample]) -> dict[str, float]:
    """Mean IoU, pixel accuracy and the IoU of each class, over all pixels of all samples."""
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    for prediction, sample in zip(predictions, samples, strict=True):
        confusion += confusion_matrix(prediction, sample.semantic, CLASSES)
    scores = {"mean IoU": mean_iou(confusion), "pixel accuracy": pixel_accuracy(confusion)}
    per_class = class_iou(confusion)
    scores["IoU background"] = float(per_class[0])
    return scores | {f"IoU {k - 1}": float(per_class[k]) for k in range(1, CLASSES)}


def segmentation_task(name: str, system: System, recipe: Recipe) -> Task:
    """Train ``system`` on semantic maps, scored at full resolution.

    Each image is brought to mean 0 and deviation 1 a channel, which takes away the colour of its
    background.
    """
    init.seed(recipe.seed)
    model = system.model()

    def outputs(samples: Sequence[Sample]) -> Any:
        x = standardised(samples)
        if system.scale > 1:
            x = ops.avg_pool2d(x, system.scale)
        return model(x.to(model.device))

    def loss(batch: Sequence[Sample], rng: Rng, progress: float) -> LossTerms:
        return model.loss(outputs(batch), batch, class_weights=annealed_weights(progress))

    def predict(samples: Sequence[Sample]) -> list[Any]:
        labels: list[Any] = model.decode(outputs(samples), samples[0].semantic.shape)
        return labels

    return Task(name, model, recipe, loss, predict, map_scores, ("mean IoU",))


SYSTEMS: dict[str, System] = {
    "unet": System(
        "unet",
        {"base": 16, "depth": 4, "norm": "group"},
        Recipe(steps=5000, batch_size=4, learning_rate=0.004),
        scale=2,
    ),
}

SEGMENTATION: Tasks = {
    name: (partial(segmentation_task, name, system), system.recipe)
    for name, system in SYSTEMS.items()
}
