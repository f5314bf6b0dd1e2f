"""Activations, softmax and dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.nn import init
from cnncore.onnx.node import Node
from cnncore.onnx.operators.support import axis_of, is_float
from cnncore.onnx.registry import operator

Array = Any

PLAIN: dict[str, Callable[[Any], Tensor]] = {
    "HardSwish": ops.hardswish,
    "Mish": ops.mish,
    "Sigmoid": ops.sigmoid,
    "Softplus": ops.softplus,
    "Softsign": ops.softsign,
    "Tanh": ops.tanh,
}


@operator(*PLAIN)
def _plain(node: Node, x: Tensor) -> Tensor:
    return PLAIN[node.spec.op_type](x)


@operator("Relu")
def _relu(node: Node, x: Tensor) -> Tensor:
    return ops.relu(x) if is_float(x) else Tensor(np.maximum(x.data, 0).astype(x.dtype))


@operator("LeakyRelu")
def _leaky_relu(node: Node, x: Tensor) -> Tensor:
    return ops.leaky_relu(x, node.get("alpha", 0.01))


@operator("PRelu")
def _prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    if node.opset < 7 and slope.ndim == 1 and slope.size > 1:
        slope = ops.reshape(slope, (-1, *(1,) * (x.ndim - 2)))
    if not is_float(x):
        return Tensor(np.where(x.data > 0, x.data, x.data * slope.data))
    return ops.where(x.data > 0, x, ops.mul(x, slope))


@operator("Elu")
def _elu(node: Node, x: Tensor) -> Tensor:
    return ops.elu(x, node.get("alpha", 1.0))


@operator("Celu")
def _celu(node: Node, x: Tensor) -> Tensor:
    return ops.celu(x, node.get("alpha", 1.0))


@operator("Selu")
def _selu(node: Node, x: Tensor) -> Tensor:
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214)
    return ops.mul(ops.elu(x, alpha), gamma)


@operator("Gelu")
def _gelu(node: Node, x: Tensor) -> Tensor:
    return ops.gelu(x, node.get("approximate", "none"))


@operator("HardSigmoid")
def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    line = ops.add(ops.mul(x, node.get("alpha", 0.2)), node.get("beta", 0.5))
    return ops.hardtanh(line, 0.0, 1.0)


@operator("Swish")
def _swish(node: Node, x: Tensor) -> Tensor:
    return ops.mul(x, ops.sigmoid(ops.mul(x, node.get("alpha", 1.0))))


@operator("ThresholdedRelu")
def _thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return ops.where(x.data > node.get("alpha", 1.0), x, 0.0)


@operator("Shrink")
def _shrink(node: Node, x: Tensor) -> Tensor:
    bias, edge = node.get("bias", 0.0), node.get("lambd", 0.5)
    if not is_float(x):
        return Tensor(
            np.where(
                x.data < -edge, x.data + bias, np.where(x.data > edge, x.data - bias, 0)
            ).astype(x.dtype)
        )
    inner = ops.where(x.data > edge, ops.sub(x, bias), 0.0)
    return ops.where(x.data < -edge, ops.add(x, bias), inner)


# --- over an axis ---------------------------------------------------------------------------------


def _over_axis(node: Node, x: Tensor, op: Callable[[Tensor, int], Any]) -> Any:
    """Softmax and its like: over one axis (−1); before opset 13 over all from ``axis`` (1) on."""
    if node.opset >= 13:
        return op(x, axis_of(node.get("axis", -1), x.ndim))
    axis = axis_of(node.get("axis", 1), x.ndim)
    rows = ops.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
    return ops.reshape(op(rows, 1), x.shape)


@operator("Softmax")
def _softmax(node: Node, x: Tensor) -> Any:
    return _over_axis(node, x, ops.softmax)


@operator("LogSoftmax")
def _log_softmax(node: Node, x: Tensor) -> Any:
    return _over_axis(node, x, ops.log_softmax)


@operator("Hardmax", flat=True)
def _hardmax(node: Node, x: Tensor) -> Any:
    def first_maximum(t: Tensor, axis: int) -> Tensor:
        best = np.expand_dims(t.data.argmax(axis), axis)
        y = np.zeros_like(t.data)
        np.put_along_axis(y, best, 1, axis)
        return Tensor(y)

    return _over_axis(node, x, first_maximum).numpy()


@operator("Dropout", arrays=(1, 2))
def _dropout(
    node: Node, x: Tensor, ratio: Array | None = None, training: Array | None = None
) -> tuple[Tensor, Array]:
    """Drops where the graph says so by its third input, or the module is in training mode."""
    p = float(ratio.item()) if ratio is not None else node.get("ratio", 0.5)
    drops = node.training or (training is not None and bool(training.item()))
    kept = np.ones(x.shape, bool)
    if drops and p > 0:
        seed = node.get("seed")
        rng: Any = init.generator() if seed is None else np.random.RandomState(seed)
        kept = rng.uniform(0.0, 1.0, x.shape) >= p
        x = ops.mul(x, Tensor((kept / (1.0 - p)).astype(x.dtype)))
    return x, kept if node.opset >= 10 else kept.astype(x.dtype)
