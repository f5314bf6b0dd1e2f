"""What can be trained: a model, its loss on a batch, its score on samples that it has not seen.

Here are the tasks on scenes; classifiers are in ``classification.py``.

Letters: ``N C H W`` images, ``K`` classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore import models, ops
from cnncore.autograd import Tensor, no_grad
from cnncore.data import Dataset, Loader, Sample, Scenes
from cnncore.nn import init
from cnncore.train.loop import LossTerms, Recipe, Rng
from cnncore.vision import (
    Objects,
    class_iou,
    coco_metrics,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)

TRAIN_SCENES = 100_000  # scenes are made when they are drawn; this many differ
EVALUATION_BATCH = 16


def training_scenes(seed: int) -> Dataset[Sample]:
    """The scenes to train on."""
    return Scenes("train", TRAIN_SCENES, seed=seed)


def held_out(split: str, count: int) -> list[Sample]:
    """The first ``count`` scenes of a split, always the same."""
    scenes = Scenes(split, count, seed=0)
    return [scenes[index] for index in range(count)]


@dataclass(frozen=True)
class Task:
    """A model on a data set, ready for ``train.fit``."""

    name: str
    model: Any  # a Module; what else it offers (backbone, decode) is the task's business
    recipe: Recipe
    loss: Callable[[Any, Rng, float], LossTerms]
    predict: Callable[[Sequence[Any]], list[Any]]
    score: Callable[[Sequence[Any], Sequence[Any]], dict[str, float]]
    headline: tuple[str, ...]  # the scores to print first
    training_set: Callable[[int], Dataset[Any]] = training_scenes  # from the recipe's seed
    held_out: Callable[[str, int], list[Any]] = held_out  # of a split, so many
    held_out_count: int = 300
    noun: str = "scenes"

    def batches(self, step: int) -> Iterator[list[Any]]:
        """Training batches from a step on, prepared by a background thread."""
        samples, seed = self.training_set(self.recipe.seed), self.recipe.seed
        loader = Loader(samples, self.recipe.batch_size, seed=seed, drop_last=True, prefetch=4)
        epoch, within = divmod(step, len(loader))
        return (batch for _, _, batch in loader.forever(epoch, within))

    def evaluate(self, samples: Sequence[Any]) -> tuple[list[Any], dict[str, float]]:
        """Predictions and scores on samples that training has not seen."""
        self.model.eval()
        predictions: list[Any] = []
        with no_grad():
            for start in range(0, len(samples), EVALUATION_BATCH):
                predictions += self.predict(samples[start : start + EVALUATION_BATCH])
        return predictions, self.score(predictions, samples)


def images_of(samples: Sequence[Sample]) -> Tensor:
    """A batch ``(N, 3, H, W)``, zero mean roughly: values in -1..1."""
    return Tensor(np.stack([sample.image for sample in samples]) * np.float32(2) - np.float32(1))


def standardised(samples: Sequence[Sample]) -> Tensor:
    """A batch ``(N, 3, H, W)``, each channel of each image with mean 0 and deviation about 1."""
    x = np.stack([sample.image for sample in samples])
    deviation = x.std((2, 3), keepdims=True)
    return Tensor((x - x.mean((2, 3), keepdims=True)) / (deviation + np.float32(0.05)))


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


def segmentation_task(recipe: Recipe) -> Task:
    """U-Net on the semantic map of scenes, at half resolution, scored at full resolution.

    Background covers 95 % of the pixels, so its weight is 0.1 until 60 % of the steps are done and
    then grows to 1: without that, the network says "background" for minutes.  Each image is brought
    to mean 0 and deviation 1 a channel, which takes away the colour of its background.
    """
    init.seed(recipe.seed)
    model = models.create("unet", num_classes=11, base=16, depth=4, norm="group")

    def logits(samples: Sequence[Sample]) -> Tensor:
        half: Tensor = model(ops.avg_pool2d(standardised(samples), 2).to(model.device))
        return half

    def loss(batch: Sequence[Sample], rng: Rng, progress: float) -> LossTerms:
        weights = np.ones(11, np.float32)
        weights[0] = 0.1 + 0.9 * max(0.0, (progress - 0.6) / 0.4) ** 2
        terms: LossTerms = model.loss(logits(batch), batch, class_weights=weights)
        return terms

    def predict(samples: Sequence[Sample]) -> list[Any]:
        labels: list[Any] = model.decode(logits(samples), samples[0].semantic.shape)
        return labels

    def score(predictions: Sequence[Any], samples: Sequence[Sample]) -> dict[str, float]:
        confusion = np.zeros((11, 11), np.int64)
        for prediction, sample in zip(predictions, samples, strict=True):
            confusion += confusion_matrix(prediction, sample.semantic, 11)
        scores = {"mean IoU": mean_iou(confusion), "pixel accuracy": pixel_accuracy(confusion)}
        per_class = class_iou(confusion)
        scores["IoU background"] = float(per_class[0])
        return scores | {f"IoU {k - 1}": float(per_class[k]) for k in range(1, 11)}

    return Task("unet", model, recipe, loss, predict, score, ("mean IoU",))
