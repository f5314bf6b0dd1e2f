"""Feature pyramid: every level sees what all deeper levels know.

    C5 ─1×1─────────────────┬─3×3─ P5 (─every second pixel─ P6)
    C4 ─1×1─(+)─ upsampled ─┤
             └──────────────┴─3×3─ P4      … and so on down to P2

Letters: ``N C H W`` features, ``L`` levels, level 0 the finest.

Source: Lin et al., "Feature Pyramid Networks for Object Detection", 2017, section 3 and figure 3.
State-dict keys are torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.models.backbones.levels import Body, make_body
from cnncore.nn import Conv2d, Module, ModuleList, Sequential, init, norm_layer


def conv_block(channels: int, out: int, kernel: int, norm: str | None) -> Sequential:
    """A same-size convolution with a bias, or with normalisation and none."""
    conv = Conv2d(channels, out, kernel, padding=kernel // 2, bias=norm is None)
    init.kaiming_uniform_(conv.weight, a=1.0)
    if norm is not None:
        return Sequential(conv, norm_layer(norm, out))
    init.constant_(conv.bias, 0.0) if conv.bias is not None else None
    return Sequential(conv)


class FeaturePyramid(Module):
    """Features of several strides to as many maps of ``out_channels``, plus one if ``extra_level``.

    With ``coarser``, two more from strided convolutions.

    ``norm=None`` (convolutions with bias) is the paper's.
    """

    def __init__(
        self,
        channels: Sequence[int],
        out_channels: int = 256,
        norm: str | None = None,
        extra_level: bool = False,
        coarser: bool = False,
    ) -> None:
        self.extra_level = bool(extra_level)
        self.inner_blocks = ModuleList(conv_block(c, out_channels, 1, norm) for c in channels)
        self.layer_blocks = ModuleList(
            conv_block(out_channels, out_channels, 3, norm) for _ in channels
        )
        self.extra_blocks = ExtraLevels(out_channels) if coarser else None

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """L maps ``(N, C_l, H_l, W_l)``, finest first, to as many of ``out_channels``."""
        if len(features) != len(self.inner_blocks):
            raise ArgumentError("features", f"{len(self.inner_blocks)} levels", len(features))
        lateral = [block(x) for block, x in zip(self.inner_blocks, features, strict=True)]
        for level in reversed(range(len(lateral) - 1)):
            # To the finer level's exact size: an odd one is not twice the coarser.
            size = lateral[level].shape[2:]
            lateral[level] = lateral[level] + ops.interpolate(lateral[level + 1], size=size)
        pyramid = [block(x) for block, x in zip(self.layer_blocks, lateral, strict=True)]
        if self.extra_level:
            pyramid.append(ops.max_pool2d(pyramid[-1], 1, 2))
        if self.extra_blocks is not None:
            pyramid.extend(self.extra_blocks(pyramid[-1]))
        return pyramid


class ExtraLevels(Module):
    """P6 and P7: convolutions 3×3 of stride 2 on P5 and on what it gives.

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, footnote 2.
    """

    def __init__(self, channels: int) -> None:
        self.p6 = Conv2d(channels, channels, 3, 2, 1)
        self.p7 = Conv2d(channels, channels, 3, 2, 1)
        for conv in (self.p6, self.p7):
            init.kaiming_uniform_(conv.weight, a=1.0)
            init.constant_(conv.bias, 0.0)  # type: ignore[type-var]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, C, H, W)`` to half and a quarter of the resolution."""
        p6 = self.p6(x)
        return p6, self.p7(ops.relu(p6))


class ResNetFpn(Module):
    """A residual network, or another classifier, and a pyramid on its stages.

    The first ``first_stage`` are left out.

    ``extra_level``: P6 by pooling; ``coarser``: P6 and P7 by convolutions.
    """

    def __init__(
        self,
        body: Body,
        out_channels: int = 256,
        norm: str | None = None,
        extra_level: bool = True,
        first_stage: int = 0,
        coarser: bool = False,
    ) -> None:
        self.first_stage = first_stage
        self.body, channels = make_body(body)
        self.fpn = FeaturePyramid(channels[first_stage:], out_channels, norm, extra_level, coarser)

    def forward(self, x: Any) -> list[Tensor]:
        """``(N, 3, H, W)`` to P2 … P5 (to P7), each ``(N, out_channels, H_l, W_l)``."""
        pyramid: list[Tensor] = self.fpn(self.body(x)[self.first_stage :])
        return pyramid
