"""Residual networks that classify: the backbone of ``models.backbones`` and one dense layer.

Source: He et al., "Deep Residual Learning for Image Recognition", 2016, table 1.  Differences: as
in all weights that are in use, the stride of a bottleneck is on its 3×3 convolution, not on the
first 1×1 ("v1.5": 4.09 instead of 3.86 billion multiply-adds for ResNet-50), and the first pooling
is padded.  State-dict keys are torchvision's.
"""

from __future__ import annotations

from typing import Any

from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.models.backbones import BasicBlock, ResNetBody, ResNetSettings, residual_stage
from cnncore.models.classification.blocks import initialise_for_relu
from cnncore.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    Module,
    ReLU,
    activated,
)

# Table 1: kind of block, blocks in stages conv2_x to conv5_x.
DEPTHS = {
    18: ResNetSettings(block="basic", depths=(2, 2, 2, 2)),
    34: ResNetSettings(block="basic", depths=(3, 4, 6, 3)),
    50: ResNetSettings(depths=(3, 4, 6, 3)),
    101: ResNetSettings(depths=(3, 4, 23, 3)),
    152: ResNetSettings(depths=(3, 8, 36, 3)),
}


class ResNet(ResNetBody):
    """The backbone, the mean of its last features, one dense layer."""

    def __init__(self, num_classes: int = 1000, settings: ResNetSettings = DEPTHS[50]) -> None:
        super().__init__(settings)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.fc = Linear(settings.channels[-1], num_classes)

    def forward(self, x: Any) -> Tensor:  # type: ignore[override]
        """``(N, 3, H, W) -> (N, K)``"""
        y: Tensor = self.fc(self.flatten(self.avgpool(super().forward(x)[-1])))
        return y


def resnet(num_classes: int = 1000, depth: int = 50) -> ResNet:
    """ResNet-18, -34, -50, -101 or -152."""
    if depth not in DEPTHS:
        raise ArgumentError("depth", f"one of {sorted(DEPTHS)}", depth)
    return ResNet(num_classes, DEPTHS[depth])


class SmallResNet(Module):
    """The paper's networks for pictures of 32×32 (section 4.2): three stages of basic blocks.

    ``6 · blocks + 2`` layers; shortcuts project where shapes change (the paper pads with zeros).
    """

    def __init__(
        self, num_classes: int = 10, channels: int = 3, blocks: int = 3, width: int = 16
    ) -> None:
        self.conv1 = Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.relu = ReLU()
        self.layer1 = residual_stage(BasicBlock, width, width, blocks, 1)
        self.layer2 = residual_stage(BasicBlock, width, 2 * width, blocks, 2)
        self.layer3 = residual_stage(BasicBlock, 2 * width, 4 * width, blocks, 2)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.fc = Linear(4 * width, num_classes)
        initialise_for_relu(self)

    def forward(self, x: Any) -> Tensor:
        """``(N, channels, H, W) -> (N, K)``"""
        x = activated(self.bn1, self.relu, self.conv1(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        y: Tensor = self.fc(self.flatten(self.avgpool(x)))
        return y
