"""Faster R-CNN: a feature pyramid, a region proposal network, and a head for class and box.

    images ─ backbone (ResNet-FPN) ─ P2 … P6 ─┬─ RPN ── proposals
                                              └─ RoI Align ─ box head ── class, box

Letters: ``N 3 H W`` images, ``L`` levels, ``T`` anchors of an image, ``R`` regions, ``K`` classes.

``forward`` gives raw outputs always; ``loss`` and ``decode`` are separate, and both do the same in
training and evaluation mode (``train()`` changes batch norm and dropout only).

Source: Ren et al., "Faster R-CNN", 2015, figure 2, on the backbone of Lin et al., "Feature Pyramid
Networks", 2017.  The defaults are torchvision's ``fasterrcnn_resnet50_fpn`` with its public
weights: batch norm frozen and without an eps, strides of the anchors in whole pixels of the padded
batch (800 rows on 13 cells: 61), pooling that samples half a pixel off.  Other differences: see
``rpn.py`` and ``backbones/resnet.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncore.autograd import Tensor, no_grad
from cnncore.geometry import as_int
from cnncore.models.backbones import Body, ResNetFpn, ResNetSettings
from cnncore.models.detection.detector import Detector, checked_images, freeze_stages
from cnncore.models.detection.resize import Resize
from cnncore.models.detection.roi_heads import RoiHeads, RoiSettings
from cnncore.models.detection.rpn import RegionProposalNetwork, RpnOutputs, RpnSettings
from cnncore.models.detection.truth import checked_truth
from cnncore.nn import Module
from cnncore.vision import DetectionSettings, Objects
from cnncore.vision.boxes import Size

Rng = np.random.Generator


@dataclass(frozen=True)
class RcnnSettings:
    """All of a detector in two stages; the defaults are Faster R-CNN's with ResNet-50-FPN."""

    body: Body = ResNetSettings(norm="frozen_exact")  # or ClassifierBody("mobilenet_v2"), …
    frozen_stages: int = 0  # not trained: 1 the stem, 2 layer1, too, …; 2 for pretrained bodies
    fpn_channels: int = 256
    fpn_norm: str | None = None
    extra_level: bool = True  # P6, for the largest anchors only
    rpn: RpnSettings = RpnSettings()
    roi: RoiSettings = RoiSettings(masks=False)
    resize: Resize | None = Resize()  # None: pictures come in the network's size


@dataclass(frozen=True)
class Outputs:
    """What the network says of a batch before anything is selected."""

    features: list[Tensor]  # L maps (N, C, H_l, W_l), finest first
    rpn: RpnOutputs
    image_sizes: list[Size]  # the part of each image that is not padding


class FasterRcnn(Detector):
    """Faster R-CNN for ``num_classes`` real classes.

    ``model.prepare(pictures)`` -> ``Batch``; ``model(images, image_sizes)`` -> ``Outputs``;
    ``model.loss(outputs, targets, rng)`` -> named terms to add up; ``model.decode(outputs)`` -> one
    ``vision.Objects`` an image.
    """

    def __init__(self, num_classes: int, settings: RcnnSettings = RcnnSettings()) -> None:
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.settings, self.resize = settings, settings.resize
        channels = settings.fpn_channels
        pyramid = ResNetFpn(settings.body, channels, settings.fpn_norm, settings.extra_level)
        freeze_stages(pyramid.body, settings.frozen_stages)
        self.backbone: Module = pyramid
        self.rpn = RegionProposalNetwork(channels, settings.rpn)
        self.roi_heads = RoiHeads(channels, num_classes, settings.roi)

    def forward(self, images: Any, image_sizes: Sequence[Size] | None = None) -> Outputs:
        """Features, objectness and deltas of images ``(N, 3, H, W)``.

        The caller scales the pixels (``prepare``, or roughly to mean 0 and variance 1).
        ``image_sizes`` says how much of each image, from the top left, is not padding (default: all
        of it).
        """
        images, sizes = checked_images(images, image_sizes)
        features = self.backbone(images)
        rpn = self.rpn(features, (images.shape[2], images.shape[3]))
        return Outputs(features, rpn, sizes)

    def loss(self, outputs: Outputs, targets: Sequence[Any], rng: Rng) -> dict[str, Tensor]:
        """The terms of the paper's loss, to be added up.

        ``objectness`` and ``rpn_box`` of the proposal network, ``class`` and ``box`` of the heads,
        and ``mask`` or ``keypoint`` where there is such a head.  ``targets`` have ``boxes``,
        ``labels`` and, for these heads, ``masks`` (``data.Sample``, say) or ``keypoints``; images
        without objects are legal.  ``rng`` draws the anchors and regions to learn from: the same
        generator state gives the same loss.
        """
        masks, keypoints = self.settings.roi.masks, self.settings.roi.keypoints
        joints = 0 if keypoints is None else keypoints.joints
        truth = checked_truth(targets, outputs.image_sizes, self.num_classes, masks, joints)
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


def fasterrcnn_resnet50_fpn(num_classes: int, **changes: Any) -> FasterRcnn:
    """Faster R-CNN with ResNet-50-FPN, 41.8 M parameters for COCO's 90 classes.

    ``changes`` replace fields of ``RcnnSettings``.
    """
    return FasterRcnn(num_classes, RcnnSettings(**changes))
