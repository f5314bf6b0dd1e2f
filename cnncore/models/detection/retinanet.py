"""RetinaNet: a class and a box for every anchor of a pyramid, with no second look.

    images ─ backbone (ResNet-FPN) ─ P3 … P7 ─┬─ 4 × (3×3, ReLU) ─ 3×3 ── A · (1 + K) logits
             C3 … C5, then 3×3 of stride 2    └─ 4 × (3×3, ReLU) ─ 3×3 ── A · 4 deltas

Of a hundred thousand anchors a handful hold an object; the focal loss fades where the network is
right already, so that the others do not drown them.

Letters: ``N 3 H W`` images, ``T`` anchors of an image, ``A = 9`` a cell, ``K`` classes.

Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, figure 3 and section 4.  The
defaults and keys are torchvision's ``retinanet_resnet50_fpn``.  Differences from the paper, as
there: P6 comes from P5 instead of C5; the box loss is L1 (the paper: smooth L1); each image's loss
is divided by its own positive anchors, then the mean is taken; anchors' sizes are whole numbers;
every true box gets its best anchors.  There is a column for background, never a target: the
labels of the public weights count from 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, beside, events, no_grad
from cnncore.geometry import as_int
from cnncore.models.backbones import Body, ResNetFpn, ResNetSettings
from cnncore.models.backbones.fpn import conv_block
from cnncore.models.detection.detector import (
    DenseOutputs,
    Detector,
    by_anchor,
    checked_images,
    freeze_stages,
)
from cnncore.models.detection.resize import Resize
from cnncore.models.detection.truth import Truth, checked_truth
from cnncore.nn import Conv2d, Module, Sequential, init
from cnncore.vision import (
    BACKGROUND,
    BETWEEN,
    AnchorSettings,
    DeltaCoder,
    DetectionSettings,
    IouMatcher,
    Objects,
    level_strides,
    make_anchors,
    select_dense_detections,
)
from cnncore.vision.boxes import FloatArray, IntArray, Size

# Three sizes an octave: x, x · 2^(1/3), x · 2^(2/3), cut to whole pixels.
OCTAVES = tuple(
    tuple(float(int(base * 2 ** (third / 3) + 1e-9)) for third in range(3))
    for base in (32, 64, 128, 256, 512)
)


@dataclass(frozen=True)
class RetinaNetSettings:
    """All of RetinaNet; the defaults are torchvision's with ResNet-50-FPN."""

    body: Body = ResNetSettings(norm="frozen_exact")  # or ClassifierBody("mobilenet_v2"), …
    frozen_stages: int = 0  # not trained: 1 the stem, 2 layer1, too, …
    fpn_channels: int = 256
    fpn_norm: str | None = None
    layers: int = 4  # convolutions of each head before its last
    anchors: AnchorSettings = AnchorSettings(sizes=OCTAVES)
    matcher: IouMatcher = IouMatcher(0.5, 0.4, low_quality=True)
    alpha: float = 0.25  # weight of an object against background
    gamma: float = 2.0  # how fast an anchor that is right loses its say
    prior: float = 0.01  # the probability of an object that training starts with
    detections: DetectionSettings = DetectionSettings(
        max_detections=300, candidates=1000, coder=DeltaCoder()
    )
    resize: Resize | None = Resize()


class DenseHead(Module):
    """Convolutions 3×3 with ReLU, then one to ``values`` numbers an anchor; all levels alike."""

    shown = ("values",)

    def __init__(self, channels: int, layers: int, anchors: int, values: int, name: str) -> None:
        self.values, self.last = values, name
        self.conv = Sequential(*(conv_block(channels, channels, 3, None) for _ in range(layers)))
        setattr(self, name, Conv2d(channels, anchors * values, 3, padding=1))
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.normal_(parameter, std=0.01)  # section 4.1
            else:
                init.constant_(parameter, 0.0)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """L maps ``(N, C, H_l, W_l)`` to ``(N, T, values)``."""
        results = []
        for x in features:
            for block in self.conv:
                x = ops.relu(block(x))
            results.append(by_anchor(getattr(self, self.last)(x), self.values))
        return ops.cat(results, 1)


class RetinaHead(Module):
    """The two heads, which share nothing."""

    def __init__(self, settings: RetinaNetSettings, classes: int) -> None:
        channels, layers = settings.fpn_channels, settings.layers
        anchors = settings.anchors.per_cell(0)
        head = DenseHead(channels, layers, anchors, classes, "cls_logits")
        bias = -math.log((1 - settings.prior) / settings.prior)
        init.constant_(head.cls_logits.bias, bias)  # type: ignore[attr-defined]
        self.classification_head = head
        self.regression_head = DenseHead(channels, layers, anchors, 4, "bbox_reg")

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits ``(N, T, 1 + K)`` and deltas ``(N, T, 4)``."""
        return self.classification_head(features), self.regression_head(features)


class RetinaNet(Detector):
    """RetinaNet for ``num_classes`` real classes.

    ``model(images, image_sizes)`` -> ``DenseOutputs``; ``model.loss(outputs, targets)`` -> named
    terms; ``model.decode(outputs)`` -> one ``vision.Objects`` an image.
    """

    def __init__(self, num_classes: int, settings: RetinaNetSettings = RetinaNetSettings()) -> None:
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.settings, self.resize = settings, settings.resize
        self.backbone = ResNetFpn(
            settings.body,
            settings.fpn_channels,
            settings.fpn_norm,
            extra_level=False,
            first_stage=1,
            coarser=True,
        )
        freeze_stages(self.backbone.body, settings.frozen_stages)
        self.head = RetinaHead(settings, 1 + num_classes)

    def forward(self, images: Any, image_sizes: Sequence[Size] | None = None) -> DenseOutputs:
        """Logits and deltas of images ``(N, 3, H, W)``; sizes as for ``FasterRcnn``."""
        x, sizes = checked_images(images, image_sizes)
        features = self.backbone(x)
        shapes = [(f.shape[2], f.shape[3]) for f in features]
        strides = level_strides(shapes, 3, (x.shape[2], x.shape[3]))
        anchors = make_anchors(self.settings.anchors, shapes, strides)
        if events.observers:
            events.emit("note", "anchors", (self,), (anchors,))
        logits, deltas = self.head(features)
        return DenseOutputs(logits, deltas, anchors, sizes)

    def loss(self, outputs: DenseOutputs, targets: Sequence[Any]) -> dict[str, Tensor]:
        """``class``: focal loss of all anchors; ``box``: L1 of the positive ones' deltas.

        Both are sums over an image's anchors, divided by the number of its positive ones (at least
        1), then means over images.  Anchors whose best IoU lies between the two thresholds do not
        count.  ``targets`` have ``boxes`` and ``labels``; images without objects are legal.
        """
        truth = checked_truth(targets, outputs.image_sizes, self.num_classes, with_masks=False)
        rows, positive, labels, wanted, share = self._match(outputs.all_anchors, truth)
        logits = outputs.logits.reshape((-1, self.num_classes + 1))
        hot = np.zeros((logits.shape[0], logits.shape[1]), logits.dtype)
        hot[positive, 1 + labels] = 1
        focal = ops.sigmoid_focal_loss(
            logits[rows], beside(logits, hot[rows]), self.settings.alpha, self.settings.gamma
        )
        shift = ops.l1_loss(
            outputs.deltas.reshape((-1, 4))[positive],
            beside(logits, wanted.astype(logits.dtype)),
            reduction="none",
        )
        each = share.astype(logits.dtype)[:, None]
        return {
            "class": ops.sum(focal * beside(focal, each[rows])),
            "box": ops.sum(shift * beside(shift, each[positive])),
        }

    def _match(
        self, anchors: FloatArray, truth: Sequence[Truth]
    ) -> tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray]:
        """Indices into ``N · T`` of counted and positive anchors; these ones' labels and deltas.

        Last, the weight of every anchor.
        """
        rows, positives = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        labels, deltas = [np.zeros(0, np.int64)], [np.zeros((0, 4), np.float32)]
        share = np.zeros(len(truth) * len(anchors))
        for image, target in enumerate(truth):
            matches, first = (
                self.settings.matcher.match(target.boxes, anchors),
                image * len(anchors),
            )
            positive = np.flatnonzero(matches >= 0)
            rows.append(np.flatnonzero(matches != BETWEEN) + first)
            positives.append(positive + first)
            labels.append(target.labels[matches[positive]])
            boxes = target.boxes[matches[positive]]
            deltas.append(self.settings.detections.coder.encode(boxes, anchors[positive]))
            share[first : first + len(anchors)] = 1 / (max(1, len(positive)) * len(truth))
            if events.observers:
                negative = np.flatnonzero(matches == BACKGROUND)
                events.emit(
                    "note", "anchor_matches", (image, target.boxes), (matches, positive, negative)
                )
        index, hit = np.concatenate(rows), np.concatenate(positives)
        return index, hit, np.concatenate(labels), np.concatenate(deltas), share

    def decode(
        self, outputs: DenseOutputs, settings: DetectionSettings | None = None, **changes: Any
    ) -> list[Objects]:
        """The detections of every image, by descending score; no gradient flows."""
        settings = replace(settings or self.settings.detections, **changes)
        with no_grad():
            chances = ops.sigmoid(outputs.logits).numpy()[..., 1:]
        ends = np.cumsum([len(anchors) for anchors in outputs.anchors])[:-1]
        scores, deltas = (np.split(x, ends, 1) for x in (chances, outputs.deltas.numpy()))
        found = [
            select_dense_detections(
                [level[image] for level in scores],
                [level[image] for level in deltas],
                outputs.anchors,
                size,
                settings,
            )
            for image, size in enumerate(outputs.image_sizes)
        ]
        return [Objects(f.boxes, f.labels, None, f.scores) for f in found]


def retinanet_resnet50_fpn(num_classes: int, **changes: Any) -> RetinaNet:
    """RetinaNet with ResNet-50-FPN, 34.0 M parameters for COCO's 90 classes.

    ``changes`` replace fields of ``RetinaNetSettings``.
    """
    return RetinaNet(num_classes, RetinaNetSettings(**changes))
