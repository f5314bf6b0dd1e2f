"""YOLO: one regression from the whole picture to a grid of boxes and classes.

    448×448 ─ 24 convolutions, 4 poolings ─ 7×7×1024 ─ 4096 ─ 7×7×(2·5 + 20)
                                                                 │
      a cell says: which class, if an object's centre is in me; and two boxes,
      each (x, y, √w, √h) and a confidence: the IoU it expects to have

Letters: ``N 3 H W`` images, ``S`` cells a side, ``B`` boxes of a cell, ``K`` classes.

Source: Redmon et al., "You Only Look Once: Unified, Real-Time Object Detection", 2016, figures 2
and 3, section 2.  The vector's order (classes of all cells, confidences, boxes), the tiny network
with batch norm, √w and √h as raw numbers, and the rule where no box overlaps the object (the
nearest one is responsible) are those of the author's published code.  Differences: a cell that
holds several centres learns the first object; the losses of a batch's images are averaged.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, beside, events
from cnncore.errors import ShapeError
from cnncore.geometry import as_int
from cnncore.models.backbones import Body, body_at
from cnncore.models.classification.blocks import initialise_for_relu
from cnncore.models.detection.detector import Detector, checked_images
from cnncore.models.detection.resize import Resize
from cnncore.models.detection.truth import Truth, checked_truth
from cnncore.nn import Conv2d, Dropout, Linear, MaxPool2d, Module, ModuleList, Sequential
from cnncore.nn.norm import norm_layer
from cnncore.vision import (
    DeltaCoder,
    DetectionSettings,
    Objects,
    box_iou,
    select_dense_detections,
)
from cnncore.vision.boxes import FloatArray, IntArray, Size

Layers = tuple[tuple[int, ...], ...]  # (kernel, channels) or (kernel, channels, stride)
POOL: tuple[int, ...] = ()

# Figure 3.
PAPER: Layers = (
    (7, 64, 2), POOL,
    (3, 192), POOL,
    (1, 128), (3, 256), (1, 256), (3, 512), POOL,
    *((1, 256), (3, 512)) * 4, (1, 512), (3, 1024), POOL,
    *((1, 512), (3, 1024)) * 2, (3, 1024), (3, 1024, 2),
    (3, 1024), (3, 1024),
)  # fmt: skip
TINY: Layers = (
    (3, 16), POOL, (3, 32), POOL, (3, 64), POOL, (3, 128), POOL, (3, 256), POOL, (3, 512), POOL,
    (3, 1024), (3, 256),
)  # fmt: skip


@dataclass(frozen=True)
class YoloSettings:
    """All of YOLO; the defaults are the paper's."""

    # A body gives its map of level 5, stride 32, and ``layers`` go on from there.
    body: Body | None = None
    layers: Layers = PAPER
    norm: str | None = None  # a name in nn.norm.NORMS, after every convolution
    hidden: int = 4096  # of the layer before the last; 0: there is none
    dropout: float = 0.5  # after it
    # The last layers look at one cell at a time, with the same weights for all: 1×1 convolutions.
    # Connected ones have weights for every cell, which each must see objects of every class.
    shared: bool = False
    grid: int = 7  # S
    boxes: int = 2  # B
    box_weight: float = 5.0
    background_weight: float = 0.5
    slope: float = 0.1  # of the activations below 0
    detections: DetectionSettings = DetectionSettings(
        score_threshold=0.2, min_size=0.0, coder=DeltaCoder()
    )
    resize: Resize | None = Resize(
        divisor=1, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), fixed=(448, 448)
    )


@dataclass(frozen=True)
class YoloOutputs:
    """What every cell says."""

    classes: Tensor  # (N, S, S, K) probabilities, if there is an object
    confidence: Tensor  # (N, S, S, B)
    boxes: Tensor  # (N, S, S, B, 4): x, y of the centre in its cell, √w, √h in images
    image_sizes: list[Size]
    size: Size  # of the batch: what the grid lies over

    def pixels(self) -> FloatArray:
        """All boxes ``(N, S, S, B, 4)`` as xyxy."""
        raw = self.boxes.numpy()
        S = raw.shape[1]
        scale = np.array(self.size[::-1], raw.dtype)
        rows, columns = np.meshgrid(np.arange(S), np.arange(S), indexing="ij")
        cells = np.stack([columns, rows], -1)[:, :, None].astype(raw.dtype)
        centre, half = (raw[..., :2] + cells) / S * scale, raw[..., 2:] ** 2 * scale / 2
        return np.concatenate([centre - half, centre + half], -1)


@dataclass(frozen=True)
class Responsible:
    """The boxes that answer for an object, and what they should have said."""

    box: IntArray  # (P,) index into N · S · S · B
    cell: IntArray  # (P,) index into N · S · S
    label: IntArray  # (P,)
    wanted: FloatArray  # (P, 4)
    iou: FloatArray  # (P,) with the object as they are


class YoloLayer(Module):
    """Convolution, normalisation if any, leaky ReLU."""

    def __init__(self, channels: int, layer: tuple[int, ...], norm: str | None, slope: float):
        kernel, out, stride = (*layer, 1)[:3]
        bias = norm is None
        self.slope = slope
        self.conv = Conv2d(channels, out, kernel, stride, kernel // 2, bias=bias)
        self.norm = None if norm is None else norm_layer(norm, out)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, out, H / stride, W / stride)``."""
        x = self.conv(x)
        return ops.leaky_relu(x if self.norm is None else self.norm(x), self.slope)


class Yolo(Detector):
    """YOLO version 1 for ``num_classes`` real classes.

    ``model(images)`` -> ``YoloOutputs``; ``model.loss(outputs, targets)`` -> named terms;
    ``model.decode(outputs)`` -> one ``vision.Objects`` an image.
    """

    def __init__(self, num_classes: int, settings: YoloSettings = YoloSettings()) -> None:
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.settings, self.resize = settings, settings.resize
        layers: list[Module] = []
        channels = 3
        if settings.body is not None:
            made, channels = body_at(settings.body, 5)
            layers.append(made)
        for layer in settings.layers:
            if layer == POOL:
                layers.append(MaxPool2d(2, 2))
            else:
                layers.append(YoloLayer(channels, layer, settings.norm, settings.slope))
                channels = layer[1]
        self.features = Sequential(*layers)
        cells = 1 if settings.shared else settings.grid**2
        widths = [cells * channels, *([settings.hidden] if settings.hidden else [])]
        widths.append(cells * (num_classes + 5 * settings.boxes))
        pairs = itertools.pairwise(widths)
        self.connected = ModuleList(Linear(before, after) for before, after in pairs)
        self.dropout = Dropout(settings.dropout)
        initialise_for_relu(self.features)

    def forward(self, images: Any, image_sizes: Sequence[Size] | None = None) -> YoloOutputs:
        """What the cells say of images ``(N, 3, 448, 448)``, values 0..1.

        ``image_sizes`` as for ``FasterRcnn``; the grid lies over the whole batch.
        """
        x, sizes = checked_images(images, image_sizes)
        size, S, B = (x.shape[2], x.shape[3]), self.settings.grid, self.settings.boxes
        x = self.features(x)
        if x.shape[2:] != (S, S):
            hint = "model.prepare(pictures)"
            raise ShapeError("images", f"a size that gives {S}×{S} cells", size, hint)
        x = x.permute((0, 2, 3, 1)) if self.settings.shared else ops.flatten(x, 1)
        for layer in list(self.connected)[:-1]:
            x = self.dropout(ops.leaky_relu(layer(x), self.settings.slope))
        x = self.connected[len(self.connected) - 1](x)
        N, K, cells = x.shape[0], self.num_classes, 1 if self.settings.shared else S * S
        ends = cells * K, cells * (K + B)
        return YoloOutputs(
            x[..., : ends[0]].reshape((N, S, S, K)),
            x[..., ends[0] : ends[1]].reshape((N, S, S, B)),
            x[..., ends[1] :].reshape((N, S, S, B, 4)),
            sizes,
            size,
        )

    def loss(self, outputs: YoloOutputs, targets: Sequence[Any]) -> dict[str, Tensor]:
        """The four sums of squares of equation 3, each the mean over images.

        ``box``, weighed by 5, and ``object`` of the boxes that are responsible for an object (their
        confidence should be their IoU), ``background``, weighed by a half, of all others'
        confidence (should be 0), ``class`` of the cells with an object.  ``targets`` have ``boxes``
        and ``labels``; images without objects are legal.
        """
        truth = checked_truth(targets, outputs.image_sizes, self.num_classes, with_masks=False)
        found = self._responsible(outputs, truth)
        confidence, dtype = outputs.confidence.reshape((-1,)), outputs.confidence.dtype
        others = np.setdiff1d(np.arange(confidence.shape[0]), found.box)
        hot = np.eye(self.num_classes, dtype=dtype)[found.label]
        missed = {
            "box": outputs.boxes.reshape((-1, 4))[found.box]
            - beside(confidence, found.wanted.astype(dtype)),
            "object": confidence[found.box] - beside(confidence, found.iou.astype(dtype)),
            "background": confidence[others],
            "class": outputs.classes.reshape((-1, self.num_classes))[found.cell]
            - beside(confidence, hot),
        }
        weights = {"box": self.settings.box_weight, "background": self.settings.background_weight}
        share = 1 / max(1, len(truth))
        return {
            name: ops.sum(x * x) * (weights.get(name, 1.0) * share) for name, x in missed.items()
        }

    def _responsible(self, outputs: YoloOutputs, truth: Sequence[Truth]) -> Responsible:
        """For every object the cell of its centre, and of that cell's boxes the best."""
        S, B = self.settings.grid, self.settings.boxes
        pixels, scale = outputs.pixels(), np.array(outputs.size[::-1], np.float64)
        rows: list[tuple[int, int, int, list[float], float]] = []
        for image, target in enumerate(truth):
            matches = np.full(S * S * B, -1, np.int64)
            for number, (box, label) in enumerate(zip(target.boxes, target.labels, strict=True)):
                centre = (box[:2] + box[2:]) / 2 / scale * S
                column, row = (min(max(math.floor(v), 0), S - 1) for v in centre)
                cell = row * S + column
                if (matches[cell * B : cell * B + B] >= 0).any():
                    continue
                offered = pixels[image, row, column]
                overlap = box_iou(offered, box[None])[:, 0]
                best = int(overlap.argmax())
                if overlap[best] == 0:
                    best = int(((offered - box) ** 2).sum(1).argmin())
                matches[cell * B + best] = number
                sides = np.sqrt((box[2:] - box[:2]) / scale)
                wanted = [centre[0] - column, centre[1] - row, *sides.tolist()]
                place = image * S * S + cell
                rows.append((place * B + best, place, int(label), wanted, float(overlap[best])))
            if events.observers:
                about = (matches, np.flatnonzero(matches >= 0), np.flatnonzero(matches < 0))
                events.emit("note", "anchor_matches", (image, target.boxes), about)
        return Responsible(
            np.array([r[0] for r in rows], np.int64),
            np.array([r[1] for r in rows], np.int64),
            np.array([r[2] for r in rows], np.int64),
            np.array([r[3] for r in rows], np.float64).reshape(-1, 4),
            np.array([r[4] for r in rows], np.float64),
        )

    def decode(
        self, outputs: YoloOutputs, settings: DetectionSettings | None = None, **changes: Any
    ) -> list[Objects]:
        """The detections of every image, by descending score; no gradient flows.

        A score is the class's probability times the box's confidence.
        """
        settings = replace(settings or self.settings.detections, **changes)
        classes, confidence = outputs.classes.numpy(), outputs.confidence.numpy()
        scores = classes[:, :, :, None, :] * confidence[..., None]
        boxes = outputs.pixels()
        found = []
        for image, size in enumerate(outputs.image_sizes):
            every = boxes[image].reshape(-1, 4)
            chances = scores[image].reshape(-1, self.num_classes)
            found.append(
                select_dense_detections([chances], [np.zeros_like(every)], [every], size, settings)
            )
        return [Objects(f.boxes, f.labels, None, f.scores) for f in found]


TINY_SETTINGS = YoloSettings(layers=TINY, norm="batch", hidden=0)


def yolo_v1(num_classes: int = 20, **changes: Any) -> Yolo:
    """The paper's network, 271.7 M parameters for VOC's 20 classes.

    ``changes`` replace fields of ``YoloSettings``.
    """
    return Yolo(num_classes, YoloSettings(**changes))


def yolo_v1_tiny(num_classes: int = 20, **changes: Any) -> Yolo:
    """Eight convolutions with batch norm and one connected layer, 27.1 M parameters.

    ``changes`` replace fields of ``TINY_SETTINGS``.
    """
    return Yolo(num_classes, replace(TINY_SETTINGS, **changes))
