"""Normalisations."""

from __future__ import annotations

from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.onnx.node import Node
from cnncore.onnx.operators.support import axis_of
from cnncore.onnx.registry import operator

Array = Any


@operator("BatchNormalization", statistics=(3, 4))
def batch_norm(
    node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> Any:
    """With the running statistics, or, in training, those of the batch.

    A graph that was exported for training asks for the batch's statistics itself and gives the
    running ones as further outputs; for any other graph the module's own mode decides, and moves
    the running ones in place.
    """
    if not node.get("spatial", 1):
        raise node.refuse("spatial=0")
    eps, momentum = node.get("epsilon", 1e-5), node.get("momentum", 0.9)
    scale, bias = ops.to(scale, x.dtype), ops.to(bias, x.dtype)
    if not node.get("training_mode", 0):
        return ops.batch_norm(x, mean, var, scale, bias, node.training, 1.0 - momentum, eps)
    axes = (0, *range(2, x.ndim))
    y = ops.batch_norm(x, None, None, scale, bias, True, 0.0, eps)
    moved = (
        old.data * momentum + new.astype(old.dtype) * (1.0 - momentum)
        for old, new in ((mean, x.data.mean(axes)), (var, x.data.var(axes)))
    )
    return (y, *(m.astype(mean.dtype) for m in moved))


@operator("InstanceNormalization")
def instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Every channel of every image by itself."""
    return ops.instance_norm(x, None, None, scale, bias, eps=node.get("epsilon", 1e-5))


@operator("GroupNormalization")
def group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Groups of channels; before opset 21 scale and bias were one number a group."""
    groups = node.get("num_groups")
    if scale.shape != (x.shape[1],):
        each = x.shape[1] // groups
        scale, bias = (
            ops.reshape(ops.expand(ops.unsqueeze(t, 1), (groups, each)), -1) for t in (scale, bias)
        )
    return ops.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


@operator("LayerNormalization")
def layer_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
    """The axes from ``axis`` on; further outputs are each row's mean and 1/deviation."""
    axis, eps = axis_of(node.get("axis", -1), x.ndim), node.get("epsilon", 1e-5)
    y = ops.mul(ops.layer_norm(x, x.shape[axis:], eps=eps), scale)
    y = y if bias is None else ops.add(y, bias)
    if node.wanted < 2:
        return y
    over = tuple(range(axis, x.ndim))
    mean = ops.mean(x, over, keepdim=True)
    off = ops.sub(x, mean)
    var = ops.mean(ops.mul(off, off), over, keepdim=True)
    return y, mean, ops.pow(ops.add(var, eps), -0.5)


@operator("RMSNormalization")
def rms_norm(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    """``x / √(mean x² + ε) · scale`` over the axes from ``axis`` on."""
    axis = axis_of(node.get("axis", -1), x.ndim)
    square = ops.mean(ops.mul(x, x), tuple(range(axis, x.ndim)), keepdim=True)
    rstd = ops.pow(ops.add(square, node.get("epsilon", 1e-5)), -0.5)
    return ops.mul(ops.mul(x, rstd), ops.to(scale, x.dtype))


@operator("MeanVarianceNormalization")
def mean_variance_norm(node: Node, x: Tensor) -> Tensor:
    """``(x − mean) / deviation`` over ``axes``; nothing is added but a guard against 0."""
    axes = tuple(node.get("axes", (0, 2, 3)))
    off = ops.sub(x, ops.mean(x, axes, keepdim=True))
    deviation = ops.sqrt(ops.mean(ops.mul(off, off), axes, keepdim=True))
    return ops.div(off, ops.add(deviation, 1e-9))


@operator("LpNormalization")
def lp_norm(node: Node, x: Tensor) -> Tensor:
    """``x / ‖x‖`` along an axis; 0 where the norm is 0."""
    axis = axis_of(node.get("axis", -1), x.ndim)
    if node.get("p", 2) == 1:
        norm = ops.sum(ops.abs(x), axis, keepdim=True)
    else:
        norm = ops.sqrt(ops.sum(ops.mul(x, x), axis, keepdim=True))
    return ops.div(x, ops.where(norm.data == 0, 1.0, norm))


@operator("LRN")
def lrn(node: Node, x: Tensor) -> Tensor:
    """Local response norm over ``size`` neighbouring channels."""
    size, alpha, beta = node.get("size"), node.get("alpha", 1e-4), node.get("beta", 0.75)
    settings = (size, alpha, beta, node.get("bias", 1.0))
    if size % 2:
        return ops.local_response_norm(x, *settings)
    # With an even size ONNX takes the extra channel above, `ops` below: mirror the channels.
    return ops.flip(ops.local_response_norm(ops.flip(x, 1), *settings), 1)
