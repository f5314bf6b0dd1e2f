"""Networks for semantic segmentation, by name.

Each is a ``Segmenter``: ``model(images)`` -> logits, ``model.loss(outputs, targets)`` -> named
terms, ``model.decode(outputs)`` -> label maps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cnncore.models.segmentation.deconvnet import DeconvNet
from cnncore.models.segmentation.dilated import DilatedSegmenter
from cnncore.models.segmentation.fcn import FCN, FCNAlexNet
from cnncore.models.segmentation.pyramid import FpnSegmenter, UNetFpn
from cnncore.models.segmentation.segmenter import Criterion, Segmenter
from cnncore.models.segmentation.segnet import SegNet, SegNetBasic
from cnncore.models.segmentation.sliding_window import SlidingWindow
from cnncore.models.segmentation.ternausnet import TernausNet
from cnncore.models.segmentation.unet import UNet
from cnncore.models.segmentation.upsampling import UPSAMPLINGS, Upsampling

SEGMENTERS: dict[str, Callable[..., Segmenter]] = {
    "sliding_window": SlidingWindow,
    **{f"fcn{s}s": partial(FCN, stride=s) for s in (8, 16, 32)},
    "fcn_alexnet": FCNAlexNet,
    **{
        f"{head}_resnet{depth}": partial(DilatedSegmenter, head=head, depth=depth)
        for head in ("fcn", "deeplabv3")
        for depth in (50, 101)
    },
    "deconvnet": DeconvNet,
    "segnet": SegNet,
    "segnet_basic": SegNetBasic,
    "unet": UNet,
    "ternausnet11": partial(TernausNet, depth=11),
    "ternausnet16": partial(TernausNet, depth=16),
    "fpn_resnet50": FpnSegmenter,
    "unet_fpn": UNetFpn,
}

__all__ = [
    "FCN",
    "SEGMENTERS",
    "UPSAMPLINGS",
    "Criterion",
    "DeconvNet",
    "DilatedSegmenter",
    "FCNAlexNet",
    "FpnSegmenter",
    "SegNet",
    "SegNetBasic",
    "Segmenter",
    "SlidingWindow",
    "TernausNet",
    "UNet",
    "UNetFpn",
    "Upsampling",
]
