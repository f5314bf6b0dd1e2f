"""Mask R-CNN: a feature pyramid, a region proposal network, and heads for class, box and mask.

    images ─ backbone (ResNet-FPN) ─ P2 … P5 ─┬─ RPN ── proposals
                                              └─ RoI Align ─┬─ box head ── class, box
                                                            └─ mask head ─ mask

Letters: ``N 3 H W`` images, ``L`` levels, ``T`` anchors of an image, ``R`` regions, ``K`` classes.

``forward`` gives raw outputs always; ``loss`` and ``decode`` are separate, and both do the same in
training and evaluation mode (``train()`` changes batch norm and dropout only).

Source: He et al., "Mask R-CNN", 2017, with the backbone of Lin et al., "Feature Pyramid Networks",
2017.  Differences: see ``faster_rcnn.py``, ``rpn.py`` and ``backbones/resnet.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cnncore.errors import ArgumentError
from cnncore.models.backbones import ResNetSettings
from cnncore.models.detection.faster_rcnn import FasterRcnn, Outputs, RcnnSettings
from cnncore.models.detection.roi_heads import RoiSettings
from cnncore.models.detection.rpn import RpnSettings
from cnncore.vision import (
    AnchorSettings,
    BalancedSampler,
    DetectionSettings,
    IouMatcher,
    LevelRule,
    ProposalSettings,
)


@dataclass(frozen=True)
class MaskRcnnSettings(RcnnSettings):
    """All of Mask R-CNN; the defaults are the paper's with ResNet-50-FPN."""

    roi: RoiSettings = RoiSettings()


class MaskRcnn(FasterRcnn):
    """Mask R-CNN for ``num_classes`` real classes: Faster R-CNN with one head more.

    ``model(images)`` -> ``Outputs``; ``model.loss(outputs, targets, rng)`` -> named terms to add
    up, ``mask`` among them; ``model.decode(outputs)`` -> one ``vision.Objects`` an image, with
    masks.
    """

    def __init__(self, num_classes: int, settings: RcnnSettings = MaskRcnnSettings()) -> None:
        if not settings.roi.masks:
            raise ArgumentError("settings.roi.masks", "a mask head", False, "FasterRcnn")
        super().__init__(num_classes, settings)


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
    resize=None,
    rpn=RpnSettings(
        channels=32,
        whole_strides=False,
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


def maskrcnn_resnet50_fpn(num_classes: int, **changes: Any) -> MaskRcnn:
    """Mask R-CNN with ResNet-50-FPN, 44.4 M parameters for COCO's 90 classes.

    ``changes`` replace fields of ``MaskRcnnSettings``.
    """
    return MaskRcnn(num_classes, MaskRcnnSettings(**changes))


__all__ = [
    "SMALL",
    "MaskRcnn",
    "MaskRcnnSettings",
    "Outputs",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_small",
]
