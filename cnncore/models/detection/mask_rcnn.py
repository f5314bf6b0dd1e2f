"""Mask R-CNN: a feature pyramid, a region proposal network, and heads for class, box and mask.

    images ─ backbone (ResNet-FPN) ─ P2 … P5 ─┬─ RPN ── proposals
                                              └─ RoI Align ─┬─ box head ── class, box
                                                            └─ mask head ─ mask

Letters: ``N 3 H W`` images, ``L`` levels, ``T`` anchors of an image, ``R`` regions, ``K`` classes.

``forward`` gives raw outputs always; ``loss`` and ``decode`` are separate, and both do the same in
training and evaluation mode (``train()`` changes batch norm and dropout only).

Source: He et al., "Mask R-CNN", 2017, with the backbone of Lin et al., "Feature Pyramid Networks",
2017.  Differences: see ``rpn.py`` and ``backbones/resnet.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncore.autograd import Tensor, no_grad
from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import as_int, as_pair
from cnncore.models.backbones import ResNetFpn, ResNetSettings
from cnncore.models.detection.roi_heads import RoiHeads, RoiSettings
from cnncore.models.detection.rpn import RegionProposalNetwork, RpnOutputs, RpnSettings
from cnncore.models.detection.truth import checked_truth
from cnncore.nn import Module
from cnncore.vision import (
    AnchorSettings,
    BalancedSampler,
    DetectionSettings,
    IouMatcher,
    LevelRule,
    Objects,
    ProposalSettings,
)
from cnncore.vision.boxes import Size

Rng = np.random.Generator


@dataclass(frozen=True)
class MaskRcnnSettings:
    """All of Mask R-CNN; the defaults are the paper's with ResNet-50-FPN."""

    body: ResNetSettings = ResNetSettings(norm="frozen")
    fpn_channels: int = 256
    fpn_norm: str | None = None
    extra_level: bool = True  # P6, for the largest anchors only
    rpn: RpnSettings = RpnSettings()
    roi: RoiSettings = RoiSettings()


@dataclass(frozen=True)
class Outputs:
    """What the network says of a batch before anything is selected."""

    features: list[Tensor]  # L maps (N, C, H_l, W_l), finest first
    rpn: RpnOutputs
    image_sizes: list[Size]  # the part of each image that is not padding


class MaskRcnn(Module):
    """Mask R-CNN for ``num_classes`` real classes.

    ``model(images)`` -> ``Outputs``; ``model.loss(outputs, targets, rng)`` -> named terms to add
    up; ``model.decode(outputs)`` -> one ``vision.Objects`` an image.
    """

    def __init__(self, num_classes: int, settings: MaskRcnnSettings = MaskRcnnSettings()) -> None:
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.settings = settings
        channels = settings.fpn_channels
        self.backbone = ResNetFpn(settings.body, channels, settings.fpn_norm, settings.extra_level)
        self.rpn = RegionProposalNetwork(channels, settings.rpn)
        self.roi_heads = RoiHeads(channels, num_classes, settings.roi)

    def forward(self, images: Any, image_sizes: Sequence[Size] | None = None) -> Outputs:
        """Features, objectness and deltas of images ``(N, 3, H, W)``.

        The caller scales the pixels (roughly to mean 0 and variance 1).  ``image_sizes`` says how
        much of each image, from the top left, is not padding (default: all of it).
        """
        images = images if isinstance(images, Tensor) else Tensor(images)
        if images.ndim != 4 or images.shape[1] != 3:
            raise ShapeError("images", "shape (N, 3, H, W)", images.shape, "images[None]")
        whole = (images.shape[2], images.shape[3])
        sizes = [whole] * images.shape[0] if image_sizes is None else list(image_sizes)
        if len(sizes) != images.shape[0]:
            raise ArgumentError("image_sizes", f"one an image, {images.shape[0]}", len(sizes))
        sizes = [as_pair("image_sizes", size, 1) for size in sizes]
        features = self.backbone(images)
        return Outputs(features, self.rpn(features), sizes)

    def loss(self, outputs: Outputs, targets: Sequence[Any], rng: Rng) -> dict[str, Tensor]:
        """The five terms of the paper's loss, to be added up.

        ``objectness`` and ``rpn_box`` of the proposal network, ``class``, ``box`` and ``mask`` of
        the heads.  ``targets`` have ``boxes``, ``labels`` and ``masks`` (``data.Sample``, say);
        images without objects are legal.  ``rng`` draws the anchors and regions to learn from: the
        same generator state gives the same loss.
        """
        truth = checked_truth(targets, outputs.image_sizes, self.num_classes)
        terms = self.rpn.loss(outputs.rpn, [t.boxes for t in truth], rng)
        proposals = self.rpn.propose(outputs.rpn, outputs.image_sizes, self.settings.rpn.train)
        boxes = [p.boxes for p in proposals]
        return terms | self.roi_heads.loss(self._roi_features(outputs), boxes, truth, rng)

    def decode(
        self,
        outputs: Outputs,
        settings: DetectionSettings | None = None,
        mask_threshold: float = 0.5,
        **changes: Any,
    ) -> list[Objects]:
        """The detections of every image, by descending score; no gradient flows.

        ``settings`` (default: the model's), with ``changes`` such as ``score_threshold=0.7``.  Two
        boxes of different classes on one object are both kept unless ``class_agnostic=True``.
        """
        settings = replace(settings or self.settings.roi.detections, **changes)
        with no_grad():
            proposals = self.rpn.propose(outputs.rpn, outputs.image_sizes, self.settings.rpn.test)
            return self.roi_heads.detect(
                self._roi_features(outputs),
                [p.boxes for p in proposals],
                outputs.image_sizes,
                settings,
                mask_threshold,
            )

    def _roi_features(self, outputs: Outputs) -> list[Tensor]:
        levels = self.settings.roi.levels
        return outputs.features[: levels.highest - levels.lowest + 1]


SMALL = MaskRcnnSettings(
    body=ResNetSettings(
        stem_channels=16,
        stem_kernel=3,
        widths=(32, 64, 128, 128),
        depths=(1, 1, 1, 1),
        block="basic",
        norm="group",
    ),
    fpn_channels=32,
    fpn_norm="group",
    extra_level=False,
    rpn=RpnSettings(
        channels=32,
        anchors=AnchorSettings(
            sizes=((18.0,), (28.0,), (40.0,), (64.0,)),
            ratios=(1.2, 1.7, 2.6),
            offset=0.5,
            rounded=False,
        ),
        matcher=IouMatcher(0.6, 0.3, low_quality=True),
        sampler=BalancedSampler(64, 0.5),
        train=ProposalSettings(pre_nms=160, post_nms=48),
        test=ProposalSettings(pre_nms=160, post_nms=48),
    ),
    roi=RoiSettings(
        levels=LevelRule(canonical_size=28.0, canonical_level=2),
        aligned=True,
        box_channels=128,
        mask_channels=32,
        norm="group",
        sampler=BalancedSampler(32, 10 / 32),
        detections=DetectionSettings(max_detections=20),
    ),
)


def maskrcnn_small(num_classes: int, **changes: Any) -> MaskRcnn:
    """Mask R-CNN of 0.94 M parameters for images of about 128×128, trained on two cores in minutes.

    One basic block a stage, 32 channels in pyramid and heads, group norm, anchors for objects of 18
    to 64 pixels that are higher than wide.  ``changes`` replace fields of ``SMALL``.
    """
    return MaskRcnn(num_classes, replace(SMALL, **changes))
