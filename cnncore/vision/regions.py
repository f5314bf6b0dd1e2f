"""What a region of a picture looks like, how alike two are, and what merging all of them gives.

    pixels ─ felzenszwalb ─ R regions ─┬─ colour, texture: histograms ─┐
                                       └─ size, box ───────────────────┴─ similarity of neighbours
    the two most alike neighbours become one region, R − 1 times: a tree of 2R − 1 regions

Letters: ``H W`` picture, ``C`` channels, ``R`` initial regions.

Source: Uijlings et al., "Selective Search for Object Recognition", 2013, sections 3.1 and 3.2.
Differences: the textures of the paper are derivatives in eight directions; here what
points the other way counts as nothing, so that opposite directions differ.  The range of the
texture's bins ends at the largest response of the picture.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.errors import ArgumentError, ShapeError, require
from cnncore.vision.boxes import FloatArray, IntArray

MEASURES = ("colour", "texture", "size", "fill")
COLOUR_BINS = 25
TEXTURE_BINS = 10
DIRECTIONS = 8

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RegionTree:
    """All regions of a picture: row ``i < R`` is an initial one, the others follow as merged."""

    labels: IntArray  # (H, W), the initial region of each pixel, 0..R-1
    boxes: FloatArray  # (2R - 1, 4) around each region, xyxy
    sizes: IntArray  # (2R - 1,) pixels
    children: IntArray  # (R - 1, 2): the two that row R + i was made of
    similarities: Floats  # (R - 1,): how alike these were

    def mask(self, region: int) -> NDArray[np.bool_]:
        """The pixels ``(H, W)`` of a region."""
        leaves = (len(self.boxes) + 1) // 2
        inside, stack = np.zeros(leaves, np.bool_), [int(region)]
        while stack:
            number = stack.pop()
            if number < leaves:
                inside[number] = True
            else:
                stack.extend(self.children[number - leaves].tolist())
        mask: NDArray[np.bool_] = inside[self.labels]
        return mask


def rgb_floats(picture: Any, argument: str = "picture") -> Floats:
    """A picture ``(H, W, 3)`` uint8, or ``(3, H, W)`` floats 0..1, as ``(H, W, 3)`` float64."""
    x = np.asarray(picture)
    if x.ndim == 3 and x.shape[2] == 3 and x.dtype == np.uint8:
        x = x / 255.0
    elif x.ndim == 3 and x.shape[0] == 3 and x.dtype.kind == "f":
        x = x.transpose(1, 2, 0).astype(np.float64)
    else:
        expected = "(H, W, 3) uint8 or (3, H, W) floats 0..1"
        raise ShapeError(argument, expected, f"{x.shape} {x.dtype}", "vision.read_image(path)")
    if 0 in x.shape:
        raise ShapeError(argument, "a picture with pixels", x.shape)
    if not np.isfinite(x).all():
        raise ArgumentError(argument, "finite values 0..1", "NaN or Inf")
    return np.ascontiguousarray(np.clip(x, 0, 1))


def convert_colors(rgb: Floats, space: str) -> Floats:
    """``(H, W, 3)`` red, green, blue 0..1 to ``(H, W, C)`` of another space, every channel 0..1.

    ``"hsv"``, ``"lab"``, ``"rgi"`` (r and g as parts of r + g + b, and intensity), ``"h"`` (hue),
    ``"intensity"``, ``"rgb"``.
    Source: section 3.2; its other spaces are combinations of these channels.
    """
    if space == "rgb":
        return rgb
    intensity: Floats = rgb.mean(2, keepdims=True)
    if space == "intensity":
        return intensity
    if space == "rgi":
        total = np.maximum(3 * intensity, 1e-12)  # black has no hue: 0
        return np.concatenate([rgb[..., :2] / total, intensity], 2)
    if space not in ("hsv", "lab", "h"):
        raise ArgumentError("space", '"rgb", "hsv", "lab", "rgi", "h" or "intensity"', repr(space))
    color = require("skimage.color", "vision")
    if space == "lab":
        lab = (color.rgb2lab(rgb) + np.array([0, 128, 128])) / np.array([100, 255, 255])
        return np.asarray(np.clip(lab, 0, 1), np.float64)
    hsv: Floats = color.rgb2hsv(rgb)
    return hsv[..., :1] if space == "h" else hsv


def texture_responses(x: Floats) -> Floats:
    """Gaussian derivatives (σ = 1) in eight directions, ``(H, W, C) -> (H, W, C, 8)``, at least 0.

    Direction ``d`` is ``max(0, cos(d π/4) ∂x + sin(d π/4) ∂y)``; borders repeat the last pixel.
    """
    ndimage = require("scipy.ndimage", "vision")
    down, across = (
        np.stack(
            [
                ndimage.gaussian_filter(plane, 1.0, order, mode="nearest")
                for plane in np.moveaxis(x, 2, 0)
            ],
            2,
        )
        for order in ((1, 0), (0, 1))
    )
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    slopes = across[..., None] * np.cos(angles) + down[..., None] * np.sin(angles)
    responses: Floats = np.maximum(slopes, 0)
    return responses


def histograms(labels: IntArray, values: Floats, bins: int, top: Floats) -> Floats:
    """For each region the histograms of all channels in a row, adding up to 1: ``(R, F · bins)``.

    ``values (H, W, F)`` in ``0..top``, ``top (F,)``; a channel that is 0 everywhere is in bin 0.
    """
    regions, features = int(labels.max()) + 1, values.shape[2]
    scaled = values * (bins / np.where(top > 0, top, 1))
    bin_of = np.clip(scaled.astype(np.int64), 0, bins - 1)
    place = (labels[..., None] * features + np.arange(features)) * bins + bin_of
    counts = np.bincount(place.reshape(-1), minlength=regions * features * bins)
    table = counts.reshape(regions, features * bins).astype(np.float64)
    parts: Floats = table / table.sum(1, keepdims=True)
    return parts


def neighbours(labels: IntArray) -> set[tuple[int, int]]:
    """Pairs ``(i, j)``, ``i < j``, of regions that share an edge of a pixel."""
    pairs = [
        np.stack([a.reshape(-1), b.reshape(-1)], 1)
        for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1]))
    ]
    touching = np.concatenate(pairs)
    touching = np.sort(touching[touching[:, 0] != touching[:, 1]], 1)
    return {(int(i), int(j)) for i, j in np.unique(touching, axis=0)}


class _Features:
    """Rows of all regions, made as regions merge."""

    def __init__(self, labels: IntArray, colors: Floats) -> None:
        leaves = int(labels.max()) + 1
        self.image = labels.size
        total = 2 * leaves - 1
        self.sizes = np.zeros(total, np.int64)
        self.sizes[:leaves] = np.bincount(labels.reshape(-1), minlength=leaves)
        if not self.sizes[:leaves].all():
            raise ArgumentError("labels", "every number 0..R-1 somewhere", "gaps", "np.unique")
        flat = texture_responses(colors).reshape(*labels.shape, -1)
        top = np.repeat(flat.reshape(-1, colors.shape[2], DIRECTIONS).max((0, 2)), DIRECTIONS)
        self.tables: dict[str, Floats] = {}
        for name, values, bins, limit in (
            ("colour", colors, COLOUR_BINS, np.ones(colors.shape[2])),
            ("texture", flat, TEXTURE_BINS, top),
        ):
            first = histograms(labels, values, bins, limit)
            self.tables[name] = np.zeros((total, first.shape[1]))
            self.tables[name][:leaves] = first
        self.boxes = np.zeros((total, 4))
        self.boxes[:leaves] = _boxes_of(labels, leaves)

    def similarity(self, one: int, others: IntArray, measures: Sequence[str]) -> Floats:
        """Of a region and each of others: the sum of the measures, each in 0..1."""
        result = np.zeros(len(others))
        together = self.sizes[one] + self.sizes[others]
        for name in measures:
            if name in self.tables:
                table = self.tables[name]
                result += np.minimum(table[one], table[others]).sum(1)
            elif name == "size":
                result += 1 - together / self.image
            else:
                near = np.minimum(self.boxes[one, :2], self.boxes[others, :2])
                far = np.maximum(self.boxes[one, 2:], self.boxes[others, 2:])
                result += 1 - ((far - near).prod(1) - together) / self.image
        return result

    def merge(self, i: int, j: int, into: int) -> None:
        """A new row from two."""
        self.sizes[into] = self.sizes[i] + self.sizes[j]
        for table in self.tables.values():
            both = self.sizes[i] * table[i] + self.sizes[j] * table[j]
            table[into] = both / self.sizes[into]
        self.boxes[into, :2] = np.minimum(self.boxes[i, :2], self.boxes[j, :2])
        self.boxes[into, 2:] = np.maximum(self.boxes[i, 2:], self.boxes[j, 2:])


def _boxes_of(labels: IntArray, count: int) -> Floats:
    rows, columns = np.indices(labels.shape).reshape(2, -1)
    flat, boxes = labels.reshape(-1), np.zeros((count, 4))
    boxes[:, :2] = np.inf
    for axis, values in ((0, columns), (1, rows)):
        np.minimum.at(boxes[:, axis], flat, values)
        np.maximum.at(boxes[:, axis + 2], flat, values + 1)
    return boxes


def merge_regions(
    labels: IntArray, colors: Floats, measures: Sequence[str] = MEASURES
) -> RegionTree:
    """Merge the most alike neighbours until one region is left.

    ``labels (H, W)`` with every number ``0..R-1``, ``colors (H, W, C)`` in 0..1, ``measures`` some
    of ``MEASURES``, whose sum decides; of equally alike pairs the one with the lowest numbers goes
    first.
    """
    return grow(_checked(labels, colors), labels, [measures])[0]


def _checked(labels: IntArray, colors: Floats) -> _Features:
    if labels.ndim != 2 or colors.ndim != 3 or colors.shape[:2] != labels.shape or not labels.size:
        got = f"{labels.shape} and {colors.shape}"
        raise ShapeError("labels, colors", "(H, W) and (H, W, C) of a picture", got)
    if labels.min() < 0:
        raise ArgumentError("labels", "numbers from 0", int(labels.min()))
    return _Features(labels, colors)


def grow(
    features: _Features, labels: IntArray, strategies: Sequence[Sequence[str]]
) -> list[RegionTree]:
    """A tree for each set of measures, from the same initial regions."""
    touching = neighbours(labels)
    trees = []
    for measures in strategies:
        if not measures or set(measures) - set(MEASURES):
            raise ArgumentError("measures", f"some of {MEASURES}", tuple(measures))
        trees.append(_tree(features, labels, touching, measures))
    return trees


def _tree(
    features: _Features,
    labels: IntArray,
    touching: set[tuple[int, int]],
    measures: Sequence[str],
) -> RegionTree:
    total = len(features.sizes)
    leaves = (total + 1) // 2
    beside: dict[int, set[int]] = {region: set() for region in range(leaves)}
    for i, j in touching:
        beside[i].add(j)
        beside[j].add(i)
    heap: list[tuple[float, int, int]] = []
    for i in range(leaves):
        later = np.array(sorted(j for j in beside[i] if j > i), np.int64)
        alike = features.similarity(i, later, measures)
        heap += [(-s, i, j) for s, j in zip(alike.tolist(), later.tolist(), strict=True)]
    heapq.heapify(heap)
    children, similarities = np.zeros((leaves - 1, 2), np.int64), np.zeros(leaves - 1)
    for step, new in enumerate(range(leaves, total)):
        while True:  # pairs of regions that are gone stay in the heap
            negative, i, j = heapq.heappop(heap)
            if i in beside and j in beside:
                break
        features.merge(i, j, new)
        children[step], similarities[step] = (i, j), -negative
        around = (beside.pop(i) | beside.pop(j)) - {i, j}
        beside[new] = around
        others = np.array(sorted(around), np.int64)
        for other in around:
            beside[other] -= {i, j}
            beside[other].add(new)
        alike = features.similarity(new, others, measures)
        for s, other in zip(alike.tolist(), others.tolist(), strict=True):
            heapq.heappush(heap, (-s, other, new))
    boxes = features.boxes.astype(np.float32)
    return RegionTree(labels, boxes, features.sizes.copy(), children, similarities)
