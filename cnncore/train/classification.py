"""Classifiers that train in a minute or a few: LeNet-5 on digits, a small ResNet on clothes.

Letters: ``N C H W`` images, ``K`` classes, ``S`` the side of an item's picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnncore import models, ops
from cnncore.autograd import Tensor, beside
from cnncore.data import Items, digits, fashion_mnist
from cnncore.models.classification.resnet import SmallResNet
from cnncore.nn import Module, init
from cnncore.train.loop import LossTerms, Recipe, Rng
from cnncore.train.tasks import Task, Tasks

Images = NDArray[np.float32]  # (N, 1, S, S)


class Labelled(NamedTuple):
    """One picture ``(S, S)`` in 0..1 and its class."""

    image: NDArray[np.float32]
    label: int


class LabelledSet:
    """Items as a data set of ``Labelled``."""

    def __init__(self, items: Items) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int, /) -> Labelled:
        return Labelled(self.items.images[index], int(self.items.labels[index]))


def stacked(samples: Sequence[Labelled]) -> Images:
    """All pictures in one array."""
    return np.stack([sample.image for sample in samples])[:, None]


def classification_task(
    name: str,
    model: Module,
    recipe: Recipe,
    items: Callable[[str], Items],
    prepare: Callable[[Images], Images],
    augment: Callable[[Images, Rng], Images],
    label_smoothing: float = 0.0,
) -> Task:
    """Cross-entropy and accuracy of ``model(prepare(images))`` on the splits of ``items``.

    ``augment`` changes prepared training images.
    """

    def loss(batch: Sequence[Labelled], rng: Rng, progress: float) -> LossTerms:
        logits = model(Tensor(augment(prepare(stacked(batch)), rng)).to(model.device))
        labels = beside(logits, np.array([sample.label for sample in batch]))
        return {"entropy": ops.cross_entropy(logits, labels, label_smoothing=label_smoothing)}

    def there(samples: Sequence[Labelled]) -> Tensor:
        return Tensor(prepare(stacked(samples))).to(model.device)

    def predict(samples: Sequence[Labelled]) -> list[Any]:
        classes: list[Any] = model(there(samples)).numpy().argmax(1).tolist()
        return classes

    def score(predictions: Sequence[Any], samples: Sequence[Labelled]) -> dict[str, float]:
        right = [p == sample.label for p, sample in zip(predictions, samples, strict=True)]
        return {"accuracy": float(np.mean(right))}

    def held_out(split: str, count: int) -> list[Labelled]:
        chosen = LabelledSet(items(split))
        return [chosen[index] for index in range(min(count, len(chosen)))]

    return Task(
        *(name, model, recipe, loss, predict, score, ("accuracy",)),
        training_set=lambda seed: LabelledSet(items("train")),
        held_out=held_out,
        held_out_count=10_000,
        noun="pictures",
    )


def shifted(images: Images, rng: Rng, most: int) -> Images:
    """Each image moved by up to ``most`` pixels; what comes in repeats the edge."""
    padded = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)), "edge")
    side = images.shape[2]
    starts = rng.integers(0, 2 * most + 1, (len(images), 2))
    moved = [p[:, i : i + side, j : j + side] for p, (i, j) in zip(padded, starts, strict=True)]
    return np.stack(moved)


# --- LeNet-5 --------------------------------------------------------------------------------------


def digits_for_lenet(images: Images) -> Images:
    """Digits of 8×8 as the paper has its own: 24×24 in 32×32, background −0.1, ink 1.175."""
    large = ops.interpolate(Tensor(images), scale_factor=3, mode="bilinear", align_corners=False)
    field: Images = (ops.pad(large, (4, 4, 4, 4)) * 1.275 - 0.1).numpy()
    return field


def digits_task(recipe: Recipe) -> Task:
    """LeNet-5 of 1998 on 1,097 digits, moved within their field."""
    init.seed(recipe.seed)
    model = models.create("lenet5", num_classes=10)

    def augment(images: Images, rng: Rng) -> Images:
        return shifted(images, rng, 2)

    return classification_task("lenet5", model, recipe, digits, digits_for_lenet, augment)


# --- a small residual network ---------------------------------------------------------------------


def fashion_task(recipe: Recipe) -> Task:
    """A ResNet of 8 layers on Fashion-MNIST, pictures mirrored and moved by up to one pixel."""
    init.seed(recipe.seed)
    model = SmallResNet(num_classes=10, channels=1, blocks=1)

    def prepare(images: Images) -> Images:
        # mean and standard deviation of the training pixels
        normalised: Images = (images - np.float32(0.286)) / np.float32(0.353)
        return normalised

    def augment(images: Images, rng: Rng) -> Images:
        mirror = rng.random(len(images)) < 0.5
        images = np.where(mirror[:, None, None, None], images[..., ::-1], images)
        return shifted(images, rng, 1)

    return classification_task(
        "resnet_fashion", model, recipe, fashion_mnist, prepare, augment, label_smoothing=0.05
    )


CLASSIFICATION: Tasks = {
    "lenet5": (digits_task, Recipe(steps=2000, batch_size=32, learning_rate=0.001)),
    "resnet_fashion": (fashion_task, Recipe(steps=5000, batch_size=64, learning_rate=0.005)),
}
