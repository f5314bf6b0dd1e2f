"""What R-CNN and SPP-net put on the features of a region: a line a class, then a better box.

    features of regions ─┬─ K linear support vector machines, hard negatives mined ── scores
                         └─ K ridge regressions ──────────────────────────────────── deltas

Letters: ``R`` regions, ``F`` features, ``K`` classes.

Source: Girshick et al., "Rich feature hierarchies for accurate object detection and semantic
segmentation", 2014, sections 2.3 and 3.5, appendices B and C; constants of its published code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.autograd import no_grad
from cnncore.errors import ArgumentError, require
from cnncore.models.detection.detector import Detector
from cnncore.models.detection.truth import checked_truth
from cnncore.vision import DeltaCoder, DetectionSettings, Objects, box_iou, select_detections
from cnncore.vision.boxes import FloatArray, IntArray, Size

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StageSettings:
    """Support vector machines and ridge regression; the defaults are R-CNN's."""

    c: float = 1e-3  # what an example on the wrong side costs
    positive_weight: float = 2.0  # a positive one costs this many times as much
    bias: float = 10.0  # the constant feature that the intercept belongs to
    feature_norm: float = 20.0  # features are scaled to this length on average
    negative_iou: float = 0.3  # a region that overlaps every object of a class by less is negative
    hard_above: float = -1.0001  # negatives that score higher enter the cache,
    evict_below: float = -1.2  # those that score lower after training leave it
    retrain_every: int = 2000  # new negatives
    box_iou: float = 0.6  # regions that overlap an object by more learn to become it
    ridge: float = 1000.0  # λ
    coder: DeltaCoder = DeltaCoder()


@dataclass(frozen=True)
class ImageRegions:
    """Features of one image's regions; its true boxes are the first of them."""

    hidden: FloatArray  # (R, F) for the support vector machines
    pooled: FloatArray  # (R, F') for the boxes
    boxes: FloatArray  # (R, 4)
    labels: IntArray  # (G,) of the true boxes, which are rows 0..G-1

    def overlaps(self, label: int | None = None) -> FloatArray:
        """IoU ``(R, G')`` with the true boxes, or those of a class."""
        truth = self.boxes[: len(self.labels)]
        return box_iou(self.boxes, truth if label is None else truth[self.labels == label])


@dataclass(frozen=True)
class RegionStage:
    """What was learnt: scores and boxes are products with features."""

    weight: Floats  # (K, F)
    bias: Floats  # (K,)
    box_weight: Floats  # (K, F' + 1, 4), the last row for a constant feature
    settings: StageSettings

    def scores(self, hidden: FloatArray) -> Floats:
        """Margins ``(R, K)``: above 0 an object rather than not, 1 and more for certain."""
        margins: Floats = hidden @ self.weight.T + self.bias
        return margins

    def deltas(self, pooled: FloatArray) -> Floats:
        """``(R, K, 4)``"""
        shifts: Floats = np.einsum("rf,kfd->rkd", with_one(pooled), self.box_weight)
        return shifts


def with_one(x: FloatArray) -> Floats:
    """``(R, F)`` and a column of ones."""
    return np.concatenate([x, np.ones((len(x), 1), x.dtype)], 1).astype(np.float64)


def fit_stage(
    images: Sequence[ImageRegions], num_classes: int, settings: StageSettings = StageSettings()
) -> RegionStage:
    """Train both parts on the regions of the training images."""
    if not any(len(image.labels) for image in images):
        raise ArgumentError("images", "at least one true box", "none")
    lengths = np.concatenate([np.linalg.norm(image.hidden, axis=1) for image in images])
    scale = settings.feature_norm / max(float(lengths.mean()), 1e-12)
    lines = [fit_svm(images, label, scale, settings) for label in range(num_classes)]
    boxes = [fit_boxes(images, label, settings) for label in range(num_classes)]
    # The scale goes into the weights: features need none afterwards.
    weight = np.stack([w for w, _ in lines]) * scale
    return RegionStage(weight, np.array([b for _, b in lines]), np.stack(boxes), settings)


def fit_svm(
    images: Sequence[ImageRegions], label: int, scale: float, settings: StageSettings
) -> tuple[Floats, float]:
    """The line of one class: weights ``(F,)`` for scaled features, and intercept.

    Positive are the true boxes only.  One pass over the images: negatives that the line so far puts
    near or beyond its margin join the cache; after every ``retrain_every`` of them it is trained
    anew, and those far behind the margin, which have no say, are dropped.  A class without a true
    box scores −1 everywhere.
    """
    positive = np.concatenate(
        [image.hidden[: len(image.labels)][image.labels == label] for image in images]
    )
    weight, bias = np.zeros(positive.shape[1]), -1.0
    if not len(positive):
        return weight, bias
    cache, new, trained = positive[:0], 0, False
    for image in images:
        overlap = image.overlaps(label).max(1, initial=0.0)
        candidates = image.hidden[overlap < settings.negative_iou]
        if trained:
            margins = candidates @ weight * scale + bias
            candidates = candidates[margins > settings.hard_above]
        cache, new = np.concatenate([cache, candidates]), new + len(candidates)
        if new >= settings.retrain_every:
            weight, bias = train_svm(positive * scale, cache * scale, settings)
            cache = cache[cache @ weight * scale + bias >= settings.evict_below]
            new, trained = 0, True
    if new or not trained:
        weight, bias = train_svm(positive * scale, cache * scale, settings)
    return weight, bias


def train_svm(
    positive: FloatArray, negative: FloatArray, settings: StageSettings
) -> tuple[Floats, float]:
    """The least ``½|w|² + ½(b/β)² + C Σ cost · max(0, 1 − y (w·x + b))``: ``w`` and ``b``.

    ``β`` is ``settings.bias``.  Without negatives every region scores 1.
    """
    if not len(negative):
        return np.zeros(positive.shape[1]), 1.0
    svm = require("sklearn.svm", "vision").LinearSVC(
        loss="hinge",
        C=settings.c,
        class_weight={1: settings.positive_weight, 0: 1.0},
        intercept_scaling=settings.bias,
        random_state=0,
        max_iter=20_000,
    )
    x = np.concatenate([positive, negative]).astype(np.float64)
    svm.fit(x, np.repeat((1, 0), (len(positive), len(negative))))
    return np.asarray(svm.coef_[0], np.float64), float(svm.intercept_[0])


def fit_boxes(images: Sequence[ImageRegions], label: int, settings: StageSettings) -> Floats:
    """Weights ``(F' + 1, 4)`` from features to deltas towards the object of a class.

    Ridge regression to targets that were made uncorrelated and of unit variance.  A class without
    examples keeps its regions: zeros.
    """
    features, targets = [], []
    for image in images:
        rows = np.flatnonzero(image.labels == label)
        overlap = image.overlaps(label)
        if not len(rows):
            continue
        near = np.flatnonzero(overlap.max(1) > settings.box_iou)
        features.append(image.pooled[near])
        wanted = image.boxes[rows[overlap[near].argmax(1)]]
        targets.append(settings.coder.encode(wanted, image.boxes[near]))
    if not features:
        return np.zeros((images[0].pooled.shape[1] + 1, 4))
    x, y = with_one(np.concatenate(features)), np.concatenate(targets).astype(np.float64)
    mean = y.mean(0)
    values, vectors = np.linalg.eigh((y - mean).T @ (y - mean) / len(y))
    whiten = vectors * (1 / np.sqrt(values + 1e-3)) @ vectors.T
    back = vectors * np.sqrt(values + 1e-3) @ vectors.T
    weight: Floats = ridge(x, (y - mean) @ whiten, settings.ridge) @ back
    weight[-1] += mean
    return weight


def ridge(x: Floats, y: Floats, strength: float) -> Floats:
    """``(XᵀX + λI)⁻¹ Xᵀ Y``, from the smaller of the two systems, ``(F, D)``."""
    if len(x) < x.shape[1]:
        solution: Floats = x.T @ np.linalg.solve(x @ x.T + strength * np.eye(len(x)), y)
        return solution
    solution = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)
    return solution


class StagedDetector(Detector):
    """A network whose regions are scored by a stage that is fitted after it was trained.

    ``regions(outputs, image, boxes)`` gives the features of boxes of one image, ``proposals`` of
    the outputs the boxes, ``image_sizes`` the sizes.
    """

    stage: RegionStage | None = None
    detections: DetectionSettings

    def regions(self, outputs: Any, image: int, boxes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Features for the support vector machines ``(R, F)`` and for the boxes ``(R, F')``."""
        raise NotImplementedError

    def fit_stage(
        self,
        batches: Iterable[tuple[Any, Sequence[Any]]],
        settings: StageSettings = StageSettings(),
    ) -> RegionStage:
        """Train the stage on ``(outputs, targets)`` of the training images.

        The network runs in evaluation mode; all features are kept in memory.
        """
        self.eval()
        images = []
        for outputs, targets in batches:
            truth = checked_truth(targets, outputs.image_sizes, self.num_classes, with_masks=False)
            for image, (target, proposals) in enumerate(zip(truth, outputs.proposals, strict=True)):
                boxes = np.concatenate([target.boxes, proposals.astype(np.float32)])
                with no_grad():
                    hidden, pooled = self.regions(outputs, image, boxes)
                images.append(ImageRegions(hidden, pooled, boxes, target.labels))
        self.stage = fit_stage(images, self.num_classes, settings)
        return self.stage

    def decode(
        self, outputs: Any, settings: DetectionSettings | None = None, **changes: Any
    ) -> list[Objects]:
        """The detections of every image by descending score, which is a margin, not a probability.

        Suppression is within a class.  No gradient flows.
        """
        if self.stage is None:
            hint = "model.fit_stage(batches) first"
            raise ArgumentError("model.stage", "a fitted stage", None, hint)
        settings = replace(settings or self.detections, **changes)
        found = []
        sizes: Sequence[Size] = outputs.image_sizes
        for image, (proposals, size) in enumerate(zip(outputs.proposals, sizes, strict=True)):
            with no_grad():
                hidden, pooled = self.regions(outputs, image, proposals)
            margins = self.stage.scores(hidden)
            one = select_detections(
                np.concatenate([np.zeros_like(margins[:, :1]), margins], 1),
                self.stage.deltas(pooled),
                proposals,
                size,
                replace(settings, coder=self.stage.settings.coder),
            )
            found.append(Objects(one.boxes, one.labels, None, one.scores))
        return found
