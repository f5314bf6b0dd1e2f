"""TernausNet: a U-Net whose way down is a classifier that was trained on ImageNet.

    x ─ VGG ──────────────────────────────────── cat ─ conv ─ 1×1
         └ pool ─ VGG ────────────────── cat ─ up ┘
                   └ pool ─ … ─ centre ─ up ┘

Letters: ``N C H W`` images (H, W divisible by 32), ``K`` classes, ``F`` filters.

Source: Iglovikov & Shvets, "TernausNet", 2018, figure 1; the 16-layer variant and the state-dict
keys are those of the authors' package (ternausnet).  Its files list the encoder twice, as
``encoder.*`` and as ``conv1 …``: one set of tensors under two names, here as there.
``load_encoder`` takes public VGG weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.models.classification.blocks import initialise_for_relu
from cnncore.models.classification.vgg import WIDTHS, vgg_features
from cnncore.models.segmentation.segmenter import Segmenter
from cnncore.nn import (
    Conv2d,
    ConvTranspose2d,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
    Upsample,
)


class ConvRelu(Module):
    """A 3×3 convolution and a ReLU."""

    def __init__(self, channels: int, out: int) -> None:
        self.conv = Conv2d(channels, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, out, H, W)``"""
        return ops.relu(self.conv(x))


class Block(Module):
    """Twice the resolution: by a transposed convolution of ``kernel`` 3 or 4, or bilinearly (0)."""

    def __init__(self, channels: int, middle: int, out: int, kernel: int) -> None:
        if kernel == 0:
            layers = [
                Upsample(scale_factor=2, mode="bilinear"),
                ConvRelu(channels, middle),
                ConvRelu(middle, out),
            ]
        else:
            up = ConvTranspose2d(middle, out, kernel, 2, padding=1, output_padding=kernel % 2)
            layers = [ConvRelu(channels, middle), up, ReLU()]
        self.block = Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, out, 2H, 2W)``"""
        y: Tensor = self.block(x)
        return y


class TernausNet(Segmenter):
    """On VGG-11 or VGG-16 (``depth``); ``kernel``: how ``Block`` enlarges, 3 and 0 by default.

    ``widths``: of the encoder's five blocks, to train small ones.
    """

    def __init__(
        self,
        num_classes: int = 1,
        depth: int = 11,
        filters: int = 32,
        kernel: int | None = None,
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        if depth not in (11, 16):
            raise ArgumentError("depth", "11 or 16", depth)
        if kernel not in (None, 0, 3, 4):
            raise ArgumentError("kernel", "0 (bilinear), 3 or 4", kernel)
        self.num_classes, self.depth, f = num_classes, depth, filters
        self.encoder = vgg_features(depth, widths=widths)
        for number, block in enumerate(_blocks(self.encoder), 1):
            if depth == 16:
                setattr(self, f"conv{number}", Sequential(*block))
            else:  # one or two convolutions, each under a name of its own
                first, *second = (layer for layer in block if isinstance(layer, Conv2d))
                setattr(self, f"conv{number}s" if second else f"conv{number}", first)
                if second:
                    setattr(self, f"conv{number}", second[0])
        up = {11: 3, 16: 0}[depth] if kernel is None else kernel
        wide = 4 * f if depth == 11 else 8 * f
        self.center = Block(widths[4], 16 * f, 8 * f, up)
        self.dec5 = Block(widths[4] + 8 * f, 16 * f, 8 * f, up)
        self.dec4 = Block(widths[3] + 8 * f, 16 * f, wide, up)
        self.dec3 = Block(widths[2] + wide, 8 * f, 2 * f, up)
        self.dec2 = Block(widths[1] + 2 * f, 4 * f, f, up)
        self.dec1 = ConvRelu(widths[0] + f, f)
        self.final = Conv2d(f, num_classes, 1)
        initialise_for_relu(self)

    def _stage(self, number: int, x: Any) -> Tensor:
        if self.depth == 16:
            y: Tensor = getattr(self, f"conv{number}")(x)
            return y
        for name in (f"conv{number}s", f"conv{number}"):
            layer = getattr(self, name, None)
            x = x if layer is None else ops.relu(layer(x))
        return x  # type: ignore[no-any-return]

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, H, W) -> (N, K, H, W)``"""
        if x.shape[2] % 32 or x.shape[3] % 32:
            raise ShapeError("x", "height and width divisible by 32", x.shape)
        bridges = []
        for number in range(1, 6):
            x = self._stage(number, x)
            bridges.append(x)
            x = ops.max_pool2d(x, 2)
        x = self.center(x)
        for number in range(5, 0, -1):
            x = getattr(self, f"dec{number}")(ops.cat([x, bridges.pop()], 1))
        logits: Tensor = self.final(x)
        return logits

    def load_encoder(self, state: Mapping[str, Any]) -> None:
        """Take the convolutions of a VGG of this depth: torchvision's keys, ``features.*``."""
        part = {
            k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")
        }
        self.encoder.load_state_dict(part)


def _blocks(features: Sequential) -> list[list[Module]]:
    """What lies between the poolings."""
    blocks: list[list[Module]] = [[]]
    for layer in features:
        if isinstance(layer, MaxPool2d):
            blocks.append([])
        else:
            blocks[-1].append(layer)
    return blocks[:-1]
