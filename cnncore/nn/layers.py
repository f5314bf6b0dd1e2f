"""Layers with parameters, and dropout; names, defaults and initialisation are PyTorch's.

Letters: ``N C H W`` input, ``O`` output channels, ``KH KW`` kernel, ``G`` groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.geometry import as_int, as_pair
from cnncore.kernels.shapes import hollow
from cnncore.nn import init
from cnncore.nn.module import Module, Parameter

Rng = np.random.Generator


def _zeros(*shape: int) -> np.ndarray[Any, Any]:
    """One zero seen as ``shape``; a parameter makes memory of its own anyway."""
    result: np.ndarray[Any, Any] = hollow(shape)
    return result


class Identity(Module):
    """Its input; takes and ignores any arguments, so that it can stand in for any layer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, x: Any) -> Any:
        """x"""
        return x


class Linear(Module):
    """``y = x Wᵀ + b`` on the last axis; weight ``(O, C)``, bias ``(O,)``.

    >>> Linear(3, 2)(np.zeros((5, 3), np.float32)).shape
    (5, 2)
    """

    shown = ("in_features", "out_features")

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, rng: Rng | None = None
    ) -> None:
        self.in_features = as_int("in_features", in_features, 1)
        self.out_features = as_int("out_features", out_features, 1)
        self.weight = Parameter(_zeros(out_features, in_features))
        self.bias = Parameter(_zeros(out_features)) if bias else None
        init.torch_default_(self.weight, self.bias, rng)

    def forward(self, x: Any) -> Tensor:
        """``(…, C) -> (…, O)``"""
        return ops.linear(x, self.weight, self.bias)


class _Convolution(Module):
    """What a convolution and its transpose share: settings, and a weight of one layout."""

    shown = (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "groups",
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        bias: bool,
        transposed: bool,
        algorithm: str,
        rng: Rng | None,
    ) -> None:
        self.in_channels = as_int("in_channels", in_channels, 1)
        self.out_channels = as_int("out_channels", out_channels, 1)
        self.groups = as_int("groups", groups, 1)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % groups:
                raise ArgumentError(name, f"a multiple of groups = {groups}", getattr(self, name))
        self.kernel_size = as_pair("kernel_size", kernel_size, 1)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.algorithm = algorithm
        # The input of a convolution is the output of its transpose, and the weight is the same.
        first, second = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self.weight = Parameter(_zeros(first, second // groups, *self.kernel_size))
        self.bias = Parameter(_zeros(out_channels)) if bias else None
        init.torch_default_(self.weight, self.bias, rng)


class Conv2d(_Convolution):
    """``ops.conv2d`` with weight ``(O, C/G, KH, KW)`` and bias ``(O,)``.

    >>> Conv2d(3, 8, 3, padding=1)(np.zeros((1, 3, 5, 5), np.float32)).shape
    (1, 8, 5, 5)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        algorithm: str = "auto",
        rng: Rng | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            False,
            algorithm,
            rng,
        )

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, O, OH, OW)``"""
        return ops.conv2d(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            algorithm=self.algorithm,
        )


class ConvTranspose2d(_Convolution):
    """``ops.conv_transpose2d`` with weight ``(C, O/G, KH, KW)`` and bias ``(O,)``.

    >>> ConvTranspose2d(8, 3, 2, stride=2)(np.zeros((1, 8, 5, 5), np.float32)).shape
    (1, 3, 10, 10)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        *,
        algorithm: str = "auto",
        rng: Rng | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            True,
            algorithm,
            rng,
        )
        self.output_padding = output_padding

    def forward(self, x: Any, output_size: Any = None) -> Tensor:
        """``(N, C, H, W) -> (N, O, OH, OW)``; ``output_size`` chooses among the possible sizes."""
        return ops.conv_transpose2d(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
            output_size=output_size,
            algorithm=self.algorithm,
        )


class PReLU(Module):
    """``max(x, 0) + weight · min(x, 0)`` with one slope, or one a channel."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        as_int("num_parameters", num_parameters, 1)
        self.weight = Parameter(np.full(num_parameters, init, np.float32))

    def extra_repr(self) -> str:
        """The number of slopes."""
        return f"num_parameters={self.weight.size}"

    def forward(self, x: Any) -> Tensor:
        """Same shape."""
        return ops.prelu(x, self.weight)


class Dropout(Module):
    """In training each value is 0 with probability ``p``, the others grow by ``1/(1 − p)``.

    ``rng`` defaults to the package's generator (``cnncore.nn.init.seed``).
    Source: Srivastava et al., "Dropout", 2014.
    """

    shown = ("p",)

    def __init__(self, p: float = 0.5, *, rng: Rng | None = None) -> None:
        if not 0 <= p <= 1:
            raise ArgumentError("p", "a probability in 0..1", p)
        self.p, self.rng = float(p), rng

    def forward(self, x: Any) -> Tensor:
        """Same shape; x itself in evaluation."""
        return ops.dropout(x, self.p, self.training, self.rng or init.generator())
