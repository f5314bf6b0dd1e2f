"""Residual networks: a stem and four stages of residual blocks, each stage at half the resolution.

Letters: ``N C H W`` images; stage ``s = 0..3`` gives features of stride ``4 · 2**s``.

Source: He et al., "Deep Residual Learning for Image Recognition", 2016, table 1 and figure 5.
Differences: in the bottleneck the stride is on the 3×3 convolution, not on the first 1×1, as in all
published weights that are in use.  State-dict keys are torchvision's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.nn import Conv2d, MaxPool2d, Module, ReLU, Sequential, activated, init, norm_layer


@dataclass(frozen=True)
class ResNetSettings:
    """Sizes of a residual network; the defaults are ResNet-50."""

    stem_channels: int = 64
    stem_kernel: int = 7
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)  # channels inside the blocks of a stage
    depths: tuple[int, int, int, int] = (3, 4, 6, 3)  # blocks in a stage
    block: str = "bottleneck"  # or "basic"
    norm: str = "batch"  # a name in cnncore.nn.norm.NORMS
    stride: int = 32  # of the last stage: 16 or 8 dilate the last or the last two instead

    def __post_init__(self) -> None:
        if self.block not in BLOCKS:
            raise ArgumentError("block", f"one of {sorted(BLOCKS)}", repr(self.block))
        if self.stride not in (8, 16, 32):
            raise ArgumentError("stride", "8, 16 or 32", self.stride)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels that each stage gives."""
        return tuple(width * BLOCKS[self.block].expansion for width in self.widths)

    def dilated(self, stride: int) -> ResNetSettings:
        """The same network with a last stage of ``stride`` 8 or 16."""
        return replace(self, stride=stride)


class _Block(Module):
    """``relu(f(x) + shortcut(x))``; the shortcut projects where shapes differ."""

    expansion: int = 1
    last_norm: str  # the norm at the end of f, which is one pass with what follows it

    def __init__(
        self, channels: int, width: int, stride: int, norm: str, dilation: int = 1
    ) -> None:
        self.relu = ReLU()
        self._make_branch(channels, width, stride, norm, dilation)
        out = width * self.expansion
        self.downsample: Module | None = None
        if stride != 1 or channels != out:
            projection = Conv2d(channels, out, 1, stride, bias=False)
            self.downsample = Sequential(projection, norm_layer(norm, out))

    def _make_branch(
        self, channels: int, width: int, stride: int, norm: str, dilation: int
    ) -> None:
        raise NotImplementedError

    def branch(self, x: Tensor) -> Tensor:
        """``f`` up to its last norm."""
        raise NotImplementedError

    def joined(self, y: Tensor, shortcut: Tensor) -> Tensor:
        """``relu(norm(y) + shortcut)``"""
        return activated(getattr(self, self.last_norm), ops.relu, y, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, width · expansion, H / stride, W / stride)``"""
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.joined(self.branch(x), shortcut)


class BasicBlock(_Block):
    """Two 3×3 convolutions: figure 5, left."""

    last_norm = "bn2"

    def _make_branch(
        self, channels: int, width: int, stride: int, norm: str, dilation: int
    ) -> None:
        self.conv1 = Conv2d(channels, width, 3, stride, dilation, dilation, bias=False)
        self.bn1 = norm_layer(norm, width)
        self.conv2 = Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = norm_layer(norm, width)

    def branch(self, x: Tensor) -> Tensor:
        """conv, norm, relu, conv"""
        y: Tensor = self.conv2(activated(self.bn1, self.relu, self.conv1(x)))
        return y


class Bottleneck(_Block):
    """1×1 down, 3×3, 1×1 up to four times the width: figure 5, right."""

    expansion = 4
    last_norm = "bn3"

    def _make_branch(
        self, channels: int, width: int, stride: int, norm: str, dilation: int
    ) -> None:
        self.conv1 = Conv2d(channels, width, 1, bias=False)
        self.bn1 = norm_layer(norm, width)
        self.conv2 = Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = norm_layer(norm, width)
        self.conv3 = Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = norm_layer(norm, width * self.expansion)

    def branch(self, x: Tensor) -> Tensor:
        """conv, norm, relu, conv, norm, relu, conv"""
        x = activated(self.bn1, self.relu, self.conv1(x))
        y: Tensor = self.conv3(activated(self.bn2, self.relu, self.conv2(x)))
        return y


BLOCKS: dict[str, type[_Block]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


def residual_stage(
    block: type[_Block],
    channels: int,
    width: int,
    depth: int,
    stride: int,
    norm: str = "batch",
    dilations: tuple[int, int] = (1, 1),
) -> Sequential:
    """``depth`` blocks in a row; the first has the stride and takes ``channels``.

    ``dilations``: of the first block and of the others.
    """
    out = width * block.expansion
    first = block(channels, width, stride, norm, dilations[0])
    others = (block(out, width, 1, norm, dilations[1]) for _ in range(depth - 1))
    return Sequential(first, *others)


class ResNetBody(Module):
    """Images to the features of the four stages, C2 … C5 of strides 4, 8, 16, 32.

    The stem is a convolution of stride 2, normalisation, ReLU and a 3×3 max pooling of stride 2.
    """

    def __init__(self, settings: ResNetSettings = ResNetSettings()) -> None:
        self.settings = settings
        stem, kernel = settings.stem_channels, settings.stem_kernel
        self.conv1 = Conv2d(3, stem, kernel, 2, kernel // 2, bias=False)
        self.bn1 = norm_layer(settings.norm, stem)
        self.relu = ReLU()
        self.maxpool = MaxPool2d(3, 2, 1)
        channels, reached, dilation = stem, 4, 1
        for stage, (width, depth) in enumerate(zip(settings.widths, settings.depths, strict=True)):
            block, stride, before = BLOCKS[settings.block], 2 if stage > 0 else 1, dilation
            if reached * stride > settings.stride:  # look as far apart instead of moving on
                stride, dilation = 1, dilation * stride
            reached *= stride
            dilations = (before, dilation)
            layer = residual_stage(block, channels, width, depth, stride, settings.norm, dilations)
            setattr(self, f"layer{stage + 1}", layer)
            channels = settings.channels[stage]
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Any) -> list[Tensor]:
        """``(N, 3, H, W)`` -> four tensors ``(N, C_s, H / 4·2**s, W / 4·2**s)``."""
        x = self.maxpool(activated(self.bn1, self.relu, self.conv1(x)))
        features = []
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
            features.append(x)
        return features
