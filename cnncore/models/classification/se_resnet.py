"""SE-ResNet-50: a residual network that weighs its channels before every sum.

Source: Hu, Shen & Sun, "Squeeze-and-Excitation Networks", 2018, figure 3 and table 1.  Details are
those of the authors' Caffe models: the stride of a block is on its first 1×1 convolution, the two
matrices of the gate have biases, pooling rounds up instead of being padded.  State-dict keys are
those of Cadene's ``se_resnet50`` (timm: ``legacy_seresnet50``).
"""

from __future__ import annotations

from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.models.backbones import Bottleneck, residual_stage
from cnncore.models.classification.blocks import SqueezeExcitation, initialise_for_relu
from cnncore.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)

REDUCTION = 16  # table 1's r: how much narrower the gate is


class SEBottleneck(Bottleneck):
    """The bottleneck with a gate at its end."""

    def _make_branch(
        self, channels: int, width: int, stride: int, norm: str, dilation: int
    ) -> None:
        super()._make_branch(channels, width, 1, norm, dilation)
        self.conv1.stride = stride
        out = width * self.expansion
        self.se_module = SqueezeExcitation(out, out // REDUCTION)

    def joined(self, y: Tensor, shortcut: Tensor) -> Tensor:
        """``relu(gate(norm(y)) + shortcut)``"""
        return ops.relu(self.se_module(self.bn3(y)) + shortcut)


class SEResNet(Module):
    """``depths`` blocks in stages conv2_x to conv5_x."""

    def __init__(
        self, num_classes: int = 1000, depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    ) -> None:
        self.layer0 = Sequential(
            {
                "conv1": Conv2d(3, 64, 7, 2, 3, bias=False),
                "bn1": BatchNorm2d(64),
                "relu1": ReLU(),
                "pool": MaxPool2d(3, 2, ceil_mode=True),
            }
        )
        channels = 64
        for stage, depth in enumerate(depths):
            width = 64 * 2**stage
            layer = residual_stage(SEBottleneck, channels, width, depth, 1 if stage == 0 else 2)
            setattr(self, f"layer{stage + 1}", layer)
            channels = width * SEBottleneck.expansion
        self.avg_pool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.last_linear = Linear(channels, num_classes)
        initialise_for_relu(self)

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, H, W) -> (N, K)``"""
        for stage in range(5):
            x = getattr(self, f"layer{stage}")(x)
        y: Tensor = self.last_linear(self.flatten(self.avg_pool(x)))
        return y
