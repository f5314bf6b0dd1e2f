"""VGG: nothing but 3×3 convolutions and 2×2 pooling, sixteen or nineteen layers deep.

Source: Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
2015, table 1 (configurations A, B, D, E).  The variants with batch norm came later; their
convolutions keep the bias that they do not need.  State-dict keys are torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.models.classification.blocks import initialise_for_relu
from cnncore.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
    init,
)

# Table 1: convolutions in each of the five blocks; a pooling ends each.
DEPTHS = {
    11: (1, 1, 2, 2, 2),  # A
    13: (2, 2, 2, 2, 2),  # B
    16: (2, 2, 3, 3, 3),  # D
    19: (2, 2, 4, 4, 4),  # E
}
WIDTHS = (64, 128, 256, 512, 512)


def vgg_features(
    depth: int, batch_norm: bool = False, widths: Sequence[int] = WIDTHS
) -> Sequential:
    """The convolutions: five blocks of ``widths`` channels, each ended by a pooling."""
    if depth not in DEPTHS:
        raise ArgumentError("depth", f"one of {sorted(DEPTHS)}", depth)
    layers: list[Module] = []
    channels = 3
    for width, convolutions in zip(widths, DEPTHS[depth], strict=True):
        for _ in range(convolutions):
            norm = [BatchNorm2d(width)] if batch_norm else []
            layers += [Conv2d(channels, width, 3, 1, 1), *norm, ReLU()]
            channels = width
        layers.append(MaxPool2d(2, 2))
    return Sequential(*layers)


class VGG(Module):
    """Configuration of ``depth`` weight layers: 11, 13, 16 or 19."""

    def __init__(
        self,
        num_classes: int = 1000,
        depth: int = 16,
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        self.features = vgg_features(depth, batch_norm)
        self.avgpool = AdaptiveAvgPool2d(7)
        self.flatten = Flatten()
        self.classifier = Sequential(
            Linear(512 * 7 * 7, 4096), ReLU(), Dropout(dropout),
            Linear(4096, 4096), ReLU(), Dropout(dropout),
            Linear(4096, num_classes),
        )  # fmt: skip
        initialise_for_relu(self)
        for layer in self.classifier:
            if isinstance(layer, Linear):
                init.normal_(layer.weight, std=0.01)

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, 224, 224) -> (N, K)``"""
        y: Tensor = self.classifier(self.flatten(self.avgpool(self.features(x))))
        return y
