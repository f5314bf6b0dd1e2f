"""LeNet-5, the network that read cheques, as the paper has it and as it is taught today.

    input  C1      S2      C3       S4      C5      F6   output
    32×32  6@28²   6@14²   16@10²   16@5²   120@1²  84   10 (RBF)

Source: LeCun, Bottou, Bengio & Haffner, "Gradient-Based Learning Applied to Document Recognition",
1998, section II-B, figure 2 and table I.  Its 60,000 trainable parameters come out exactly.
Differences from the paper: the prototypes of the output layer are ±1 drawn at random (the paper
draws little pictures of characters, and names random ones as the alternative); the loss is
cross-entropy on minus the distances, without the paper's rejection class.  No public weights exist.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.nn import (
    AvgPool2d,
    Buffer,
    Conv2d,
    Flatten,
    Linear,
    Module,
    Parameter,
    ReLU,
    Sequential,
    init,
)

# Table I: which of the six maps of S2 each of the sixteen maps of C3 sees.
C3_TABLE = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)


class Squash(Module):
    """``1.7159 · tanh(2/3 · x)``, so that ±1 are neither lost nor saturated (appendix A)."""

    def forward(self, x: Any) -> Tensor:
        """Same shape."""
        y: Tensor = 1.7159 * ops.tanh(x * (2.0 / 3.0))
        return y


class Subsample(Module):
    """The sum of each 2×2 square, times a coefficient and plus a bias for every map."""

    def __init__(self, channels: int) -> None:
        self.weight = Parameter(_uniform(4, channels, 1, 1))
        self.bias = Parameter(np.zeros((channels, 1, 1), np.float32))

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, C, H / 2, W / 2)``"""
        y: Tensor = ops.avg_pool2d(x, 2, divisor_override=1) * self.weight + self.bias
        return y


class PartialConv2d(Module):
    """A 5×5 convolution whose outputs see only some inputs; it has weights for these alone."""

    def __init__(self, table: tuple[tuple[int, ...], ...], channels: int) -> None:
        weights = [_uniform(25 * len(inputs), len(inputs), 5, 5) for inputs in table]
        self.weight = Parameter(np.concatenate(weights))
        self.bias = Parameter(np.zeros(len(table), np.float32))
        # (O, C): the connection's place among the weights; one place more for "not connected".
        self.index = np.full((len(table), channels), len(self.weight))
        rows = [output for output, inputs in enumerate(table) for _ in inputs]
        columns = [channel for inputs in table for channel in inputs]
        self.index[rows, columns] = np.arange(len(rows))

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, O, H − 4, W − 4)``"""
        none = 0.0 * self.weight[:1]
        full = ops.cat([self.weight, none])[self.index]
        return ops.conv2d(x, full, self.bias)


class RadialBasis(Module):
    """Minus the squared distance of ``(N, C)`` to one fixed prototype of ±1 for every class."""

    def __init__(self, channels: int, num_classes: int) -> None:
        # The bits of PCG64 never change, so neither do the prototypes.
        bits = np.random.PCG64(1998).random_raw(num_classes * channels) >> np.uint64(63)
        signs = bits.astype(np.float32).reshape(num_classes, channels) * 2 - 1
        self.prototypes = Buffer(signs)

    def forward(self, x: Any) -> Tensor:
        """``(N, C) -> (N, K)``"""
        # |x − w|² = |x|² − 2 x·w + |w|², and |w|² is the number of signs.
        lengths = (x * x).sum(1, True) + float(self.prototypes.shape[1])
        y: Tensor = 2.0 * ops.linear(x, self.prototypes) - lengths
        return y


def _uniform(fan_in: int, *shape: int) -> np.ndarray[Any, Any]:
    """The paper's initial values, uniform in ``±2.4 / fan_in`` (appendix A)."""
    bound = 2.4 / fan_in
    return init.generator().uniform(-bound, bound, shape).astype(np.float32)


class LeNet5(Module):
    """The network of 1998; every layer is followed by ``Squash``, the last by none."""

    def __init__(self, num_classes: int = 10) -> None:
        self.c1 = Conv2d(1, 6, 5)
        self.s2 = Subsample(6)
        self.c3 = PartialConv2d(C3_TABLE, 6)
        self.s4 = Subsample(16)
        self.c5 = Conv2d(16, 120, 5)
        self.f6 = Linear(120, 84)
        self.output = RadialBasis(84, num_classes)
        self.squash = Squash()
        self.flatten = Flatten()
        for layer, fan_in in ((self.c1, 25), (self.c5, 400), (self.f6, 120)):
            init.uniform_(layer.weight, -2.4 / fan_in, 2.4 / fan_in)

    def forward(self, x: Any) -> Tensor:
        """``(N, 1, 32, 32) -> (N, K)``; the paper is −0.1, ink 1.175 (section II-B)."""
        squash = self.squash
        x = squash(self.s2(squash(self.c1(x))))
        x = squash(self.s4(squash(self.c3(x))))
        x = self.flatten(squash(self.c5(x)))
        y: Tensor = self.output(squash(self.f6(x)))
        return y


class LeNet5Modern(Module):
    """What is called LeNet-5 today: full connections, plain pooling, ReLU, a linear output.

    61,706 parameters for ten classes.
    """

    def __init__(self, num_classes: int = 10) -> None:
        self.features = Sequential(
            Conv2d(1, 6, 5), ReLU(), AvgPool2d(2),
            Conv2d(6, 16, 5), ReLU(), AvgPool2d(2),
        )  # fmt: skip
        self.classifier = Sequential(
            Flatten(), Linear(400, 120), ReLU(), Linear(120, 84), ReLU(), Linear(84, num_classes)
        )

    def forward(self, x: Any) -> Tensor:
        """``(N, 1, 32, 32) -> (N, K)``"""
        y: Tensor = self.classifier(self.features(x))
        return y


VARIANTS = {"1998": LeNet5, "modern": LeNet5Modern}


def lenet5(num_classes: int = 10, variant: str = "1998") -> Module:
    """LeNet-5, ``"1998"`` (the paper's) or ``"modern"``.

    >>> lenet5().num_parameters(), lenet5(variant="modern").num_parameters()
    (60000, 61706)
    """
    if variant not in VARIANTS:
        raise ArgumentError("variant", f"one of {sorted(VARIANTS)}", repr(variant))
    return VARIANTS[variant](num_classes)
