"""Inception-ResNet-v2: Inception modules as the branches of residual blocks, their sums tamed.

    stem 192@35²  5b 320  10 × block35  6a 1088@17²  20 × block17  7a 2080@8²  10 × block8  1536@8²

Source: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", 2017, section 3.3 and figures 16 to 18.  Differences: this is the network that was
released, not the one drawn: the stem of Inception-v3, 10, 20, 10 instead of 5, 10, 5 blocks on 320,
1088, 2080 instead of 384, 1152, 2144 channels, branches scaled by 0.17, 0.10, 0.20, and a last
block without scaling and ReLU.  State-dict keys are timm's ``inception_resnet_v2`` (Cadene's calls
``classif`` ``last_linear``); the weights expect inputs in -1..1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnncore.autograd import Tensor
from cnncore.models.classification.blocks import Paths, named
from cnncore.models.classification.inception_v4 import average, halving
from cnncore.nn import (
    AdaptiveAvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Identity,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)


class ScaledResidual(Paths):
    """``act(x + scale · W·paths(x))``: small steps keep wide residual networks from dying."""

    def __init__(
        self, branches: Mapping[str, Module], joined: int, out: int, scale: float, last: bool
    ) -> None:
        super().__init__(branches)
        self.conv2d = Conv2d(joined, out, 1)
        self.act = Identity() if last else ReLU()
        self.scale = scale

    def forward(self, x: Any) -> Tensor:
        """Same shape."""
        y: Tensor = self.act(self.conv2d(super().forward(x)) * self.scale + x)
        return y


def block35() -> ScaledResidual:
    """Figure 16."""
    branches = {
        "branch0": named(320, 32, 1),
        "branch1": Sequential(named(320, 32, 1), named(32, 32, 3)),
        "branch2": Sequential(named(320, 32, 1), named(32, 48, 3), named(48, 64, 3)),
    }
    return ScaledResidual(branches, 128, 320, 0.17, last=False)


def block17() -> ScaledResidual:
    """Figure 17."""
    branches = {
        "branch0": named(1088, 192, 1),
        "branch1": Sequential(
            named(1088, 128, 1), named(128, 160, (1, 7)), named(160, 192, (7, 1))
        ),
    }
    return ScaledResidual(branches, 384, 1088, 0.10, last=False)


def block8(scale: float = 0.20, last: bool = False) -> ScaledResidual:
    """Figure 18."""
    branches = {
        "branch0": named(2080, 192, 1),
        "branch1": Sequential(
            named(2080, 192, 1), named(192, 224, (1, 3)), named(224, 256, (3, 1))
        ),
    }
    return ScaledResidual(branches, 448, 2080, scale, last)


def mixed_5b() -> Paths:
    """The one plain Inception module: 192 to 320 channels."""
    return Paths(
        {
            "branch0": named(192, 96, 1),
            "branch1": Sequential(named(192, 48, 1), named(48, 64, 5)),
            "branch2": Sequential(named(192, 64, 1), named(64, 96, 3), named(96, 96, 3)),
            "branch3": average(192, 64),
        }
    )


def mixed_6a() -> Paths:
    """Figure 7 with k, l, m, n = 256, 256, 384, 384: 35×35 to 17×17."""
    return Paths(
        {
            "branch0": halving(320, 384, 3),
            "branch1": Sequential(named(320, 256, 1), named(256, 256, 3), halving(256, 384, 3)),
            "branch2": MaxPool2d(3, 2),
        }
    )


def mixed_7a() -> Paths:
    """Figure 18's neighbour: 17×17 to 8×8."""
    return Paths(
        {
            "branch0": Sequential(named(1088, 256, 1), halving(256, 384, 3)),
            "branch1": Sequential(named(1088, 256, 1), halving(256, 288, 3)),
            "branch2": Sequential(named(1088, 256, 1), named(256, 288, 3), halving(288, 320, 3)),
            "branch3": MaxPool2d(3, 2),
        }
    )


class InceptionResNetV2(Module):
    """Figure 15, as released."""

    def __init__(self, num_classes: int = 1000, dropout: float = 0.2) -> None:
        self.conv2d_1a = halving(3, 32, 3)
        self.conv2d_2a = named(32, 32, 3, padding=0)
        self.conv2d_2b = named(32, 64, 3)
        self.maxpool_3a = MaxPool2d(3, 2)
        self.conv2d_3b = named(64, 80, 1)
        self.conv2d_4a = named(80, 192, 3, padding=0)
        self.maxpool_5a = MaxPool2d(3, 2)
        self.mixed_5b = mixed_5b()
        self.repeat = Sequential(*(block35() for _ in range(10)))
        self.mixed_6a = mixed_6a()
        self.repeat_1 = Sequential(*(block17() for _ in range(20)))
        self.mixed_7a = mixed_7a()
        self.repeat_2 = Sequential(*(block8() for _ in range(9)))
        self.block8 = block8(1.0, last=True)
        self.conv2d_7b = named(2080, 1536, 1)
        self.global_pool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.head_drop = Dropout(dropout)
        self.classif = Linear(1536, num_classes)

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, 299, 299) -> (N, K)``"""
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))))
        x = self.maxpool_5a(self.conv2d_4a(self.conv2d_3b(x)))
        x = self.mixed_6a(self.repeat(self.mixed_5b(x)))
        x = self.mixed_7a(self.repeat_1(x))
        x = self.conv2d_7b(self.block8(self.repeat_2(x)))
        y: Tensor = self.classif(self.head_drop(self.flatten(self.global_pool(x))))
        return y
