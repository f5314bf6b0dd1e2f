"""What the experiments share: small scenes, one way to train, one way to score.

Letters: ``N C H W`` images, ``K`` classes, background counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, no_grad
from cnncore.data import Sample
from cnncore.models.segmentation import Segmenter
from cnncore.study import shared
from cnncore.study.experiment import Settings
from cnncore.study.shared import look_of, scenes
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

    def loss(batch: Sequence[Sample], rng: Any, progress: float) -> dict[str, Tensor]:
        logits = model(standardised(batch))
        if criterion is not None:
            return model.loss(logits, batch, criterion=criterion)
        weights = np.ones(model.num_classes, np.float32)
        weights[0] = background + (1 - background) * progress
        return model.loss(logits, batch, class_weights=weights)

    shared.train(model, loss, samples, settings, seed)


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
