"""Networks that label every pixel."""

from __future__ import annotations

from cnncore.models.segmentation.unet import UNet

__all__ = ["UNet"]
