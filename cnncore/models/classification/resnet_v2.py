"""ResNet-V2: normalise and activate *before* each convolution, and keep the shortcut clean.

Source: He et al., "Identity Mappings in Deep Residual Networks", 2016, figure 1(b) and equation 5.
Differences: this is the network of Keras, the only ResNet-50-V2 of which weights are in general
use.  The stride of a stage is on its *last* block (3×3 there, 1×1 max pooling on the shortcut), so
it needs 3.48 instead of 3.86 billion multiply-adds; the first convolution, the projections and the
last convolution of a block have biases; zeros around the first pooling can win, as the maps there
are not rectified.  ``from_keras`` translates names and axes of Keras's weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.models.classification.blocks import initialise_for_relu
from cnncore.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Identity,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    activated,
)

EPS = 1.001e-5
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class PreActivationBottleneck(Module):
    """``shortcut(x) + f(relu(bn(x)))``; a projection sees the activated input."""

    def __init__(self, channels: int, width: int, stride: int, projects: bool) -> None:
        self.preact_bn = BatchNorm2d(channels, EPS)
        self.shortcut: Module | None = None
        if projects:
            self.conv0 = Conv2d(channels, 4 * width, 1, stride)
        else:
            self.shortcut = MaxPool2d(1, stride) if stride > 1 else Identity()
        self.conv1 = Conv2d(channels, width, 1, bias=False)
        self.bn1 = BatchNorm2d(width, EPS)
        self.conv2 = Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = BatchNorm2d(width, EPS)
        self.conv3 = Conv2d(width, 4 * width, 1)
        self.relu = ReLU()

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, 4 · width, H / s, W / s)``"""
        active = activated(self.preact_bn, self.relu, x)
        shortcut = self.conv0(active) if self.shortcut is None else self.shortcut(x)
        y = activated(self.bn1, self.relu, self.conv1(active))
        y = self.conv3(activated(self.bn2, self.relu, self.conv2(y)))
        result: Tensor = shortcut + y
        return result


class ResNetV2(Module):
    """ResNet-50-V2, -101-V2 or -152-V2."""

    def __init__(self, num_classes: int = 1000, depth: int = 50) -> None:
        if depth not in DEPTHS:
            raise ArgumentError("depth", f"one of {sorted(DEPTHS)}", depth)
        self.conv1_conv = Conv2d(3, 64, 7, 2, 3)
        self.pool = MaxPool2d(3, 2)
        self.blocks: tuple[str, ...] = ()
        channels = 64
        for stage, blocks in enumerate(DEPTHS[depth]):
            width = 64 * 2**stage
            for number in range(blocks):
                stride = 2 if number == blocks - 1 and stage < 3 else 1
                name = f"conv{stage + 2}_block{number + 1}"
                block = PreActivationBottleneck(channels, width, stride, projects=number == 0)
                setattr(self, name, block)
                self.blocks += (name,)
                channels = 4 * width
        self.post_bn = BatchNorm2d(channels, EPS)
        self.relu = ReLU()
        self.avg_pool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.predictions = Linear(channels, num_classes)
        initialise_for_relu(self)

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, H, W) -> (N, K)``"""
        x = self.pool(ops.pad(self.conv1_conv(x), (1, 1, 1, 1)))
        for name in self.blocks:
            x = getattr(self, name)(x)
        x = activated(self.post_bn, self.relu, x)
        y: Tensor = self.predictions(self.flatten(self.avg_pool(x)))
        return y


# Keras's name of each kind of tensor.
_KERAS_LEAF = {
    "bias": "bias",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def keras_name(key: str) -> str:
    """Where Keras keeps an entry of the state dict.

    >>> keras_name("conv2_block1.conv3.weight"), keras_name("conv2_block1.bn1.weight")
    ('conv2_block1_3_conv/kernel', 'conv2_block1_1_bn/gamma')
    """
    *layers, leaf = key.split(".")
    layer = layers[-1]
    is_norm = layer.rstrip("0123456789").endswith("bn")
    if layer[:-1] in ("conv", "bn"):  # conv3 of a block
        layer = f"{layer[-1]}_{layer[:-1]}"
    names = {**_KERAS_LEAF, "weight": "gamma" if is_norm else "kernel"}
    if is_norm:
        names["bias"] = "beta"
    return "_".join([*layers[:-1], layer]) + "/" + names[leaf]


def from_keras(model: Module, weights: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """A state dict for ``model`` from Keras's weights by path (``layer/kernel``).

    Kernels come as ``(KH, KW, C, O)`` and ``(C, O)``.  What Keras does not count,
    ``num_batches_tracked``, is 0.
    """
    state = {}
    for key, own in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            state[key] = own
            continue
        name = keras_name(key)
        if name not in weights:
            raise ArgumentError("weights", f"an entry {name!r}", f"{len(weights)} others")
        value = np.asarray(weights[name])
        if value.ndim >= 2:
            value = value.transpose((3, 2, 0, 1) if value.ndim == 4 else (1, 0))
        state[key] = value
    return state
