"""SPP-net: one map an image; any window of it becomes a vector of fixed length.

    image at 5 scales ─ conv1 … conv5 ─ maps ─┐
    proposals ─ scale of about 224² pixels ───┴─ bins 6×6, 3×3, 2×2, 1×1: maxima ─ fc6, fc7 ─ SVMs
                                                 └───── 50 C numbers ─────┘   └─ boxes

Letters: ``N 3 H W`` images, ``C`` channels of the map, ``R`` regions, ``K`` classes.

Source: He et al., "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition",
2014, figures 3 and 5, section 4 and appendix A.  Differences: bins of a window of ``a`` cells run
from ``floor(i a / n)`` to ``ceil((i + 1) a / n)``, n of them whatever ``a`` (section 2.2's windows
of ``ceil(a / n)`` at strides of ``floor(a / n)`` give more of them for some ``a``); only fc6, fc7
are fine-tuned (as in the paper), with regions of all scales in a batch.
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
from cnncore.models.classification.zfnet import ZFNet
from cnncore.models.detection.detector import checked_images
from cnncore.models.detection.rcnn import Rcnn, checked_proposals
from cnncore.models.detection.region_stage import StagedDetector
from cnncore.models.detection.resize import Resize
from cnncore.models.detection.truth import checked_truth
from cnncore.nn import Dropout, Linear, Module, ReLU, Sequential, init
from cnncore.vision import BalancedSampler, DetectionSettings, IouMatcher
from cnncore.vision.boxes import FloatArray, IntArray, Size, as_boxes

Rng = np.random.Generator
PYRAMID = (6, 3, 2, 1)


@dataclass(frozen=True)
class SppSettings:
    """All of SPP-net; the defaults are the paper's with the network of Zeiler and Fergus."""

    pyramid: tuple[int, ...] = PYRAMID
    hidden: int = 4096
    dropout: float = 0.5
    stride: int = 16  # of the map
    offset: float = 0.0  # pixels from an image's first pixel to the centre of the map's first cell
    scales: tuple[int, ...] = (480, 576, 688, 864, 1200)  # shorter side; (): as the image comes
    best_side: float = 224.0  # a region is looked up where it comes closest to this, squared
    matcher: IouMatcher = IouMatcher(0.5, 0.5, least=0.1)
    sampler: BalancedSampler = BalancedSampler(128, 0.25)
    detections: DetectionSettings = DetectionSettings(score_threshold=-1.0, nms_threshold=0.3)
    resize: Resize | None = Resize(min_size=688, max_size=2000, divisor=1)


@dataclass(frozen=True)
class SppOutputs:
    """The maps of a batch at every scale, and the regions to pool from them."""

    maps: list[Tensor]  # (N, C, H_s, W_s)
    factors: list[tuple[float, float]]  # (down, across): pixels of a scaled image a pixel
    proposals: list[FloatArray]  # (R, 4) of each image
    image_sizes: list[Size]


def map_windows(boxes: FloatArray, stride: float, size: Size, offset: float = 0.0) -> IntArray:
    """The cells of a map ``(H, W)`` that boxes ``(R, 4)`` hold: ``(x1, y1, x2, y2)``, all included.

    From ``floor((x1 − o) / S) + 1`` to ``ceil((x2 − o) / S) − 1``, ``x1`` and ``x2`` the first and
    the last pixel, cells centred at ``o + i S``; at least the cell nearest to the middle.
    Source: appendix A.

    >>> map_windows(np.float32([[0, 16, 64, 17]]), 16, (9, 9)).tolist()
    [[1, 1, 3, 1]]
    """
    wide = np.asarray(boxes, np.float64)
    limit = np.array([size[1], size[0]]) - 1
    first, last = wide[:, :2] - offset, wide[:, 2:] - 1 - offset
    start, end = np.floor(first / stride) + 1, np.ceil(last / stride) - 1
    middle = np.rint((first + last) / 2 / stride)
    none = end < start
    start, end = np.where(none, middle, start), np.where(none, middle, end)
    cells = np.clip(np.concatenate([start, end], 1), 0, np.concatenate([limit, limit]))
    whole: IntArray = cells.astype(np.int64)
    return whole


def pool_windows(x: Tensor, image: int, windows: IntArray, pyramid: Sequence[int]) -> Tensor:
    """Maxima of every bin of every window of one image: ``(R, Σ n² C)``, coarser levels last.

    ``windows`` as of ``map_windows``.
    """
    rois = np.concatenate([np.full((len(windows), 1), image), windows], 1).astype(x.dtype)
    return ops.cat([ops.flatten(ops.roi_pool(x, rois, n), 1) for n in pyramid], 1)


class SpatialPyramidPool(Module):
    """A map of any size to ``Σ n²`` maxima a channel, in place of a classifier's last pooling.

    >>> SpatialPyramidPool()(np.zeros((2, 8, 13, 11), np.float32)).shape
    (2, 400)
    """

    shown = ("pyramid",)

    def __init__(self, pyramid: Sequence[int] = PYRAMID) -> None:
        self.pyramid = tuple(as_int("pyramid", n, 1) for n in pyramid)
        if not self.pyramid:
            raise ArgumentError("pyramid", "bins a side of each level", self.pyramid)

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, Σ n² C)``"""
        maps = x if isinstance(x, Tensor) else Tensor(x)
        levels = [ops.flatten(ops.adaptive_max_pool2d(maps, n), 1) for n in self.pyramid]
        return ops.cat(levels, 1)


def nearest_scale(
    boxes: FloatArray, factors: Sequence[tuple[float, float]], best_side: float
) -> IntArray:
    """For each box the scale at which its area comes closest to ``best_side²``."""
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    areas = np.stack([sides.prod(1) * down * across for down, across in factors], 1)
    nearest: IntArray = np.abs(areas - best_side**2).argmin(1)
    return nearest


class SppNet(StagedDetector):
    """SPP-net for ``num_classes`` real classes; used as ``Rcnn``, its network runs on whole images.

    ``features``: another network from images to maps of ``channels`` and ``settings.stride``.
    """

    def __init__(
        self,
        num_classes: int,
        settings: SppSettings = SppSettings(),
        features: Module | None = None,
        channels: int = 256,
    ) -> None:
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.settings, self.resize = settings, settings.resize
        self.detections = settings.detections
        if features is None:
            rows = list(ZFNet(num_classes=1).children().items())
            last = [name for name, _ in rows].index("relu5")
            features = Sequential(dict(rows[: last + 1]))
        self.features = features
        bins = sum(n * n for n in SpatialPyramidPool(settings.pyramid).pyramid)
        wide, drop = settings.hidden, settings.dropout
        self.hidden = Sequential(
            {
                "fc6": Linear(channels * bins, wide), "relu6": ReLU(), "drop6": Dropout(drop),
                "fc7": Linear(wide, wide), "relu7": ReLU(), "drop7": Dropout(drop),
            }
        )  # fmt: skip
        self.predictor = Linear(wide, 1 + num_classes)
        init.normal_(self.predictor.weight, std=0.01)
        init.constant_(self.predictor.bias, 0.0)  # type: ignore[type-var]

    def continue_from(self, classifier: Rcnn) -> None:
        """Take the weights of ``classifier.features``: here they are not trained, see ``loss``."""
        self.features.load_state_dict(classifier.features.state_dict())

    def forward(
        self, images: Any, proposals: Sequence[Any], image_sizes: Sequence[Size] | None = None
    ) -> SppOutputs:
        """Maps of images ``(N, 3, H, W)`` at every scale, with boxes ``(R, 4)`` for each image."""
        x, sizes = checked_images(images, image_sizes)
        boxes = checked_proposals(proposals, len(sizes))
        H, W = x.shape[2:]
        maps, factors = [], []
        for side in self.settings.scales or (min(H, W),):
            ratio = side / min(H, W)
            size = max(1, round(H * ratio)), max(1, round(W * ratio))
            same = size == (H, W)
            scaled = x if same else ops.interpolate(x, size=size, mode="bilinear")
            maps.append(self.features(scaled))
            factors.append((size[0] / H, size[1] / W))
        return SppOutputs(maps, factors, boxes, sizes)

    def pooled(self, outputs: SppOutputs, image: int, boxes: FloatArray) -> Tensor:
        """``(R, Σ n² C)``: each box from the map of its scale."""
        chosen = nearest_scale(boxes, outputs.factors, self.settings.best_side)
        order, parts = np.argsort(chosen, kind="stable"), []
        for scale, (x, (down, across)) in enumerate(
            zip(outputs.maps, outputs.factors, strict=True)
        ):
            rows = order[chosen[order] == scale]
            if len(rows) or scale == 0:
                there = boxes[rows] * np.array([across, down] * 2)
                size = x.shape[2], x.shape[3]
                windows = map_windows(there, self.settings.stride, size, self.settings.offset)
                parts.append(pool_windows(x, image, windows, self.settings.pyramid))
        y: Tensor = ops.cat(parts, 0)[np.argsort(order, kind="stable")]
        return y

    def loss(self, outputs: SppOutputs, targets: Sequence[Any], rng: Rng) -> dict[str, Tensor]:
        """``class``: cross-entropy of sampled regions, mean; no gradient reaches the map."""
        truth = checked_truth(targets, outputs.image_sizes, self.num_classes, with_masks=False)
        pooled, labels = [], [np.zeros(0, np.int64)]
        for image, (target, proposed) in enumerate(zip(truth, outputs.proposals, strict=True)):
            boxes = np.concatenate([target.boxes, proposed])
            matches = self.settings.matcher.match(target.boxes, boxes)
            positive, negative = self.settings.sampler(np.sign(matches + 1), rng)
            with no_grad():
                rows = np.concatenate([positive, negative])
                pooled.append(self.pooled(outputs, image, as_boxes(boxes[rows])))
            labels += [target.labels[matches[positive]] + 1, np.zeros(len(negative), np.int64)]
        label = np.concatenate(labels)
        if not len(label):
            like = self.predictor.weight
            return {"class": beside(like, np.zeros((), like.dtype))}
        logits = self.predictor(self.hidden(ops.cat(pooled, 0)))
        return {"class": ops.cross_entropy(logits, beside(logits, label))}

    def regions(
        self, outputs: SppOutputs, image: int, boxes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Of fc7, and of the pyramid."""
        with no_grad():
            pooled = self.pooled(outputs, image, boxes)
            return self.hidden(pooled).numpy(), pooled.numpy()


def sppnet_zf5(num_classes: int = 20, **changes: Any) -> SppNet:
    """SPP-net on ZF-5, 73.0 M parameters for VOC; ``changes`` replace fields of ``SppSettings``."""
    return SppNet(num_classes, SppSettings(**changes))
