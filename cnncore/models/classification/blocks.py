"""What several classifiers are made of; each block exists once.

The names of a block's parts are arguments where public weight files disagree about them.

Letters: ``N C H W`` features, ``k`` kernel, ``s`` stride.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.geometry import Padding, Pair, as_pair
from cnncore.nn import BatchNorm2d, Conv2d, Module, ReLU, Sequential, Sigmoid, init

Activation = Callable[[], Module]
TENSORFLOW_EPS = 1e-3  # of batch norm in networks that were born in TensorFlow


def initialise_for_relu(model: Module) -> None:
    """He's initial values for every convolution: what keeps gradients in size through ReLUs."""
    for module in model.modules():
        if isinstance(module, Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.constant_(module.bias, 0.0)


# --- convolution, batch norm, activation ----------------------------------------------------------


def conv_layers(
    channels: int,
    out: int,
    kernel: Any,
    stride: int = 1,
    padding: Any = None,
    *,
    groups: int = 1,
    act: Activation | None = ReLU,
    eps: float = 1e-5,
    same: bool = False,
) -> list[Module]:
    """A convolution without bias, its batch norm and, unless ``act`` is None, its activation.

    ``padding`` None keeps the size of odd kernels at stride 1; ``same`` is TensorFlow's rule.
    """
    conv: Module
    if same:
        conv = SameConv2d(channels, out, kernel, stride, groups=groups, bias=False)
    else:
        size = as_pair("kernel", kernel, 1)
        padding = (size[0] // 2, size[1] // 2) if padding is None else padding
        conv = Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False)
    return [conv, BatchNorm2d(out, eps), *([] if act is None else [act()])]


def numbered(*parts: Any, **settings: Any) -> Sequential:
    """``conv_layers`` in a row, named 0, 1, 2: torchvision's mobile networks."""
    return Sequential(*conv_layers(*parts, **settings))


def named(*parts: Any, eps: float = TENSORFLOW_EPS, **settings: Any) -> Sequential:
    """``conv_layers`` in a row, named conv, bn, relu: all members of the Inception family."""
    layers = conv_layers(*parts, eps=eps, **settings)
    return Sequential(dict(zip(("conv", "bn", "relu"), layers, strict=False)))


# --- TensorFlow's SAME padding --------------------------------------------------------------------


def same_padding(size: Pair, kernel: Pair, stride: Pair) -> Padding:
    """Zeros that make ``ceil(size / stride)`` windows fit; an odd one goes to the end.

    Unlike the symmetric padding of other frameworks it depends on the size: 3×3 windows of stride 2
    get 0 rows before and 1 after an even number of rows, 1 and 1 for an odd number.

    >>> same_padding((224, 225), (3, 3), (2, 2))
    ((0, 1), (1, 1))
    """
    pads = []
    for n, k, s in zip(size, kernel, stride, strict=True):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads.append((total // 2, total - total // 2))
    return pads[0], pads[1]


class SameConv2d(Conv2d):
    """A convolution with TensorFlow's SAME padding, chosen anew for every input size."""

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, O, ceil(H / s), ceil(W / s))``"""
        stride = as_pair("stride", self.stride, 1)
        padding = same_padding(x.shape[2:], self.kernel_size, stride)
        return ops.conv2d(
            x, self.weight, self.bias, stride, padding, self.dilation, self.groups,
            algorithm=self.algorithm,
        )  # fmt: skip


class SamePool2d(Module):
    """Maximum or mean of windows under SAME padding; padding is absent, never counted."""

    shown = ("kind", "kernel_size", "stride")

    def __init__(self, kind: str, kernel_size: int, stride: int = 1) -> None:
        self.kind, self.kernel_size, self.stride = kind, kernel_size, stride

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, C, ceil(H / s), ceil(W / s))``"""
        kernel, stride = (self.kernel_size,) * 2, (self.stride,) * 2
        padding = same_padding(x.shape[2:], kernel, stride)
        if self.kind == "max":
            y: Tensor = ops.max_pool2d(x, kernel, stride, padding)
            return y
        return ops.avg_pool2d(x, kernel, stride, padding, count_include_pad=False)


# --- paths ----------------------------------------------------------------------------------------


class Paths(Module):
    """An Inception module: several paths from one input, their results side by side.

    ``units`` are the parts by name.  ``paths`` says which units a path runs through; an inner tuple
    of names is a fork whose results are joined.  Without ``paths`` every unit is a path.
    """

    def __init__(
        self,
        units: Mapping[str, Module],
        paths: Sequence[Sequence[str | tuple[str, ...]]] | None = None,
    ) -> None:
        for name, unit in units.items():
            setattr(self, name, unit)
        self.paths = tuple((name,) for name in units) if paths is None else paths

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, ΣC_path, H', W')``"""
        ends = []
        for path in self.paths:
            y = x
            for step in path:
                names = (step,) if isinstance(step, str) else step
                results = [getattr(self, name)(y) for name in names]
                y = results[0] if len(results) == 1 else ops.cat(results, 1)
            ends.append(y)
        return ops.cat(ends, 1)


class AuxiliaryLogits(NamedTuple):
    """The logits ``(N, K)`` of a network and those of the heads that hang on its middle."""

    logits: Tensor
    auxiliary: tuple[Tensor, ...]

    def loss(self, labels: Any, weight: float, label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy, plus ``weight`` times that of every auxiliary head."""
        total = ops.cross_entropy(self.logits, labels, label_smoothing=label_smoothing)
        for logits in self.auxiliary:
            other = ops.cross_entropy(logits, labels, label_smoothing=label_smoothing)
            total = total + weight * other
        return total


# --- attention to channels, separable convolution, stochastic depth -------------------------------


class SqueezeExcitation(Module):
    """Each channel times a factor in 0..1 that depends on the means of all channels.

    ``x · sigmoid(W₂ act(W₁ mean(x) + b₁) + b₂)``, the matrices written as 1×1 convolutions.
    Source: Hu, Shen & Sun, "Squeeze-and-Excitation Networks", 2018, section 3.
    """

    def __init__(self, channels: int, squeezed: int, act: Activation = ReLU) -> None:
        self.fc1 = Conv2d(channels, squeezed, 1)
        self.act = act()
        self.fc2 = Conv2d(squeezed, channels, 1)
        self.gate = Sigmoid()

    def forward(self, x: Any) -> Tensor:
        """Same shape."""
        factor = self.gate(self.fc2(self.act(self.fc1(ops.adaptive_avg_pool2d(x, 1)))))
        y: Tensor = x * factor
        return y


def separable(
    channels: int,
    out: int,
    kernel: int,
    stride: int = 1,
    names: tuple[str, str] = ("conv1", "pointwise"),
    *,
    same: bool = False,
) -> Sequential:
    """Each channel filtered by itself (k×k, stride s), then mixed by a 1×1 convolution.

    Source: Chollet, "Xception", 2017, section 1.2; nothing stands between the two.
    """
    settings: dict[str, Any] = {"groups": channels, "bias": False}
    depthwise = (
        SameConv2d(channels, channels, kernel, stride, **settings)
        if same
        else Conv2d(channels, channels, kernel, stride, kernel // 2, **settings)
    )
    return Sequential({names[0]: depthwise, names[1]: Conv2d(channels, out, 1, bias=False)})


class StochasticDepth(Module):
    """In training the whole branch of an image is 0 with probability ``p``, else over ``1 − p``.

    Source: Huang et al., "Deep Networks with Stochastic Depth", 2016 (there scaled at test time).
    """

    shown = ("p",)

    def __init__(self, p: float) -> None:
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Same shape; x itself in evaluation."""
        if not self.training or self.p == 0:
            return x
        kept = init.generator().random((x.shape[0],) + (1,) * (x.ndim - 1)) >= self.p
        y: Tensor = x * Tensor((kept / (1 - self.p)).astype(x.dtype))
        return y


@dataclass(frozen=True)
class InvertedResidual:
    """Expand by 1×1, filter each channel, (weigh the channels,) project back without activation.

    The block of MobileNetV2 and EfficientNet; each network wraps and names the layers its own way.
    Source: Sandler et al., "MobileNetV2", 2018, section 3.4 and figure 4.
    """

    channels: int
    out: int
    kernel: int
    stride: int
    expansion: int
    act: Activation
    squeezed: int = 0  # channels inside the squeeze-and-excitation, 0: none
    eps: float = 1e-5
    same: bool = False

    @property
    def has_shortcut(self) -> bool:
        """The input is added where shapes allow it."""
        return self.stride == 1 and self.channels == self.out

    def stages(self) -> dict[str, list[Module]]:
        """The layers of each part in order; expand and squeeze may be missing."""
        wide = self.channels * self.expansion
        layers = functools.partial(conv_layers, eps=self.eps, same=self.same)
        stages: dict[str, list[Module]] = {}
        if self.expansion != 1:
            stages["expand"] = layers(self.channels, wide, 1, act=self.act)
        stages["depthwise"] = layers(
            wide, wide, self.kernel, self.stride, groups=wide, act=self.act
        )
        if self.squeezed:
            stages["squeeze"] = [SqueezeExcitation(wide, self.squeezed, self.act)]
        stages["project"] = layers(wide, self.out, 1, act=None)
        return stages


def round_channels(channels: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to ``channels``, but never less than 90 % of it.

    >>> round_channels(32 * 1.1), round_channels(16 * 1.2)
    (32, 24)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


__all__ = [
    "TENSORFLOW_EPS",
    "AuxiliaryLogits",
    "InvertedResidual",
    "Paths",
    "SameConv2d",
    "SamePool2d",
    "SqueezeExcitation",
    "StochasticDepth",
    "conv_layers",
    "initialise_for_relu",
    "named",
    "numbered",
    "round_channels",
    "same_padding",
    "separable",
]
