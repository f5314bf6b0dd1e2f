"""Photographs to the batch that a detector of full size wants, and its detections back to pixels.

    pictures ─ (x − mean) / std ─ one scale for both sides ─ zeros right and below ─ batch
                                            │
    detections in the batch's pixels ─ divided by it ─ in the pictures' own pixels

Scale: ``min(min_size / shorter side, max_size / longer side)``; a resized side is the whole part of
side times scale, the scale a float32 number as in torchvision (480 pixels to 800 are 799).

Source: Lin et al., "Feature Pyramid Networks for Object Detection", 2017, section 5.1 (800 pixels);
the numbers are torchvision's.  Difference: true masks and found ones are resampled to the nearest
pixel on the way there and back; torchvision pastes found masks into the picture directly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, no_grad
from cnncore.errors import ArgumentError, ShapeError
from cnncore.vision import Objects
from cnncore.vision.boxes import BoolArray, FloatArray, Size, as_boxes
from cnncore.vision.masks import as_masks

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Batch:
    """Pictures of different sizes as one array, and how to return from it."""

    images: Tensor  # (N, 3, H, W), zeros where a picture is smaller
    image_sizes: list[Size]  # what of each is picture
    original_sizes: list[Size]  # of the pictures that were given

    def restore(self, found: Sequence[Objects]) -> list[Objects]:
        """Detections in the batch's pixels to those of the pictures."""
        sizes = zip(found, self.image_sizes, self.original_sizes, strict=True)
        return [scaled_objects(objects, old, new) for objects, old, new in sizes]

    def scale(self, targets: Sequence[Any]) -> list[Objects]:
        """True boxes, labels and masks in the pictures' pixels to those of the batch."""
        if len(targets) != len(self.image_sizes):
            raise ArgumentError("targets", f"one an image, {len(self.image_sizes)}", len(targets))
        sizes = zip(targets, self.original_sizes, self.image_sizes, strict=True)
        return [scaled_objects(target, old, new) for target, old, new in sizes]


def scaled_objects(objects: Any, old: Size, new: Size) -> Objects:
    """``boxes``, ``labels`` and, if there, the rest, of an image of another size.

    >>> found = Objects(np.float32([[1, 2, 3, 4]]), np.array([0]))
    >>> scaled_objects(found, (10, 10), (20, 30)).boxes.tolist()
    [[3.0, 4.0, 9.0, 8.0]]
    """
    ratio = np.array([new[1] / old[1], new[0] / old[0]] * 2)
    boxes = as_boxes(objects.boxes)
    masks = getattr(objects, "masks", None)
    points = getattr(objects, "keypoints", None)
    if points is not None:
        points = np.asarray(points) * np.array([*ratio[:2], 1], boxes.dtype)
    return Objects(
        boxes * ratio.astype(boxes.dtype),
        objects.labels,
        None if masks is None else _nearest(as_masks(masks), new),
        getattr(objects, "scores", None),
        points,
    )


def _nearest(masks: BoolArray, size: Size) -> BoolArray:
    rows, columns = (
        np.minimum((np.arange(n) * (m / n)).astype(np.int64), m - 1)
        for m, n in zip(masks.shape[1:], size, strict=True)
    )
    return np.ascontiguousarray(masks[:, rows[:, None], columns])


@dataclass(frozen=True)
class Resize:
    """The size and scaling of a detector's input; the defaults are those of the public weights.

    >>> batch = Resize(min_size=64, max_size=96)([np.zeros((60, 120, 3), np.uint8)])
    >>> batch.images.shape, batch.image_sizes, batch.original_sizes
    ((1, 3, 64, 96), [(48, 96)], [(60, 120)])
    """

    min_size: int = 800  # pixels of the shorter side,
    max_size: int = 1333  # unless the longer one would exceed this
    divisor: int = 32  # of the batch's sides: the coarsest stride
    mean: Triple = (0.485, 0.456, 0.406)  # of values 0..1, red, green, blue
    std: Triple = (0.229, 0.224, 0.225)
    fixed: Size | None = None  # exactly this size instead, each side at its own scale

    def __post_init__(self) -> None:
        for name in ("min_size", "max_size", "divisor"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, "at least 1", getattr(self, name))
        if not all(std > 0 for std in self.std):
            raise ArgumentError("std", "numbers > 0", self.std)

    def size(self, picture: Size) -> Size:
        """The height and width of a resized picture.

        >>> Resize().size((480, 640)), Resize().size((800, 1333)), Resize().size((500, 1000))
        ((799, 1066), (800, 1333), (666, 1332))
        """
        if self.fixed is not None:
            return self.fixed
        sides = np.array(picture, np.float32)
        one = np.float32(self.min_size) / sides.min(), np.float32(self.max_size) / sides.max()
        scale = float(min(one))
        return math.floor(picture[0] * scale) or 1, math.floor(picture[1] * scale) or 1

    def __call__(self, pictures: Sequence[Any]) -> Batch:
        """Pictures ``(H, W, 3)`` uint8, or ``(3, H, W)`` floats 0..1, to a batch; no gradient."""
        scaled = [self._scaled(f"pictures[{i}]", picture) for i, picture in enumerate(pictures)]
        sizes = [self.size((x.shape[1], x.shape[2])) for x in scaled]
        height, width = (
            -(-max((size[axis] for size in sizes), default=1) // self.divisor) * self.divisor
            for axis in (0, 1)
        )
        images = np.zeros((len(scaled), 3, height, width), np.float32)
        with no_grad():
            for image, x, size in zip(images, scaled, sizes, strict=True):
                resized = ops.interpolate(x[None], size, mode="bilinear", align_corners=False)
                image[:, : size[0], : size[1]] = resized.numpy()[0]
        return Batch(Tensor(images), sizes, [(x.shape[1], x.shape[2]) for x in scaled])

    def _scaled(self, name: str, picture: Any) -> FloatArray:
        x = np.asarray(picture)
        if x.ndim == 3 and x.shape[2] == 3 and x.dtype == np.uint8:
            x = x.transpose(2, 0, 1) / np.float32(255)
        elif x.ndim != 3 or x.shape[0] != 3 or x.dtype.kind != "f":
            expected = "(H, W, 3) uint8 or (3, H, W) floats 0..1"
            raise ShapeError(name, expected, f"{x.shape} {x.dtype}", "vision.read_image(path)")
        if 0 in x.shape:
            raise ShapeError(name, "a picture with pixels", x.shape)
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.mean, self.std))
        return np.ascontiguousarray((x.astype(np.float32) - mean) / std)
