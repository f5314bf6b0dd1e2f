"""The keypoint head: a pooled region to one heat map a joint.

    14×14 ─ 8 × (3×3, ReLU) ─ 4×4 transposed, stride 2 ─ 28×28 ─ bilinear ─ 56×56 logits

Letters: ``R`` regions, ``J`` joints, ``S`` side of the pooled grid.

Source: He et al., "Mask R-CNN", 2017, section 5.  State-dict keys are torchvision's.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.nn import Conv2d, ConvTranspose2d, Module, ReLU, Sequential, init


@dataclass(frozen=True)
class KeypointSettings:
    """The head; the defaults are the paper's for COCO's persons."""

    joints: int = 17
    size: int = 14  # S; heat maps are four times as large
    channels: int = 512
    layers: int = 8


class KeypointHead(Sequential):
    """Convolutions 3×3 with ReLU: ``(R, C, S, S)`` to ``(R, channels, S, S)``."""

    def __init__(self, in_channels: int, settings: KeypointSettings) -> None:
        layers: list[Module] = []
        for layer in range(settings.layers):
            before = settings.channels if layer else in_channels
            conv = Conv2d(before, settings.channels, 3, padding=1)
            init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            init.constant_(conv.bias, 0.0)  # type: ignore[type-var]
            layers += [conv, ReLU()]
        super().__init__(*layers)


class KeypointPredictor(Module):
    """Four times the resolution, one map a joint."""

    def __init__(self, channels: int, joints: int) -> None:
        self.kps_score_lowres = ConvTranspose2d(channels, joints, 4, 2, 1)
        init.kaiming_normal_(self.kps_score_lowres.weight, mode="fan_out", nonlinearity="relu")
        init.constant_(self.kps_score_lowres.bias, 0.0)  # type: ignore[type-var]

    def forward(self, x: Tensor) -> Tensor:
        """``(R, C, S, S)`` to logits ``(R, J, 4S, 4S)``."""
        low = self.kps_score_lowres(x)
        size = 2 * low.shape[2], 2 * low.shape[3]
        return ops.interpolate(low, size, mode="bilinear", align_corners=False)
