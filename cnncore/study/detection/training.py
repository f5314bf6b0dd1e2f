"""What the trained experiments share: small scenes, one way to train and to score a detector."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnncore.autograd import Tensor, no_grad
from cnncore.data import Sample
from cnncore.models.detection import Detector
from cnncore.study import shared
from cnncore.study.experiment import Settings
from cnncore.study.shared import look_of, scenes
from cnncore.train.tasks import batches_of_one_size, images_of
from cnncore.vision import Objects, coco_metrics

# Settings of scenes and training.  Classes are the first digits: 0, 1, …
TRAINING: dict[str, Any] = {
    "size": 64,
    "digits": 3,
    "digit_pixels": (20, 40),
    "train_scenes": 512,
    "test_scenes": 200,
    "split": "test",
    "steps": 500,
    "batch_size": 8,
    "learning_rate": 0.003,
}


def train_set(settings: Settings, seed: int) -> tuple[Sample, ...]:
    """The scenes that all conditions of a seed train on."""
    count = settings["train_scenes"]
    return scenes("train", count, seed, settings["digits"], look_of(settings))


def test_set(settings: Settings) -> tuple[Sample, ...]:
    """The scenes that all runs are scored on."""
    count = settings["test_scenes"]
    return scenes(settings["split"], count, 0, settings["digits"], look_of(settings))


def train(model: Detector, samples: Sequence[Sample], settings: Settings, seed: int) -> None:
    """Any detector that needs no proposals from outside."""
    draws = "rng" in inspect.signature(model.loss).parameters  # type: ignore[attr-defined]

    def loss(batch: Sequence[Sample], rng: Any, progress: float) -> dict[str, Tensor]:
        outputs = model(images_of(batch))
        terms: dict[str, Tensor] = model.loss(outputs, batch, *([rng] if draws else []))  # type: ignore[attr-defined]
        return terms

    shared.train(model, loss, samples, settings, seed)


def detections(model: Detector, samples: Sequence[Sample], **changes: Any) -> list[Objects]:
    """What the model finds, in evaluation mode."""
    model.eval()
    found: list[Objects] = []
    with no_grad():
        for _, batch in batches_of_one_size(samples):
            found += model.decode(model(images_of(batch)), **changes)
    return found


def truth_of(samples: Sequence[Sample]) -> list[Objects]:
    """The true objects of scenes."""
    return [Objects(s.boxes, s.labels, s.masks) for s in samples]


def terciles(areas: Sequence[float]) -> tuple[float, float]:
    """Areas between the smallest third, the middle one and the largest.

    >>> terciles([1, 2, 3, 4, 5, 6, 7])
    (3.0, 5.0)
    """
    lower, upper = np.quantile(np.asarray(areas, np.float64), (1 / 3, 2 / 3))
    return float(lower), float(upper)


def areas_of(samples: Sequence[Sample], kind: str) -> list[float]:
    """Pixels of every object's box or mask."""
    found: list[float] = []
    for sample in samples:
        sides = sample.boxes[:, 2:] - sample.boxes[:, :2]
        found += (sides.prod(1) if kind == "boxes" else sample.masks.sum((1, 2))).tolist()
    return found


def scores(
    found: Sequence[Objects], samples: Sequence[Sample], kind: str = "boxes"
) -> dict[str, float]:
    """COCO's numbers; small, medium and large are the thirds of these scenes' objects by area."""
    areas = terciles(areas_of(samples, kind))
    return coco_metrics(found, truth_of(samples), kind, areas)
