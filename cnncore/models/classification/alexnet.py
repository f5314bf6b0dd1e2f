"""AlexNet: five convolutions, three dense layers, ReLU, dropout, and two GPUs.

Two networks go by this name, and both are here.

``AlexNetTwoTower`` is the one of 2012: two towers that see only each other's half in layers 2, 4
and 5 (a grouped convolution), local response normalisation, overlapping pooling.
Source: Krizhevsky, Sutskever & Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", 2012, figure 2 and section 3.  Differences: the paper says its input is 224×224, but only
227×227 without padding gives its 55×55 maps.  No weights are published for this layout.

``AlexNet`` is the single tower that everybody trains: fewer filters, no groups, no normalisation,
padding in the first layer.
Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.
State-dict keys are torchvision's ``alexnet``.
"""

from __future__ import annotations

from typing import Any

from cnncore.autograd import Tensor
from cnncore.nn import (
    AdaptiveAvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)


class AlexNet(Module):
    """The common single tower."""

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5) -> None:
        self.features = Sequential(
            Conv2d(3, 64, 11, 4, 2), ReLU(), MaxPool2d(3, 2),
            Conv2d(64, 192, 5, 1, 2), ReLU(), MaxPool2d(3, 2),
            Conv2d(192, 384, 3, 1, 1), ReLU(),
            Conv2d(384, 256, 3, 1, 1), ReLU(),
            Conv2d(256, 256, 3, 1, 1), ReLU(), MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = AdaptiveAvgPool2d(6)
        self.flatten = Flatten()
        self.classifier = Sequential(
            Dropout(dropout), Linear(256 * 6 * 6, 4096), ReLU(),
            Dropout(dropout), Linear(4096, 4096), ReLU(),
            Linear(4096, num_classes),
        )  # fmt: skip

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, 224, 224) -> (N, K)``"""
        y: Tensor = self.classifier(self.flatten(self.avgpool(self.features(x))))
        return y


class AlexNetTwoTower(Sequential):
    """The network of the paper; ``towers=1`` joins the towers (62,378,344 parameters)."""

    def __init__(self, num_classes: int = 1000, towers: int = 2) -> None:
        # The paper does not divide alpha by the size, the op does.
        def norm() -> Module:
            return LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)

        super().__init__(
            {
                "conv1": Conv2d(3, 96, 11, 4), "relu1": ReLU(), "norm1": norm(),
                "pool1": MaxPool2d(3, 2),
                "conv2": Conv2d(96, 256, 5, 1, 2, groups=towers), "relu2": ReLU(), "norm2": norm(),
                "pool2": MaxPool2d(3, 2),
                "conv3": Conv2d(256, 384, 3, 1, 1), "relu3": ReLU(),
                "conv4": Conv2d(384, 384, 3, 1, 1, groups=towers), "relu4": ReLU(),
                "conv5": Conv2d(384, 256, 3, 1, 1, groups=towers), "relu5": ReLU(),
                "pool5": MaxPool2d(3, 2),
                **dense_layers(256 * 6 * 6, num_classes),
            }
        )  # fmt: skip


def dense_layers(features: int, num_classes: int, dropout: float = 0.5) -> dict[str, Module]:
    """Layers 6 to 8, dropout in the first two (section 4.2); ZFNet has the same."""
    return {
        "flatten": Flatten(),
        "drop6": Dropout(dropout), "fc6": Linear(features, 4096), "relu6": ReLU(),
        "drop7": Dropout(dropout), "fc7": Linear(4096, 4096), "relu7": ReLU(),
        "fc8": Linear(4096, num_classes),
    }  # fmt: skip
