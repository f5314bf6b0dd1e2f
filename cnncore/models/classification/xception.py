"""Xception: Inception taken to its extreme, one filter for each channel.

    entry: 32 64 | 128@74² 256@37² 728@19²   middle: 8 × 728@19²   exit: 1024@10² | 1536 2048

Source: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", 2017, figure 5.
All public implementations agree on its 22,855,952 parameters.  Differences: pooling and padding are
symmetric (the paper's TensorFlow pads more at the end where sizes are even; at 299×299 none is),
batch norm's eps is 1e-5.  State-dict keys are timm's ``legacy_xception`` (Cadene's calls ``fc``
``last_linear``); the weights expect inputs in -1..1.
"""

from __future__ import annotations

from typing import Any

from cnncore.autograd import Tensor
from cnncore.models.classification.blocks import initialise_for_relu, separable
from cnncore.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
    activated,
)


class XceptionBlock(Module):
    """Separable convolutions through ``widths``, pooled if ``stride`` is 2, plus a shortcut."""

    def __init__(
        self, channels: int, widths: tuple[int, ...], stride: int = 1, starts_with_relu: bool = True
    ) -> None:
        out = widths[-1]
        self.skip: Module | None = None
        if stride != 1 or channels != out:
            self.skip = Conv2d(channels, out, 1, stride, bias=False)
            self.skipbn = BatchNorm2d(out)
        layers: list[Module] = []
        for width in widths:
            layers += [ReLU(), separable(channels, width, 3), BatchNorm2d(width)]
            channels = width
        if stride != 1:
            layers.append(MaxPool2d(3, stride, 1))
        self.rep = Sequential(*(layers if starts_with_relu else layers[1:]))

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, widths[-1], H / stride, W / stride)``"""
        shortcut = x if self.skip is None else self.skipbn(self.skip(x))
        y: Tensor = self.rep(x) + shortcut
        return y


class Xception(Module):
    """Figure 5: entry, middle and exit flow."""

    def __init__(self, num_classes: int = 1000) -> None:
        self.conv1, self.bn1 = Conv2d(3, 32, 3, 2, bias=False), BatchNorm2d(32)
        self.conv2, self.bn2 = Conv2d(32, 64, 3, bias=False), BatchNorm2d(64)
        self.block1 = XceptionBlock(64, (128, 128), 2, starts_with_relu=False)
        self.block2 = XceptionBlock(128, (256, 256), 2)
        self.block3 = XceptionBlock(256, (728, 728), 2)
        for number in range(4, 12):
            setattr(self, f"block{number}", XceptionBlock(728, (728, 728, 728)))
        self.block12 = XceptionBlock(728, (728, 1024), 2)
        self.conv3, self.bn3 = separable(1024, 1536, 3), BatchNorm2d(1536)
        self.conv4, self.bn4 = separable(1536, 2048, 3), BatchNorm2d(2048)
        self.relu = ReLU()
        self.global_pool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.fc = Linear(2048, num_classes)
        initialise_for_relu(self)

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, 299, 299) -> (N, K)``"""
        x = activated(self.bn1, self.relu, self.conv1(x))
        x = activated(self.bn2, self.relu, self.conv2(x))
        for number in range(1, 13):
            x = getattr(self, f"block{number}")(x)
        x = activated(self.bn3, self.relu, self.conv3(x))
        x = activated(self.bn4, self.relu, self.conv4(x))
        y: Tensor = self.fc(self.flatten(self.global_pool(x)))
        return y
