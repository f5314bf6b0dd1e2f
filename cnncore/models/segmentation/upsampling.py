"""Ways to undo a pooling of stride 2, behind one interface, so that they can be compared.

    switches      each value goes back to where the maximum was, zeros elsewhere
    bed_of_nails  to the upper left of its four pixels, zeros elsewhere
    nearest       to all four pixels
    bilinear      interpolated
    transposed    a learned 2×2 kernel for each pair of channels

Only the last has parameters; only the first needs to know what the pooling chose.

Source: Zeiler, Taylor & Fergus, "Adaptive deconvolutional networks", 2011 (switches); Dosovitskiy
et al., "Learning to generate chairs with convolutional neural networks", 2015 (bed of nails).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.models.segmentation.segmenter import cropped
from cnncore.nn import ConvTranspose2d, Module

UPSAMPLINGS = ("switches", "bed_of_nails", "nearest", "bilinear", "transposed")


class Upsampling(Module):
    """``(N, C, h, w)`` to a given size (H, W) with ``h = ⌈H/2⌉`` and ``w = ⌈W/2⌉``."""

    shown = ("kind",)

    def __init__(self, kind: str, channels: int) -> None:
        if kind not in UPSAMPLINGS:
            raise ArgumentError("upsampling", f"one of {UPSAMPLINGS}", repr(kind))
        self.kind = kind
        if kind == "transposed":
            self.up = ConvTranspose2d(channels, channels, 2, 2)

    def forward(self, x: Tensor, switches: Any, size: Sequence[int]) -> Tensor:
        """``switches (N, C, h, w)``: the indices that the pooling gave."""
        size = (int(size[0]), int(size[1]))
        if self.kind == "switches":
            return ops.max_unpool2d(x, switches, 2, 2, output_size=size)
        if self.kind == "bilinear":
            return ops.interpolate(x, size=size, mode="bilinear", align_corners=False)
        if self.kind == "transposed":
            return cropped(self.up(x), 0, 0, size)
        unpool = ops.unpool_nearest if self.kind == "nearest" else ops.unpool_bed_of_nails
        return cropped(unpool(x, 2), 0, 0, size)
