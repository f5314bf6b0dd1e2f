"""Segmentation on a feature pyramid: every level to a quarter of the image, together, to classes.

    backbone ─ C5 ─ P5 ─ (conv, ×2) ×3 ─┐
             ─ C4 ─ P4 ─ (conv, ×2) ×2 ─┤
             ─ C3 ─ P3 ─ (conv, ×2)     ─┼─ sum or cat ─ 1×1 ─ ×4
             ─ C2 ─ P2 ─ conv           ─┘

Letters: ``N C H W`` images, ``K`` classes.

Source: Kirillov et al., "Panoptic feature pyramid networks", 2019, section 3 and figure 3
(``merge="sum"``); Seferbekov et al., "Feature pyramid network for multi-class land segmentation",
2018, figure 2 (``merge="cat"``); the pyramid itself: Lin et al., "Feature pyramid networks for
object detection", 2017.  Any backbone serves that gives four levels of strides 4, 8, 16 and 32.

``UNetFpn`` has no reference: as defined here it is a U-Net whose way up is the pyramid's (1×1
laterals added to the enlarged coarser level, 3×3 behind each) instead of concatenating double
convolutions, and whose head sees all levels (``merge="cat"``) instead of the finest only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.models.backbones.fpn import FeaturePyramid
from cnncore.models.backbones.resnet import ResNetBody, ResNetSettings
from cnncore.models.segmentation.segmenter import Segmenter, resized
from cnncore.models.segmentation.unet import DoubleConv, Down
from cnncore.nn import Conv2d, Module, ModuleList, ReLU, Sequential, norm_layer


class LevelToQuarter(Module):
    """3×3, norm, ReLU, twice the size; as often as it takes, at least once without enlarging."""

    def __init__(self, channels: int, out: int, doublings: int, norm: str) -> None:
        self.convs = ModuleList(
            Sequential(
                Conv2d(channels if i == 0 else out, out, 3, padding=1, bias=False),
                norm_layer(norm, out),
                ReLU(),
            )
            for i in range(max(1, doublings))
        )
        self.doublings = doublings

    def forward(self, x: Tensor, sizes: Sequence[Sequence[int]]) -> Tensor:
        """To the last of ``sizes``, (h, w) of the finer levels, nearest first."""
        for i, conv in enumerate(self.convs):
            x = conv(x)
            if i < self.doublings:
                x = resized(x, sizes[i])
        return x


class PyramidHead(Module):
    """L maps of ``channels``, finest first, to logits at the finest one's size."""

    def __init__(
        self,
        channels: int,
        levels: int,
        num_classes: int,
        width: int = 128,
        merge: str = "sum",
        norm: str = "group",
    ) -> None:
        if merge not in ("sum", "cat"):
            raise ArgumentError("merge", '"sum" or "cat"', repr(merge))
        self.merge = merge
        self.levels = ModuleList(
            LevelToQuarter(channels, width, level, norm) for level in range(levels)
        )
        self.score = Conv2d(width if merge == "sum" else levels * width, num_classes, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """``(N, C, H_l, W_l)`` -> ``(N, K, H_0, W_0)``"""
        sizes = [x.shape[2:] for x in pyramid]
        maps = [
            block(x, sizes[level - 1 :: -1] if level else [])
            for level, (block, x) in enumerate(zip(self.levels, pyramid, strict=True))
        ]
        joined = ops.cat(maps, 1)
        if self.merge == "sum":
            joined = maps[0]
            for x in maps[1:]:
                joined = joined + x
        logits: Tensor = self.score(joined)
        return logits


class FpnSegmenter(Segmenter):
    """A backbone, a pyramid on its levels, the head above.

    The backbone: a residual network of settings ``body`` (those of ResNet-50), or ``backbone``:
    ``backbone(images)`` gives levels of ``channels``, finest first, each half the size of the one
    before; the finest is usually a quarter of the image.
    """

    def __init__(
        self,
        num_classes: int = 21,
        backbone: Module | None = None,
        channels: Sequence[int] | None = None,
        out_channels: int = 256,
        width: int = 128,
        merge: str = "sum",
        norm: str = "group",
        body: ResNetSettings | None = None,
    ) -> None:
        if (backbone is None) != (channels is None):
            raise ArgumentError("channels", "the backbone's, given together with it", channels)
        body = ResNetSettings() if body is None else body
        self.num_classes = num_classes
        self.backbone = ResNetBody(body) if backbone is None else backbone
        levels = list(body.channels if channels is None else channels)
        self.fpn = FeaturePyramid(levels, out_channels)
        self.head = PyramidHead(out_channels, len(levels), num_classes, width, merge, norm)

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, H, W) -> (N, K, H, W)``"""
        return resized(self.head(self.fpn(self.backbone(x))), x.shape[2:])


class UNetEncoder(Module):
    """The way down of a U-Net: ``depth + 1`` levels of strides 1, 2, 4, …"""

    def __init__(self, in_channels: int, base: int, depth: int, norm: str | None) -> None:
        self.depth = depth
        self.channels = tuple(base * 2**d for d in range(depth + 1))
        self.inc = DoubleConv(in_channels, base, norm)
        for d in range(depth):
            setattr(self, f"down{d + 1}", Down(self.channels[d], self.channels[d + 1], norm))

    def forward(self, x: Any) -> list[Tensor]:
        """``(N, C, H, W)`` to ``(N, base · 2**d, H // 2**d, W // 2**d)`` for each d."""
        levels = [self.inc(x)]
        for d in range(self.depth):
            levels.append(getattr(self, f"down{d + 1}")(levels[-1]))
        return levels


class UNetFpn(FpnSegmenter):
    """U-Net's encoder, the pyramid as its decoder, all levels in the head."""

    def __init__(
        self,
        num_classes: int = 21,
        in_channels: int = 3,
        base: int = 64,
        depth: int = 4,
        norm: str = "batch",
        out_channels: int = 256,
        width: int = 128,
    ) -> None:
        encoder = UNetEncoder(in_channels, base, depth, norm)
        super().__init__(num_classes, encoder, encoder.channels, out_channels, width, "cat", norm)
