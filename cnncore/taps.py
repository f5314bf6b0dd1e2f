"""Where samples and regions of interest fall: every coordinate and rounding rule, once.

``Taps`` is a sparse matrix along one axis: output position -> weighted input positions.  Average
pooling, nearest, bed of nails, bilinear and bicubic resampling, RoI Align, crop-and-resize and
reflect padding all are ``y = Rows x Colsᵀ`` with one such matrix per axis, so this file alone says
where they sample, and one pair of kernels (``resample`` and its transpose) applies them.
``Bins`` are integer intervals along one axis, for max pooling over regions.  They are built on the
host with exact integer arithmetic where a rule rounds, and every backend receives the same numbers,
so no two backends can round differently.

Letters: ``R`` regions (``G`` is ``R``, or 1 when all share), ``P`` output positions, ``T`` taps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Taps:
    """``G`` sparse matrices of ``P x size``: row p is ``Σ_t weight[g,p,t] · e(index[g,p,t])``.

    Only the first ``count[g, p]`` taps of a row are valid; a row without any gives exactly zero
    (and reads nothing, so a NaN elsewhere cannot leak in).  ``G`` is 1 or the number of regions.
    """

    size: int  # length of the input axis
    index: Ints  # (G, P, T), 0 <= index < size where valid
    weight: Floats  # (G, P, T)
    count: Ints  # (G, P), 0 <= count <= T

    @property
    def length(self) -> int:
        """Output positions ``P``."""
        return int(self.index.shape[1])

    def dense(self) -> Floats:
        """The matrices in full, ``(G, P, size)``: for teaching and for tests."""
        groups, length, taps = self.index.shape
        matrix = np.zeros((groups, length, self.size))
        for g in range(groups):
            for p in range(length):
                for t in range(int(self.count[g, p])):
                    matrix[g, p, self.index[g, p, t]] += self.weight[g, p, t]
        return matrix


@dataclass(frozen=True)
class Bins:
    """``G`` rows of ``P`` integer intervals ``start <= i < end`` along one axis of length ``size``.

    An interval may be empty (``end <= start``); all lie inside ``0..size``.
    """

    size: int
    start: Ints  # (G, P)
    end: Ints  # (G, P)

    @property
    def length(self) -> int:
        """Output positions ``P``."""
        return int(self.start.shape[1])
