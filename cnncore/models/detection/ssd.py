"""SSD: classes and boxes from maps of many sizes, in one pass.

    300 ─ VGG-16 … conv4_3 (38) ─ pool, conv5, fc6, fc7 (19) ─ 10 ─ 5 ─ 3 ─ 1
                     │ L2 norm · 20          │                 │   │   │   │
                     └────────── each map: 3×3 ─ A · (1 + K) logits, 3×3 ─ A · 4 deltas

    38² · 4 + 19² · 6 + 10² · 6 + 5² · 6 + 3² · 4 + 1 · 4 = 8,732 boxes

Nearly all boxes are background; only the hardest of it, three for an object, enter the loss.

Letters: ``N 3 H W`` images, ``T`` boxes of an image, ``A`` of a cell, ``K`` classes.

Source: Liu et al., "SSD: Single Shot MultiBox Detector", 2016, figure 2 and section 2.  The
defaults and keys are torchvision's ``ssd300_vgg16``.  Differences from the published code, as
there: sides of boxes are cut at the image's; colours come as red, green, blue.
From torchvision: a true box that overlaps no default box claims none (there it claims the first).
SSD512 follows the published code: one map more, strides instead of unpadded convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, beside, events, no_grad
from cnncore.geometry import as_int
from cnncore.models.backbones import Body, make_body
from cnncore.models.classification.vgg import WIDTHS, vgg_features
from cnncore.models.detection.detector import DenseOutputs, Detector, by_anchor, checked_images
from cnncore.models.detection.resize import Resize
from cnncore.models.detection.truth import checked_truth
from cnncore.nn import Conv2d, MaxPool2d, Module, ModuleList, Parameter, ReLU, Sequential, init
from cnncore.vision import (
    BestMatcher,
    DefaultBoxes,
    DetectionSettings,
    HardNegatives,
    Objects,
    select_detections,
)
from cnncore.vision.boxes import IntArray, Size


@dataclass(frozen=True)
class Extra:
    """A map more: 1×1 to ``middle`` channels, then ``kernel`` to ``out``."""

    middle: int
    out: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0

    def block(self, channels: int) -> Sequential:
        """The layers, on a map of ``channels``."""
        return Sequential(
            Conv2d(channels, self.middle, 1), ReLU(),
            Conv2d(self.middle, self.out, self.kernel, self.stride, self.padding), ReLU(),
        )  # fmt: skip


@dataclass(frozen=True)
class SsdSettings:
    """All of SSD; the defaults are torchvision's SSD300 for COCO."""

    # None: VGG-16 as in the paper.  Another body gives its maps of ``levels``, then the extras.
    body: Body | None = None
    levels: tuple[int, ...] = (4, 5)
    widths: tuple[int, int, int, int, int] = WIDTHS  # of VGG-16's blocks
    fc: int = 1024  # channels of fc6 and fc7, which are convolutions here
    extras: tuple[Extra, ...] = (
        Extra(256, 512, 3, 2, 1),
        Extra(128, 256, 3, 2, 1),
        Extra(128, 256),
        Extra(128, 256),
    )
    boxes: DefaultBoxes = DefaultBoxes()
    matcher: BestMatcher = BestMatcher(0.5)
    negatives: HardNegatives = HardNegatives(3.0)
    detections: DetectionSettings = DetectionSettings(
        score_threshold=0.01,
        nms_threshold=0.45,
        max_detections=200,
        min_size=0.0,
        candidates=400,
    )
    resize: Resize | None = Resize(
        divisor=1,
        mean=(0.48235, 0.45882, 0.40784),
        std=(1 / 255, 1 / 255, 1 / 255),
        fixed=(300, 300),
    )


# Sizes for VOC: 10 % of the image to 105 % in even steps.
VOC_BOXES = DefaultBoxes(scales=(0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05), cut=False)

SSD512 = SsdSettings(
    extras=(
        Extra(256, 512, 3, 2, 1),
        Extra(128, 256, 3, 2, 1),
        Extra(128, 256, 3, 2, 1),
        Extra(128, 256, 3, 2, 1),
        Extra(128, 256, 4, 1, 1),
    ),
    boxes=DefaultBoxes(
        scales=(0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06),
        ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        steps=(8, 16, 32, 64, 128, 256, 512),
    ),
    resize=Resize(
        divisor=1,
        mean=(0.48235, 0.45882, 0.40784),
        std=(1 / 255, 1 / 255, 1 / 255),
        fixed=(512, 512),
    ),
)


class SsdBackbone(Module):
    """VGG-16 to conv4_3, then ever smaller maps."""

    def __init__(self, settings: SsdSettings) -> None:
        layers = list(vgg_features(16, widths=settings.widths))
        layers[16] = MaxPool2d(2, 2, ceil_mode=True)  # 75 pixels to 38
        self.features = Sequential(*layers[:23])  # to the activation of conv4_3
        width = settings.widths[3]
        self.scale_weight = Parameter(np.full(width, 20.0, np.float32))
        fc = settings.fc
        full = Sequential(
            MaxPool2d(3, 1, 1),
            Conv2d(settings.widths[4], fc, 3, padding=6, dilation=6), ReLU(),
            Conv2d(fc, fc, 1), ReLU(),
        )  # fmt: skip
        blocks, before = [Sequential(*layers[23:30], full)], fc
        for extra in settings.extras:
            blocks.append(extra.block(before))
            before = extra.out
        self.extra = ModuleList(blocks)
        xavier(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(N, 3, H, W)`` to the maps, largest first."""
        x = self.features(x)
        # 1e-24: a pixel where all channels are 0 has a gradient, too.
        length = ops.sqrt(ops.sum(x * x, 1, keepdim=True) + 1e-24)
        maps = [x / length * self.scale_weight.reshape((1, -1, 1, 1))]
        for block in self.extra:
            x = block(x)
            maps.append(x)
        return maps


class SsdBody(Module):
    """Any classifier's maps, then ever smaller ones.

    Source: Huang et al., "Speed/accuracy trade-offs", 2017, section 3.2.
    """

    def __init__(self, settings: SsdSettings, body: Body) -> None:
        self.body, channels = make_body(body, settings.levels)
        if len(channels) > len(settings.levels):  # a ResNetBody gives all four
            channels = tuple(channels[level - 2] for level in settings.levels)
        self.levels, self.channels = settings.levels, list(channels)
        self.extra = ModuleList()
        for extra in settings.extras:
            self.extra.append(extra.block(self.channels[-1]))
            self.channels.append(extra.out)
        xavier(self.extra)

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(N, 3, H, W)`` to the maps, largest first."""
        maps = self.body(x)
        if len(maps) > len(self.levels):
            maps = [maps[level - 2] for level in self.levels]
        for block in self.extra:
            maps.append(block(maps[-1]))
        return list(maps)


class MapHeads(Module):
    """A convolution 3×3 for every map, to ``values`` numbers a box."""

    shown = ("values",)

    def __init__(self, channels: Sequence[int], boxes: DefaultBoxes, values: int) -> None:
        self.values = values
        self.module_list = ModuleList(
            Conv2d(c, boxes.per_cell(level) * values, 3, padding=1)
            for level, c in enumerate(channels)
        )
        xavier(self)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """``(N, C_l, H_l, W_l)`` to ``(N, T, values)``."""
        heads = zip(self.module_list, maps, strict=True)
        return ops.cat([by_anchor(head(x), self.values) for head, x in heads], 1)


class SsdHead(Module):
    """Classes and boxes."""

    def __init__(self, channels: Sequence[int], boxes: DefaultBoxes, classes: int) -> None:
        self.classification_head = MapHeads(channels, boxes, classes)
        self.regression_head = MapHeads(channels, boxes, 4)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits ``(N, T, 1 + K)`` and deltas ``(N, T, 4)``."""
        return self.classification_head(maps), self.regression_head(maps)


class Ssd(Detector):
    """SSD for ``num_classes`` real classes.

    ``model(images)`` -> ``DenseOutputs``; ``model.loss(outputs, targets)`` -> named terms;
    ``model.decode(outputs)`` -> one ``vision.Objects`` an image.
    """

    def __init__(self, num_classes: int, settings: SsdSettings = SsdSettings()) -> None:
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.settings, self.resize = settings, settings.resize
        channels = [settings.widths[3], settings.fc, *(extra.out for extra in settings.extras)]
        self.backbone: Module
        if settings.body is None:
            self.backbone = SsdBackbone(settings)
        else:
            self.backbone = SsdBody(settings, settings.body)
            channels = self.backbone.channels
        self.head = SsdHead(channels, settings.boxes, 1 + num_classes)

    def forward(self, images: Any, image_sizes: Sequence[Size] | None = None) -> DenseOutputs:
        """Logits and deltas of images ``(N, 3, 300, 300)``; sizes as for ``FasterRcnn``."""
        x, sizes = checked_images(images, image_sizes)
        maps = self.backbone(x)
        shapes = [(m.shape[2], m.shape[3]) for m in maps]
        anchors = self.settings.boxes(shapes, (x.shape[2], x.shape[3]))
        if events.observers:
            events.emit("note", "anchors", (self,), (anchors,))
        logits, deltas = self.head(maps)
        return DenseOutputs(logits, deltas, anchors, sizes)

    def loss(self, outputs: DenseOutputs, targets: Sequence[Any]) -> dict[str, Tensor]:
        """``class``: cross-entropy of objects and the hardest background; ``box``: smooth L1.

        Both are sums over the batch, divided by the number of boxes that hold an object (at least
        1).  ``targets`` have ``boxes`` and ``labels``; images without objects are legal, and have
        no say: background is counted three to an object.
        """
        truth = checked_truth(targets, outputs.image_sizes, self.num_classes, with_masks=False)
        anchors, logits = outputs.all_anchors, outputs.logits
        T, classes = len(anchors), self.num_classes + 1
        coder = self.settings.detections.coder
        rows, labels, hits = (_nothing() for _ in range(3))
        wanted = [np.zeros((0, 4), np.float32)]
        with no_grad():
            background = -ops.log_softmax(logits, 2).numpy()[..., 0]
        for image, target in enumerate(truth):
            matches = self.settings.matcher.match(target.boxes, anchors)
            positive, negative = self.settings.negatives(matches >= 0, background[image])
            rows += [positive + image * T, negative + image * T]
            labels += [target.labels[matches[positive]] + 1, np.zeros(len(negative), np.int64)]
            hits.append(positive + image * T)
            wanted.append(coder.encode(target.boxes[matches[positive]], anchors[positive]))
            if events.observers:
                about = (matches, positive, negative)
                events.emit("note", "anchor_matches", (image, target.boxes), about)
        hit = np.concatenate(hits)
        chosen = logits.reshape((-1, classes))[np.concatenate(rows)]
        label = np.concatenate(labels)
        entropy = ops.cross_entropy(chosen, beside(logits, label), reduction="sum")
        shift = ops.smooth_l1_loss(
            outputs.deltas.reshape((-1, 4))[hit],
            beside(logits, np.concatenate(wanted).astype(logits.dtype)),
            reduction="sum",
        )
        share = 1 / max(1, len(hit))
        return {"class": entropy * share, "box": shift * share}

    def decode(
        self, outputs: DenseOutputs, settings: DetectionSettings | None = None, **changes: Any
    ) -> list[Objects]:
        """The detections of every image, by descending score; no gradient flows."""
        settings = replace(settings or self.settings.detections, **changes)
        with no_grad():
            chances = ops.softmax(outputs.logits, 2).numpy()
        anchors, deltas = outputs.all_anchors, outputs.deltas.numpy()
        shape = (len(anchors), self.num_classes, 4)  # one box for all classes
        found = [
            select_detections(
                chances[image],
                np.broadcast_to(deltas[image][:, None], shape),
                anchors,
                size,
                settings,
            )
            for image, size in enumerate(outputs.image_sizes)
        ]
        return [Objects(f.boxes, f.labels, None, f.scores) for f in found]


def _nothing() -> list[IntArray]:
    """Begun with nothing, so that a batch without images joins up, too."""
    return [np.zeros(0, np.int64)]


def xavier(model: Module) -> None:
    """New weights as the published code draws them."""
    for module in model.modules():
        if isinstance(module, Conv2d):
            init.xavier_uniform_(module.weight)
            init.constant_(module.bias, 0.0)  # type: ignore[type-var]


def ssd300_vgg16(num_classes: int, **changes: Any) -> Ssd:
    """SSD300 on VGG-16, 35.6 M parameters for COCO's 90 classes.

    ``changes`` replace fields of ``SsdSettings``.
    """
    return Ssd(num_classes, SsdSettings(**changes))


def ssd512_vgg16(num_classes: int, **changes: Any) -> Ssd:
    """SSD512 on VGG-16: 24,564 boxes; ``changes`` replace fields of ``SSD512``."""
    return Ssd(num_classes, replace(SSD512, **changes))
