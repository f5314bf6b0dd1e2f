"""Detection by asking a classifier everywhere: all places of a window, at all sizes of the image.

    image ─ scaled by 1, 1/s, 1/s² … ─ classifier as convolutions ─ score maps ─ boxes ─ suppression

A place of a score map is the classifier run on one window; computed as convolutions, neighbouring
windows share what they have in common.

Letters: ``N 3 H W`` images, ``K`` classes.

Source: Sermanet et al., "OverFeat", 2014, sections 3.5 and 4.  Difference: boxes are suppressed,
not merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, no_grad
from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import as_int
from cnncore.models.convolutional import to_fully_convolutional
from cnncore.models.detection.detector import Detector, checked_images
from cnncore.models.detection.resize import Resize
from cnncore.models.shapes import blank, shapes_of
from cnncore.nn import Module
from cnncore.vision import DeltaCoder, DetectionSettings, Objects, select_dense_detections
from cnncore.vision.boxes import FloatArray, Size


@dataclass(frozen=True)
class WindowSettings:
    """Sizes to look at, and when a window counts."""

    window: Size = (224, 224)  # what the classifier takes
    step: float = 2**0.5  # between sizes of the image
    largest: float = 1.0  # the first scale of the image; above 1 finds objects below the window
    shared: bool = True  # one run of convolutions a scale; False: each window on its own
    detections: DetectionSettings = DetectionSettings(
        score_threshold=0.5, nms_threshold=0.3, coder=DeltaCoder()
    )
    resize: Resize | None = Resize(divisor=1)

    def __post_init__(self) -> None:
        if not self.step > 1 or not self.largest > 0:
            got = self.step, self.largest
            raise ArgumentError("step, largest", "step > 1 and largest > 0", got)


@dataclass(frozen=True)
class WindowOutputs:
    """What the classifier says of every window."""

    logits: list[Tensor]  # for each scale (N, 1 + K, OH, OW), background first
    boxes: list[FloatArray]  # for each scale (OH · OW, 4) pixels of the image
    image_sizes: list[Size]


class SlidingWindow(Detector):
    """A classifier with background as class 0 as a detector of ``num_classes`` real classes.

    ``model(images)`` -> ``WindowOutputs``; ``model.decode(outputs)`` -> one ``vision.Objects`` an
    image.  It is trained as a classifier, on windows: there is no loss here.  ``classifier`` is
    what ``to_fully_convolutional`` takes; its padding makes shared and single windows differ.
    """

    def __init__(
        self, classifier: Module, num_classes: int, settings: WindowSettings = WindowSettings()
    ) -> None:
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.settings, self.resize = settings, settings.resize
        self.classifier = classifier
        height, width = settings.window
        self.dense = to_fully_convolutional(classifier, (3, height, width))
        self.stride = window_stride(self.dense, settings.window)

    def scales(self, size: Size) -> list[Size]:
        """Sizes of the image, from the largest to the last that holds a window."""
        found: list[Size] = []
        scale = self.settings.largest
        while True:
            scaled = round(size[0] * scale), round(size[1] * scale)
            if any(s < w for s, w in zip(scaled, self.settings.window, strict=True)):
                return found
            found.append(scaled)
            scale /= self.settings.step

    def forward(self, images: Any, image_sizes: Sequence[Size] | None = None) -> WindowOutputs:
        """Logits of all windows of images ``(N, 3, H, W)``; small images have none."""
        x, sizes = checked_images(images, image_sizes)
        H, W = x.shape[2:]
        logits, boxes = [], []
        for size in self.scales((H, W)):
            same = size == (H, W)
            scaled = x if same else ops.interpolate(x, size=size, mode="bilinear")
            places = self._places(size)
            logits.append(
                self.dense(scaled) if self.settings.shared else self._each(scaled, places)
            )
            if logits[-1].shape[1] != 1 + self.num_classes:
                expected = f"{1 + self.num_classes} logits, background first"
                raise ShapeError("classifier", expected, logits[-1].shape[1])
            OH, OW = logits[-1].shape[2:]
            rows, columns = np.meshgrid(np.arange(OH), np.arange(OW), indexing="ij")
            corner = np.stack([columns, rows], -1).reshape(-1, 2) * self.stride[::-1]
            window = np.array(self.settings.window[::-1])
            factor = np.array([W / size[1], H / size[0]] * 2)
            every = np.concatenate([corner, corner + window], 1) * factor
            boxes.append(every.astype(np.float32))
        return WindowOutputs(logits, boxes, sizes)

    def _places(self, size: Size) -> tuple[range, range]:
        """First rows and first columns of the windows that fit."""
        (h, w), (down, across) = self.settings.window, self.stride
        return range(0, size[0] - h + 1, down), range(0, size[1] - w + 1, across)

    def _each(self, x: Tensor, places: tuple[range, range]) -> Tensor:
        """The classifier on one window after the other: ``(N, 1 + K, OH, OW)``."""
        h, w = self.settings.window
        rows = [
            ops.stack([self.classifier(x[:, :, i : i + h, j : j + w]) for j in places[1]], 2)
            for i in places[0]
        ]
        return ops.stack(rows, 2)

    def decode(
        self, outputs: WindowOutputs, settings: DetectionSettings | None = None, **changes: Any
    ) -> list[Objects]:
        """The detections of every image, by descending score; no gradient flows."""
        settings = replace(settings or self.settings.detections, **changes)
        with no_grad():
            chances = [
                ops.softmax(x, 1).numpy()[:, 1:].transpose(0, 2, 3, 1) for x in outputs.logits
            ]
        found = []
        for image, size in enumerate(outputs.image_sizes):
            if not chances:
                nothing = np.zeros((0, 4), np.float32)
                found.append(Objects(nothing, np.zeros(0, np.int64), None, nothing[:, 0]))
                continue
            one = select_dense_detections(
                [c[image].reshape(-1, self.num_classes) for c in chances],
                [np.zeros_like(b) for b in outputs.boxes],
                outputs.boxes,
                size,
                settings,
            )
            found.append(Objects(one.boxes, one.labels, None, one.scores))
        return found


def window_stride(dense: Module, window: Size, most: int = 128) -> Size:
    """Pixels between neighbouring places of a score map: what one place more takes.

    Found by asking for shapes of images that are one place larger and two.
    """

    def first(axis: int, places: int) -> int:
        with shapes_of(dense):
            for extra in range(0, most * places + 1):
                size = [window[0], window[1]]
                size[axis] += extra
                if dense(blank(dense, (1, 3, *size))).shape[2 + axis] > places:
                    return extra
        hint = "a classifier whose score map grows with the image"
        raise ArgumentError("classifier", f"a stride of at most {most}", "a larger one", hint)

    down, across = (first(axis, 2) - first(axis, 1) for axis in (0, 1))
    return down, across
