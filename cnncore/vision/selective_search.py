"""Selective search: boxes around everything that hangs together, at all sizes, in many ways.

    picture ─ colour space ─ felzenszwalb(k) ─ merge by similarity ─ boxes of the whole tree
              └────────── each combination gives a tree of its own ──────────┘ ─ ranked, once each

Source: Uijlings et al., "Selective Search for Object Recognition", 2013, section 3; sets of
combinations, σ = 0.8 and smallest side from its published code.  Differences: the initial regions
are scikit-image's; pictures are not brought to a width of 500 pixels first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, require
from cnncore.vision.boxes import FloatArray
from cnncore.vision.proposals import Proposals
from cnncore.vision.regions import (
    MEASURES,
    Floats,
    RegionTree,
    _checked,
    convert_colors,
    grow,
    rgb_floats,
)

SHAPES_ONLY = ("texture", "size", "fill")


@dataclass(frozen=True)
class SelectiveSearch:
    """Which trees are grown: every colour space with every set of measures and every scale.

    ``scales`` are Felzenszwalb's k, larger for larger regions, for colours of 0..255.
    """

    colors: tuple[str, ...] = ("hsv", "lab")
    measures: tuple[tuple[str, ...], ...] = (MEASURES, SHAPES_ONLY)
    scales: tuple[float, ...] = (50.0, 100.0)
    sigma: float = 0.8  # pixels of smoothing before segmentation
    min_size: int | None = None  # pixels of an initial region; None: the scale
    min_side: float = 20.0  # pixels; smaller boxes are dropped

    def __post_init__(self) -> None:
        if not (self.colors and self.measures and self.scales):
            raise ArgumentError("colors, measures, scales", "at least one each", "none")
        if not all(0 < scale < np.inf for scale in self.scales):
            raise ArgumentError("scales", "numbers > 0", self.scales)

    def trees(self, picture: Any) -> Iterator[RegionTree]:
        """The trees of a picture, one a combination; measures change fastest, then scales."""
        segment = require("skimage.segmentation", "vision").felzenszwalb
        rgb = rgb_floats(picture)
        for space in self.colors:
            colors = convert_colors(rgb, space)
            for scale in self.scales:
                least = int(scale) if self.min_size is None else self.min_size
                regions = segment(
                    colors, scale=scale, sigma=self.sigma, min_size=least, channel_axis=2
                )
                labels = np.unique(regions, return_inverse=True)[1].reshape(rgb.shape[:2])
                yield from grow(_checked(labels, colors), labels, self.measures)

    def __call__(
        self,
        picture: Any,
        rng: np.random.Generator | None = None,
        count: int | None = None,
    ) -> Proposals:
        """The boxes of all trees, each once, the best ``count`` (default: all) first.

        ``picture``: ``(H, W, 3)`` uint8 or ``(3, H, W)`` floats 0..1.  The region that is ``i``
        steps below the root of its tree has rank ``i`` times a random number (section 3.3: without
        it large regions of all trees come first); a box of several trees has its best.  The score
        is minus the rank.  ``rng`` (default: seed 0) draws the numbers.
        """
        rng = np.random.default_rng(0) if rng is None else rng
        boxes: list[FloatArray] = [np.zeros((0, 4), np.float32)]
        ranks: list[Floats] = [np.zeros(0)]
        for tree in self.trees(picture):
            steps = np.arange(len(tree.boxes), 0, -1)  # the root was made last
            boxes.append(tree.boxes)
            ranks.append(steps * rng.random(len(steps)))
        return ranked(np.concatenate(boxes), np.concatenate(ranks), self.min_side, count)


def ranked(boxes: FloatArray, ranks: Floats, min_side: float, count: int | None) -> Proposals:
    """Boxes of at least ``min_side`` by ascending rank, each once.

    >>> twice = np.float32([[0, 0, 9, 9], [0, 0, 5, 5], [0, 0, 9, 9], [0, 0, 1, 9]])
    >>> ranked(twice, np.array([3.0, 2.0, 1.0, 0.0]), 2.0, None).boxes.tolist()
    [[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 5.0, 5.0]]
    """
    large = np.flatnonzero(((boxes[:, 2:] - boxes[:, :2]) >= min_side).all(1))
    order = large[np.argsort(ranks[large], kind="stable")]
    first = np.sort(np.unique(boxes[order], axis=0, return_index=True)[1])
    chosen = order[first][:count]
    return Proposals(boxes[chosen], -ranks[chosen].astype(np.float32))


FAST = SelectiveSearch()
QUALITY = SelectiveSearch(
    colors=("hsv", "lab", "rgi", "h", "intensity"),
    measures=(MEASURES, SHAPES_ONLY, ("fill",), ("size",)),
    scales=(50.0, 100.0, 150.0, 300.0),
)
MODES = {"fast": FAST, "quality": QUALITY}


def selective_search(
    picture: Any,
    mode: str = "fast",
    rng: np.random.Generator | None = None,
    count: int | None = None,
) -> Proposals:
    """Proposals of a picture from 8 (``"fast"``) or 80 (``"quality"``) trees of regions.

    For other pictures than photographs see ``SelectiveSearch``.
    """
    if mode not in MODES:
        raise ArgumentError("mode", f"one of {sorted(MODES)}", repr(mode))
    return MODES[mode](picture, rng, count)
