"""Batch, layer, group and instance norm: one mechanism (``normalize.py``).  Local response norm."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from cnncore import kernels
from cnncore.autograd import Tensor, events
from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.geometry import as_int
from cnncore.kernels.checks.arrays import same_device
from cnncore.kernels.dispatch import array_module
from cnncore.ops.activation import relu, relu6
from cnncore.ops.arguments import float_tensor
from cnncore.ops.elementwise import add, div, mul, pow
from cnncore.ops.linear import LinearMap, apply
from cnncore.ops.normalize import Normalize, Rows
from cnncore.ops.shape import reshape
from cnncore.taps import Taps

Array = Any

# What batch_norm and group_norm may have at their end.
ACTIVATIONS = {"relu": relu, "relu6": relu6}


def _affine(argument: str, value: Any, channels: int, x: Tensor) -> Tensor | None:
    if value is None:
        return None
    value = float_tensor(argument, value, 1)
    if value.shape != (channels,):
        raise ShapeError(argument, f"shape ({channels},)", value.shape, "one value per channel")
    if value.dtype != x.dtype:
        raise DTypeError(argument, f"the element type of x ({x.dtype})", str(value.dtype))
    same_device(("x", argument), (x.data, value.data))
    return value  # type: ignore[no-any-return]


def _input(x: Any, least: int = 2) -> Tensor:
    x = float_tensor("x", x)
    if x.ndim < least:
        raise ShapeError("x", f"shape (N, C, …), at least {least} axes", x.shape)
    return x  # type: ignore[no-any-return]


def _positive(argument: str, value: Any, zero: bool = False) -> float:
    if not isinstance(value, (int, float, np.number)) or not (value > 0 or (zero and value == 0)):
        raise ArgumentError(argument, "a positive number", repr(value))
    return float(value)


class _Ending(NamedTuple):
    """What follows a normalisation: a residual added, an activation applied."""

    residual: Tensor | None = None
    activation: str = ""

    @classmethod
    def of(cls, x: Tensor, residual: Any, activation: str) -> _Ending:
        """Checked."""
        if activation and activation not in ACTIVATIONS:
            raise ArgumentError(
                "activation", f'"" or one of {tuple(ACTIVATIONS)}', repr(activation)
            )
        if residual is not None:
            residual = float_tensor("residual", residual)
            if residual.shape != x.shape:
                raise ShapeError("residual", f"the shape of x {x.shape}", residual.shape)
            if residual.dtype != x.dtype:
                raise DTypeError("residual", f"that of x ({x.dtype})", str(residual.dtype))
            same_device(("x", "residual"), (x.data, residual.data))
        return cls(residual, activation)

    def applied(self, y: Tensor) -> Tensor:
        """As ops of their own."""
        y = y if self.residual is None else add(y, self.residual)
        return ACTIVATIONS[self.activation](y) if self.activation else y


_NOTHING = _Ending()


def _normalize(
    x: Tensor,
    rows: Rows,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    ending: _Ending = _NOTHING,
) -> tuple[Tensor, Normalize]:
    eps = _positive("eps", eps, zero=True)
    if x.size == 0:
        # Nothing to normalise; the products below are as empty as x, and keep the graph connected.
        y, shape = x, (1, -1) + (1,) * (x.ndim - 2)
        y = y if weight is None else mul(y, reshape(weight, shape))
        y = y if bias is None else add(y, reshape(bias, shape))
        return ending.applied(y), Normalize(rows, eps)
    if not events.layer_by_layer():
        function = Normalize(rows, eps, ending.activation)
        inputs = (x, weight, bias)
        return function(*inputs, *ending[:1] if ending.residual is not None else ()), function
    function = Normalize(rows, eps)
    return ending.applied(function(x, weight, bias)), function


def batch_norm(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    residual: Any = None,
    activation: str = "",
) -> Tensor:
    """``y = weight · (x − mean)/√(var + eps) + bias`` per channel, mean and variance over N, H, W.

    Training: the batch's own statistics, and ``running = (1 − momentum)·running + momentum·batch``
    is written into ``running_mean`` and ``running_var`` (arrays or tensors, or None) with the
    *unbiased* variance, as in PyTorch.  Otherwise the running statistics are used and constant.
    Shapes: x ``(N, C)`` or ``(N, C, …)``, all others ``(C,)``.  Keeps x and two numbers a channel.

    ``residual``, of the shape of x, is added to y, and then ``activation`` ("relu", "relu6") is
    applied.  That takes no pass over memory of its own, forward or backward, and keeps the result
    besides x; those who observe every layer see the three as ops of their own.

    Errors: one value per channel cannot be normalised in training (the result would be the bias).

    >>> from cnncore import tensor
    >>> batch_norm(tensor([[1.0], [3.0]]), None, None, training=True).numpy().round(3)
    array([[-1.],
           [ 1.]], dtype=float32)

    Source: Ioffe & Szegedy, "Batch normalization", 2015, algorithms 1 and 2.
    """
    x = _input(x)
    ending = _Ending.of(x, residual, activation)
    N, C, inner = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    weight, bias = _affine("weight", weight, C, x), _affine("bias", bias, C, x)
    running = _running(running_mean, running_var, C, training)
    if running is not None:
        statistics = [_values(s) for s in running]
        same_device(("x", "running_mean", "running_var"), (x.data, *statistics))
    fixed = None if training else _fixed(running, (1, C, 1), x, eps)
    if training and x.size and N * inner == 1:
        raise ShapeError(
            "x",
            "more than one value per channel when training",
            x.shape,
            "a larger batch, or eval()",
        )
    y, done = _normalize(x, Rows((N, C, 1, inner), 0, fixed), weight, bias, eps, ending)
    if training and x.size and running is not None:
        _update(running, done.mean, done.variance, N * inner, momentum)
    return y


def instance_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch norm for each image by itself: mean and variance over H, W of every channel.

    Running statistics, where given, receive the average over the images.  Shapes: x ``(N, C, …)``
    with at least one spatial axis, all others ``(C,)``.  Keeps x and two numbers a channel
    and image.

    Source: Ulyanov, Vedaldi & Lempitsky, "Instance normalization", 2016.
    """
    x = _input(x, 3)
    N, C, inner = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    weight, bias = _affine("weight", weight, C, x), _affine("bias", bias, C, x)
    running = _running(running_mean, running_var, C, use_input_stats)
    fixed = None if use_input_stats else _fixed(running, (1, C, 1), x, eps)
    if use_input_stats and x.size and inner == 1:
        raise ShapeError("x", "more than one spatial element when training", x.shape)
    y, done = _normalize(x, Rows((N, C, 1, inner), 2, fixed), weight, bias, eps)
    if use_input_stats and x.size and running is not None:
        _update(running, done.mean.mean(0), done.variance.mean(0), inner, momentum)
    return y


def group_norm(
    x: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    residual: Any = None,
    activation: str = "",
) -> Tensor:
    """Mean and variance over H, W and the channels of one group, for each image by itself.

    Shapes: x ``(N, C, …)``, weight and bias ``(C,)``; ``num_groups`` divides C.  Keeps x and two
    numbers a group and image.  ``residual`` and ``activation`` as in ``batch_norm``.

    >>> from cnncore import tensor
    >>> group_norm(tensor([[1.0, 3.0, 2.0, 6.0]]), 2).numpy().round(3)
    array([[-1.,  1., -1.,  1.]], dtype=float32)

    Source: Wu & He, "Group normalization", 2018.
    """
    x = _input(x)
    ending = _Ending.of(x, residual, activation)
    N, C, inner = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    groups = as_int("num_groups", num_groups, 1)
    if C % groups:
        raise ArgumentError("num_groups", f"a divisor of the {C} channels of x", groups)
    weight, bias = _affine("weight", weight, C, x), _affine("bias", bias, C, x)
    return _normalize(x, Rows((N, groups, C // groups, inner), 2), weight, bias, eps, ending)[0]


def layer_norm(
    x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Mean and variance over the last axes, ``normalized_shape``; weight and bias have that shape.

    Keeps x, two numbers a row, and what the weight's product keeps.

    >>> from cnncore import tensor
    >>> layer_norm(tensor([[1.0, 3.0]]), 2).numpy().round(3)
    array([[-1.,  1.]], dtype=float32)

    Source: Ba, Kiros & Hinton, "Layer normalization", 2016.
    """
    x = float_tensor("x", x)
    sizes = normalized_shape if isinstance(normalized_shape, (tuple, list)) else [normalized_shape]
    shape = tuple(as_int("normalized_shape", n, 1) for n in sizes)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError("normalized_shape", f"the last axes of x {x.shape}", shape)
    inner = math.prod(shape)
    y, _ = _normalize(x, Rows((x.size // inner, 1, 1, inner), 2), None, None, eps)
    for name, value, op in (("weight", weight, mul), ("bias", bias, add)):
        if value is not None:
            value = float_tensor(name, value)
            if value.shape != shape:
                raise ShapeError(name, f"shape {shape}", value.shape)
            y = op(y, value)
    return y


# --- running statistics ---------------------------------------------------------------------------


def _running(mean: Any, var: Any, channels: int, training: bool) -> tuple[Any, Any] | None:
    if mean is None and var is None and training:
        return None
    for name, value in (("running_mean", mean), ("running_var", var)):
        shape = getattr(value, "shape", None)
        if shape is None or tuple(shape) != (channels,):
            raise ShapeError(
                name, f"an array of shape ({channels},)", shape or type(value).__name__
            )
    return mean, var


def _values(statistics: Any) -> Array:
    return statistics.data if isinstance(statistics, Tensor) else statistics


def _fixed(
    running: tuple[Any, Any] | None, shape: tuple[int, ...], x: Tensor, eps: float
) -> tuple[Array, Array]:
    assert running is not None  # _running refuses None outside training
    mean, var = (_values(s).astype(np.float64).reshape(shape) for s in running)
    if bool((var + eps <= 0).any()):
        raise ArgumentError("running_var", "variances above -eps", float(var.min()))
    return mean, 1.0 / array_module(var).sqrt(var + eps)


def _update(running: tuple[Any, Any], mean: Array, var: Array, count: int, momentum: float) -> None:
    """``running = (1 − momentum) · running + momentum · new``, the variance unbiased."""
    shares = momentum, momentum * count / (count - 1)
    for statistics, new, share in zip(running, (mean, var), shares, strict=True):
        values = _values(statistics)
        values *= 1 - momentum
        values += share * new.reshape(-1)
        if isinstance(statistics, Tensor):
            statistics.touched()


# --- local response -------------------------------------------------------------------------------


def _channel_mean_map(size: int, channels: int) -> LinearMap:
    """The mean over ``size`` neighbouring channels, those outside counted as zero."""
    first = np.arange(channels)[:, None] - size // 2 + np.arange(size)[None]
    inside = (first >= 0) & (first < channels)
    order = np.argsort(~inside, axis=1, kind="stable")  # the valid taps first
    index = np.where(np.take_along_axis(inside, order, 1), np.take_along_axis(first, order, 1), 0)
    rows = Taps(
        channels, index[None], np.full((1, channels, size), 1.0 / size), inside.sum(1)[None]
    )

    def along_channels(x: Array, kernel: Any) -> Array:
        plane = x.reshape(x.shape[0], 1, channels, -1)
        width = plane.shape[3]
        every = np.arange(width).reshape(1, width, 1)
        cols = Taps(width, every, np.ones((1, width, 1)), np.ones((1, width), np.int64))
        return kernel(plane, rows, cols).reshape(x.shape)

    return LinearMap(
        "ChannelMean",
        "ChannelMeanT",
        lambda x: along_channels(x, lambda p, r, c: kernels.resample(p, None, r, c)),
        lambda g: along_channels(
            g, lambda p, r, c: kernels.resample_adjoint(p, None, r, c, p.shape[0])
        ),
        settings={"size": size},
    )


def local_response_norm(
    x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """``y[c] = x[c] / (k + alpha/size · Σ x[j]²)^beta``, j over ``size`` channels around c.

    The sum runs over ``c − size//2 … c + (size − 1)//2``, channels outside counting as zero.
    ``alpha`` is divided by ``size``, as in PyTorch (the paper does not divide).  Shapes: x
    ``(N, C, …)``.  Composed of ops: keeps x twice, the denominator and its power.

    Source: Krizhevsky, Sutskever & Hinton, "ImageNet classification with deep convolutional neural
    networks", 2012, section 3.3.
    """
    x = _input(x, 3)
    size = as_int("size", size, 1)
    if x.size == 0:
        return x  # type: ignore[no-any-return]
    squares = apply(_channel_mean_map(size, x.shape[1]), mul(x, x))
    return div(x, pow(add(mul(squares, alpha), k), beta))
