"""Activations.  One op carries them all: ``P_k(x, scale) = scale · f⁽ᵏ⁾(x)``.

Its derivative towards x is ``P_{k+1}``, its derivative towards the scale is ``P_k`` again, so the
backward pass of an activation is one pass of the same kernel with the order raised by one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnncore import kernels
from cnncore.autograd import Function, Tensor
from cnncore.errors import ArgumentError, GraphError, ShapeError
from cnncore.kernels.dispatch import array_module
from cnncore.kernels.epilogue import OUTPUT_TELLS
from cnncore.ops.arguments import axis_index, float_tensor
from cnncore.ops.elementwise import exp, mul, neg, sub, where
from cnncore.ops.linear import LinearMap, apply
from cnncore.ops.reduce import sum
from cnncore.ops.shape import reshape

Array = Any

# Of OUTPUT_TELLS the output is kept, not the input: the next layer keeps that array anyway.
# Straight pieces: the second derivative is zero everywhere.
STRAIGHT = OUTPUT_TELLS | {"leaky_relu", "hardsigmoid"}


class Pointwise(Function):
    """``scale · f⁽ᵒʳᵈᵉʳ⁾(x)``.  Keeps x (or the output, where that tells as much) and scale."""

    def __init__(self, kind: str, params: tuple[float, ...] = (), order: int = 0) -> None:
        if order > 2:
            raise GraphError(
                f"{kind}: derivatives beyond the second are not available; "
                "try: create_graph=False in the last backward"
            )
        self.kind, self.params, self.order = kind, params, order

    @property
    def name(self) -> str:
        words = "".join(word.capitalize() for word in self.kind.split("_"))
        return words + "'" * self.order

    def forward(self, x: Array, scale: Array | None = None) -> Array:
        if self.order == 0 and self.kind in OUTPUT_TELLS:
            self.keep_output(0)
        else:
            self.keep_input(0)
        # The scale matters only to the derivative towards x, which straight pieces do not have.
        curved = self.needs[0] and not (self.order and self.kind in STRAIGHT)
        self.keep_input(1 if curved and scale is not None else None)
        return kernels.pointwise(x, self.kind, self.params, self.order, scale)

    def backward(self, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, scale = self.kept() if self.order or self.kind not in OUTPUT_TELLS else self.kept()[::-1]
        gx = gscale = None
        if self.needs[0] and not (self.order and self.kind in STRAIGHT):
            weight = gy if scale is None else mul(gy, scale)
            gx = Pointwise(self.kind, self.params, self.order + 1)(x, weight)
        if len(self.needs) == 1:
            return (gx,)
        if self.needs[1]:
            gscale = Pointwise(self.kind, self.params, self.order)(x, gy)
        return gx, gscale


def _activate(kind: str, x: Any, *params: Any) -> Tensor:
    return Pointwise(kind, params)(float_tensor("x", x))  # type: ignore[no-any-return]


def _number(argument: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise ArgumentError(argument, "a number", repr(value))
    if not math.isfinite(value):
        raise ArgumentError(argument, "a finite number", value)
    return float(value)


def relu(x: Any) -> Tensor:
    """``max(x, 0)``, with derivative 0 at 0.  Keeps its result, which the next layer keeps anyway.

    >>> from cnncore import tensor
    >>> relu(tensor([-1.0, 2.0])).numpy()
    array([0., 2.], dtype=float32)

    Source: Nair & Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.
    """
    return _activate("relu", x)


def relu6(x: Any) -> Tensor:
    """``min(max(x, 0), 6)``.  Keeps its result.

    Source: Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010.
    """
    return _activate("relu6", x)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """``x`` above 0, ``negative_slope · x`` below.  Keeps x.

    Source: Maas, Hannun & Ng, "Rectifier nonlinearities improve neural network acoustic
    models", 2013.
    """
    return _activate("leaky_relu", x, _number("negative_slope", negative_slope))


def prelu(x: Any, weight: Any) -> Tensor:
    """``x`` above 0, ``weight · x`` below, with a learned slope: one, or one per channel (axis 1).

    Shapes: x any, weight ``(1,)`` or ``(C,)``.

    >>> from cnncore import tensor
    >>> prelu(tensor([[-2.0, 3.0]]), tensor([0.5])).numpy()
    array([[-1.,  3.]], dtype=float32)

    Source: He et al., "Delving deep into rectifiers", 2015, section 2.1.
    """
    x, weight = float_tensor("x", x), float_tensor("weight", weight)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.size != 1 and weight.shape != (channels,):
        raise ShapeError("weight", f"shape (1,) or ({channels},)", weight.shape)
    shape = (1, -1) + (1,) * (x.ndim - 2) if x.ndim > 1 else (1,) * x.ndim
    return where(x.data > 0, x, mul(x, reshape(weight, *shape)))


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """``x`` above 0, ``alpha (eˣ − 1)`` below.  Keeps x.

    Source: Clevert, Unterthiner & Hochreiter, "Fast and accurate deep network learning by
    exponential linear units", 2016.
    """
    return _activate("elu", x, _number("alpha", alpha))


def selu(x: Any) -> Tensor:
    """``1.0507 · elu(x, 1.6733)``: the constants that keep mean 0 and variance 1.  Keeps x.

    Source: Klambauer et al., "Self-normalizing neural networks", 2017.
    """
    return _activate("selu", x)


def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """``max(0, x) + min(0, alpha (exp(x/alpha) − 1))``: an elu with a continuous slope.  Keeps x.

    Source: Barron, "Continuously differentiable exponential linear units", 2017.
    """
    if _number("alpha", alpha) == 0:
        raise ArgumentError("alpha", "a number other than 0", alpha, "relu")
    return _activate("celu", x, float(alpha))


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """``x · Φ(x)``, Φ the normal distribution function; ``"tanh"`` for its usual approximation.

    Keeps x.

    Source: Hendrycks & Gimpel, "Gaussian error linear units", 2016.
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError("approximate", '"none" or "tanh"', repr(approximate))
    return _activate("gelu" if approximate == "none" else "gelu_tanh", x)


def silu(x: Any) -> Tensor:
    """``x · sigmoid(x)``, also called swish.  Keeps x.

    Source: Elfwing, Uchibe & Doya, 2018; Ramachandran, Zoph & Le, 2017.
    """
    return _activate("silu", x)


def mish(x: Any) -> Tensor:
    """``x · tanh(softplus(x))``.  Keeps x.

    Source: Misra, "Mish: a self regularized non-monotonic activation function", 2020.
    """
    return _activate("mish", x)


def sigmoid(x: Any) -> Tensor:
    """``1 / (1 + e⁻ˣ)``, without overflow at either end.  Keeps x.

    >>> from cnncore import tensor
    >>> sigmoid(tensor([0.0])).numpy()
    array([0.5], dtype=float32)
    """
    return _activate("sigmoid", x)


def log_sigmoid(x: Any) -> Tensor:
    """``log(1 / (1 + e⁻ˣ))``, without overflow at either end.  Keeps x."""
    return _activate("log_sigmoid", x)


def hardsigmoid(x: Any) -> Tensor:
    """``min(max(x/6 + 1/2, 0), 1)``.  Keeps x.

    Source: Howard et al., "Searching for MobileNetV3", 2019, section 5.2.
    """
    return _activate("hardsigmoid", x)


def hardswish(x: Any) -> Tensor:
    """``x · hardsigmoid(x)``.  Keeps x.

    Source: Howard et al., "Searching for MobileNetV3", 2019, section 5.2.
    """
    return _activate("hardswish", x)


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """``x`` limited to ``[min_val, max_val]``, derivative 0 at both ends.  Keeps its result."""
    low, high = _number("min_val", min_val), _number("max_val", max_val)
    if low > high:
        raise ArgumentError("max_val", f"at least min_val ({low})", high)
    return _activate("hardtanh", x, low, high)


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent.  Keeps x."""
    return _activate("tanh", x)


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + e^{βx}) / β``; where ``βx > threshold`` simply x.  Keeps x."""
    if _number("beta", beta) == 0:
        raise ArgumentError("beta", "a number other than 0", beta)
    return _activate("softplus", x, float(beta), _number("threshold", threshold))


def softsign(x: Any) -> Tensor:
    """``x / (1 + |x|)``.  Keeps x."""
    return _activate("softsign", x)


# --- over a whole axis ----------------------------------------------------------------------------


class Softmax(Function):
    """Softmax or its logarithm along one axis.  Keeps its result.

    With ``p = softmax(x)``: ``gx = p ∘ (gy − Σ gy∘p)``, and for the logarithm ``gx = gy − p Σ gy``.
    """

    def __init__(self, axis: int, log: bool) -> None:
        self.axis, self.log = axis, log

    @property
    def name(self) -> str:
        return "LogSoftmax" if self.log else "Softmax"

    def forward(self, x: Array) -> Array:
        self.keep_output(0)
        return kernels.softmax(_columns(x, self.axis), self.log).reshape(x.shape)

    def backward(self, gy: Tensor) -> tuple[Tensor]:
        (y,) = self.kept()
        return (SoftmaxBackward(self.axis, self.log)(gy, y),)


class SoftmaxBackward(Function):
    """``y ∘ (gy − Σ gy∘y)``, or ``gy − exp(y) Σ gy``: linear in gy.  Keeps y, and gy if y wants a
    gradient."""

    def __init__(self, axis: int, log: bool) -> None:
        self.axis, self.log = axis, log

    def forward(self, gy: Array, y: Array) -> Array:
        self.keep_input(0 if self.needs[1] else None, 1)
        columns = _columns(gy, self.axis), _columns(y, self.axis)
        return kernels.softmax_backward(*columns, self.log).reshape(y.shape)

    def backward(self, u: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Cotangent ``u``: with ``S`` the sum over classes, kept as an axis of one."""
        gy, y = self.kept()

        def S(z: Tensor) -> Tensor:  # noqa: N802
            return sum(z, self.axis, True)

        p = exp(y) if self.log else y
        ggy = gz = None
        if self.needs[0]:
            ggy = sub(u, S(mul(u, p))) if self.log else mul(p, sub(u, S(mul(u, p))))
        if self.needs[1] and self.log:
            gz = neg(mul(mul(u, p), S(gy)))
        elif self.needs[1]:
            gz = sub(mul(u, sub(gy, S(mul(gy, p)))), mul(gy, S(mul(u, p))))
        return ggy, gz


def _columns(x: Array, axis: int) -> Array:
    """``(outer, K, inner)`` with the classes in the middle."""
    if x.ndim == 2 and axis == 1:
        return x[:, :, None]
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    return x.reshape(outer, x.shape[axis], inner)


def _softmax(x: Any, dim: Any, log: bool) -> Tensor:
    x = float_tensor("x", x)
    if x.ndim == 0:
        return reshape(_softmax(reshape(x, 1), dim, log), ())
    axis = axis_index("dim", dim, x.ndim)
    if x.size:
        return Softmax(axis, log)(x)  # type: ignore[no-any-return]
    if x.shape[axis] == 0 and math.prod(x.shape[:axis] + x.shape[axis + 1 :]):
        raise ShapeError("x", f"at least one class along axis {axis}", x.shape)
    return x  # type: ignore[no-any-return]


def softmax(x: Any, dim: int) -> Tensor:
    """``exp(x) / Σ exp(x)`` along ``dim``, without overflow.  Keeps its result.

    >>> from cnncore import tensor
    >>> softmax(tensor([[0.0, 0.0, 1000.0]]), 1).numpy()
    array([[0., 0., 1.]], dtype=float32)
    """
    return _softmax(x, dim, False)


def log_softmax(x: Any, dim: int) -> Tensor:
    """``x − log Σ exp(x)`` along ``dim``, without overflow.  Keeps its result."""
    return _softmax(x, dim, True)


# --- dropout --------------------------------------------------------------------------------------

_generators: dict[str, Any] = {}  # "default" -> the generator of manual_seed


def manual_seed(seed: int) -> None:
    """Start the random numbers of ``dropout`` (where none are given) at a known place."""
    _generators["default"] = np.random.default_rng(seed)


def dropout(x: Any, p: float = 0.5, training: bool = True, generator: Any = None) -> Tensor:
    """Each element zeroed with probability ``p``, the others over ``1 − p``; x if not training.

    ``generator`` is a ``numpy.random.Generator``; without one, that of ``manual_seed`` (seeded with
    0 at first, so that runs repeat).  Linear once drawn; keeps the mask.

    >>> from cnncore import tensor
    >>> dropout(tensor([1.0, 2.0]), training=False).numpy()
    array([1., 2.], dtype=float32)

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
    2014 (there the scaling is done at test time).
    """
    x = float_tensor("x", x)
    if not 0 <= _number("p", p) <= 1:
        raise ArgumentError("p", "a probability in [0, 1]", p)
    if not training or p == 0:
        return x  # type: ignore[no-any-return]
    if generator is None:
        if not _generators:
            manual_seed(0)
        generator = _generators["default"]
    kept = generator.random(x.shape, np.float32) >= p
    scale = 0.0 if p == 1 else 1.0 / (1.0 - p)
    mask = array_module(x.data).asarray((kept * scale).astype(x.dtype))

    def drop(a: Array) -> Array:
        return kernels.ufunc("multiply", a, mask)

    return apply(LinearMap("Dropout", "Dropout", drop, drop, (mask,)), x)
