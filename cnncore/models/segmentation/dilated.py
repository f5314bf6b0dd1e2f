"""Networks that keep stride 8 by dilation: torchvision's FCN on ResNet, and DeepLab v3.

    x ─ ResNet, the last two stages dilated instead of strided ─ head ─ ×8 bilinear
                                   └ stage 3 ─ auxiliary head ─ ×8 bilinear   (in training)

``fcn_resnet50`` has no skips: it is not FCN-8s (``fcn.py``), whatever its name says.

Letters: ``N C H W`` images, ``K`` classes.

Source: Chen et al., "Rethinking atrous convolution for semantic image segmentation", 2017 (DeepLab
v3: section 3.3, figure 5); for the FCN the reference is torchvision's implementation, whose
state-dict keys both have.  The auxiliary head is that of Zhao et al., "Pyramid scene parsing
network", 2017, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.models.backbones.resnet import ResNetBody, ResNetSettings
from cnncore.models.classification.resnet import DEPTHS
from cnncore.models.segmentation.segmenter import MAIN, Segmenter, resized
from cnncore.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Module,
    ModuleList,
    ReLU,
    Sequential,
)

RATES = (12, 24, 36)  # section 4.1: for stride 8


def _conv(channels: int, out: int, kernel: int, dilation: int = 1) -> list[Module]:
    padding = dilation * (kernel // 2)
    conv = Conv2d(channels, out, kernel, padding=padding, dilation=dilation, bias=False)
    return [conv, BatchNorm2d(out), ReLU()]


def fcn_head(channels: int, num_classes: int, width: int | None = None) -> Sequential:
    """3×3 to ``width`` (a quarter of the channels if None), dropout, 1×1 to classes."""
    inner = channels // 4 if width is None else width
    return Sequential(*_conv(channels, inner, 3), Dropout(0.1), Conv2d(inner, num_classes, 1))


class ImagePooling(Sequential):
    """The mean of the whole image, a 1×1 convolution, spread over the image again."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(AdaptiveAvgPool2d(1), *_conv(channels, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, out, H, W)``"""
        return resized(super().forward(x), x.shape[2:])


class AtrousPyramid(Module):
    """1×1, three dilated 3×3 and the image's mean side by side, brought together: figure 5."""

    def __init__(self, channels: int, out: int = 256, rates: Sequence[int] = RATES) -> None:
        self.convs = ModuleList(
            [
                Sequential(*_conv(channels, out, 1)),
                *(Sequential(*_conv(channels, out, 3, rate)) for rate in rates),
                ImagePooling(channels, out),
            ]
        )
        self.project = Sequential(*_conv(len(self.convs) * out, out, 1), Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, out, H, W)``"""
        y: Tensor = self.project(ops.cat([conv(x) for conv in self.convs], 1))
        return y


def deeplab_head(
    channels: int, num_classes: int, width: int | None = None, rates: Sequence[int] = RATES
) -> Sequential:
    """The pyramid of ``width`` (256 if None), 3×3, 1×1 to classes."""
    inner = 256 if width is None else width
    pyramid = AtrousPyramid(channels, inner, rates)
    return Sequential(pyramid, *_conv(inner, inner, 3), Conv2d(inner, num_classes, 1))


HEADS = ("fcn", "deeplabv3")


class DilatedSegmenter(Segmenter):
    """A dilated residual network (``depth`` or ``body``), a ``head``, an auxiliary head or none.

    ``width``: channels inside the head; ``rates``: dilations of DeepLab's.
    """

    def __init__(
        self,
        num_classes: int = 21,
        head: str = "fcn",
        depth: int = 50,
        auxiliary: bool = True,
        body: ResNetSettings | None = None,
        width: int | None = None,
        rates: Sequence[int] = RATES,
    ) -> None:
        if head not in HEADS:
            raise ArgumentError("head", f"one of {HEADS}", repr(head))
        settings = DEPTHS[depth] if body is None else body
        self.num_classes = num_classes
        self.backbone = ResNetBody(settings.dilated(8))
        channels = settings.channels[3]
        if head == "fcn":
            self.classifier = fcn_head(channels, num_classes, width)
        else:
            self.classifier = deeplab_head(channels, num_classes, width, rates)
        self.aux_classifier = fcn_head(settings.channels[2], num_classes) if auxiliary else None

    def forward(self, x: Any) -> dict[str, Tensor]:
        """``(N, 3, H, W) -> {"out": (N, K, H, W)}``, and ``"aux"`` likewise if there is one."""
        *_, middle, last = self.backbone(x)
        found = {MAIN: resized(self.classifier(last), x.shape[2:])}
        if self.aux_classifier is not None:
            found["aux"] = resized(self.aux_classifier(middle), x.shape[2:])
        return found
