"""Networks that turn an image into features for others to work on."""

from __future__ import annotations

from cnncore.models.backbones.fpn import FeaturePyramid, ResNetFpn
from cnncore.models.backbones.resnet import (
    BasicBlock,
    Bottleneck,
    ResNetBody,
    ResNetSettings,
    residual_stage,
)

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "FeaturePyramid",
    "ResNetBody",
    "ResNetFpn",
    "ResNetSettings",
    "residual_stage",
]
