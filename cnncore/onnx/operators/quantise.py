"""Numbers of few bits: quantising, dequantising, and arithmetic on quantised numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnncore.autograd import Tensor, no_grad
from cnncore.errors import require
from cnncore.onnx.node import Node
from cnncore.onnx.operators.conv import convolve
from cnncore.onnx.operators.shape import cast
from cnncore.onnx.operators.support import axis_of, windows
from cnncore.onnx.registry import ALL, operator

Array = Any


def limits(dtype: Any) -> tuple[float, float]:
    """The range of an integer type, those of less than eight bits included."""
    info = np.iinfo(dtype) if dtype.kind in "iu" else require("ml_dtypes", "onnx").iinfo(dtype)
    return float(info.min), float(info.max)


def is_integer(dtype: Any) -> bool:
    """Integers of any width."""
    return dtype.kind in "iu" or dtype.name.startswith(("int", "uint"))


def spread(values: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    """Scales or zero points as they apply to an array of ``shape``.

    One for all, one for each place along ``axis``, or one for each ``block`` of places.
    """
    if values.size == 1 and values.ndim <= 1:
        return values.reshape(())
    axis = axis_of(axis, len(shape))
    if block:
        wide = np.repeat(values, block, axis)
        return wide[(slice(None),) * axis + (slice(0, shape[axis]),)]
    return values.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def quantised(x: Array, scale: Array, zero: Array, dtype: Any) -> Array:
    """``round(x / scale) + zero``, halves to even, limited to the range of ``dtype``."""
    low, high = limits(dtype)
    return (np.rint(x / scale) + zero).clip(low, high).astype(dtype)


def _output_dtype(node: Node, zero: Array | None, default: Any) -> Any:
    if node.get("output_dtype", 0):
        helper = require("onnx.helper", "onnx")
        return np.dtype(helper.tensor_dtype_to_np_dtype(node.get("output_dtype")))
    return np.dtype(default) if zero is None else zero.dtype


@operator("QuantizeLinear", arrays=ALL)
def _quantize(node: Node, x: Array, scale: Array, zero: Array | None = None) -> Array:
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    dtype = _output_dtype(node, zero, np.uint8)
    steps = spread(scale, x.shape, axis, block).astype(x.dtype if x.dtype.kind == "f" else float)
    if not is_integer(dtype):
        return cast(x / steps, dtype, bool(node.get("saturate", 1)))
    offset = 0 if zero is None else spread(zero, x.shape, axis, block).astype(np.float64)
    return quantised(x, steps, offset, dtype)


@operator("DequantizeLinear", arrays=ALL, widen=False)
def _dequantize(node: Node, x: Array, scale: Array, zero: Array | None = None) -> Array:
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    dtype = _output_dtype(node, None, scale.dtype)
    steps = spread(scale, x.shape, axis, block).astype(np.float32)
    wide = np.int64 if is_integer(x.dtype) else np.float32
    value = x.astype(wide)
    if zero is not None:
        value = value - spread(zero, x.shape, axis, block).astype(wide)
    return (value.astype(np.float32) * steps).astype(dtype)


# --- arithmetic: whole numbers travel as float64, which holds them exactly ------------------------


def _centred(x: Array, zero: Array | None, axis: int) -> Array:
    wide = x.astype(np.float64)
    return wide if zero is None else wide - spread(zero.astype(np.float64), x.shape, axis, 0)


@operator("MatMulInteger", arrays=ALL)
def _matmul_integer(
    node: Node, a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None
) -> Array:
    return (_centred(a, a_zero, -2) @ _centred(b, b_zero, -1)).astype(np.int32)


@operator("QLinearMatMul", arrays=ALL)
def _qlinear_matmul(
    node: Node,
    a: Array,
    a_scale: Array,
    a_zero: Array,
    b: Array,
    b_scale: Array,
    b_zero: Array,
    y_scale: Array,
    y_zero: Array,
) -> Array:
    product = _centred(a, a_zero, -2) @ _centred(b, b_zero, -1)
    shape = product.shape
    scale = spread(a_scale, shape, -2, 0) * spread(b_scale, shape, -1, 0)
    steps, offset = spread(y_scale, shape, -2, 0), spread(y_zero, shape, -2, 0)
    return quantised(product * scale.astype(np.float64), steps, offset.astype(float), y_zero.dtype)


def _whole_convolution(node: Node, x: Array, weight: Array) -> Array:
    w = windows(node, weight.shape[2:], x.shape[2:])
    with no_grad():
        return convolve(node, Tensor(x), Tensor(weight), None, w).numpy()


@operator("ConvInteger", arrays=ALL)
def _conv_integer(
    node: Node, x: Array, weight: Array, x_zero: Array | None = None, w_zero: Array | None = None
) -> Array:
    y = _whole_convolution(node, _centred(x, x_zero, 0), _centred(weight, w_zero, 0))
    return y.astype(np.int32)


@operator("QLinearConv", arrays=ALL)
def _qlinear_conv(
    node: Node,
    x: Array,
    x_scale: Array,
    x_zero: Array,
    weight: Array,
    w_scale: Array,
    w_zero: Array,
    y_scale: Array,
    y_zero: Array,
    bias: Array | None = None,
) -> Array:
    y = _whole_convolution(node, _centred(x, x_zero, 0), _centred(weight, w_zero, 0))
    if bias is not None:
        y = y + bias.reshape(-1, *(1,) * (y.ndim - 2))
    scale = spread((x_scale * w_scale).astype(np.float64).reshape(-1), y.shape, 1, 0)
    return quantised(y * scale, y_scale.astype(np.float64), y_zero.astype(float), y_zero.dtype)
