"""Batch, layer, group and instance norm: one mechanism.  And local response norm.

All four subtract a mean and divide by a deviation; they differ only in which elements share them.
Every input is seen as rows ``(N, G, M, I)`` of I adjacent elements, whose statistics are joined
over N (batch norm) or over M (the others).

    op              N G M I                        joined over
    batch_norm      N C 1 H·W                      N
    instance_norm   N C 1 H·W                      nothing
    group_norm      N groups C/groups H·W          M
    layer_norm      rows 1 1 elements              nothing
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore import kernels
from cnncore.autograd import Function, Tensor
from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.geometry import as_int
from cnncore.kernels.checks.arrays import same_device
from cnncore.kernels.dispatch import array_module
from cnncore.ops.arguments import float_tensor
from cnncore.ops.elementwise import add, div, mul, neg, pow, sub
from cnncore.ops.linear import LinearMap, apply
from cnncore.ops.reduce import sum
from cnncore.ops.shape import reshape
from cnncore.taps import Taps

Array = Any
Gradients = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Rows:
    """An input as rows ``(N, G, M, I)``, statistics joined over axis 0 or 2 of ``(N, G, M)``."""

    shape: tuple[int, int, int, int]
    joined: int
    # Mean and 1/deviation of each group given from outside (running statistics), or None.
    fixed: tuple[Array, Array] | None = None

    @property
    def count(self) -> int:
        """Elements that share one mean."""
        return self.shape[self.joined] * self.shape[3]

    def spread(self, groups: Array, like: Array) -> Array:
        """Values per group or per channel, as one per row in the type of ``like``: ``(R,)``."""
        wide = array_module(like).broadcast_to(groups, self.shape[:3])
        return wide.astype(like.dtype).reshape(-1)

    def per_channel(self, values: Array) -> Array:
        """``(C,)`` as ``(1, G, M)``, in float64."""
        return values.reshape(1, self.shape[1], self.shape[2]).astype(np.float64)

    @property
    def groups(self) -> tuple[int, int, int]:
        """Shape of one number a group: ``(1, G, M)`` or ``(N, G, 1)``."""
        N, G, M, _ = self.shape
        return (1, G, M) if self.joined == 0 else (N, G, 1)


class Normalize(Function):
    """``y = weight · (x − mean) · rstd + bias``, rows as ``Rows`` says, two factors a channel.

    Keeps x, the weight, and the mean and rstd of every group.
    """

    def __init__(self, rows: Rows, eps: float) -> None:
        self.rows, self.eps = rows, eps

    def forward(self, x: Array, weight: Array | None, bias: Array | None) -> Array:
        rows, rank4 = self.rows, x.reshape(self.rows.shape)
        if rows.fixed is None:
            y, mean, variance = kernels.normalize(rank4, weight, bias, rows.joined, self.eps)
            self.mean, self.variance = mean, variance
            rstd = 1.0 / array_module(x).sqrt(variance + self.eps)
        else:
            mean, rstd = rows.fixed
            y = self._fixed(rank4, weight, bias, mean, rstd)
        self.keep_input(0, None if weight is None else 1)
        self.keep(mean, rstd)
        return y.reshape(x.shape)

    def _fixed(
        self, x: Array, weight: Array | None, bias: Array | None, mean: Array, rstd: Array
    ) -> Array:
        rows = self.rows
        a = rstd if weight is None else rstd * rows.per_channel(weight)
        b = -mean * a if bias is None else rows.per_channel(bias) - mean * a
        flat = x.reshape(-1, rows.shape[3])
        return kernels.row_linear(flat, rows.spread(a, x), rows.spread(b, x))

    def backward(self, gy: Tensor) -> Gradients:
        x, weight, mean, rstd = self.kept()
        gx, gweight, gbias = NormalizeBackward(self.rows, self.eps, mean, rstd)(gy, x, weight)
        return gx, gweight, gbias


class NormalizeBackward(Function):
    """The gradients of ``Normalize`` towards x, weight and bias, in two passes over the rows.

    With ``x̂ = (x − mean)·rstd``, ``g = weight·gy`` and ``M`` the mean over a group:
    ``gx = rstd · (g − M(g) − x̂·M(g·x̂))``, without the means if the statistics were fixed;
    ``gweight = Σ gy·x̂``, ``gbias = Σ gy``.  Keeps gy, x and the weight.
    """

    def __init__(self, rows: Rows, eps: float, mean: Array, rstd: Array) -> None:
        self.rows, self.eps, self.mean, self.rstd = rows, eps, mean, rstd

    def forward(self, gy: Array, x: Array, weight: Array | None) -> tuple[Array, Array, Array]:
        rows, mean, rstd = self.rows, self.mean, self.rstd
        self.keep_input(0, 1, None if weight is None else 2)
        fixed = rows.fixed is not None
        if fixed:  # one number a channel, also where groups are smaller than that
            xp = array_module(x)
            mean, rstd = (xp.broadcast_to(s, rows.groups) for s in (mean, rstd))
        pair = gy.reshape(rows.shape), x.reshape(rows.shape)
        gx, gweight, gbias = kernels.normalize_backward(
            *pair, weight, mean, rstd, rows.joined, fixed
        )
        return gx.reshape(x.shape), gweight, gbias

    def backward(self, u: Tensor | None, v: Tensor | None, t: Tensor | None) -> Gradients:
        """Second derivatives: the cotangents are ``u`` of gx, ``v`` of gweight, ``t`` of gbias.

        ``L = <u, gx> + <v, gweight> + <t, gbias>``.  The projection ``T z = z − M z − x̂·M(z x̂)`` is
        symmetric and ``gx = rstd·T g``.  So L depends on gy through ``weight·rstd·T u + v x̂ + t``;
        on x through x̂, with ``h = ∂L/∂x̂``, and through rstd.
        """
        gy, x, weight = self.kept()
        shape = self.rows.shape
        gy, x = reshape(gy, shape), reshape(x, shape)
        u = None if u is None else reshape(u, shape)
        channels = (1, shape[1], shape[2], 1)
        w, v, t = (None if z is None else reshape(z, channels) for z in (weight, v, t))
        fixed = self.rows.fixed is not None
        mean, rstd = self._statistics(x)
        xhat = mul(sub(x, mean), rstd)
        m = self._group_mean

        def project(z: Tensor) -> Tensor:
            return z if fixed else sub(sub(z, m(z)), mul(xhat, m(mul(z, xhat))))

        ggy = gx = gweight = None
        h = None if v is None else mul(v, gy)
        if u is not None:
            tu = mul(rstd, project(u))
            ggy = tu if w is None else mul(w, tu)
            gweight = reshape(sum(mul(gy, tu), (0, 3)), -1)
            if not fixed:
                g = gy if w is None else mul(w, gy)
                ux, gx_mean = m(mul(u, xhat)), m(mul(g, xhat))
                turned = mul(rstd, add(mul(u, gx_mean), mul(g, ux)))
                h = neg(turned) if h is None else sub(h, turned)
                slope = sub(sub(m(mul(u, g)), mul(m(u), m(g))), mul(ux, gx_mean))
                gx = neg(mul(mul(rstd, rstd), mul(xhat, slope)))
        for part in (None if v is None else mul(v, xhat), t):
            ggy = part if ggy is None else ggy if part is None else add(ggy, part)
        if h is not None:
            through = mul(rstd, project(h))
            gx = through if gx is None else add(gx, through)
        flat = self.shapes[0]
        if ggy is not None:
            ggy = reshape(ggy if ggy.shape == shape else ggy.expand(shape), flat)
        return (
            ggy,
            None if gx is None else reshape(gx, flat),
            gweight if weight is not None else None,
        )

    def _group_mean(self, z: Tensor) -> Tensor:
        return mul(sum(z, (self.rows.joined, 3), True), 1.0 / self.rows.count)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and rstd as functions of x (for third derivatives), or the fixed ones."""
        if self.rows.fixed is not None:
            return Tensor(self.mean[..., None].astype(x.dtype)), Tensor(
                self.rstd[..., None].astype(x.dtype)
            )
        mean = self._group_mean(x)
        off = sub(x, mean)
        return mean, pow(add(self._group_mean(mul(off, off)), self.eps), -0.5)


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


def _normalize(
    x: Tensor, rows: Rows, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Normalize]:
    function = Normalize(rows, _positive("eps", eps, zero=True))
    if x.size:
        return function(x, weight, bias), function
    # Nothing to normalise; the products below are as empty as x, and keep the graph connected.
    y, shape = x, (1, -1) + (1,) * (x.ndim - 2)
    y = y if weight is None else mul(y, reshape(weight, shape))
    return y if bias is None else add(y, reshape(bias, shape)), function


def batch_norm(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``y = weight · (x − mean)/√(var + eps) + bias`` per channel, mean and variance over N, H, W.

    Training: the batch's own statistics, and ``running = (1 − momentum)·running + momentum·batch``
    is written into ``running_mean`` and ``running_var`` (arrays or tensors, or None) with the
    *unbiased* variance, as in PyTorch.  Otherwise the running statistics are used and constant.
    Shapes: x ``(N, C)`` or ``(N, C, …)``, all others ``(C,)``.  Keeps x and two numbers a channel.

    Errors: one value per channel cannot be normalised in training (the result would be the bias).

    >>> from cnncore import tensor
    >>> batch_norm(tensor([[1.0], [3.0]]), None, None, training=True).numpy().round(3)
    array([[-1.],
           [ 1.]], dtype=float32)

    Source: Ioffe & Szegedy, "Batch normalization", 2015, algorithms 1 and 2.
    """
    x = _input(x)
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
    y, done = _normalize(x, Rows((N, C, 1, inner), 0, fixed), weight, bias, eps)
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
    x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Mean and variance over H, W and the channels of one group, for each image by itself.

    Shapes: x ``(N, C, …)``, weight and bias ``(C,)``; ``num_groups`` divides C.  Keeps x and two
    numbers a group and image.

    >>> from cnncore import tensor
    >>> group_norm(tensor([[1.0, 3.0, 2.0, 6.0]]), 2).numpy().round(3)
    array([[-1.,  1., -1.,  1.]], dtype=float32)

    Source: Wu & He, "Group normalization", 2018.
    """
    x = _input(x)
    N, C, inner = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    groups = as_int("num_groups", num_groups, 1)
    if C % groups:
        raise ArgumentError("num_groups", f"a divisor of the {C} channels of x", groups)
    weight, bias = _affine("weight", weight, C, x), _affine("bias", bias, C, x)
    return _normalize(x, Rows((N, groups, C // groups, inner), 2), weight, bias, eps)[0]


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
    unbiased = var * (count / (count - 1))
    for statistics, new in zip(running, (mean, unbiased), strict=True):
        values = _values(statistics)
        values *= 1 - momentum
        values += (momentum * new.reshape(-1)).astype(values.dtype)
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
