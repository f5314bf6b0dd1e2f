"""GoogLeNet, the first Inception network.

Source: Szegedy et al., "Going Deeper with Convolutions", 2015, table 1 and figure 3.
``GoogLeNet()`` is torchvision's, whose weights everybody has, and differs: batch norm instead of
biases and of local response normalisation; the "5×5" convolutions are 3×3; the fourth pooling is
2×2; the auxiliary heads pool to 4×4 whatever the size; the weights expect inputs in -1..1.
``GoogLeNet(batch_norm=False)`` is the paper's network.  State-dict keys are torchvision's.
"""

from __future__ import annotations

from typing import Any

from cnncore.autograd import Tensor
from cnncore.models.classification.blocks import AuxiliaryLogits, Paths, named
from cnncore.nn import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Identity,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)

# Table 1: 1×1 | 3×3 reduce, 3×3 | 5×5 reduce, 5×5 | pool projection.
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
HEADS_AFTER = {"4a": "aux1", "4d": "aux2"}
HEAD_WEIGHT = 0.3  # of each auxiliary loss, section 5


def _unit(channels: int, out: int, kernel: int, stride: int, batch_norm: bool) -> Sequential:
    if batch_norm:
        return named(channels, out, kernel, stride)
    conv = Conv2d(channels, out, kernel, stride, kernel // 2)
    return Sequential({"conv": conv, "relu": ReLU()})


def _module(channels: int, widths: tuple[int, ...], batch_norm: bool) -> Paths:
    """Figure 2(b); ``widths`` as in the table."""
    one, three_reduce, three, five_reduce, five, pool = widths
    large = 3 if batch_norm else 5

    def unit(channels: int, out: int, kernel: int) -> Sequential:
        return _unit(channels, out, kernel, 1, batch_norm)

    return Paths(
        {
            "branch1": unit(channels, one, 1),
            "branch2": Sequential(unit(channels, three_reduce, 1), unit(three_reduce, three, 3)),
            "branch3": Sequential(unit(channels, five_reduce, 1), unit(five_reduce, five, large)),
            "branch4": Sequential(MaxPool2d(3, 1, 1), unit(channels, pool, 1)),
        }
    )


class AuxiliaryHead(Module):
    """A small classifier on the middle of the network, so that its early layers hear the loss."""

    def __init__(self, channels: int, num_classes: int, batch_norm: bool) -> None:
        self.pool = AdaptiveAvgPool2d(4) if batch_norm else AvgPool2d(5, 3)
        self.conv = _unit(channels, 128, 1, 1, batch_norm)
        self.flatten = Flatten()
        self.fc1 = Linear(2048, 1024)
        self.relu = ReLU()
        self.dropout = Dropout(0.7)
        self.fc2 = Linear(1024, num_classes)

    def forward(self, x: Any) -> Tensor:
        """``(N, C, 14, 14) -> (N, K)``"""
        x = self.flatten(self.conv(self.pool(x)))
        y: Tensor = self.fc2(self.dropout(self.relu(self.fc1(x))))
        return y


class GoogLeNet(Module):
    """Nine Inception modules and two auxiliary heads, which ``all_logits`` asks as well."""

    def __init__(
        self, num_classes: int = 1000, auxiliary: bool = True, batch_norm: bool = True
    ) -> None:
        def norm() -> Module:
            return Identity() if batch_norm else LocalResponseNorm(5)

        def pool(size: int = 3) -> Module:
            return MaxPool2d(size, 2, ceil_mode=True)

        self.conv1 = _unit(3, 64, 7, 2, batch_norm)
        self.maxpool1, self.norm1 = pool(), norm()
        self.conv2 = _unit(64, 64, 1, 1, batch_norm)
        self.conv3 = _unit(64, 192, 3, 1, batch_norm)
        self.norm2, self.maxpool2 = norm(), pool()
        channels = 192
        for name, widths in MODULES.items():
            setattr(self, f"inception{name}", _module(channels, widths, batch_norm))
            channels = sum(widths[i] for i in (0, 2, 4, 5))
            if auxiliary and name in HEADS_AFTER:
                head = AuxiliaryHead(channels, num_classes, batch_norm)
                setattr(self, HEADS_AFTER[name], head)
        self.maxpool3, self.maxpool4 = pool(), pool(2 if batch_norm else 3)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.dropout = Dropout(0.2 if batch_norm else 0.4)
        self.fc = Linear(channels, num_classes)

    def _run(self, x: Any, with_heads: bool) -> AuxiliaryLogits:
        x = self.norm1(self.maxpool1(self.conv1(x)))
        x = self.maxpool2(self.norm2(self.conv3(self.conv2(x))))
        heads = []
        for name in MODULES:
            x = self.maxpool3(x) if name == "4a" else self.maxpool4(x) if name == "5a" else x
            x = getattr(self, f"inception{name}")(x)
            head = getattr(self, HEADS_AFTER.get(name, ""), None)
            if with_heads and head is not None:
                heads.append(head(x))
        logits = self.fc(self.dropout(self.flatten(self.avgpool(x))))
        return AuxiliaryLogits(logits, tuple(heads))

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, 224, 224) -> (N, K)``"""
        return self._run(x, with_heads=False).logits

    def all_logits(self, x: Any) -> AuxiliaryLogits:
        """``(N, 3, 224, 224)`` -> ``(N, K)`` and those of the heads after 4a and 4d."""
        return self._run(x, with_heads=True)

    def loss(self, outputs: AuxiliaryLogits, labels: Any) -> Tensor:
        """Cross-entropy plus 0.3 times that of each head."""
        return outputs.loss(labels, HEAD_WEIGHT)
