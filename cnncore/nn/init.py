"""Initial values of parameters, drawn from a seeded generator.

All functions write into a parameter and return it; names and rules are those of ``torch.nn.init``.
``rng`` defaults to one generator for the whole package, so ``seed(n)`` before building a model
makes it reproducible.

Letters: ``O`` output, ``C`` input channels (of a group), ``KH KW`` kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.kernels.dispatch import array_module
from cnncore.kernels.shapes import is_hollow

Rng = np.random.Generator
T = TypeVar("T", bound=Tensor)

_generator = np.random.default_rng(0)

# nonlinearity -> gain; leaky_relu's depends on its slope
GAINS = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
}


def seed(n: int | Sequence[int]) -> None:
    """Restart the package's generator; without it every process begins as after ``seed(0)``.

    Several numbers name a stream of their own, as with ``numpy.random.default_rng``.
    """
    _generator.bit_generator.state = np.random.default_rng(n).bit_generator.state


def generator() -> Rng:
    """The generator that initial values and dropout draw from by default."""
    return _generator


def calculate_gain(nonlinearity: str, slope: float = 0.01) -> float:
    """The factor that keeps a signal's variance through a nonlinearity.

    >>> calculate_gain("relu") == 2 ** 0.5
    True
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in GAINS:
        raise ArgumentError(
            "nonlinearity", f"one of {sorted([*GAINS, 'leaky_relu'])}", repr(nonlinearity)
        )
    return GAINS[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """``(fan_in, fan_out) = (C·KH·KW, O·KH·KW)`` of a weight ``(O, C, KH, KW)`` or ``(O, C)``."""
    if tensor.ndim < 2:
        raise ShapeError("tensor", "at least 2 axes (O, C, …)", tensor.shape, "constant_")
    area = math.prod(tensor.shape[2:])
    return tensor.shape[1] * area, tensor.shape[0] * area


def _fill(tensor: T, values: Any) -> T:
    if is_hollow(tensor.data):
        return tensor
    tensor.data[...] = array_module(tensor.data).asarray(values)
    tensor.touched()
    return tensor


def uniform_(tensor: T, low: float = 0.0, high: float = 1.0, rng: Rng | None = None) -> T:
    """Uniform in ``low..high``."""
    if is_hollow(tensor.data):
        return tensor
    values = (rng or _generator).random(tensor.shape, tensor.dtype)
    values *= high - low
    values += low
    return _fill(tensor, values)


def normal_(tensor: T, mean: float = 0.0, std: float = 1.0, rng: Rng | None = None) -> T:
    """Normal with the given mean and standard deviation."""
    if is_hollow(tensor.data):
        return tensor
    values = (rng or _generator).standard_normal(tensor.shape, tensor.dtype)
    values *= std
    values += mean
    return _fill(tensor, values)


def constant_(tensor: T, value: float) -> T:
    """The same value everywhere."""
    return _fill(tensor, np.asarray(value, tensor.dtype))


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError("mode", '"fan_in" or "fan_out"', repr(mode))
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def kaiming_uniform_(
    tensor: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    rng: Rng | None = None,
) -> T:
    """Uniform in ``±√3 · gain / √fan``: keeps the variance of activations (or, fan_out, gradients).

    ``a`` is the negative slope of ``leaky_relu``.
    Source: He et al., "Delving Deep into Rectifiers", 2015, section 2.2.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, rng)


def kaiming_normal_(
    tensor: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    rng: Rng | None = None,
) -> T:
    """Normal with standard deviation ``gain / √fan``; see ``kaiming_uniform_``."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), rng)


def _xavier_std(tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2.0 / max(sum(fans(tensor)), 1))


def xavier_uniform_(tensor: T, gain: float = 1.0, rng: Rng | None = None) -> T:
    """Uniform in ``±gain · √(6 / (fan_in + fan_out))``.

    Source: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010, equation 16.
    """
    bound = math.sqrt(3.0) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, rng)


def xavier_normal_(tensor: T, gain: float = 1.0, rng: Rng | None = None) -> T:
    """Normal with standard deviation ``gain · √(2 / (fan_in + fan_out))``."""
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), rng)


def bilinear_(tensor: T) -> T:
    """The weight ``(C, C or 1, K, K)`` of a transposed convolution that interpolates bilinearly.

    With ``factor = (K + 1) // 2`` as its stride; channels are not mixed.
    Source: Long, Shelhamer & Darrell, "Fully convolutional networks", 2015, section 3.3.

    >>> from cnncore.nn import Parameter
    >>> bilinear_(Parameter(np.zeros((1, 1, 4, 4)))).numpy()[0, 0, 1].tolist()
    [0.1875, 0.5625, 0.5625, 0.1875]
    """
    if tensor.ndim != 4 or tensor.shape[1] not in (1, tensor.shape[0]):
        raise ShapeError("tensor", "shape (C, C, KH, KW) or (C, 1, KH, KW)", tensor.shape)
    axes = []
    for size in tensor.shape[2:]:
        factor = (size + 1) // 2
        centre = factor - 1 if size % 2 else factor - 0.5
        axes.append(1 - np.abs(np.arange(size) - centre) / factor)
    weight = np.zeros(tensor.shape)
    channels = np.arange(tensor.shape[0])
    weight[channels, channels if tensor.shape[1] > 1 else 0] = np.outer(*axes)
    return _fill(tensor, weight)


def torch_default_(weight: Tensor, bias: Tensor | None, rng: Rng | None = None) -> None:
    """What PyTorch's linear and convolution layers start from: ``±1/√fan_in`` for both."""
    bound = 1 / math.sqrt(max(fans(weight)[0], 1))
    uniform_(weight, -bound, bound, rng)
    if bias is not None:
        uniform_(bias, -bound, bound, rng)
