"""R-CNN: every proposal is cut out, warped to one size and sent through a classifier on its own.

    image ─ proposals ─ warp 227×227 ─ conv1 … pool5 ─ fc6, fc7 ─┬─ K support vector machines
             (~2000)    16 of context     │                      └ (1 + K logits: fine-tuning)
                                          └─ K ridge regressions of the box

The network runs once a region: what Fast R-CNN does away with.

Letters: ``N 3 H W`` images, ``R`` regions, ``S`` side of a crop, ``K`` classes.

Source: Girshick et al., "Rich feature hierarchies for accurate object detection and semantic
segmentation", 2014, figure 1, sections 2 and 3.5.  Differences: see ``warp_crops``; the proposals
are given, so any method can make them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, beside, no_grad
from cnncore.errors import ArgumentError
from cnncore.geometry import as_int
from cnncore.models.detection.detector import checked_images
from cnncore.models.detection.region_stage import StagedDetector
from cnncore.models.detection.resize import Resize
from cnncore.models.detection.truth import checked_truth
from cnncore.nn import Flatten, Linear, Module, Sequential, init
from cnncore.vision import BalancedSampler, DetectionSettings, IouMatcher
from cnncore.vision.boxes import FloatArray, Size, as_boxes
from cnncore.vision.crops import warp_crops

Rng = np.random.Generator


@dataclass(frozen=True)
class CropSettings:
    """All of R-CNN; the defaults are the paper's with AlexNet."""

    network: str = "alexnet_two_tower"  # a classifier of modules in a row
    crop: int = 227  # S
    context: int = 16  # pixels of the crop around the region
    chunk: int = 128  # crops that run together
    matcher: IouMatcher = IouMatcher(0.5, 0.5)
    sampler: BalancedSampler = BalancedSampler(128, 0.25)  # of fine-tuning, an image
    detections: DetectionSettings = DetectionSettings(score_threshold=-1.0, nms_threshold=0.3)
    resize: Resize | None = Resize(
        min_size=500, max_size=500, divisor=1, mean=(0.485, 0.456, 0.406), std=(1.0, 1.0, 1.0)
    )


@dataclass(frozen=True)
class CropOutputs:
    """Images and where to look: the network runs when it is known which regions count."""

    images: FloatArray  # (N, 3, H, W)
    proposals: list[FloatArray]  # (R, 4) of each image
    image_sizes: list[Size]


def checked_proposals(proposals: Sequence[Any], count: int) -> list[FloatArray]:
    """One array of boxes with area ``(R, 4)`` an image."""
    if len(proposals) != count:
        raise ArgumentError("proposals", f"boxes for each image, {count}", len(proposals))
    return [
        as_boxes(boxes, f"proposals[{image}]", positive=True).astype(np.float32)
        for image, boxes in enumerate(proposals)
    ]


def split_classifier(model: Module) -> tuple[Sequential, Sequential, Linear]:
    """Of modules in a row: those up to ``Flatten``, those up to the last ``Linear``, and that.

    >>> from cnncore.models import outline
    >>> [len(part) for part in split_classifier(outline("alexnet_two_tower"))[:2]]
    [15, 7]
    """
    rows: list[Module] = []

    def split(module: Module) -> None:
        for child in module.children().values():
            split(child) if type(child) is Sequential else rows.append(child)

    split(model)
    flat = [i for i, module in enumerate(rows) if isinstance(module, Flatten)]
    # Other networks may have the same parts and run them in another order.
    in_a_row = isinstance(model, Sequential) or {"features", "classifier"} <= set(model.children())
    if not in_a_row or len(flat) != 1 or not isinstance(rows[-1], Linear):
        raise ArgumentError(
            "classifier",
            "modules in a row with one Flatten, the last a Linear",
            type(model).__name__,
        )
    return Sequential(*rows[: flat[0]]), Sequential(*rows[flat[0] : -1]), rows[-1]


class Rcnn(StagedDetector):
    """R-CNN for ``num_classes`` real classes on a classifier of settings or a given one.

    ``model(images, proposals)`` -> ``CropOutputs``; ``model.loss(outputs, targets, rng)``
    fine-tunes the network; ``model.fit_stage(batches)`` trains the support vector machines and the
    boxes; ``model.decode(outputs)`` -> one ``vision.Objects`` an image.
    """

    def __init__(
        self,
        num_classes: int,
        settings: CropSettings = CropSettings(),
        classifier: Module | None = None,
    ) -> None:
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.settings, self.resize = settings, settings.resize
        self.detections = settings.detections
        if classifier is None:
            from cnncore.models import create  # which imports the detectors

            classifier = create(settings.network, num_classes=1)
        self.features, self.hidden, last = split_classifier(classifier)
        self.predictor = Linear(last.in_features, 1 + num_classes)
        init.normal_(self.predictor.weight, std=0.01)
        init.constant_(self.predictor.bias, 0.0)  # type: ignore[type-var]

    def forward(
        self, images: Any, proposals: Sequence[Any], image_sizes: Sequence[Size] | None = None
    ) -> CropOutputs:
        """Images ``(N, 3, H, W)`` and boxes ``(R, 4)`` for each; sizes as for ``FasterRcnn``."""
        x, sizes = checked_images(images, image_sizes)
        return CropOutputs(x.numpy(), checked_proposals(proposals, len(sizes)), sizes)

    def crops(self, outputs: CropOutputs, image: int, boxes: FloatArray) -> FloatArray:
        """``(R, 3, S, S)``; what is padding in the batch is outside of the image."""
        height, width = outputs.image_sizes[image]
        inside = outputs.images[image, :, :height, :width]
        return warp_crops(inside, boxes, self.settings.crop, self.settings.context)

    def loss(self, outputs: CropOutputs, targets: Sequence[Any], rng: Rng) -> dict[str, Tensor]:
        """``class``: cross-entropy of sampled regions, mean; 0 where there are none.

        A quarter of them overlaps an object by half or more; true boxes are regions, too.
        """
        truth = checked_truth(targets, outputs.image_sizes, self.num_classes, with_masks=False)
        crops, labels = [], []
        for image, (target, proposed) in enumerate(zip(truth, outputs.proposals, strict=True)):
            boxes = np.concatenate([target.boxes, proposed])
            matches = self.settings.matcher.match(target.boxes, boxes)
            positive, negative = self.settings.sampler(np.sign(matches + 1), rng)
            crops.append(self.crops(outputs, image, boxes[np.concatenate([positive, negative])]))
            labels += [target.labels[matches[positive]] + 1, np.zeros(len(negative), np.int64)]
        like = self.predictor.weight
        if not sum(len(c) for c in crops):
            return {"class": beside(like, np.zeros((), like.dtype))}
        x = beside(like, np.concatenate(crops).astype(like.dtype))
        logits = self.predictor(self.hidden(self.features(x)))
        return {"class": ops.cross_entropy(logits, beside(logits, np.concatenate(labels)))}

    def regions(
        self, outputs: CropOutputs, image: int, boxes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Of the last hidden layer and of the last map, flattened."""
        like, found = self.predictor.weight, []
        with no_grad():
            # One run at least, so that no region has its number of features, too.
            for start in range(0, max(1, len(boxes)), self.settings.chunk):
                crops = self.crops(outputs, image, boxes[start : start + self.settings.chunk])
                pooled = self.features(beside(like, crops.astype(like.dtype)))
                hidden = self.hidden(pooled).numpy()
                found.append((hidden, ops.flatten(pooled, 1).numpy()))
        return np.concatenate([h for h, _ in found]), np.concatenate([p for _, p in found])


def rcnn_alexnet(num_classes: int = 20, **changes: Any) -> Rcnn:
    """R-CNN on AlexNet, 57.0 M parameters for VOC; ``changes`` replace fields of settings."""
    return Rcnn(num_classes, CropSettings(**changes))
