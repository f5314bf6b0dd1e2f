"""Inception-v3: large filters written as chains of small ones, 7×7 as 1×7 and 7×1.

    stem 3×3 … 192@35²   5b 5c 5d: 256 288 288@35²   6a … 6e: 768@17²   7a 7b 7c: 1280 2048 2048@8²

Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016, table 1
and figures 5 to 7, 10.  State-dict keys are torchvision's ``inception_v3``; those weights expect
inputs in -1..1, and average (not maximum) pooling in the last module.
"""

from __future__ import annotations

import functools
from typing import Any

from cnncore.autograd import Tensor
from cnncore.models.classification.blocks import AuxiliaryLogits, Paths, named
from cnncore.nn import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
)

HEAD_WEIGHT = 0.4  # of the auxiliary loss, as torchvision trains
LABEL_SMOOTHING = 0.1  # section 7

halving = functools.partial(named, stride=2, padding=0)


def _same_size(pool: int, channels: int) -> tuple[dict[str, Module], tuple[str, ...]]:
    """The path that every module of constant size ends with: a mean, then a 1×1 convolution."""
    units = {"pool": AvgPool2d(3, 1, 1), "branch_pool": named(channels, pool, 1)}
    return units, ("pool", "branch_pool")


def module_a(channels: int, pool: int) -> Paths:
    """Figure 5: 1×1, 5×5, two 3×3, pool.  (The 5×5 stayed a 5×5.)"""
    last, last_path = _same_size(pool, channels)
    return Paths(
        {
            "branch1x1": named(channels, 64, 1),
            "branch5x5_1": named(channels, 48, 1),
            "branch5x5_2": named(48, 64, 5),
            "branch3x3dbl_1": named(channels, 64, 1),
            "branch3x3dbl_2": named(64, 96, 3),
            "branch3x3dbl_3": named(96, 96, 3),
            **last,
        },
        [
            ("branch1x1",),
            ("branch5x5_1", "branch5x5_2"),
            ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            last_path,
        ],
    )


def reduction_a(channels: int) -> Paths:
    """Figure 10 at 35×35: 3×3, two 3×3, pool, all of stride 2."""
    return Paths(
        {
            "branch3x3": halving(channels, 384, 3),
            "branch3x3dbl_1": named(channels, 64, 1),
            "branch3x3dbl_2": named(64, 96, 3),
            "branch3x3dbl_3": halving(96, 96, 3),
            "pool": MaxPool2d(3, 2),
        },
        [("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"), ("pool",)],
    )


def module_b(channels: int, width: int) -> Paths:
    """Figure 6 with n = 7: 1×1, 7×7 factorised, two 7×7 factorised, pool."""
    last, last_path = _same_size(192, channels)
    seven = [f"branch7x7_{i}" for i in range(1, 4)]
    double = [f"branch7x7dbl_{i}" for i in range(1, 6)]
    return Paths(
        {
            "branch1x1": named(channels, 192, 1),
            "branch7x7_1": named(channels, width, 1),
            "branch7x7_2": named(width, width, (1, 7)),
            "branch7x7_3": named(width, 192, (7, 1)),
            "branch7x7dbl_1": named(channels, width, 1),
            "branch7x7dbl_2": named(width, width, (7, 1)),
            "branch7x7dbl_3": named(width, width, (1, 7)),
            "branch7x7dbl_4": named(width, width, (7, 1)),
            "branch7x7dbl_5": named(width, 192, (1, 7)),
            **last,
        },
        [("branch1x1",), seven, double, last_path],
    )


def reduction_b(channels: int) -> Paths:
    """At 17×17: 3×3, 7×7 factorised and 3×3, pool."""
    return Paths(
        {
            "branch3x3_1": named(channels, 192, 1),
            "branch3x3_2": halving(192, 320, 3),
            "branch7x7x3_1": named(channels, 192, 1),
            "branch7x7x3_2": named(192, 192, (1, 7)),
            "branch7x7x3_3": named(192, 192, (7, 1)),
            "branch7x7x3_4": halving(192, 192, 3),
            "pool": MaxPool2d(3, 2),
        },
        [
            ("branch3x3_1", "branch3x3_2"),
            [f"branch7x7x3_{i}" for i in range(1, 5)],
            ("pool",),
        ],
    )


def module_c(channels: int) -> Paths:
    """Figure 7: the ends of the 3×3 paths fork into 1×3 and 3×1."""
    last, last_path = _same_size(192, channels)
    return Paths(
        {
            "branch1x1": named(channels, 320, 1),
            "branch3x3_1": named(channels, 384, 1),
            "branch3x3_2a": named(384, 384, (1, 3)),
            "branch3x3_2b": named(384, 384, (3, 1)),
            "branch3x3dbl_1": named(channels, 448, 1),
            "branch3x3dbl_2": named(448, 384, 3),
            "branch3x3dbl_3a": named(384, 384, (1, 3)),
            "branch3x3dbl_3b": named(384, 384, (3, 1)),
            **last,
        },
        [
            ("branch1x1",),
            ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b")),
            ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")),
            last_path,
        ],
    )


class AuxiliaryHead(Module):
    """Figure 8: the classifier on the last 17×17 maps."""

    def __init__(self, channels: int, num_classes: int) -> None:
        self.pool = AvgPool2d(5, 3)
        self.conv0 = named(channels, 128, 1)
        self.conv1 = named(128, 768, 5, padding=0)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.fc = Linear(768, num_classes)

    def forward(self, x: Any) -> Tensor:
        """``(N, C, 17, 17) -> (N, K)``"""
        x = self.conv1(self.conv0(self.pool(x)))
        y: Tensor = self.fc(self.flatten(self.avgpool(x)))
        return y


class InceptionV3(Module):
    """``forward`` gives the logits, ``all_logits`` those of the auxiliary head too."""

    def __init__(
        self, num_classes: int = 1000, auxiliary: bool = True, dropout: float = 0.5
    ) -> None:
        self.Conv2d_1a_3x3 = halving(3, 32, 3)
        self.Conv2d_2a_3x3 = named(32, 32, 3, padding=0)
        self.Conv2d_2b_3x3 = named(32, 64, 3)
        self.maxpool1 = MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = named(64, 80, 1)
        self.Conv2d_4a_3x3 = named(80, 192, 3, padding=0)
        self.maxpool2 = MaxPool2d(3, 2)
        self.Mixed_5b = module_a(192, pool=32)
        self.Mixed_5c = module_a(256, pool=64)
        self.Mixed_5d = module_a(288, pool=64)
        self.Mixed_6a = reduction_a(288)
        self.Mixed_6b = module_b(768, width=128)
        self.Mixed_6c = module_b(768, width=160)
        self.Mixed_6d = module_b(768, width=160)
        self.Mixed_6e = module_b(768, width=192)
        self.AuxLogits = AuxiliaryHead(768, num_classes) if auxiliary else None
        self.Mixed_7a = reduction_b(768)
        self.Mixed_7b = module_c(1280)
        self.Mixed_7c = module_c(2048)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.dropout = Dropout(dropout)
        self.flatten = Flatten()
        self.fc = Linear(2048, num_classes)

    def _middle(self, x: Any) -> Tensor:
        """Up to the last 17×17 maps."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.maxpool1(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(self.maxpool2(x))))
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))
        y: Tensor = self.Mixed_6e(self.Mixed_6d(x))
        return y

    def _end(self, x: Tensor) -> Tensor:
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        y: Tensor = self.fc(self.flatten(self.dropout(self.avgpool(x))))
        return y

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, 299, 299) -> (N, K)``"""
        return self._end(self._middle(x))

    def all_logits(self, x: Any) -> AuxiliaryLogits:
        """``(N, 3, 299, 299)`` -> ``(N, K)`` and those of the auxiliary head."""
        middle = self._middle(x)
        heads = () if self.AuxLogits is None else (self.AuxLogits(middle),)
        return AuxiliaryLogits(self._end(middle), heads)

    def loss(self, outputs: AuxiliaryLogits, labels: Any) -> Tensor:
        """Cross-entropy with smoothed labels, plus 0.4 times that of the head."""
        return outputs.loss(labels, HEAD_WEIGHT, LABEL_SMOOTHING)
