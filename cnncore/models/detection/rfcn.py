"""R-FCN: all layers with weights see the whole picture; a region only votes.

    images ─ ResNet, last stage dilated (stride 16) ─ 1×1, 1024 ─┬─ k²·(1 + K) score maps ─┐
                │ C4                                             └─ k²·2·4 box maps ───────┤
                └─ RPN ── proposals ────────────── position-sensitive pooling, k×k ────────┤
                                                     mean of the k² bins: class, box ──────┘

Bin (p, q) of a region reads maps of its own: "is the top left of a person here?"  So a region that
is half a bin off loses votes, though the network itself does not know where it looks.

Letters: ``N 3 H W`` images, ``R`` regions, ``K`` classes, ``k`` bins a side.

Source: Dai et al., "R-FCN: Object Detection via Region-based Fully Convolutional Networks", 2016,
figures 1 and 3, section 2.  Defaults are those of its published code for VOC: k = 7, one box for
all classes, in 2·4 channels for background and objects (the paper: 4), the 128 hardest of all
proposals enter the loss.  Differences: in each block the stride is on the 3×3 convolution; the
first block of the dilated stage is not dilated itself; no bias in the stem (ResNet-50 had one);
anchors are centred in their cells and not rounded; those that reach out of the image are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, beside
from cnncore.geometry import as_int
from cnncore.models.backbones import Body, ResNetSettings, make_body
from cnncore.models.detection.detector import checked_images, freeze_stages
from cnncore.models.detection.faster_rcnn import FasterRcnn, Outputs, RcnnSettings
from cnncore.models.detection.resize import Resize
from cnncore.models.detection.roi_heads import Regions, RoiHeads, RoiSettings
from cnncore.models.detection.rpn import RegionProposalNetwork, RpnSettings
from cnncore.models.detection.truth import Truth
from cnncore.nn import Conv2d, init
from cnncore.vision import (
    AnchorSettings,
    BalancedSampler,
    DetectionSettings,
    IouMatcher,
    LevelRule,
    ProposalSettings,
    top_k,
)
from cnncore.vision.boxes import FloatArray, Size

Rng = np.random.Generator
STRIDE = 16


@dataclass(frozen=True)
class RfcnSettings(RcnnSettings):
    """All of R-FCN; the defaults are those of the published code with ResNet-50."""

    # With another classifier both the proposals and the maps read its level of stride 16.
    body: Body = ResNetSettings(norm="frozen", stride=STRIDE)
    rpn: RpnSettings = RpnSettings(
        channels=512,
        lowest_level=4,
        whole_strides=False,
        anchors=AnchorSettings(sizes=((128.0, 256.0, 512.0),), offset=0.5, rounded=False),
        train=ProposalSettings(pre_nms=6000, post_nms=300, min_size=16.0),
        test=ProposalSettings(pre_nms=6000, post_nms=300, min_size=16.0),
    )
    roi: RoiSettings = RoiSettings(
        masks=False,
        levels=LevelRule(lowest=4, highest=4),
        matcher=IouMatcher(0.5, 0.5),
        sampler=BalancedSampler(100_000, 1.0),  # all: the loss chooses
        detections=DetectionSettings(nms_threshold=0.3),
        smooth_l1_beta=1.0,
    )
    resize: Resize | None = Resize(min_size=600, max_size=1000, divisor=STRIDE)
    channels: int = 1024  # between the body and the maps
    bins: int = 7  # k
    aligned_bins: bool = False  # bins of fractions of a cell, sampled, instead of whole cells
    hardest: int = 128  # regions an image in the loss

    @property
    def stride(self) -> int:
        """Pixels between cells of the maps."""
        return self.body.stride if isinstance(self.body, ResNetSettings) else STRIDE


class PositionHeads(RoiHeads):
    """Score maps and box maps of the whole image, and what a region reads from them."""

    def __init__(self, in_channels: int, num_classes: int, settings: RfcnSettings) -> None:
        self.settings = settings.roi
        self.bins, self.hardest, self.stride = settings.bins, settings.hardest, settings.stride
        self.aligned_bins = settings.aligned_bins
        # A region's pair of boxes, background's and objects', as one box a class.
        self.pair = np.minimum(np.arange(1 + num_classes), 1)
        squares = settings.bins**2
        self.conv_new_1 = Conv2d(in_channels, settings.channels, 1)
        self.rfcn_cls = Conv2d(settings.channels, squares * (1 + num_classes), 1)
        self.rfcn_bbox = Conv2d(settings.channels, squares * 2 * 4, 1)
        for conv in (self.conv_new_1, self.rfcn_cls, self.rfcn_bbox):
            init.normal_(conv.weight, std=0.01)
            init.constant_(conv.bias, 0.0)  # type: ignore[type-var]

    def maps(self, x: Tensor) -> list[Tensor]:
        """``(N, C, H, W)`` to score maps of ``k²(1 + K)`` and box maps of ``8k²`` channels."""
        x = ops.relu(self.conv_new_1(x))
        return [self.rfcn_cls(x), self.rfcn_bbox(x)]

    def boxes(self, features: Sequence[Tensor], regions: Regions) -> tuple[Tensor, Tensor]:
        """Class logits ``(R, 1 + K)`` and deltas ``(R, 1 + K, 4)``: the mean of the bins' votes."""
        image = regions.image[:, None].astype(regions.boxes.dtype)
        rois = np.concatenate([image, regions.boxes], 1)
        scale = 1 / self.stride

        def votes(maps: Tensor) -> Tensor:
            if self.aligned_bins:
                return ops.ps_roi_align(maps, rois, self.bins, scale, 2)
            return ops.ps_roi_pool(maps, rois, self.bins, scale)

        logits, pair = (ops.mean(votes(maps), (2, 3)) for maps in features)
        deltas: Tensor = pair.reshape((len(regions), 2, 4))[:, self.pair]
        return logits, deltas

    def loss(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[FloatArray],
        targets: Sequence[Truth],
        rng: Rng,
    ) -> dict[str, Tensor]:
        """Class and box loss of the hardest regions of each image, over their number.

        All proposals are pooled: that costs next to nothing here.
        Source: section 2, "Training", after Shrivastava et al., "Training Region-based Object
        Detectors with Online Hard Example Mining", 2016.
        """
        sample = self.sample(proposals, targets, rng)
        logits, deltas = self.boxes(features, sample.regions)
        entropy = ops.cross_entropy(logits, beside(logits, sample.labels), reduction="none")
        shift = ops.smooth_l1_loss(
            deltas[sample.positive, sample.labels[sample.positive]],
            beside(deltas, sample.deltas.astype(deltas.dtype)),
            reduction="none",
            beta=self.settings.smooth_l1_beta,
        )
        losses = np.array(entropy.numpy())
        losses[sample.positive] += shift.numpy().sum(1)
        hard = np.zeros(len(losses), np.bool_)
        for image in range(len(targets)):
            rows = np.flatnonzero(sample.regions.image == image)
            hard[rows[top_k(losses[rows], self.hardest)]] = True
        share = 1 / max(1, int(hard.sum()))
        return {
            "class": ops.sum(entropy[np.flatnonzero(hard)]) * share,
            "box": ops.sum(shift[np.flatnonzero(hard[sample.positive])]) * share,
        }


class Rfcn(FasterRcnn):
    """R-FCN for ``num_classes`` real classes; used as ``FasterRcnn``."""

    def __init__(self, num_classes: int, settings: RfcnSettings = RfcnSettings()) -> None:
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.settings, self.resize = settings, settings.resize
        self.body, channels = make_body(settings.body, (4,))
        freeze_stages(self.body, settings.frozen_stages)
        before, last = channels[-2:] if len(channels) > 1 else channels * 2
        self.rpn = RegionProposalNetwork(before, settings.rpn)
        self.roi_heads = PositionHeads(last, num_classes, settings)

    def forward(self, images: Any, image_sizes: Sequence[Size] | None = None) -> Outputs:
        """Position-sensitive maps, objectness and deltas of images ``(N, 3, H, W)``."""
        x, sizes = checked_images(images, image_sizes)
        maps = self.body(x)
        fourth, fifth = maps[-2:] if len(maps) > 1 else maps * 2
        heads = self.roi_heads
        assert isinstance(heads, PositionHeads)
        return Outputs(heads.maps(fifth), self.rpn([fourth]), sizes)

    def _roi_features(self, outputs: Outputs) -> list[Tensor]:
        return outputs.features


DEEP = RfcnSettings(body=ResNetSettings(depths=(3, 4, 23, 3), norm="frozen", stride=STRIDE))


def rfcn_resnet50(num_classes: int = 20, **changes: Any) -> Rfcn:
    """R-FCN on ResNet-50; ``changes`` replace fields of ``RfcnSettings``, ``bins=3`` to teach."""
    return Rfcn(num_classes, RfcnSettings(**changes))


def rfcn_resnet101(num_classes: int = 20, **changes: Any) -> Rfcn:
    """R-FCN on ResNet-101; ``changes`` replace fields of ``DEEP``."""
    return Rfcn(num_classes, replace(DEEP, **changes))
