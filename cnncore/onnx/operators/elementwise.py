"""Arithmetic, comparison and logic, element by element."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Function, Tensor
from cnncore.kernels.array.activation import normal_cdf
from cnncore.onnx.node import Node
from cnncore.onnx.operators.support import axis_of, is_float
from cnncore.onnx.registry import ALL, operator
from cnncore.ops.elementwise import Unary
from cnncore.ops.linear import LinearMap, apply

Array = Any


def _truncated_division(x: Array, y: Array) -> Array:
    """Integers divided as C does, towards zero."""
    quotient = x // y
    return np.where((quotient * y != x) & ((x < 0) != (y < 0)), quotient + 1, quotient).astype(
        x.dtype
    )


# Operator -> how floats are computed (differentiably), and how integers are.
BINARY: dict[str, tuple[Callable[[Any, Any], Tensor], Callable[[Array, Array], Array]]] = {
    "Add": (ops.add, np.add),
    "Sub": (ops.sub, np.subtract),
    "Mul": (ops.mul, np.multiply),
    "Div": (ops.div, _truncated_division),
    "Max": (ops.maximum, np.maximum),
    "Min": (ops.minimum, np.minimum),
    "Sum": (ops.add, np.add),
}


def _combine(name: str, x: Tensor, y: Tensor) -> Tensor:
    smooth, whole = BINARY[name]
    return smooth(x, y) if is_float(x) else Tensor(np.asarray(whole(x.data, y.data)))


def aligned(node: Node, x: Tensor, y: Tensor) -> Tensor:
    """``y`` as it broadcasts: before opset 7 an attribute may say at which axis of x it begins."""
    if node.opset < 7 and node.has("axis"):
        axis = axis_of(node.get("axis"), x.ndim)
        return ops.reshape(y, (*y.shape, *(1,) * (x.ndim - axis - y.ndim)))
    return y


@operator("Add", "Sub", "Mul", "Div")
def _arithmetic(node: Node, x: Tensor, y: Tensor) -> Tensor:
    return _combine(node.spec.op_type, x, aligned(node, x, y))


@operator("Max", "Min", "Sum")
def _variadic(node: Node, *inputs: Tensor) -> Tensor:
    return functools.reduce(lambda x, y: _combine(node.spec.op_type, x, y), inputs)


@operator("Mean")
def _mean(node: Node, *inputs: Tensor) -> Tensor:
    return ops.div(functools.reduce(ops.add, inputs), float(len(inputs)))


@operator("Pow")
def _pow(node: Node, x: Tensor, y: Tensor) -> Tensor:
    y = aligned(node, x, y)
    if is_float(x):
        return ops.pow(x, ops.to(y, x.dtype))
    return Tensor(np.power(x.data, y.data).astype(x.dtype))


@operator("Mod", arrays=ALL, widen=False)
def _mod(node: Node, x: Array, y: Array) -> Array:
    return np.fmod(x, y) if node.get("fmod", 0) else np.mod(x, y)


# --- comparisons and logic ------------------------------------------------------------------------

COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
}


@operator(*COMPARISONS, widen=False, flat=True)
def _compare(node: Node, x: Tensor, y: Tensor) -> Array:
    return COMPARISONS[node.spec.op_type](x.data, aligned(node, x, y).data)


@operator("Not", arrays=ALL, flat=True)
def _not(node: Node, x: Array) -> Array:
    return np.logical_not(x)


@operator("BitwiseNot", arrays=ALL)
def _bitwise_not(node: Node, x: Array) -> Array:
    return np.bitwise_not(x)


@operator("BitShift", arrays=ALL)
def _bit_shift(node: Node, x: Array, y: Array) -> Array:
    return np.left_shift(x, y) if node.get("direction") == "LEFT" else np.right_shift(x, y)


@operator("IsNaN", arrays=ALL, flat=True)
def _is_nan(node: Node, x: Array) -> Array:
    return np.isnan(x)


@operator("IsInf", arrays=ALL, flat=True)
def _is_inf(node: Node, x: Array) -> Array:
    up, down = node.get("detect_positive", 1), node.get("detect_negative", 1)
    return np.isinf(x) & ((bool(up) & (x > 0)) | (bool(down) & (x < 0)))


@operator("Where", widen=False)
def _where(node: Node, condition: Tensor, x: Tensor, y: Tensor) -> Any:
    if is_float(x):
        return ops.where(condition, x, y)
    return Tensor(np.where(condition.data, x.data, y.data))


# --- one operand ----------------------------------------------------------------------------------

SMOOTH = {
    "Acos": "arccos",
    "Acosh": "arccosh",
    "Asin": "arcsin",
    "Asinh": "arcsinh",
    "Atan": "arctan",
    "Atanh": "arctanh",
    "Cos": "cos",
    "Cosh": "cosh",
    "Exp": "exp",
    "Log": "log",
    "Sin": "sin",
    "Sinh": "sinh",
    "Sqrt": "sqrt",
    "Tan": "tan",
}
STEPS = {"Ceil": np.ceil, "Floor": np.floor, "Round": np.rint, "Sign": np.sign}


@operator(*SMOOTH)
def _smooth(node: Node, x: Tensor) -> Tensor:
    return Unary(SMOOTH[node.spec.op_type])(x)  # type: ignore[no-any-return]


@operator(*STEPS, arrays=ALL, flat=True)
def _steps(node: Node, x: Array) -> Array:
    return STEPS[node.spec.op_type](x)


@operator("Abs")
def _abs(node: Node, x: Tensor) -> Tensor:
    return ops.abs(x)


@operator("Neg")
def _neg(node: Node, x: Tensor) -> Tensor:
    return ops.neg(x)


@operator("Reciprocal")
def _reciprocal(node: Node, x: Tensor) -> Tensor:
    return ops.div(1.0, x)


class Erf(Function):
    """``erf(x) = 2/√π ∫₀ˣ exp(−t²) dt``.  Keeps x."""

    def forward(self, x: Array) -> Array:
        self.keep_input(0)
        wide = x.astype(np.float64) * math.sqrt(2.0)
        return (2.0 * normal_cdf(np, wide) - 1.0).astype(x.dtype)

    def backward(self, gy: Tensor) -> tuple[Tensor]:
        (x,) = self.kept()
        return (gy * ops.exp(ops.neg(x * x)) * (2.0 / math.sqrt(math.pi)),)


@operator("Erf")
def _erf(node: Node, x: Tensor) -> Tensor:
    if is_float(x):
        return Erf()(x)  # type: ignore[no-any-return]
    return ops.to(Erf()(ops.to(x, np.float64)), x.dtype)


@operator("Clip", since=11, arrays=(1, 2))
def _clip(node: Node, x: Tensor, low: Array | None = None, high: Array | None = None) -> Tensor:
    limits = [None if v is None or v.size == 0 else v.item() for v in (low, high)]
    return x if limits == [None, None] else ops.clamp(x, *limits)


@operator("Clip", until=10)
def _clip_by_attributes(node: Node, x: Tensor) -> Tensor:
    limits = (node.get("min"), node.get("max"))
    return x if limits == (None, None) else ops.clamp(x, *limits)


# --- along an axis, and over axes -----------------------------------------------------------------


def _running_sum(x: Array, axis: int, exclusive: bool, reverse: bool) -> Array:
    flipped = np.flip(x, axis) if reverse else x
    total = np.cumsum(flipped, axis, dtype=x.dtype)
    if exclusive:
        total = total - flipped
    return np.flip(total, axis) if reverse else total


@operator("CumSum", arrays=(1,))
def _cumsum(node: Node, x: Tensor, axis: Array) -> Tensor:
    along = axis_of(int(axis.item()), x.ndim)
    exclusive, reverse = bool(node.get("exclusive", 0)), bool(node.get("reverse", 0))
    if not is_float(x):
        return Tensor(_running_sum(x.data, along, exclusive, reverse))
    running = LinearMap(
        "CumSum",
        "CumSumTranspose",
        lambda a: _running_sum(a, along, exclusive, reverse),
        lambda g: _running_sum(g, along, exclusive, not reverse),
    )
    return apply(running, x)


@operator("CumProd", arrays=ALL)
def _cumprod(node: Node, x: Array, axis: Array) -> Array:
    along = axis_of(int(axis.item()), x.ndim)
    flipped = np.flip(x, along) if node.get("reverse", 0) else x
    if node.get("exclusive", 0):
        one = np.ones_like(np.take(flipped, [0], along))
        flipped = np.concatenate([one, np.delete(flipped, -1, along)], along)
    product = np.cumprod(flipped, along, dtype=x.dtype)
    return np.flip(product, along) if node.get("reverse", 0) else product


@operator("MatMul")
def _matmul(node: Node, a: Tensor, b: Tensor) -> Any:
    return ops.matmul(a, b) if is_float(a) else np.matmul(a.data, b.data)


@operator("Gemm")
def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    kind = a.dtype
    a, b, c = (None if t is None else ops.to(t, _wide(kind)) for t in (a, b, c))  # type: ignore[assignment]
    a = ops.transpose(a) if node.get("transA", 0) else a
    b = ops.transpose(b) if node.get("transB", 0) else b
    y = ops.matmul(a, b)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    y = y if alpha == 1 else ops.mul(y, alpha)
    if c is not None and beta != 0:
        y = ops.add(y, c if beta == 1 else ops.mul(c, beta))
    return ops.to(y, kind)


def _wide(dtype: Any) -> Any:
    return dtype if dtype.kind == "f" else np.float64


@operator("Einsum", arrays=ALL)
def _einsum(node: Node, *inputs: Array) -> Array:
    return np.einsum(node.get("equation"), *inputs)


@operator("Det", arrays=ALL)
def _det(node: Node, x: Array) -> Array:
    return np.linalg.det(x).astype(x.dtype)
