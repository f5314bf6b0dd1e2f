"""Region proposal network: for every anchor, is there an object, and how is its box shifted?

Letters: ``N`` images, ``L`` levels of ``(H_l, W_l)``, ``A`` anchors in a cell, ``T`` anchors in
all: ``T = Σ_l H_l · W_l · A``, ordered by level, row, column, anchor.

Source: Ren et al., "Faster R-CNN", 2015, section 3.1; over levels: Lin et al., "Feature Pyramid
Networks", 2017, section 4.1.  Difference: both losses are divided by the number of sampled anchors
(the paper divides the box loss by the number of anchor positions and multiplies by 10, "which makes
them roughly equal"); anchors that reach out of the image are used.  State-dict keys are
torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, beside, events
from cnncore.models.backbones.fpn import conv_block
from cnncore.nn import Conv2d, Module, Sequential, init
from cnncore.vision import (
    BACKGROUND,
    AnchorSettings,
    BalancedSampler,
    DeltaCoder,
    IouMatcher,
    Proposals,
    ProposalSettings,
    level_strides,
    make_anchors,
    select_proposals,
)
from cnncore.vision.boxes import FloatArray, IntArray, Size

Rng = np.random.Generator


@dataclass(frozen=True)
class RpnSettings:
    """The region proposal network; defaults of Faster R-CNN with a feature pyramid."""

    channels: int = 256
    norm: str | None = None
    lowest_level: int = 2  # stride 2**2; one level more for every entry of anchors.sizes
    whole_strides: bool = True  # image // map, as published weights expect, not 2**level
    anchors: AnchorSettings = AnchorSettings()
    matcher: IouMatcher = IouMatcher(0.7, 0.3, low_quality=True)
    sampler: BalancedSampler = BalancedSampler(256, 0.5)
    train: ProposalSettings = ProposalSettings(pre_nms=2000, post_nms=2000)
    test: ProposalSettings = ProposalSettings(pre_nms=1000, post_nms=1000)
    smooth_l1_beta: float = 1 / 9

    @property
    def coder(self) -> DeltaCoder:
        """How deltas are encoded: one coder for training and proposals."""
        return self.train.coder


@dataclass(frozen=True)
class RpnOutputs:
    """What the head says of all anchors."""

    objectness: Tensor  # (N, T) logits
    deltas: Tensor  # (N, T, 4)
    anchors: list[FloatArray]  # for each level (H_l · W_l · A, 4)

    @property
    def all_anchors(self) -> FloatArray:
        """``(T, 4)``"""
        return np.concatenate(self.anchors)


class RpnHead(Module):
    """A 3×3 convolution, then one 1×1 for objectness and one for deltas; the same on all levels."""

    def __init__(self, in_channels: int, channels: int, anchors: int, norm: str | None) -> None:
        self.conv = Sequential(conv_block(in_channels, channels, 3, norm))
        self.cls_logits = Conv2d(channels, anchors, 1)
        self.bbox_pred = Conv2d(channels, anchors * 4, 1)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.normal_(parameter, std=0.01)  # section 3.1.3
        for conv in (self.cls_logits, self.bbox_pred):
            init.constant_(conv.bias, 0.0)  # type: ignore[type-var]

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """L maps ``(N, C, H_l, W_l)`` to objectness ``(N, T)`` and deltas ``(N, T, 4)``."""
        objectness, deltas = [], []
        for x in features:
            hidden = ops.relu(self.conv(x))
            logits, shifts = self.cls_logits(hidden), self.bbox_pred(hidden)
            images, count = x.shape[0], math.prod(logits.shape[1:])
            # The anchor axis last, so that flattening gives (row, column, anchor).
            objectness.append(logits.permute((0, 2, 3, 1)).reshape((images, count)))
            deltas.append(shifts.permute((0, 2, 3, 1)).reshape((images, count, 4)))
        return ops.cat(objectness, 1), ops.cat(deltas, 1)


class RegionProposalNetwork(Module):
    """The head, its anchors, its losses, and the proposals it leads to."""

    def __init__(self, in_channels: int, settings: RpnSettings = RpnSettings()) -> None:
        self.settings = settings
        anchors = settings.anchors.per_cell(0)
        self.head = RpnHead(in_channels, settings.channels, anchors, settings.norm)

    def forward(self, features: Sequence[Tensor], image: Size | None = None) -> RpnOutputs:
        """Raw outputs for L maps ``(N, C, H_l, W_l)``, finest first.

        ``image``: the size of the padded batch, for strides that do not follow from the level: 800
        rows on the 13 of P6 are strides of 61, not 64.
        """
        levels = features[: len(self.settings.anchors.sizes)]
        shapes = [(x.shape[2], x.shape[3]) for x in levels]
        padded = image if self.settings.whole_strides else None
        strides = level_strides(shapes, self.settings.lowest_level, padded)
        anchors = make_anchors(self.settings.anchors, shapes, strides)
        objectness, deltas = self.head(levels)
        if events.observers:
            events.emit("note", "anchors", (self,), (anchors,))
        return RpnOutputs(objectness, deltas, anchors)

    def loss(self, outputs: RpnOutputs, boxes: Sequence[FloatArray], rng: Rng) -> dict[str, Tensor]:
        """Objectness and box loss on a random sample of anchors, given each image's true boxes.

        Objectness: binary cross-entropy; boxes: smooth L1 on the positive anchors; both are divided
        by the number of sampled anchors.
        """
        anchors = outputs.all_anchors
        positive, negative, wanted = self._sample(anchors, boxes, rng)
        count = max(1, len(positive) + len(negative))
        objectness = outputs.objectness.reshape((-1,))[np.concatenate([positive, negative])]
        target = np.zeros(len(positive) + len(negative), objectness.dtype)
        target[: len(positive)] = 1
        entropy = ops.binary_cross_entropy_with_logits(
            objectness, beside(objectness, target), reduction="sum"
        )
        shift = ops.smooth_l1_loss(
            outputs.deltas.reshape((-1, 4))[positive],
            beside(objectness, wanted.astype(objectness.dtype)),
            reduction="sum",
            beta=self.settings.smooth_l1_beta,
        )
        return {"objectness": entropy * (1 / count), "rpn_box": shift * (1 / count)}

    def _sample(
        self, anchors: FloatArray, boxes: Sequence[FloatArray], rng: Rng
    ) -> tuple[IntArray, IntArray, FloatArray]:
        """Positive and negative anchors as indices into ``N · T``, and the positives' deltas."""
        # Begun with nothing, so that a batch without images joins up, too.
        positives, negatives = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        deltas: list[FloatArray] = [np.zeros((0, 4), anchors.dtype)]
        for image, truth in enumerate(boxes):
            matches = self.settings.matcher.match(truth, anchors)
            labels = np.where(matches >= 0, 1, np.where(matches == BACKGROUND, 0, -1))
            positive, negative = self.settings.sampler(labels, rng)
            positives.append(positive + image * len(anchors))
            negatives.append(negative + image * len(anchors))
            deltas.append(self.settings.coder.encode(truth[matches[positive]], anchors[positive]))
            if events.observers:
                events.emit("note", "anchor_matches", (image, truth), (matches, positive, negative))
        return np.concatenate(positives), np.concatenate(negatives), np.concatenate(deltas)

    def propose(
        self, outputs: RpnOutputs, image_sizes: Sequence[Size], settings: ProposalSettings
    ) -> list[Proposals]:
        """The proposals of each image; no gradient flows through them."""
        ends = np.cumsum([len(anchors) for anchors in outputs.anchors])[:-1]
        scores = np.split(outputs.objectness.numpy(), ends, axis=1)
        deltas = np.split(outputs.deltas.numpy(), ends, axis=1)
        proposals = [
            select_proposals(
                [level[image] for level in scores],
                [level[image] for level in deltas],
                outputs.anchors,
                size,
                settings,
            )
            for image, size in enumerate(image_sizes)
        ]
        if events.observers:
            events.emit("note", "proposals", (self,), tuple(proposals))
        return proposals
