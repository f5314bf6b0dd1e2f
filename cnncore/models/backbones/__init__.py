"""Networks that turn an image into features for others to work on."""

from __future__ import annotations

from cnncore.models.backbones.fpn import FeaturePyramid, ResNetFpn
from cnncore.models.backbones.levels import (
    Body,
    ClassifierBody,
    FeatureLevels,
    body_at,
    make_body,
)
from cnncore.models.backbones.resnet import (
    BasicBlock,
    Bottleneck,
    ResNetBody,
    ResNetSettings,
    residual_stage,
)

__all__ = [
    "BasicBlock",
    "Body",
    "Bottleneck",
    "ClassifierBody",
    "FeatureLevels",
    "FeaturePyramid",
    "ResNetBody",
    "ResNetFpn",
    "ResNetSettings",
    "body_at",
    "make_body",
    "residual_stage",
]
