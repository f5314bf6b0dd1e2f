"""Classification and localisation: one object a picture, its class and its box.

    image ─ classifier without its last layer ─┬─ K logits
                                               └─ 4 numbers, or 4 a class

    loss = cross-entropy + λ |box − true box|²      box: centre, width, height as parts of the image

Letters: ``N 3 H W`` images, ``K`` classes, ``F`` features.

Source: Sermanet et al., "OverFeat", 2014, section 4; Simonyan & Zisserman, "Very Deep Convolutional
Networks", 2015, appendix A (shared: single-class regression; per class: 4 · 1000 outputs).
Difference: both heads share the network and are trained at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore import ops
from cnncore.autograd import Tensor, beside
from cnncore.errors import ArgumentError
from cnncore.geometry import as_int
from cnncore.models.detection.detector import Detector, checked_images
from cnncore.models.detection.rcnn import split_classifier
from cnncore.models.detection.resize import Resize
from cnncore.models.detection.truth import checked_truth
from cnncore.nn import Linear, Module, init
from cnncore.vision import NOTHING, Objects, box_convert, box_iou
from cnncore.vision.boxes import IntArray, Size


@dataclass(frozen=True)
class LocalizerSettings:
    """Heads and loss; the defaults are VGG's."""

    network: str = "vgg16"  # a classifier of modules in a row
    per_class: bool = True  # a box a class, or one for all
    box_weight: float = 1.0  # λ
    guesses: int = 5  # classes that ``decode`` names
    resize: Resize | None = Resize(divisor=1, fixed=(224, 224))


@dataclass(frozen=True)
class LocalizerOutputs:
    """Logits, and boxes as parts of the image."""

    logits: Tensor  # (N, K)
    boxes: Tensor  # (N, K, 4) or (N, 1, 4): centre x, y, width, height
    image_sizes: list[Size]


class Localizer(Detector):
    """A classifier that says where, for ``num_classes`` classes; there is no background.

    ``model(images)`` -> ``LocalizerOutputs``; ``model.loss(outputs, targets)`` -> ``class`` and
    ``box``; ``model.decode(outputs)`` -> one ``vision.Objects`` an image: the best classes, each
    with its box.  ``classifier``: another network of modules in a row.
    """

    def __init__(
        self,
        num_classes: int,
        settings: LocalizerSettings = LocalizerSettings(),
        classifier: Module | None = None,
    ) -> None:
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.settings, self.resize = settings, settings.resize
        if classifier is None:
            from cnncore.models import create  # which imports the detectors

            classifier = create(settings.network, num_classes=1)
        self.features, self.hidden, last = split_classifier(classifier)
        self.classes = Linear(last.in_features, num_classes)
        self.places = Linear(last.in_features, 4 * (num_classes if settings.per_class else 1))
        for layer in (self.classes, self.places):
            init.normal_(layer.weight, std=0.01)
        assert self.places.bias is not None
        init.constant_(self.classes.bias, 0.0)  # type: ignore[type-var]
        init.constant_(self.places.bias, 0.5)  # the middle half of the image

    def forward(self, images: Any, image_sizes: Sequence[Size] | None = None) -> LocalizerOutputs:
        """Logits and boxes of images ``(N, 3, H, W)`` of the size that the network takes."""
        x, sizes = checked_images(images, image_sizes)
        hidden = self.hidden(self.features(x))
        logits, places = self.classes(hidden), self.places(hidden)
        return LocalizerOutputs(
            logits, places.reshape((x.shape[0], places.shape[1] // 4, 4)), sizes
        )

    def loss(self, outputs: LocalizerOutputs, targets: Sequence[Any]) -> dict[str, Tensor]:
        """``class``: cross-entropy; ``box``: λ times the squared distance of the true class's box.

        Means over images.  Each target has exactly one object.
        """
        truth = checked_truth(targets, outputs.image_sizes, self.num_classes, with_masks=False)
        for image, target in enumerate(truth):
            if len(target.boxes) != 1:
                name = f"targets[{image}].boxes"
                raise ArgumentError(name, "one object", len(target.boxes), "a detector")
        labels = np.array([t.labels[0] for t in truth], np.int64)
        wanted = np.zeros((len(truth), 4))
        for row, target, (height, width) in zip(wanted, truth, outputs.image_sizes, strict=True):
            row[:] = box_convert(target.boxes, "xyxy", "cxcywh")[0] / ([width, height] * 2)
        which = labels if self.settings.per_class else np.zeros_like(labels)
        boxes = outputs.boxes[np.arange(len(truth)), which]
        away = boxes - beside(boxes, wanted.astype(boxes.dtype))
        share = self.settings.box_weight / max(1, len(truth))
        entropy = ops.cross_entropy(outputs.logits, beside(boxes, labels), reduction="sum") * (
            1 / max(1, len(truth))
        )
        return {"class": entropy, "box": ops.sum(away * away) * share}

    def decode(
        self, outputs: LocalizerOutputs, guesses: int | None = None, **changes: Any
    ) -> list[Objects]:
        """The most probable classes of each image with their boxes, best first."""
        if changes:
            raise ArgumentError("changes", "guesses alone", sorted(changes))
        count = as_int("guesses", self.settings.guesses if guesses is None else guesses, 1)
        chances = ops.softmax(outputs.logits.detach(), 1).numpy()
        places, found = outputs.boxes.numpy(), []
        for image, (height, width) in enumerate(outputs.image_sizes):
            best = np.argsort(-chances[image], kind="stable")[:count]
            parts = np.array(places[image][best if self.settings.per_class else best * 0])
            parts[:, 2:] = np.maximum(parts[:, 2:], 0)
            scaled = parts * np.array([width, height] * 2, parts.dtype)
            boxes = box_convert(scaled, "cxcywh", "xyxy")
            found.append(Objects(boxes, best.astype(np.int64), None, chances[image][best]))
        return found


def localization_iou(predictions: Sequence[Objects], truth: Sequence[Any]) -> NDArray[np.float64]:
    """IoU ``(N,)`` of the first predicted box of each image with its one true box, class or not."""
    pairs = list(_pairs(predictions, truth))
    return np.array([box_iou(p.boxes[:1], t.boxes)[0, 0] for p, t in pairs], np.float64)


def localization_scores(
    predictions: Sequence[Objects], truth: Sequence[Any], iou: float = 0.5
) -> dict[str, float]:
    """``mean IoU`` of the first guess, and the shares of images that are hit.

    ``accuracy``: the first guess has the right class; ``top 1``: and a box of at least ``iou``;
    ``top k``: some guess has both (ImageNet's localisation, with 5 guesses).  -1 without images.
    """
    pairs = list(_pairs(predictions, truth))
    if not pairs:
        return dict.fromkeys(("mean IoU", "accuracy", "top 1", "top k"), NOTHING)
    right = [_right(p.labels, t.labels) for p, t in pairs]
    near = [box_iou(p.boxes, t.boxes)[:, 0] >= iou for p, t in pairs]
    hits = [a & b for a, b in zip(right, near, strict=True)]
    return {
        "mean IoU": float(localization_iou(predictions, truth).mean()),
        "accuracy": float(np.mean([r[0] for r in right])),
        "top 1": float(np.mean([h[0] for h in hits])),
        "top k": float(np.mean([h.any() for h in hits])),
    }


def _right(labels: IntArray, true: IntArray) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = labels == true[0]
    return same


def _pairs(predictions: Sequence[Objects], truth: Sequence[Any]) -> Any:
    if len(predictions) != len(truth):
        raise ArgumentError("predictions", f"one an image, {len(truth)}", len(predictions))
    for image, (found, true) in enumerate(zip(predictions, truth, strict=True)):
        if len(true.boxes) != 1 or not len(found.boxes):
            got = f"{len(true.boxes)} true boxes, {len(found.boxes)} guesses"
            raise ArgumentError(f"truth[{image}]", "one true box and a guess", got)
        yield found, true


__all__ = [
    "Localizer",
    "LocalizerOutputs",
    "LocalizerSettings",
    "localization_iou",
    "localization_scores",
]
