"""What can be trained: a model, its loss on a batch, its score on samples that it has not seen.

Here is what tasks share; the tasks are in ``classification.py``, ``segmentation.py`` and
``detection.py``, each with its dict of names and recipes.

Letters: ``N C H W`` images, ``K`` classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnncore.autograd import Tensor, no_grad
from cnncore.data import Dataset, Loader, Sample, Scenes
from cnncore.train.loop import History, LossTerms, Recipe, Rng, fit
from cnncore.train.sources import Source

# Named tasks: what builds one from a recipe (and a source of other data, where that is possible),
# and the recipe of a few minutes on two cores.
Tasks = dict[str, tuple[Callable[..., "Task"], Recipe]]

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
    before: Task | None = None  # trained first; the model continues from its model
    source: Source | None = None  # where the samples come from, if that can be chosen
    # Of segmentation: standardised images (N, 3, H, W) to logits (N, K, H, W).
    logits: Callable[[Tensor], Tensor] | None = None

    def checkpoints(self, folder: Path) -> list[Path]:
        """Where ``train`` keeps its state: this task's, then those of the tasks before."""
        own = folder / "checkpoint.npz"
        if self.before is None:
            return [own]
        return [own, *self.before.checkpoints(folder / self.before.name)]

    def train(self, folder: Path | None = None, progress: bool = True) -> list[History]:
        """``fit``, after the tasks that this one continues: the history of each, in order.

        With a ``folder`` for checkpoints, nothing that is done is done again.
        """
        histories: list[History] = []
        if self.before is not None:
            place = None if folder is None else folder / self.before.name
            histories = self.before.train(place, progress)
            self.model.continue_from(self.before.model)
            if histories[-1].steps < self.before.recipe.steps:
                return histories  # interrupted
        path = None if folder is None else self.checkpoints(folder)[0]
        given = self.model, self.loss, self.batches, self.recipe, path, progress
        return [*histories, fit(*given, about=self.about())]

    def about(self) -> dict[str, Any]:
        """What a checkpoint must say, so that the network can be used without further words."""
        if self.source is None:
            return {"name": self.name}
        return {"name": self.name, **self.source.about()}

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
            for _, batch in batches_of_one_size(samples):
                predictions += self.predict(batch)
        return predictions, self.score(predictions, samples)


def batches_of_one_size(
    samples: Dataset[Any], most: int = EVALUATION_BATCH
) -> Iterator[tuple[int, list[Any]]]:
    """Neighbours whose images are of one size, at most so many, with the index of the first."""
    batch: list[Any] = []
    for index in range(len(samples)):
        sample = samples[index]
        if batch and (len(batch) == most or _size(batch[0]) != _size(sample)):
            yield index - len(batch), batch
            batch = []
        batch.append(sample)
    if batch:
        yield len(samples) - len(batch), batch


def _size(sample: Any) -> Any:
    """The shape of its image; samples without one are taken to be alike."""
    return getattr(getattr(sample, "image", None), "shape", None)


def images_of(samples: Sequence[Sample]) -> Tensor:
    """A batch ``(N, 3, H, W)``, zero mean roughly: values in -1..1."""
    return Tensor(np.stack([sample.image for sample in samples]) * np.float32(2) - np.float32(1))


def standardised(samples: Sequence[Sample]) -> Tensor:
    """A batch ``(N, 3, H, W)``, each channel of each image with mean 0 and deviation about 1."""
    x = np.stack([sample.image for sample in samples])
    deviation = x.std((2, 3), keepdims=True)
    return Tensor((x - x.mean((2, 3), keepdims=True)) / (deviation + np.float32(0.05)))
