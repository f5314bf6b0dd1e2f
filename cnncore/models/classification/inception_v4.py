"""Inception-v4: the Inception modules made uniform, and a stem of modules.

    stem 384@35²   4 × A 384@35²   reduction 1024@17²   7 × B 1024@17²   reduction 1536@8²   3 × C

Source: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", 2017, figures 3 to 9.  State-dict keys are those of timm and Cadene (``features.N``,
``last_linear``); the weights expect inputs in -1..1.
"""

from __future__ import annotations

import functools
from typing import Any

from cnncore.autograd import Tensor
from cnncore.models.classification.blocks import Paths, named
from cnncore.nn import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    Sequential,
)

halving = functools.partial(named, stride=2, padding=0)


def average(channels: int, out: int) -> Sequential:
    """The pooling path of all modules; padding is not counted in the means."""
    return Sequential(AvgPool2d(3, 1, 1, count_include_pad=False), named(channels, out, 1))


def stem() -> list[Module]:
    """Figure 3: 3@299² to 384@35²."""
    return [
        halving(3, 32, 3),
        named(32, 32, 3, padding=0),
        named(32, 64, 3),
        Paths({"maxpool": MaxPool2d(3, 2), "conv": halving(64, 96, 3)}),
        Paths(
            {
                "branch0": Sequential(named(160, 64, 1), named(64, 96, 3, padding=0)),
                "branch1": Sequential(
                    named(160, 64, 1),
                    named(64, 64, (1, 7)),
                    named(64, 64, (7, 1)),
                    named(64, 96, 3, padding=0),
                ),
            }
        ),
        Paths({"conv": halving(192, 192, 3), "maxpool": MaxPool2d(3, 2)}),
    ]


def module_a() -> Paths:
    """Figure 4."""
    return Paths(
        {
            "branch0": named(384, 96, 1),
            "branch1": Sequential(named(384, 64, 1), named(64, 96, 3)),
            "branch2": Sequential(named(384, 64, 1), named(64, 96, 3), named(96, 96, 3)),
            "branch3": average(384, 96),
        }
    )


def reduction_a() -> Paths:
    """Figure 7 with k, l, m, n = 192, 224, 256, 384 (table 1)."""
    return Paths(
        {
            "branch0": halving(384, 384, 3),
            "branch1": Sequential(named(384, 192, 1), named(192, 224, 3), halving(224, 256, 3)),
            "branch2": MaxPool2d(3, 2),
        }
    )


def module_b() -> Paths:
    """Figure 5."""
    return Paths(
        {
            "branch0": named(1024, 384, 1),
            "branch1": Sequential(
                named(1024, 192, 1), named(192, 224, (1, 7)), named(224, 256, (7, 1))
            ),
            "branch2": Sequential(
                named(1024, 192, 1),
                named(192, 192, (7, 1)),
                named(192, 224, (1, 7)),
                named(224, 224, (7, 1)),
                named(224, 256, (1, 7)),
            ),
            "branch3": average(1024, 128),
        }
    )


def reduction_b() -> Paths:
    """Figure 8."""
    return Paths(
        {
            "branch0": Sequential(named(1024, 192, 1), halving(192, 192, 3)),
            "branch1": Sequential(
                named(1024, 256, 1),
                named(256, 256, (1, 7)),
                named(256, 320, (7, 1)),
                halving(320, 320, 3),
            ),
            "branch2": MaxPool2d(3, 2),
        }
    )


def module_c() -> Paths:
    """Figure 6."""
    return Paths(
        {
            "branch0": named(1536, 256, 1),
            "branch1_0": named(1536, 384, 1),
            "branch1_1a": named(384, 256, (1, 3)),
            "branch1_1b": named(384, 256, (3, 1)),
            "branch2_0": named(1536, 384, 1),
            "branch2_1": named(384, 448, (3, 1)),
            "branch2_2": named(448, 512, (1, 3)),
            "branch2_3a": named(512, 256, (1, 3)),
            "branch2_3b": named(512, 256, (3, 1)),
            "branch3": average(1536, 256),
        },
        [
            ("branch0",),
            ("branch1_0", ("branch1_1a", "branch1_1b")),
            ("branch2_0", "branch2_1", "branch2_2", ("branch2_3a", "branch2_3b")),
            ("branch3",),
        ],
    )


class InceptionV4(Module):
    """Figure 9."""

    def __init__(self, num_classes: int = 1000, dropout: float = 0.2) -> None:
        self.features = Sequential(
            *stem(),
            *(module_a() for _ in range(4)),
            reduction_a(),
            *(module_b() for _ in range(7)),
            reduction_b(),
            *(module_c() for _ in range(3)),
        )
        self.global_pool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.dropout = Dropout(dropout)
        self.last_linear = Linear(1536, num_classes)

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, 299, 299) -> (N, K)``"""
        x = self.flatten(self.global_pool(self.features(x)))
        y: Tensor = self.last_linear(self.dropout(x))
        return y
