"""Which true box each anchor or proposal answers for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cnncore.errors import ArgumentError, ShapeError
from cnncore.vision.boxes import IntArray, as_floats, box_iou

BACKGROUND = -1  # best IoU below ``low``: a negative example
BETWEEN = -2  # best IoU in ``low..high``: not used in training


@dataclass(frozen=True)
class IouMatcher:
    """Each candidate goes to the true box of highest IoU, if that is high enough.

    IoU at or above ``high`` is a match, below ``low`` background, between them neither.  With
    ``low_quality`` every true box also gets its best candidates (all that tie), however low, if
    they overlap it at all; such a candidate still answers for *its own* best box.
    RPN: 0.7, 0.3, low quality; box head: 0.5, 0.5, none.
    Source: Ren et al., "Faster R-CNN", 2015, section 3.1.2.
    Difference from common implementations: a true box that overlaps no candidate claims none (there
    it would claim every candidate of IoU 0).

    >>> truth, anchors = [[0, 0, 4, 4]], [[0, 0, 4, 4], [0, 0, 4, 8], [9, 9, 12, 12]]
    >>> IouMatcher(0.7, 0.3).match(truth, anchors).tolist()
    [0, -2, -1]
    """

    high: float = 0.7
    low: float = 0.3
    low_quality: bool = False
    least: float = 0.0  # below this a candidate is not used either: Fast R-CNN's 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.low <= self.high <= 1:
            got = self.least, self.low, self.high
            raise ArgumentError("least, low, high", "0 <= least <= low <= high <= 1", got)

    def match(self, truth: ArrayLike, candidates: ArrayLike) -> IntArray:
        """For each of ``candidates (A, 4)`` its index in ``truth (G, 4)``, or -1 or -2."""
        return self(box_iou(truth, candidates))

    def __call__(self, iou: ArrayLike) -> IntArray:
        """The same from a matrix of overlaps ``(G, A)`` -> ``(A,)`` int64; ``G = 0`` gives all -1.

        Ties between true boxes go to the lower index.
        """
        overlap = as_floats(iou, "iou")
        if overlap.ndim != 2:
            raise ShapeError("iou", "shape (G, A)", f"shape {overlap.shape}")
        if np.isnan(overlap).any():
            raise ArgumentError("iou", "numbers", "NaN", "find what gave NaN")
        if overlap.size == 0:
            # Of an image without objects everything is background.
            return np.full(overlap.shape[1], BACKGROUND, np.int64)
        best = overlap.argmax(0)
        value = overlap.max(0)
        matches = np.where(value >= self.high, best, BETWEEN)
        matches[value < self.low] = BACKGROUND
        matches[value < self.least] = BETWEEN
        if self.low_quality:
            highest = overlap.max(1, keepdims=True)
            rescued = ((overlap == highest) & (highest > 0)).any(0)
            matches[rescued] = best[rescued]
        return matches.astype(np.int64, copy=False)


@dataclass(frozen=True)
class BestMatcher:
    """Each candidate goes to the true box of highest IoU if that reaches ``threshold``.

    Before that every true box gets its one best candidate, however low their overlap, if there is
    any; the candidate then answers for that box (of several true boxes, the last).
    Source: Liu et al., "SSD: Single Shot MultiBox Detector", 2016, section 2.2.

    >>> truth, anchors = [[0, 0, 4, 4], [0, 0, 4, 1]], [[0, 0, 4, 4], [0, 0, 4, 3], [9, 9, 12, 12]]
    >>> BestMatcher().match(truth, anchors).tolist()
    [0, 1, -1]
    """

    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ArgumentError("threshold", "a number in 0..1", self.threshold)

    def match(self, truth: ArrayLike, candidates: ArrayLike) -> IntArray:
        """For each of ``candidates (A, 4)`` its index in ``truth (G, 4)``, or -1 for background."""
        overlap = box_iou(truth, candidates)
        matches = IouMatcher(self.threshold, self.threshold)(overlap)
        if overlap.size:
            best = overlap.argmax(1)
            for box in np.flatnonzero(overlap.max(1) > 0):
                matches[best[box]] = box
        return matches
