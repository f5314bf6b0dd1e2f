"""What the experiments share: small scenes, one way to train, one way to score.

Letters: ``N C H W`` images, ``K`` classes, background counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, no_grad
from cnncore.data import Items, Loader, Sample, Scenes, SceneSettings, digits
from cnncore.models.segmentation import Segmenter
from cnncore.study.experiment import Settings
from cnncore.train import Recipe, fit
from cnncore.train.tasks import standardised
from cnncore.vision import boundary_f1, confusion_matrix, mean_iou

EVALUATION_BATCH = 25
# Settings that ``train_and_score`` reads.  Classes are the first digits: 0, 1, … and background.
TRAINING: dict[str, Any] = {
    "size": 64,
    "digits": 3,
    "digit_pixels": (21, 32),
    "train_scenes": 512,
    "test_scenes": 100,
    "split": "test",
    "steps": 400,
    "batch_size": 8,
    "learning_rate": 0.005,
}


@functools.cache
def first_digits(split: str, count: int) -> Items:
    """The digits 0 … ``count − 1`` of a split."""
    every = digits(split)
    kept = every.labels < count
    return Items(
        every.images[kept], every.labels[kept], every.class_names[:count], every.source[kept]
    )


@functools.lru_cache(maxsize=16)
def scenes(
    split: str, count: int, seed: int, classes: int, look: SceneSettings
) -> tuple[Sample, ...]:
    """Scenes of the first digits, made once: all conditions of a seed train on the same."""
    source = Scenes(split, count, seed, first_digits(split, classes), look)
    return tuple(source[index] for index in range(count))


def look_of(settings: Settings) -> SceneSettings:
    """Up to three digits of ``digit_pixels`` (least, most) on faint textures."""
    size, (least, most) = settings["size"], settings["digit_pixels"]
    return SceneSettings((size, size), objects=(1, 3), item_side=(least, most), texture=0.5)


def train(
    model: Segmenter,
    samples: Sequence[Sample],
    settings: Settings,
    seed: int,
    criterion: Callable[[Tensor, Any], Tensor] | None = None,
    background: float = 0.3,
) -> None:
    """AdamW with warm-up and cosine decay over ``steps`` batches in a seeded order.

    The cross-entropy counts ``background`` pixels less at first, growing to 1 at the end: without
    that nothing but background is found for long.  ``criterion`` replaces it.
    """
    recipe = Recipe(
        steps=settings["steps"],
        batch_size=min(settings["batch_size"], len(samples)),
        learning_rate=settings["learning_rate"],
        warmup_steps=min(20, settings["steps"] // 4),
        seed=seed,
    )

    def loss(batch: Sequence[Sample], rng: Any, progress: float) -> dict[str, Tensor]:
        logits = model(standardised(batch))
        if criterion is not None:
            return model.loss(logits, batch, criterion=criterion)
        weights = np.ones(model.num_classes, np.float32)
        weights[0] = background + (1 - background) * progress
        return model.loss(logits, batch, class_weights=weights)

    def batches(step: int) -> Any:
        loader = Loader(samples, recipe.batch_size, seed=seed, drop_last=True)
        return (batch for _, _, batch in loader.forever(*divmod(step, len(loader))))

    history = fit(model, loss, batches, recipe, progress=False)
    if history.steps < recipe.steps:  # the first Ctrl-C ends training early, and quietly
        raise KeyboardInterrupt


def label_maps(model: Segmenter, samples: Sequence[Sample]) -> list[Any]:
    """The likeliest class of every pixel, ``(H, W)`` an image."""
    return list(probabilities(model, samples).argmax(1))


def probabilities(model: Segmenter, samples: Sequence[Sample]) -> Any:
    """``(N, K, H, W)``, in evaluation mode."""
    model.eval()
    found = []
    with no_grad():
        for start in range(0, len(samples), EVALUATION_BATCH):
            logits = model(standardised(samples[start : start + EVALUATION_BATCH]))
            found.append(ops.softmax(logits, 1).numpy())
    return np.concatenate(found)


def scores(predicted: Sequence[Any], samples: Sequence[Sample], classes: int) -> dict[str, float]:
    """``mean IoU`` over all classes; ``boundary F1`` (1 pixel) over all but background."""
    truth = [sample.semantic for sample in samples]
    confusion = np.zeros((classes, classes), np.int64)
    for a, b in zip(truth, predicted, strict=True):
        confusion += confusion_matrix(a, b, classes)
    edges = boundary_f1(truth, list(predicted), classes, tolerance=1.0)[1:]
    known = edges[edges >= 0]
    return {
        "mean IoU": mean_iou(confusion),
        "boundary F1": float(known.mean()) if len(known) else 0.0,
    }


def train_and_score(model: Segmenter, settings: Settings, seed: int) -> dict[str, float]:
    """``mean IoU``, ``boundary F1`` and learned ``parameters`` of the model trained so."""
    classes, look = settings["digits"], look_of(settings)
    train(model, scenes("train", settings["train_scenes"], seed, classes, look), settings, seed)
    unseen = scenes(settings["split"], settings["test_scenes"], 0, classes, look)
    found = scores(label_maps(model, unseen), unseen, classes + 1)
    learned = sum(p.size for p in model.parameters() if p.requires_grad)
    return {**found, "parameters": float(learned)}
