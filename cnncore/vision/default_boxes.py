"""Default boxes of SSD: for every cell of a map a few boxes of one scale and several shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnncore.errors import ArgumentError
from cnncore.geometry import as_pair
from cnncore.vision.boxes import FloatArray, Size


@dataclass(frozen=True)
class DefaultBoxes:
    """Scales and shapes of the boxes of every map, and how far apart they sit.

    ``scales[l]`` is the side of map ``l``'s square box as a part of the image, and one scale more.
    A cell of map ``l`` has, in this order, a square of ``s = scales[l]``, one of ``√(s · next s)``,
    and for each of ``ratios[l]`` the box ``(w, h) = (s √r, s / √r)`` and its transpose.  Boxes are
    centred at ``(index + ½) · step`` pixels.  The defaults are SSD300 for COCO.
    Source: Liu et al., "SSD: Single Shot MultiBox Detector", 2016, section 2.2; steps from its
    published code.
    """

    scales: tuple[float, ...] = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
    ratios: tuple[tuple[float, ...], ...] = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
    steps: tuple[float, ...] = (8, 16, 32, 64, 100, 300)
    cut: bool = True  # sides at the image's, as torchvision does and the published code does not

    def __post_init__(self) -> None:
        if not len(self.scales) - 1 == len(self.ratios) == len(self.steps) > 0:
            got = f"{len(self.scales)} scales, {len(self.ratios)} ratios, {len(self.steps)} steps"
            raise ArgumentError("scales, ratios, steps", "one a map, and one scale more", got)
        values = (*self.scales, *self.steps, *(r for row in self.ratios for r in row))
        if not all(0 < value < math.inf for value in values):
            raise ArgumentError("scales, ratios, steps", "numbers > 0", values)

    def per_cell(self, level: int) -> int:
        """``A``: boxes in one cell of a map."""
        return 2 + 2 * len(self.ratios[level])

    def sides(self, level: int) -> FloatArray:
        """The ``(A, 2)`` widths and heights of a cell's boxes as parts of the image.

        >>> DefaultBoxes((0.25, 1.0), ((4.0,),), (8,)).sides(0).tolist()
        [[0.25, 0.25], [0.5, 0.5], [0.5, 0.125], [0.125, 0.5]]
        """
        scale, following = self.scales[level : level + 2]
        between = math.sqrt(scale * following)
        pairs = [(scale, scale), (between, between)]
        for ratio in self.ratios[level]:
            wide = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            pairs += [wide, wide[::-1]]
        sides = np.array(pairs)
        return np.minimum(sides, 1.0) if self.cut else sides

    def __call__(self, shapes: Sequence[Size], image: Size) -> list[FloatArray]:
        """Boxes of every map, each ``(H·W·A, 4)`` float32 pixels; row, column, box, last fastest.

        ``shapes`` are the maps' ``(H, W)``, ``image`` the picture's.  Boxes may reach out of it.
        """
        if len(shapes) != len(self.steps):
            raise ArgumentError("shapes", f"one a map, {len(self.steps)}", len(shapes))
        height, width = as_pair("image", image, 1)
        found = []
        for level, (shape, step) in enumerate(zip(shapes, self.steps, strict=True)):
            rows, columns = ((np.arange(n) + 0.5) * step for n in as_pair("shapes", shape, 0))
            y, x = np.meshgrid(rows, columns, indexing="ij")
            half = self.sides(level) * (width, height) / 2
            centres = np.stack([x, y], -1)[:, :, None]
            boxes = np.concatenate([centres - half, centres + half], -1)
            found.append(boxes.reshape(-1, 4).astype(np.float32))
        return found
