"""MobileNet v1 and v2: separable convolutions, then inverted residuals with linear bottlenecks.

``MobileNetV1``: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile
Vision Applications", 2017, table 1.  Its 568,740,352 multiply-adds are the paper's 569 million.
Differences: table 1 prints stride 2 for the last depthwise convolution, which must be 1; ReLU6;
symmetric padding; the classifier is a dense layer.  State-dict keys are timm's ``mobilenetv1_100``.

``MobileNetV2``: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018,
table 2.  State-dict keys are torchvision's ``mobilenet_v2``.
"""

from __future__ import annotations

from typing import Any

from cnncore.autograd import Tensor
from cnncore.models.classification.blocks import (
    InvertedResidual,
    conv_layers,
    initialise_for_relu,
    numbered,
    round_channels,
)
from cnncore.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    Module,
    ReLU6,
    Sequential,
    activated,
)

# Table 1, rows of equal width grouped: output channels, blocks, stride of the first.
V1_STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))


def _separable_block(channels: int, out: int, stride: int) -> Sequential:
    """Figure 3, right: depthwise 3×3 and pointwise, each normalised and activated."""
    depthwise = conv_layers(channels, channels, 3, stride, groups=channels, act=ReLU6)
    pointwise = conv_layers(channels, out, 1, act=ReLU6)
    names = ("conv_dw", "bn1", "act1", "conv_pw", "bn2", "act2")
    return Sequential(dict(zip(names, [*depthwise, *pointwise], strict=True)))


class MobileNetV1(Module):
    """``width`` is the paper's multiplier α."""

    def __init__(self, num_classes: int = 1000, width: float = 1.0) -> None:
        channels = round_channels(32 * width)
        self.conv_stem = Conv2d(3, channels, 3, 2, 1, bias=False)
        self.bn1, self.act1 = BatchNorm2d(channels), ReLU6()
        stages = []
        for out, count, stride in V1_STAGES:
            out, blocks = round_channels(out * width), []
            for number in range(count):
                blocks.append(_separable_block(channels, out, stride if number == 0 else 1))
                channels = out
            stages.append(Sequential(*blocks))
        self.blocks = Sequential(*stages)
        self.global_pool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.classifier = Linear(channels, num_classes)
        initialise_for_relu(self)

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, 224, 224) -> (N, K)``"""
        x = self.blocks(activated(self.bn1, self.act1, self.conv_stem(x)))
        y: Tensor = self.classifier(self.flatten(self.global_pool(x)))
        return y


# Table 2: expansion t, output channels c, blocks n, stride s of the first.
V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidualV2(Module):
    """The block with torchvision's names: the last convolution and its norm are not wrapped."""

    def __init__(self, block: InvertedResidual) -> None:
        stages = block.stages()
        project = stages.pop("project")
        self.conv = Sequential(*(Sequential(*layers) for layers in stages.values()), *project)
        self.has_shortcut = block.has_shortcut

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, C', H / s, W / s)``"""
        y: Tensor = self.conv(x)
        return x + y if self.has_shortcut else y


class MobileNetV2(Module):
    """``width`` multiplies all channels (not below 1280 at the end)."""

    def __init__(self, num_classes: int = 1000, width: float = 1.0, dropout: float = 0.2) -> None:
        channels, last = round_channels(32 * width), round_channels(1280 * max(1.0, width))
        features: list[Module] = [numbered(3, channels, 3, 2, act=ReLU6)]
        for expansion, out, count, stride in V2_STAGES:
            out = round_channels(out * width)
            for number in range(count):
                first = stride if number == 0 else 1
                block = InvertedResidual(channels, out, 3, first, expansion, ReLU6)
                features.append(InvertedResidualV2(block))
                channels = out
        features.append(numbered(channels, last, 1, act=ReLU6))
        self.features = Sequential(*features)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.classifier = Sequential(Dropout(dropout), Linear(last, num_classes))
        initialise_for_relu(self)

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, 224, 224) -> (N, K)``"""
        y: Tensor = self.classifier(self.flatten(self.avgpool(self.features(x))))
        return y
