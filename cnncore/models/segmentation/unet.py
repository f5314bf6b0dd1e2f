"""U-Net: down to coarse features, up again, and at every resolution a bridge across.

    x ─ inc ───────────────────── cat ─ conv ─ outc ─ logits
         └ pool ─ conv ──── cat ─ conv ─ up ┘
                   └ pool ─ conv ─ up ┘          … depth times

Letters: ``N C H W`` images, ``K`` classes, ``D`` depth.

Source: Ronneberger, Fischer & Brox, "U-Net", 2015, section 2 and figure 1: that is
``UNet(2, in_channels=1, norm=None, padding=0)``, whose convolutions lose a pixel on each side
(572 -> 388 pixels) and whose bridges are cropped; ``vision.tiles`` predicts large images with it.
Differences otherwise: convolutions are padded, so that the output has the input's size; a
normalisation may follow each convolution (the paper has none) and then takes over its bias; sizes
need not be divisible by ``2**D``: each way up goes to the exact size of its bridge.  State-dict
keys are those of the most used PyTorch implementation (milesial/Pytorch-UNet).
"""

from __future__ import annotations

from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import as_int
from cnncore.models.segmentation.segmenter import Segmenter, centre_cropped
from cnncore.nn import (
    Conv2d,
    ConvTranspose2d,
    Identity,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
    init,
    norm_layer,
)


class DoubleConv(Module):
    """Twice a 3×3 convolution, normalisation, ReLU: ``(N, C, H, W) -> (N, out, H, W)``.

    Without padding two pixels go on every side.
    """

    def __init__(self, channels: int, out: int, norm: str | None, padding: int = 1) -> None:
        layers: list[Module] = []
        for c in (channels, out):
            conv = Conv2d(c, out, 3, padding=padding, bias=norm is None)
            init.kaiming_normal_(conv.weight, nonlinearity="relu")  # section 3
            layers += [conv, Identity() if norm is None else norm_layer(norm, out), ReLU()]
        self.double_conv = Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, out, H, W)``"""
        y: Tensor = self.double_conv(x)
        return y


class Down(Module):
    """Half the resolution, then a double convolution."""

    def __init__(self, channels: int, out: int, norm: str | None, padding: int = 1) -> None:
        self.maxpool_conv = Sequential(MaxPool2d(2), DoubleConv(channels, out, norm, padding))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, out, H // 2, W // 2)``"""
        y: Tensor = self.maxpool_conv(x)
        return y


class Up(Module):
    """Twice the resolution at half the channels, beside the bridge, then a double convolution."""

    def __init__(
        self, channels: int, norm: str | None, padding: int = 1, bridged: bool = True
    ) -> None:
        self.up = ConvTranspose2d(channels, channels // 2, 2, 2)
        self.padding, self.bridged = padding, bridged
        self.conv = DoubleConv(channels if bridged else channels // 2, channels // 2, norm, padding)

    def forward(self, x: Tensor, bridge: Tensor) -> Tensor:
        """``(N, C, h, w)`` and ``(N, C/2, H, W)`` -> ``(N, C/2, H, W)``, ``h = H // 2``.

        Without padding the bridge is cropped to ``2h × 2w`` and the result is 4 pixels smaller.
        """
        if self.padding:
            wide = self.up(x, output_size=bridge.shape[2:])
        else:
            wide = self.up(x)
            bridge = centre_cropped(bridge, wide.shape[2:])
        y: Tensor = self.conv(ops.cat([bridge, wide], 1) if self.bridged else wide)
        return y


class UNet(Segmenter):
    """U-Net of ``depth`` halvings and ``base · 2**d`` channels after ``d`` of them.

    The paper: base 64, depth 4, no norm, padding 0 (31.0 M parameters).  ``bridges=False`` leaves
    the bridges out: the same way down and up, for comparison.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        base: int = 64,
        depth: int = 4,
        norm: str | None = "batch",
        padding: int = 1,
        bridges: bool = True,
    ) -> None:
        if padding not in (0, 1):
            raise ArgumentError("padding", "0 (the paper) or 1 (the input's size)", padding)
        self.padding = padding
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.depth = as_int("depth", depth, 1)
        widths = [as_int("base", base, 1) * 2**d for d in range(depth + 1)]
        self.inc = DoubleConv(in_channels, base, norm, padding)
        for d in range(depth):
            setattr(self, f"down{d + 1}", Down(widths[d], widths[d + 1], norm, padding))
        for d in range(depth):
            setattr(self, f"up{d + 1}", Up(widths[depth - d], norm, padding, bridges))
        self.outc = Sequential({"conv": Conv2d(base, num_classes, 1)})

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, K, H, W)``; H and W at least ``2**D``.

        Without padding the result is smaller, by ``margin`` pixels on every side where all
        poolings divide evenly.
        """
        if min(x.shape[2:]) < 2**self.depth:
            raise ShapeError("x", f"height and width of at least {2**self.depth}", x.shape)
        bridges = [self.inc(x)]
        for d in range(1, self.depth + 1):
            bridges.append(getattr(self, f"down{d}")(bridges[-1]))
        y = bridges.pop()
        for d in range(1, self.depth + 1):
            y = getattr(self, f"up{d}")(y, bridges.pop())
        logits: Tensor = self.outc(y)
        return logits

    @property
    def margin(self) -> int:
        """Pixels that the result lacks on every side: 92 for the paper's depth of 4.

        Two for each double convolution, in pixels of its resolution, down and up.
        """
        levels = range(self.depth)
        return 0 if self.padding else sum(4 * 2**d for d in levels) + 2 * 2**self.depth
