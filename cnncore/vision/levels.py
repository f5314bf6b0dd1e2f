"""Which level of a feature pyramid a region is pooled from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cnncore.errors import ArgumentError
from cnncore.vision.boxes import IntArray, box_area


@dataclass(frozen=True)
class LevelRule:
    """``level = floor(canonical_level + log2(√area / canonical_size) + 1e-6)``, cut to the pyramid.

    A region of ``canonical_size`` pixels goes to ``canonical_level``, one twice as large a level
    higher.  The 1e-6 keeps a region of exactly twice the size on the higher level whatever the
    rounding.  Level ``l`` has stride ``2**l``; ``lowest`` and ``highest`` are those that exist.
    Source: Lin et al., "Feature Pyramid Networks", 2017, equation 1.

    >>> LevelRule().assign([[0, 0, 224, 224], [0, 0, 111, 112], [0, 0, 900, 900]]).tolist()
    [2, 0, 3]
    """

    lowest: int = 2
    highest: int = 5
    canonical_size: float = 224.0
    canonical_level: int = 4

    def __post_init__(self) -> None:
        if self.lowest > self.highest:
            raise ArgumentError("lowest", f"at most highest = {self.highest}", self.lowest)
        if not 0 < self.canonical_size < np.inf:
            raise ArgumentError("canonical_size", "pixels > 0", self.canonical_size)

    def assign(self, boxes: ArrayLike) -> IntArray:
        """For each box ``(R, 4)`` its position in the list of levels, 0 the lowest; ``(R,)`` int64.

        A box without area goes to the lowest level.
        """
        side = np.sqrt(box_area(boxes).astype(np.float64)) / self.canonical_size
        octaves = np.log2(np.maximum(side, 2.0**-60))
        level = np.floor(self.canonical_level + octaves + 1e-6)
        return np.clip(level, self.lowest, self.highest).astype(np.int64) - self.lowest
