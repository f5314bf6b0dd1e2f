"""NASNet-A Mobile: cells found by search, stacked by hand.

    conv 32@111²  reduce 44@56²  reduce 88@28²  4 × 264@28²  reduce 352@14²  4 × 528@14²
    reduce 704@7²  4 × 1056@7²

Every cell sees the results of the two cells before it: ``left`` (older) and ``right`` (newer).
Source: Zoph et al., "Learning Transferable Architectures for Scalable Image Recognition", 2018,
figure 4; 4 cells a stage, 1056 filters at the end ("4 @ 1056").
Differences: no scheduled drop path in training.  Padding is TensorFlow's, as in the authors' code;
Cadene pads, then crops, which is the same where sizes are even and costs 0.8 % more.  State-dict
keys are those of Cadene's ``nasnetamobile``; the weights expect inputs in -1..1.
"""

from __future__ import annotations

from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.models.classification.blocks import (
    TENSORFLOW_EPS,
    SamePool2d,
    separable,
)
from cnncore.nn import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    Module,
    ReLU,
    Sequential,
)


def squeeze(channels: int, out: int) -> Sequential:
    """ReLU, 1×1 convolution, norm: how a cell adjusts what it is given."""
    conv = Conv2d(channels, out, 1, bias=False)
    return Sequential({"relu": ReLU(), "conv": conv, "bn": BatchNorm2d(out, TENSORFLOW_EPS)})


def twice_separable(kernel: int, channels: int, out: int, stride: int = 1) -> Sequential:
    """(ReLU, separable convolution, norm) twice: what a "sep" edge of figure 4 means."""
    names = ("depthwise_conv2d", "pointwise_conv2d")
    return Sequential(
        {
            "relu": ReLU(),
            "separable_1": separable(channels, out, kernel, stride, names, same=True),
            "bn_sep_1": BatchNorm2d(out, TENSORFLOW_EPS),
            "relu1": ReLU(),
            "separable_2": separable(out, out, kernel, 1, names, same=True),
            "bn_sep_2": BatchNorm2d(out, TENSORFLOW_EPS),
        }
    )


def every_second_pixel(channels: int, out: int) -> Sequential:
    """Half of the resolution without looking at the other pixels, then a 1×1 convolution."""
    return Sequential({"avgpool": AvgPool2d(1, 2), "conv": Conv2d(channels, out, 1, bias=False)})


class Cell(Module):
    """What all cells share: two inputs, brought to the same resolution and ``out`` channels.

    ``left`` and ``right`` are their channels.  ``adjust`` says how the left, older one gets there:
    ``"squeeze"`` by a 1×1 convolution, ``"halve"`` by every second pixel from two offsets where it
    lies before a reduction, ``"not at all"``.
    """

    def __init__(self, left: int, right: int, out: int, adjust: str) -> None:
        self.adjust = adjust
        if adjust == "squeeze":
            self.conv_prev_1x1 = squeeze(left, out)
        elif adjust == "halve":
            self.relu = ReLU()
            self.path_1 = every_second_pixel(left, out // 2)
            self.path_2 = every_second_pixel(left, out // 2)
            self.final_path_bn = BatchNorm2d(out, TENSORFLOW_EPS)
        self.conv_1x1 = squeeze(right, out)

    def inputs(self, right: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """Both as the cell's edges see them: right, left."""
        if self.adjust == "squeeze":
            left = self.conv_prev_1x1(left)
        elif self.adjust == "halve":
            active = self.relu(left)
            shifted = ops.pad(active, (-1, 1, -1, 1))
            left = self.final_path_bn(ops.cat([self.path_1(active), self.path_2(shifted)], 1))
        return self.conv_1x1(right), left


class NormalCell(Cell):
    """Figure 4, left: same resolution, six times the filters."""

    def __init__(self, left: int, right: int, out: int, adjust: str = "squeeze") -> None:
        super().__init__(left, right, out, adjust)
        self.comb_iter_0_left = twice_separable(5, out, out)
        self.comb_iter_0_right = twice_separable(3, out, out)
        self.comb_iter_1_left = twice_separable(5, out, out)
        self.comb_iter_1_right = twice_separable(3, out, out)
        self.comb_iter_2_left = SamePool2d("mean", 3)
        self.comb_iter_3_left = SamePool2d("mean", 3)
        self.comb_iter_3_right = SamePool2d("mean", 3)
        self.comb_iter_4_left = twice_separable(3, out, out)

    def forward(self, right: Tensor, left: Tensor) -> Tensor:
        """Two inputs -> ``(N, 6 · out, H, W)``"""
        right, left = self.inputs(right, left)
        results = [
            left,
            self.comb_iter_0_left(right) + self.comb_iter_0_right(left),
            self.comb_iter_1_left(left) + self.comb_iter_1_right(left),
            self.comb_iter_2_left(right) + left,
            self.comb_iter_3_left(left) + self.comb_iter_3_right(left),
            self.comb_iter_4_left(right) + right,
        ]
        return ops.cat(results, 1)


class ReductionCell(Cell):
    """Figure 4, right: half the resolution, four times the filters."""

    def __init__(self, left: int, right: int, out: int, adjust: str = "squeeze") -> None:
        super().__init__(left, right, out, adjust)
        older = left if adjust == "not at all" else out
        self.comb_iter_0_left = twice_separable(5, out, out, 2)
        self.comb_iter_0_right = twice_separable(7, older, out, 2)
        self.comb_iter_1_left = SamePool2d("max", 3, 2)
        self.comb_iter_1_right = twice_separable(7, older, out, 2)
        self.comb_iter_2_left = SamePool2d("mean", 3, 2)
        self.comb_iter_2_right = twice_separable(5, older, out, 2)
        self.comb_iter_3_right = SamePool2d("mean", 3)
        self.comb_iter_4_left = twice_separable(3, out, out)
        self.comb_iter_4_right = SamePool2d("max", 3, 2)

    def forward(self, right: Tensor, left: Tensor) -> Tensor:
        """Two inputs -> ``(N, 4 · out, ceil(H / 2), ceil(W / 2))``"""
        right, left = self.inputs(right, left)
        first = self.comb_iter_0_left(right) + self.comb_iter_0_right(left)
        second = self.comb_iter_1_left(right) + self.comb_iter_1_right(left)
        results = [
            second,
            self.comb_iter_2_left(right) + self.comb_iter_2_right(left),
            self.comb_iter_3_right(first) + second,
            self.comb_iter_4_left(first) + self.comb_iter_4_right(right),
        ]
        return ops.cat(results, 1)


class NASNetMobile(Module):
    """Three stages of four normal cells, a reduction before each."""

    def __init__(self, num_classes: int = 1000, filters: int = 44, dropout: float = 0.5) -> None:
        stem = 32
        self.conv0 = Sequential(
            {"conv": Conv2d(3, stem, 3, 2, bias=False), "bn": BatchNorm2d(stem, TENSORFLOW_EPS)}
        )
        self.cell_stem_0 = ReductionCell(stem, stem, filters // 4, "not at all")
        self.cell_stem_1 = ReductionCell(stem, filters, filters // 2, "halve")
        self.cells: tuple[str, ...] = ("cell_stem_1",)
        left, right = filters, 2 * filters  # channels of the two cells before
        for stage in range(3):
            out = filters * 2**stage
            if stage > 0:
                name = f"reduction_cell_{stage - 1}"
                setattr(self, name, ReductionCell(left, right, out))
                left, right = right, 4 * out
                self.cells += (name,)
            for number in range(4):
                name = f"cell_{6 * stage + number}"
                adjust = "halve" if number == 0 else "squeeze"
                setattr(self, name, NormalCell(left, right, out, adjust))
                left, right = right, 6 * out
                self.cells += (name,)
        self.relu = ReLU()
        self.avg_pool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.dropout = Dropout(dropout)
        self.last_linear = Linear(right, num_classes)

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, 224, 224) -> (N, K)``"""
        older = self.conv0(x)
        newer = self.cell_stem_0(older, older)
        for name in self.cells:
            older, newer = newer, getattr(self, name)(newer, older)
        y: Tensor = self.last_linear(self.dropout(self.flatten(self.avg_pool(self.relu(newer)))))
        return y
