"""The second stage: each proposal is pooled from the pyramid, classified, refined and masked.

Letters: ``N`` images, ``L`` pyramid levels, ``R`` regions of all images together, ``P`` positive
ones, ``K`` classes (inside this file class 0 is background, so heads have ``1 + K`` outputs), ``S``
side of a pooled grid, ``M`` side of a mask.

Source: He et al., "Mask R-CNN", 2017, section 3 and figure 4 (right); Girshick, "Fast R-CNN", 2015,
sections 2.3 and 3.1.  State-dict keys are torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, beside, events
from cnncore.errors import ArgumentError
from cnncore.models.backbones.fpn import conv_block
from cnncore.models.detection.keypoint_head import (
    KeypointHead,
    KeypointPredictor,
    KeypointSettings,
)
from cnncore.models.detection.truth import Truth
from cnncore.nn import Conv2d, ConvTranspose2d, Dropout, Linear, Module, Sequential, init
from cnncore.vision import (
    BalancedSampler,
    Detections,
    DetectionSettings,
    IouMatcher,
    LevelRule,
    Objects,
    crop_masks,
    keypoint_cells,
    paste_masks,
    place_keypoints,
    select_detections,
)
from cnncore.vision.boxes import FloatArray, IntArray, Size

Rng = np.random.Generator


@dataclass(frozen=True)
class RoiSettings:
    """The heads; defaults of Mask R-CNN with a feature pyramid."""

    levels: LevelRule = LevelRule()
    aligned: bool = False  # sample at pixel centres; published weights expect False
    sampling_ratio: int = 2
    pooling: str = "align"  # or "max": Fast R-CNN's RoI pooling
    box_size: int = 7  # S of the box head
    box_channels: int = 1024
    dropout: float = 0.0  # after each layer of the box head
    masks: bool = True  # a mask head
    mask_size: int = 14  # S of the mask head; masks are twice as large
    mask_channels: int = 256
    mask_layers: int = 4
    keypoints: KeypointSettings | None = None  # a keypoint head
    norm: str | None = None  # between the mask head's convolutions
    matcher: IouMatcher = IouMatcher(0.5, 0.5)
    sampler: BalancedSampler = BalancedSampler(512, 0.25)
    detections: DetectionSettings = DetectionSettings()
    smooth_l1_beta: float = 1 / 9

    def __post_init__(self) -> None:
        if self.pooling not in ("align", "max"):
            raise ArgumentError("pooling", '"align" or "max"', repr(self.pooling))


@dataclass(frozen=True)
class Regions:
    """Regions of all images, those of one pyramid level together: pooling is one call a level."""

    boxes: FloatArray  # (R, 4) pixels
    image: IntArray  # (R,)
    level: IntArray  # (R,), ascending

    @staticmethod
    def group(boxes: Sequence[FloatArray], rule: LevelRule) -> tuple[Regions, IntArray]:
        """From boxes for each image, and the order: ``regions.boxes = every_box[order]``."""
        every = np.concatenate([np.zeros((0, 4), np.float32), *boxes])
        image = np.repeat(np.arange(len(boxes)), [len(b) for b in boxes])
        level = rule.assign(every)
        order = np.argsort(level, kind="stable")
        return Regions(every[order], image[order], level[order]), order

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: IntArray) -> Regions:
        """Some of them; ``rows`` must be ascending."""
        return Regions(self.boxes[rows], self.image[rows], self.level[rows])


@dataclass(frozen=True)
class RoiSample:
    """What the heads are trained on."""

    regions: Regions
    labels: IntArray  # (R,), 0 background, else 1 + class
    positive: IntArray  # (P,) rows of regions that hold an object, ascending
    deltas: FloatArray  # (P, 4) from a positive region to its true box
    truth: IntArray  # (P,) number of that box in its image


class BoxHead(Module):
    """A pooled region to a vector: two fully connected layers."""

    def __init__(self, in_features: int, channels: int, dropout: float = 0.0) -> None:
        self.fc6: Module = Linear(in_features, channels)
        self.fc7: Module = Linear(channels, channels)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(R, C, S, S) -> (R, box_channels)``"""
        x = self.dropout(ops.relu(self.fc6(ops.flatten(x, 1))))
        y: Tensor = self.dropout(ops.relu(self.fc7(x)))
        return y


class BoxPredictor(Module):
    """A region's vector to class logits and one box a class."""

    def __init__(self, channels: int, num_classes: int) -> None:
        self.cls_score = Linear(channels, 1 + num_classes)
        self.bbox_pred = Linear(channels, 4 * (1 + num_classes))
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            init.normal_(layer.weight, std=std)  # "Fast R-CNN", section 3.1
            init.constant_(layer.bias, 0.0)  # type: ignore[type-var]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(R, C)`` to logits ``(R, 1 + K)`` and deltas ``(R, 1 + K, 4)``."""
        logits = self.cls_score(x)
        return logits, self.bbox_pred(x).reshape((*logits.shape, 4))


class MaskPredictor(Module):
    """Twice the resolution, then one mask a class."""

    def __init__(self, channels: int, num_classes: int) -> None:
        self.conv5_mask = ConvTranspose2d(channels, channels, 2, 2)
        self.mask_fcn_logits = Conv2d(channels, 1 + num_classes, 1)
        for layer in (self.conv5_mask, self.mask_fcn_logits):
            init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            init.constant_(layer.bias, 0.0)  # type: ignore[type-var]

    def forward(self, x: Tensor) -> Tensor:
        """``(R, C, S, S)`` to logits ``(R, 1 + K, 2S, 2S)``."""
        y: Tensor = self.mask_fcn_logits(ops.relu(self.conv5_mask(x)))
        return y


class MaskHead(Sequential):
    """Convolutions 3×3 at the pooled resolution, each with ReLU: ``(R, C, S, S)`` to the same."""

    def forward(self, x: Tensor) -> Tensor:
        """``(R, C, S, S) -> (R, mask_channels, S, S)``"""
        for block in self:
            x = ops.relu(block(x))
        return x


class RegionPool(Module):
    """RoI Align (or pooling) of every region from its own level, to a grid of ``size`` squared."""

    shown = ("size",)

    def __init__(self, size: int, settings: RoiSettings) -> None:
        self.size, self.settings = size, settings

    def forward(self, features: Sequence[Tensor], regions: Regions) -> Tensor:
        """L maps ``(N, C, H_l, W_l)`` -> ``(R, C, S, S)``; one call of the op a level."""
        settings, pooled = self.settings, []
        for level, x in enumerate(features):
            first, end = np.searchsorted(regions.level, (level, level + 1))
            if first == end:
                continue
            boxes = regions.boxes[first:end]
            rois = np.concatenate([regions.image[first:end, None].astype(boxes.dtype), boxes], 1)
            scale = 1 / 2 ** (settings.levels.lowest + level)
            if settings.pooling == "max":
                pooled.append(ops.roi_pool(x, rois, self.size, scale))
                continue
            ratio = settings.sampling_ratio
            pooled.append(ops.roi_align(x, rois, self.size, scale, ratio, settings.aligned))
        if not pooled:
            x = features[0]
            return beside(x, np.zeros((0, x.shape[1], self.size, self.size), x.dtype))
        return pooled[0] if len(pooled) == 1 else ops.cat(pooled, 0)


class RoiHeads(Module):
    """Box head and mask head, their losses, and the detections they lead to."""

    def __init__(
        self, in_channels: int, num_classes: int, settings: RoiSettings = RoiSettings()
    ) -> None:
        self.settings = settings
        self.box_pool = RegionPool(settings.box_size, settings)
        features = in_channels * settings.box_size**2
        self.box_head = BoxHead(features, settings.box_channels, settings.dropout)
        self.box_predictor = BoxPredictor(settings.box_channels, num_classes)
        if settings.masks:
            self._make_mask_head(in_channels, num_classes, settings)
        if (points := settings.keypoints) is not None:
            self.keypoint_pool = RegionPool(points.size, settings)
            self.keypoint_head = KeypointHead(in_channels, points)
            self.keypoint_predictor = KeypointPredictor(points.channels, points.joints)

    def _make_mask_head(self, in_channels: int, num_classes: int, settings: RoiSettings) -> None:
        widths = [in_channels] + [settings.mask_channels] * settings.mask_layers
        blocks = [
            conv_block(c, settings.mask_channels, 3, settings.norm)
            for c in widths[: settings.mask_layers]
        ]
        for block in blocks:
            conv = block[0]
            assert isinstance(conv, Conv2d)
            init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.mask_pool = RegionPool(settings.mask_size, settings)
        self.mask_head = MaskHead(*blocks)
        self.mask_predictor = MaskPredictor(widths[-1], num_classes)

    def boxes(self, features: Sequence[Tensor], regions: Regions) -> tuple[Tensor, Tensor]:
        """Class logits ``(R, 1 + K)`` and deltas ``(R, 1 + K, 4)``."""
        pooled = self.box_pool(features, regions)
        scores: tuple[Tensor, Tensor] = self.box_predictor(self.box_head(pooled))
        return scores

    def masks(self, features: Sequence[Tensor], regions: Regions, classes: IntArray) -> Tensor:
        """Mask logits ``(R, M, M)`` of one class a region (1 for the first real one)."""
        pooled = self.mask_pool(features, regions)
        logits = self.mask_predictor(self.mask_head(pooled))
        return logits[np.arange(len(regions)), classes]  # type: ignore[no-any-return]

    def keypoints(self, features: Sequence[Tensor], regions: Regions) -> Tensor:
        """Logits ``(R, J, 4S, 4S)`` of every joint's place in its region."""
        pooled = self.keypoint_pool(features, regions)
        heat: Tensor = self.keypoint_predictor(self.keypoint_head(pooled))
        return heat

    # Training.

    def loss(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[FloatArray],
        targets: Sequence[Truth],
        rng: Rng,
    ) -> dict[str, Tensor]:
        """Class, box and, with a mask head, mask loss on a random sample of regions.

        Class: cross-entropy, mean over regions; box: smooth L1 of the true class's deltas on the
        positive ones, over the number of all; mask: binary cross-entropy of the true class's mask,
        mean over positive ones and pixels.
        """
        sample = self.sample(proposals, targets, rng)
        logits, deltas = self.boxes(features, sample.regions)
        count = max(1, len(sample.regions))
        classes = sample.labels[sample.positive]
        entropy = ops.cross_entropy(logits, beside(logits, sample.labels), reduction="sum")
        shift = ops.smooth_l1_loss(
            deltas[sample.positive, classes],
            beside(deltas, sample.deltas.astype(deltas.dtype)),
            reduction="sum",
            beta=self.settings.smooth_l1_beta,
        )
        terms = {"class": entropy * (1 / count), "box": shift * (1 / count)}
        if self.settings.masks:
            terms["mask"] = self._mask_loss(features, sample, targets)
        if self.settings.keypoints is not None:
            terms["keypoint"] = self._keypoint_loss(features, sample, targets)
        return terms

    def sample(
        self, proposals: Sequence[FloatArray], targets: Sequence[Truth], rng: Rng
    ) -> RoiSample:
        """Regions to train on: proposals and true boxes, matched, sampled, grouped by level."""
        coder = self.settings.detections.coder
        boxes: list[FloatArray] = []
        labels, truth = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        wanted: list[FloatArray] = [np.zeros((0, 4), np.float32)]
        for image, (proposed, target) in enumerate(zip(proposals, targets, strict=True)):
            # True boxes are proposals, too: early in training there are no other good ones.
            candidates = np.concatenate([proposed, target.boxes.astype(proposed.dtype)])
            matches = self.settings.matcher.match(target.boxes, candidates)
            positive, negative = self.settings.sampler(np.sign(matches + 1), rng)
            chosen = np.concatenate([positive, negative])
            boxes.append(candidates[chosen])
            labels.append(_class_of(target.labels, matches[chosen]))
            truth.append(matches[chosen])
            wanted.append(coder.encode(target.boxes[matches[positive]], candidates[positive]))
            wanted.append(np.zeros((len(negative), 4), np.float32))
            if events.observers:
                events.emit("note", "proposal_matches", (image, candidates), (matches, chosen))
        regions, order = Regions.group(boxes, self.settings.levels)
        label = np.concatenate(labels)[order]
        rows = np.flatnonzero(label > 0)
        return RoiSample(
            regions,
            label,
            rows,
            np.concatenate(wanted)[order][rows],
            np.concatenate(truth)[order][rows],
        )

    def _mask_loss(
        self, features: Sequence[Tensor], sample: RoiSample, targets: Sequence[Truth]
    ) -> Tensor:
        if not len(sample.positive):
            return beside(features[0], np.zeros((), features[0].dtype))
        regions = sample.regions[sample.positive]
        logits = self.masks(features, regions, sample.labels[sample.positive])
        wanted = np.empty(logits.shape, logits.dtype)
        for image in np.unique(regions.image):
            rows = np.flatnonzero(regions.image == image)
            wanted[rows] = crop_masks(
                targets[image].masks,
                regions.boxes[rows],
                sample.truth[rows],
                logits.shape[-1],
                self.settings.aligned,
            )
        return ops.binary_cross_entropy_with_logits(logits, beside(logits, wanted))

    def _keypoint_loss(
        self, features: Sequence[Tensor], sample: RoiSample, targets: Sequence[Truth]
    ) -> Tensor:
        """Cross-entropy over all places of a heat map, mean over the joints that are labelled."""
        regions = sample.regions[sample.positive]
        rows = zip(regions.image, sample.truth, strict=True)
        points = [targets[image].keypoints[row] for image, row in rows]
        if not points:
            return beside(features[0], np.zeros((), features[0].dtype))
        heat = self.keypoints(features, regions)
        cells, counted = keypoint_cells(np.stack(points), regions.boxes, heat.shape[-1])
        if not counted.any():
            return beside(features[0], np.zeros((), features[0].dtype))
        R, J = cells.shape
        logits = heat.reshape((R * J, heat.shape[-1] ** 2))[np.flatnonzero(counted)]
        return ops.cross_entropy(logits, beside(logits, cells[counted]))

    # Detection.

    def detect(
        self,
        features: Sequence[Tensor],
        proposals: Sequence[FloatArray],
        image_sizes: Sequence[Size],
        settings: DetectionSettings,
        mask_threshold: float = 0.5,
    ) -> list[Objects]:
        """What is in each image: boxes, labels (0 for the first real class), scores, and more."""
        regions, _ = Regions.group(proposals, self.settings.levels)
        logits, deltas = self.boxes(features, regions)
        probabilities = ops.softmax(logits, 1).numpy()
        found = []
        for image, size in enumerate(image_sizes):
            rows = np.flatnonzero(regions.image == image)
            found.append(
                select_detections(
                    probabilities[rows],
                    deltas.numpy()[rows, 1:],
                    regions.boxes[rows],
                    size,
                    settings,
                )
            )
        none = [None] * len(found)
        masks, points = self.settings.masks, self.settings.keypoints is not None
        pasted = self._detect_masks(features, found, image_sizes, mask_threshold) if masks else none
        placed = self._detect_keypoints(features, found) if points else none
        return [
            Objects(f.boxes, f.labels, m, f.scores, k)
            for f, m, k in zip(found, pasted, placed, strict=True)
        ]

    def _detect_keypoints(
        self, features: Sequence[Tensor], found: Sequence[Detections]
    ) -> list[FloatArray]:
        """Keypoints of all detections from one run of the keypoint head."""
        regions, order = Regions.group([f.boxes for f in found], self.settings.levels)
        heat = self.keypoints(features, regions).numpy()
        points = np.zeros((*heat.shape[:2], 3), heat.dtype)
        points[order] = place_keypoints(heat, regions.boxes)
        ends = np.cumsum([len(f.boxes) for f in found])[:-1]
        return list(np.split(points, ends)) if found else []

    def _detect_masks(
        self,
        features: Sequence[Tensor],
        found: Sequence[Detections],
        image_sizes: Sequence[Size],
        threshold: float,
    ) -> list[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
        """Masks of all detections at the size of their images, from one run of the mask head."""
        regions, order = Regions.group([f.boxes for f in found], self.settings.levels)
        side = 2 * self.settings.mask_size
        grids = np.zeros((len(regions), side, side), features[0].dtype)
        if len(regions):
            labels = np.concatenate([f.labels for f in found])[order]
            grids[order] = ops.sigmoid(self.masks(features, regions, labels + 1)).numpy()
        ends = np.cumsum([len(f.boxes) for f in found])
        return [
            paste_masks(grids[end - len(f.boxes) : end], f.boxes, size, threshold)
            for end, f, size in zip(ends, found, image_sizes, strict=True)
        ]


def _class_of(labels: IntArray, matches: IntArray) -> IntArray:
    """0 for background, else 1 + the label of the matched box."""
    with_background = np.concatenate([np.zeros(1, np.int64), labels + 1])
    return with_background[np.maximum(matches + 1, 0)]
