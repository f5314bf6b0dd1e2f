"""Objectness without learning: a box holds an object where it holds whole contours.

    picture ─ slope of brightness ─ thin edges ─ contours ─┐
    windows of many places, sizes and shapes ──────────────┴─ score ─ suppression ─ boxes

    score = (Σ of edges whose contour lies wholly inside − Σ of those in the middle) / (2 (w + h))^κ

Source: Zitnick & Dollár, "Edge Boxes: Locating Object Proposals from Edges", 2014, equations 1 to
4.  Differences: edges are Gaussian derivatives, kept where they are largest across (there: learned
forests); a contour is a connected run of edges of one of eight directions, all of it in or out
(there: affinities between contours carry membership from one to the next); boxes are not refined.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.errors import ArgumentError, require
from cnncore.vision.boxes import FloatArray, IntArray, Size
from cnncore.vision.nms import nms, top_k
from cnncore.vision.proposals import Proposals
from cnncore.vision.regions import Floats, rgb_floats

_CHUNK = 2_000_000  # windows times contours looked at together


@dataclass(frozen=True)
class Contours:
    """Edges of a picture and the contours that they belong to."""

    strength: Floats  # (H, W), 0 where there is no edge
    weight: Floats  # (G,) sum of the strengths of each contour
    boxes: Floats  # (G, 4) around each

    @functools.cached_property
    def sums(self) -> Floats:
        """``(H + 1, W + 1)``: of all strengths above and left of a corner."""
        table = np.zeros((self.strength.shape[0] + 1, self.strength.shape[1] + 1))
        table[1:, 1:] = self.strength.cumsum(0).cumsum(1)
        return table


@dataclass(frozen=True)
class Grid:
    """Windows of one height and width."""

    top: IntArray  # (I,) first rows
    left: IntArray  # (J,) first columns
    height: int
    width: int

    def boxes(self) -> FloatArray:
        """``(I · J, 4)``, row after row."""
        y, x = (v.reshape(-1) for v in np.meshgrid(self.top, self.left, indexing="ij"))
        corners = [x, y, x + self.width, y + self.height]
        return np.stack(corners, 1).astype(np.float32)

    def contained(self, contours: Contours) -> Floats:
        """``(I, J)``: the weight of the contours that lie wholly inside each window.

        A contour is inside a rectangle of the grid's places: it is added at that rectangle's
        corners, and sums along both axes spread it out.
        """
        x1, y1, x2, y2 = contours.boxes.T
        i1 = np.searchsorted(self.top, y2 - self.height)
        j1 = np.searchsorted(self.left, x2 - self.width)
        i2, j2 = np.searchsorted(self.top, y1, "right"), np.searchsorted(self.left, x1, "right")
        fits = (i1 < i2) & (j1 < j2)
        marks = np.zeros((len(self.top) + 1, len(self.left) + 1))
        weight = contours.weight[fits]
        for i, j, sign in ((i1, j1, 1), (i1, j2, -1), (i2, j1, -1), (i2, j2, 1)):
            np.add.at(marks, (i[fits], j[fits]), sign * weight)
        spread: Floats = marks.cumsum(0).cumsum(1)[:-1, :-1]
        return spread


@dataclass(frozen=True)
class EdgeBoxes:
    """Which windows are tried and how they are scored; the defaults are the paper's."""

    step_iou: float = 0.65  # α: of neighbouring windows
    nms_iou: float = 0.75  # β
    kappa: float = 1.5  # large boxes hold more edges by chance
    min_area: float = 1000.0  # square pixels
    max_ratio: float = 3.0  # of the sides
    threshold: float = 0.1  # an edge is at least this part of the strongest

    def __post_init__(self) -> None:
        if not 0 < self.step_iou < 1:
            raise ArgumentError("step_iou", "a number between 0 and 1", self.step_iou)
        if not (self.min_area > 0 and self.max_ratio >= 1):
            got = self.min_area, self.max_ratio
            raise ArgumentError("min_area, max_ratio", "> 0 and >= 1", got)

    def __call__(self, picture: Any, count: int = 1000) -> Proposals:
        """The best boxes of a picture, by descending score.

        ``picture``: ``(H, W, 3)`` uint8 or ``(3, H, W)`` floats 0..1.  Without edges: none.
        """
        contours = find_contours(rgb_floats(picture), self.threshold)
        boxes, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0)]
        for grid in self.grids(contours.strength.shape):
            boxes.append(grid.boxes())
            whole = grid.contained(contours).reshape(-1)
            scores.append(self._score(whole, contours, boxes[-1]))
        windows, values = np.concatenate(boxes), np.concatenate(scores)
        good = np.flatnonzero(values > 0)
        best = good[top_k(values[good], 4 * count)]  # suppression compares all pairs
        kept = best[nms(windows[best], values[best].astype(np.float32), self.nms_iou)][:count]
        return Proposals(windows[kept], values[kept].astype(np.float32))

    def grids(self, size: Size) -> Iterator[Grid]:
        """All windows inside a picture, those of one height and width together; whole pixels.

        Neighbours in place, area or shape overlap by about ``step_iou``.
        """
        height, width = size
        # Two equal windows apart by d of their side share (1 - d) of 1 + d.
        apart = (1 - self.step_iou) / (1 + self.step_iou)
        wider = ((1 + self.step_iou) / (2 * self.step_iou)) ** 2
        ratios = _steps(1 / self.max_ratio, self.max_ratio, wider)
        for area in _steps(self.min_area, float(height * width), 1 / self.step_iou):
            for ratio in ratios:
                h, w = max(1, round(np.sqrt(area * ratio))), max(1, round(np.sqrt(area / ratio)))
                if h <= height and w <= width:
                    top = np.arange(0, height - h + 1, max(1, int(apart * h)))
                    left = np.arange(0, width - w + 1, max(1, int(apart * w)))
                    yield Grid(top, left, h, w)

    def score(self, contours: Contours, boxes: FloatArray) -> Floats:
        """Objectness of boxes ``(R, 4)``, at least 0.

        Whole contours inside count, less what lies in the middle quarter: objects have their edges
        near their border.
        """
        wide = boxes.astype(np.float64)
        whole = np.zeros(len(boxes))
        per = max(1, _CHUNK // max(1, len(contours.weight)))
        for start in range(0, len(boxes), per):
            part = wide[start : start + per, None]
            near = contours.boxes[:, :2] >= part[..., :2]
            far = contours.boxes[:, 2:] <= part[..., 2:]
            whole[start : start + per] = (near & far).all(2) @ contours.weight
        return self._score(whole, contours, boxes)

    def _score(self, whole: Floats, contours: Contours, boxes: FloatArray) -> Floats:
        """From the sums of the contours inside."""
        wide = boxes.astype(np.float64)
        sides = wide[:, 2:] - wide[:, :2]
        middle = np.concatenate([wide[:, :2] + sides / 4, wide[:, 2:] - sides / 4], 1)
        left, top, right, bottom = np.rint(middle).astype(np.int64).T
        sums = contours.sums
        centre = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        length = np.maximum(2 * sides.sum(1), 1e-9)
        # Sums of many edges cancel where there is nothing: no score out of rounding.
        left_over = np.where(whole - centre > 1e-9, whole - centre, 0)
        result: Floats = left_over / length**self.kappa
        return result


def _steps(first: float, last: float, factor: float) -> Floats:
    """From ``first`` by equal factors of at most ``factor`` to ``last``, if that is larger."""
    if last <= first:
        return np.array([first])
    count = int(np.ceil(np.log(last / first) / np.log(factor))) + 1
    return np.geomspace(first, last, max(2, count))


def find_contours(rgb: Floats, threshold: float = 0.1) -> Contours:
    """Thin edges of a picture ``(H, W, 3)`` in 0..1, joined into contours of one direction each.

    The slope is that of the channel where it is steepest; an edge is where no neighbour along the
    slope is steeper.
    """
    ndimage = require("scipy.ndimage", "vision")
    slopes = np.stack(
        [
            [
                ndimage.gaussian_filter(plane, 1.0, order, mode="nearest")
                for plane in np.moveaxis(rgb, 2, 0)
            ]
            for order in ((1, 0), (0, 1))
        ]
    )  # (2, 3, H, W): down, across
    steepest = np.hypot(*slopes).argmax(0)[None]
    down, across = (np.take_along_axis(s, steepest, 0)[0] for s in slopes)
    slope = np.hypot(down, across)
    # Directions by multiples of 22.5°: 8 that an edge can have, whichever side is brighter.
    direction = np.rint(np.arctan2(down, across) / (np.pi / 8)).astype(np.int64) % 8
    thin = slope * _is_ridge(slope, direction)
    strongest = thin.max()
    if strongest <= 1e-9:
        return Contours(np.zeros_like(slope), np.zeros(0), np.zeros((0, 4)))
    strength = np.where(thin >= threshold * strongest, thin / strongest, 0)
    weights, boxes = [np.zeros(0)], [np.zeros((0, 4))]
    for number in range(8):
        edges = (strength > 0) & (direction == number)
        labels, found = ndimage.label(edges, np.ones((3, 3)))
        sums: Floats = np.bincount(labels[edges] - 1, strength[edges], found).astype(np.float64)
        weights.append(sums)
        around = [(c.start, r.start, c.stop, r.stop) for r, c in ndimage.find_objects(labels)]
        boxes.append(np.array(around, np.float64).reshape(-1, 4))
    return Contours(strength, np.concatenate(weights), np.concatenate(boxes))


def _is_ridge(slope: Floats, direction: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where neither neighbour along the slope is larger (ties: the first of two stays)."""
    padded = np.pad(slope, 1)
    H, W = slope.shape
    ridge = np.zeros((H, W), np.bool_)
    for number in range(8):
        angle = number * np.pi / 8
        dy, dx = round(float(np.sin(angle))), round(float(np.cos(angle)))
        after = padded[1 + dy : 1 + dy + H, 1 + dx : 1 + dx + W]
        before = padded[1 - dy : 1 - dy + H, 1 - dx : 1 - dx + W]
        ridge |= (direction == number) & (slope >= after) & (slope > before)
    return ridge
