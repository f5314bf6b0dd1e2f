"""U-Net: down to coarse features, up again, and at every resolution a bridge across.

    x ─ inc ───────────────────── cat ─ conv ─ outc ─ logits
         └ pool ─ conv ──── cat ─ conv ─ up ┘
                   └ pool ─ conv ─ up ┘          … depth times

Letters: ``N C H W`` images, ``K`` classes, ``D`` depth.

Source: Ronneberger, Fischer & Brox, "U-Net", 2015, section 2 and figure 1.
Differences: convolutions are padded, so that the output has the input's size (the paper crops); a
normalisation may follow each convolution (the paper has none) and then takes over its bias; sizes
need not be divisible by ``2**D``: each way up goes to the exact size of its bridge.  State-dict
keys are those of the most used PyTorch implementation (milesial/Pytorch-UNet).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import as_int
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
    """Twice a 3×3 convolution, normalisation, ReLU: ``(N, C, H, W) -> (N, out, H, W)``."""

    def __init__(self, channels: int, out: int, norm: str | None) -> None:
        layers: list[Module] = []
        for c in (channels, out):
            conv = Conv2d(c, out, 3, padding=1, bias=norm is None)
            init.kaiming_normal_(conv.weight, nonlinearity="relu")  # section 3
            layers += [conv, Identity() if norm is None else norm_layer(norm, out), ReLU()]
        self.double_conv = Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, out, H, W)``"""
        y: Tensor = self.double_conv(x)
        return y


class Down(Module):
    """Half the resolution, then a double convolution."""

    def __init__(self, channels: int, out: int, norm: str | None) -> None:
        self.maxpool_conv = Sequential(MaxPool2d(2), DoubleConv(channels, out, norm))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, out, H // 2, W // 2)``"""
        y: Tensor = self.maxpool_conv(x)
        return y


class Up(Module):
    """Twice the resolution at half the channels, beside the bridge, then a double convolution."""

    def __init__(self, channels: int, norm: str | None) -> None:
        self.up = ConvTranspose2d(channels, channels // 2, 2, 2)
        self.conv = DoubleConv(channels, channels // 2, norm)

    def forward(self, x: Tensor, bridge: Tensor) -> Tensor:
        """``(N, C, h, w)`` and ``(N, C/2, H, W)`` -> ``(N, C/2, H, W)``, ``h = H // 2``."""
        wide = self.up(x, output_size=bridge.shape[2:])
        y: Tensor = self.conv(ops.cat([bridge, wide], 1))
        return y


class UNet(Module):
    """U-Net of ``depth`` halvings and ``base · 2**d`` channels after ``d`` of them.

    The paper: base 64, depth 4, no norm (31.0 M parameters).  ``model(images)`` -> logits
    ``(N, K, H, W)``; ``model.loss(logits, targets)``; ``model.decode(logits)`` -> label maps.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        base: int = 64,
        depth: int = 4,
        norm: str | None = "batch",
    ) -> None:
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.depth = as_int("depth", depth, 1)
        widths = [as_int("base", base, 1) * 2**d for d in range(depth + 1)]
        self.inc = DoubleConv(in_channels, base, norm)
        for d in range(depth):
            setattr(self, f"down{d + 1}", Down(widths[d], widths[d + 1], norm))
        for d in range(depth):
            setattr(self, f"up{d + 1}", Up(widths[depth - d], norm))
        self.outc = Sequential({"conv": Conv2d(base, num_classes, 1)})

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, K, H, W)``; H and W at least ``2**D``."""
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

    def loss(
        self,
        logits: Tensor,
        targets: Sequence[Any],
        rng: np.random.Generator | None = None,
        *,
        class_weights: Any = None,
    ) -> dict[str, Tensor]:
        """Cross-entropy with each pixel's class: the mean, weighted by ``class_weights (K,)``.

        ``targets`` have ``semantic`` maps ``(H, W)`` of integers (``data.Sample``, say), or are
        such maps; logits of another resolution are resized bilinearly.  ``rng`` is not used.
        """
        maps = [getattr(target, "semantic", target) for target in targets]
        if len(maps) != logits.shape[0]:
            raise ArgumentError("targets", f"one an image, {logits.shape[0]}", len(maps))
        truth = np.stack(maps) if maps else np.zeros((0, *logits.shape[2:]), np.int64)
        if class_weights is not None:
            class_weights = np.asarray(class_weights, logits.dtype)
        entropy = ops.cross_entropy(_resized(logits, truth.shape[1:]), truth, class_weights)
        return {"cross_entropy": entropy}

    def decode(self, logits: Tensor, size: tuple[int, int] | None = None) -> list[Any]:
        """The likeliest class of every pixel, one ``(H, W)`` int64 array an image.

        ``size`` asks for another resolution: logits, not labels, are resized.
        """
        resized = _resized(logits.detach(), logits.shape[2:] if size is None else size)
        return list(resized.numpy().argmax(1))


def _resized(logits: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(size) == logits.shape[2:]:
        return logits
    return ops.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
