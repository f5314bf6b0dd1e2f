"""Which of many candidates a loss is computed on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.geometry import as_int
from cnncore.vision.boxes import IntArray, as_vector
from cnncore.vision.nms import top_k


@dataclass(frozen=True)
class BalancedSampler:
    """At most ``count`` candidates an image, at most ``positive_fraction`` of them positive.

    Missing positives are made up with negatives, not the other way round, so that background never
    counts for less than its share.  RPN: 256 and 0.5; box head: 512 and 0.25.
    Source: Ren et al., "Faster R-CNN", 2015, section 3.1.3; Girshick, "Fast R-CNN", 2015, 2.3.

    >>> sampler = BalancedSampler(4, 0.5)
    >>> positive, negative = sampler(np.array([1, 0, 0, 0, -1, 0]), np.random.default_rng(0))
    >>> positive.tolist(), len(negative)
    ([0], 3)
    """

    count: int = 256
    positive_fraction: float = 0.5

    def __post_init__(self) -> None:
        as_int("count", self.count, 1)
        if not 0 <= self.positive_fraction <= 1:
            raise ArgumentError("positive_fraction", "0..1", self.positive_fraction)

    @property
    def max_positive(self) -> int:
        """The most positives in a sample: ``floor(count · positive_fraction)``."""
        return math.floor(self.count * self.positive_fraction + 1e-9)  # 0.1·30 is 3, not 2.99…

    def __call__(self, labels: ArrayLike, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        """Indices of the sampled positives and negatives, each ascending.

        ``labels (A,)``: above 0 positive, 0 negative, below 0 never sampled.
        """
        values = np.asarray(labels)
        if values.ndim != 1:
            raise ShapeError("labels", "shape (A,)", f"shape {values.shape}")
        if values.size and values.dtype.kind not in "iub":
            raise DTypeError("labels", "integers", f"dtype {values.dtype}")
        positive = _choose(np.flatnonzero(values > 0), self.max_positive, rng)
        negative = _choose(np.flatnonzero(values == 0), self.count - len(positive), rng)
        return positive, negative


def _choose(candidates: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    if len(candidates) <= count:
        return candidates
    return np.sort(rng.choice(candidates, count, replace=False, shuffle=False))


@dataclass(frozen=True)
class HardNegatives:
    """All positives, and ``ratio`` times as many negatives: those of the highest loss.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector", 2016, section 2.2.

    >>> positive, negative = HardNegatives(2)([True, False, False, False], [9.0, 1.0, 3.0, 2.0])
    >>> positive.tolist(), negative.tolist()
    ([0], [2, 3])
    """

    ratio: float = 3.0

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < math.inf:
            raise ArgumentError("ratio", "a number >= 0", self.ratio)

    def __call__(self, positive: ArrayLike, losses: ArrayLike) -> tuple[IntArray, IntArray]:
        """Indices of the positives and of the negatives chosen, each ascending.

        ``positive (A,)`` booleans, ``losses (A,)`` of each candidate taken for background.
        """
        truth = np.asarray(positive, np.bool_)
        values = as_vector(losses, len(truth), "losses")
        chosen, others = np.flatnonzero(truth), np.flatnonzero(~truth)
        count = math.floor(self.ratio * len(chosen))
        return chosen, np.sort(others[top_k(values[others], count)])
