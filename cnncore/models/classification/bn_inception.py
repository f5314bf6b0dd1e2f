"""BN-Inception: GoogLeNet with batch norm, and two 3×3 convolutions instead of each 5×5.

Source: Ioffe & Szegedy, "Batch Normalization", 2015, figure 5.
Differences: the widely used weights come from another lineage than the paper, whose modules 4c and
4d have pool projections of 128 instead of 96 and whose convolutions keep a bias beside the batch
norm; ``BNInception()`` is that network.  ``BNInception(paper=True)`` has the paper's widths and no
biases.  State-dict keys are those of Cadene's ``bninception``; those weights expect BGR, 0..255.
"""

from __future__ import annotations

from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.nn import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    activated,
)

# Figure 5: 1×1 | 3×3 reduce, 3×3 | double 3×3 reduce, double 3×3 | pool projection.
# No 1×1 and no projection: the module halves the resolution.
MODULES = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 96),
    "4d": (96, 128, 192, 160, 192, 96),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}
WIDER_PROJECTION = {"4c": 128, "4d": 128}  # in the public weights


class BNInception(Module):
    """Ten modules.  All layers are attributes of the network itself, as in the public file."""

    def __init__(self, num_classes: int = 1000, paper: bool = False) -> None:
        self.bias = not paper
        self.relu = ReLU()
        self.pool = MaxPool2d(3, 2, ceil_mode=True)
        self.average, self.maximum = AvgPool2d(3, 1, 1), MaxPool2d(3, 1, 1)
        self._add("conv1_7x7_s2", 3, 64, 7, 2)
        self._add("conv2_3x3_reduce", 64, 64, 1)
        self._add("conv2_3x3", 64, 192, 3)
        channels = 192
        for name, widths in MODULES.items():
            channels = self._add_module(f"inception_{name}", name, channels, widths)
        self.global_pool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.last_linear = Linear(channels, num_classes)

    def _add(self, name: str, channels: int, out: int, kernel: int, stride: int = 1) -> None:
        conv = Conv2d(channels, out, kernel, stride, kernel // 2, bias=self.bias)
        setattr(self, name, conv)
        setattr(self, f"{name}_bn", BatchNorm2d(out))

    def _add_module(self, prefix: str, name: str, channels: int, widths: tuple[int, ...]) -> int:
        """Make the layers of a module; the number of channels it gives."""
        one, reduce, three, double_reduce, double, projection = widths
        if self.bias:
            projection = WIDER_PROJECTION.get(name, projection)
        stride = 1 if one else 2
        if one:
            self._add(f"{prefix}_1x1", channels, one, 1)
        self._add(f"{prefix}_3x3_reduce", channels, reduce, 1)
        self._add(f"{prefix}_3x3", reduce, three, 3, stride)
        self._add(f"{prefix}_double_3x3_reduce", channels, double_reduce, 1)
        self._add(f"{prefix}_double_3x3_1", double_reduce, double, 3)
        self._add(f"{prefix}_double_3x3_2", double, double, 3, stride)
        if one:
            self._add(f"{prefix}_pool_proj", channels, projection, 1)
        return one + three + double + (projection if one else channels)

    def _run(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = activated(getattr(self, f"{name}_bn"), self.relu, getattr(self, name)(x))
        return x

    def _module(self, x: Tensor, name: str, keeps_size: bool) -> Tensor:
        prefix = f"inception_{name}"
        double = (f"{prefix}_double_3x3_{part}" for part in ("reduce", "1", "2"))
        paths = [
            self._run(x, f"{prefix}_3x3_reduce", f"{prefix}_3x3"),
            self._run(x, *double),
        ]
        if not keeps_size:
            return ops.cat([*paths, self.pool(x)], 1)
        pool = self.maximum if name == "5b" else self.average
        pooled = self._run(pool(x), f"{prefix}_pool_proj")
        return ops.cat([self._run(x, f"{prefix}_1x1"), *paths, pooled], 1)

    # What follows the maps of ``levels``.
    head = ("global_pool", "flatten", "last_linear")

    def levels(self, x: Any) -> list[Tensor]:
        """``(N, 3, H, W)`` to the last maps of strides 4, 8, 16 and 32."""
        x = self.pool(self._run(x, "conv1_7x7_s2"))
        maps = [self._run(x, "conv2_3x3_reduce", "conv2_3x3")]
        x = self.pool(maps[0])
        for name, widths in MODULES.items():
            keeps_size = widths[0] > 0
            if not keeps_size:  # the modules before have said all at this stride
                maps.append(x)
            x = self._module(x, name, keeps_size)
        return [*maps, x]

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, 224, 224) -> (N, K)``"""
        y: Tensor = self.last_linear(self.flatten(self.global_pool(self.levels(x)[-1])))
        return y
