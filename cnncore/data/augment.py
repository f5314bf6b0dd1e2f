"""Augmentation: random changes of a sample that leave its truth true.

An augmentation is a function ``(sample, rng) -> sample``.  The geometric ones say where each pixel
of the result comes from (``Warp``), and everything follows from that one map: the image is
interpolated, masks and label maps take the nearest pixel, points are moved, boxes are measured on
the masks.  Objects of which too little is left are dropped.  Same generator state, same result.

Letters: ``H W`` image, ``R`` objects, ``P`` points of an object; coordinates ``(x, y)`` in pixels,
pixel (i, j) covers ``j..j+1 × i..i+1``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.data.loader import Dataset
from cnncore.data.scenes import Sample
from cnncore.errors import ArgumentError, require
from cnncore.geometry import as_int, as_pair

Floats = NDArray[np.float64]
Rng = np.random.Generator
Augmentation = Callable[[Sample, Rng], Sample]

MIN_VISIBLE = 0.1  # of an object's area before; below, it is dropped
_FIXED_POINT_STEPS = 40  # enough for displacements that change slowly


@dataclass(frozen=True)
class Warp:
    """A change of geometry: the result's size and the two directions of the map of coordinates.

    ``source``: coordinates ``(…, 2)`` of the result to those of the original; ``target``: back.
    """

    size: tuple[int, int]
    source: Callable[[Floats], Floats]
    target: Callable[[Floats], Floats]


def affine(matrix: Any, size: tuple[int, int]) -> Warp:
    """``(x, y)`` of the original to ``matrix @ (x, y, 1)``; matrix ``(2, 3)``."""
    forward = np.vstack([np.asarray(matrix, np.float64), [0, 0, 1]])
    back = np.linalg.inv(forward)

    def by(m: Floats) -> Callable[[Floats], Floats]:
        return lambda points: points @ m[:2, :2].T + m[:2, 2]

    return Warp(size, by(back), by(forward))


# --- applying -------------------------------------------------------------------------------------


def apply_warp(
    sample: Sample, warp: Warp, fill: float | Sequence[float] = 0.0, beyond: int = 0
) -> Sample:
    """The sample seen through a warp.

    Beyond the image are ``fill`` (one value or one a channel) and the label ``beyond`` (``IGNORE``,
    say: nobody knows what was there).
    """
    H, W = warp.size
    grid = np.stack(np.meshgrid(np.arange(W) + 0.5, np.arange(H) + 0.5), -1)
    places = warp.source(grid) - 0.5  # of pixel centres, counted from pixel centres
    nearest = np.rint(places).astype(np.int64)
    height, width = sample.semantic.shape
    x, y = nearest[..., 0], nearest[..., 1]
    known = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    filling = np.broadcast_to(np.asarray(fill, np.float32), (sample.image.shape[0],))
    image = np.stack(
        [
            _interpolated(plane, places, value)
            for plane, value in zip(sample.image, filling, strict=True)
        ]
    )
    semantic = np.where(known, sample.semantic[y, x], beyond)
    masks = sample.masks[:, y, x] & known
    points = None if sample.points is None else warp.target(sample.points.astype(np.float64))
    return _changed(sample, image, masks, semantic, points, _area_scale(warp, H, W))


def _changed(
    sample: Sample, image: Any, masks: Any, semantic: Any, points: Any, scale: float
) -> Sample:
    """The sample with other pixels; objects of which too little is left are dropped.

    ``scale``: how much larger an object's area should have become.
    """
    before = sample.masks.sum((1, 2))
    kept = masks.sum((1, 2)) >= np.maximum(1, MIN_VISIBLE * before * scale)
    return replace(
        sample,
        image=image,
        boxes=_measured(masks[kept]),
        labels=sample.labels[kept],
        masks=masks[kept],
        semantic=semantic,
        points=None if points is None else points[kept].astype(np.float32),
        ignored=None if sample.ignored is None else sample.ignored[kept],
    )


def _measured(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    from cnncore.vision import boxes_of_masks

    return np.asarray(boxes_of_masks(masks), np.float32).reshape(-1, 4)


def _interpolated(plane: Any, places: Floats, value: float) -> NDArray[np.float32]:
    sample_at = require("scipy.ndimage", "vision").map_coordinates
    # Half a pixel of the original's rim lies beyond its outermost centres: hold it there.
    height, width = plane.shape
    x, y = places[..., 0], places[..., 1]
    inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    at = [y.clip(0, height - 1), x.clip(0, width - 1)]
    found = sample_at(plane, at, order=1, mode="nearest")
    filled: NDArray[np.float32] = np.where(inside, found, value).astype(np.float32)
    return filled


def _area_scale(warp: Warp, height: int, width: int) -> float:
    """How much larger things become, in the middle."""
    middle = np.array([[width / 2, height / 2]])
    dx, dy = ((warp.source(middle + step) - warp.source(middle))[0] for step in np.eye(2))
    shrink = abs(dx[0] * dy[1] - dx[1] * dy[0])
    return float(1.0 / max(shrink, 1e-12))


# --- geometry -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flip:
    """Left and right exchanged, with probability ``p``."""

    p: float = 0.5

    def __call__(self, sample: Sample, rng: Rng) -> Sample:
        """The sample or its mirror image."""
        if rng.random() >= self.p:
            return sample
        height, width = sample.semantic.shape
        return apply_warp(sample, affine([[-1, 0, width], [0, 1, 0]], (height, width)))


@dataclass(frozen=True)
class Crop:
    """A window of ``size`` (h, w) at a random place; smaller images are filled up."""

    size: Any
    fill: float = 0.0
    beyond: int = 0

    def __call__(self, sample: Sample, rng: Rng) -> Sample:
        """The window."""
        h, w = as_pair("size", self.size, 1)
        height, width = sample.semantic.shape
        top = int(rng.integers(min(0, height - h), max(0, height - h) + 1))
        left = int(rng.integers(min(0, width - w), max(0, width - w) + 1))

        def cut(plane: Any, value: Any) -> Any:
            whole = np.full((*plane.shape[:-2], h, w), value, plane.dtype)
            y, x = max(0, top), max(0, left)
            part = plane[..., y : top + h, x : left + w]
            y, x = y - top, x - left
            whole[..., y : y + part.shape[-2], x : x + part.shape[-1]] = part
            return whole

        image, masks = cut(sample.image, self.fill), cut(sample.masks, False)
        points = (
            None if sample.points is None else sample.points - np.array([left, top], np.float32)
        )
        return _changed(sample, image, masks, cut(sample.semantic, self.beyond), points, 1.0)


@dataclass(frozen=True)
class Affine:
    """Scaled, rotated (degrees) and shifted (share of the size) about the middle, same size."""

    scale: tuple[float, float] = (1.0, 1.0)
    rotation: tuple[float, float] = (0.0, 0.0)
    shift: float = 0.0
    fill: float = 0.0
    beyond: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ArgumentError("scale", "(least, most), both above 0", self.scale)
        if not self.rotation[0] <= self.rotation[1]:
            raise ArgumentError("rotation", "(least, most) degrees", self.rotation)

    def __call__(self, sample: Sample, rng: Rng) -> Sample:
        """The sample, moved."""
        height, width = sample.semantic.shape
        angle = np.deg2rad(rng.uniform(*self.rotation))
        factor = np.exp(rng.uniform(*np.log(self.scale)))  # doubling is as likely as halving
        shift = rng.uniform(-self.shift, self.shift, 2) * (width, height)
        turn = factor * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        middle = np.array([width / 2, height / 2])
        matrix = np.column_stack([turn, middle - turn @ middle + shift])
        return apply_warp(sample, affine(matrix, (height, width)), self.fill, self.beyond)


@dataclass(frozen=True)
class Elastic:
    """Smooth random displacements: drawn on a coarse grid, bicubic between its points.

    ``deviation``: pixels (standard deviation), ``points``: of the grid along each axis.

    Source: Ronneberger, Fischer & Brox, "U-Net", 2015, section 3.1 (3×3 points, 10 pixels).
    """

    deviation: float = 10.0
    points: int = 3
    fill: float = 0.0
    beyond: int = 0

    def __post_init__(self) -> None:
        if self.points < 2:
            raise ArgumentError("points", "an integer >= 2", self.points)

    def warp(self, size: tuple[int, int], rng: Rng) -> Warp:
        """The displacement of one image."""
        sample_at = require("scipy.ndimage", "vision").map_coordinates
        coarse = rng.normal(0.0, self.deviation, (2, self.points, self.points))
        # Coordinates of the coarse grid, whose outer points lie on the image's corners.
        unit = (self.points - 1) / np.array([size[1], size[0]])

        def displacement(places: Floats) -> Floats:
            at = np.moveaxis(places * unit, -1, 0)[::-1].clip(0, self.points - 1)
            u: Floats = np.stack([sample_at(c, at, order=3, mode="nearest") for c in coarse], -1)
            return u

        def source(places: Floats) -> Floats:
            moved: Floats = places + displacement(places)
            return moved

        def target(places: Floats) -> Floats:
            found: Floats = places.copy()
            for _ in range(_FIXED_POINT_STEPS):  # p = q − u(p)
                found = places - displacement(found)
            return found

        return Warp(size, source, target)

    def __call__(self, sample: Sample, rng: Rng) -> Sample:
        """The sample, deformed."""
        height, width = sample.semantic.shape
        return apply_warp(sample, self.warp((height, width), rng), self.fill, self.beyond)


# --- values ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Colour:
    """Brightness added, contrast about the mean, saturation about the grey value, at random.

    Each is the largest change: 0.2 means ±0.2 (brightness) or a factor in 0.8..1.2.
    """

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __call__(self, sample: Sample, rng: Rng) -> Sample:
        """The image with other colours, in 0..1."""
        light, contrast, saturation = rng.uniform(-1, 1, 3) * (
            self.brightness,
            self.contrast,
            self.saturation,
        )
        image = sample.image
        grey = image.mean(0, keepdims=True)
        image = grey + (image - grey) * (1 + saturation)
        image = image.mean() + (image - image.mean()) * (1 + contrast) + light
        return replace(sample, image=image.clip(0, 1).astype(np.float32))


@dataclass(frozen=True)
class Noise:
    """Normal noise of a random deviation up to ``deviation`` on every value."""

    deviation: float = 0.05

    def __call__(self, sample: Sample, rng: Rng) -> Sample:
        """The noisy image, in 0..1."""
        noise = rng.normal(0, rng.uniform(0, self.deviation), sample.image.shape)
        return replace(sample, image=(sample.image + noise).clip(0, 1).astype(np.float32))


@dataclass(frozen=True)
class Compose:
    """Augmentations one after the other."""

    steps: tuple[Augmentation, ...]

    def __call__(self, sample: Sample, rng: Rng) -> Sample:
        """All of them, in order."""
        for step in self.steps:
            sample = step(sample, rng)
        return sample


class Augmented:
    """``count`` samples, each one of ``dataset``, augmented: in turn, differently each time.

    Sample ``i`` is a pure function of ``(seed, i)``: the same in whatever order it is asked for.
    """

    def __init__(
        self, dataset: Dataset[Sample], augmentation: Augmentation, count: int, seed: int = 0
    ) -> None:
        if not len(dataset):
            raise ArgumentError("dataset", "at least one sample", "none")
        self.dataset, self.augmentation = dataset, augmentation
        self.count, self.seed = as_int("count", count, 0), as_int("seed", seed, 0)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(f"sample {index} of {self.count}")
        rng = np.random.default_rng([self.seed, index])
        return self.augmentation(self.dataset[index % len(self.dataset)], rng)
