"""Passes over a plan: each takes a ``Plan``, makes it shorter, and says how often it could.

A convolution ``W * x + b`` with constant weights swallows what follows it:

    batch norm      a·(W * x + b) + c  =  (a·W) * x + (a·b + c)        into the weights
    residual        W * x + b + r                                      into the store
    activation      f(W * x + b + r)                                   into the store
    zero padding    before it                                          into the window
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from cnncore.geometry import Window2d
from cnncore.inference.plan import (
    Activation,
    Affine,
    Convolution,
    Node,
    Plan,
    Sum,
    Value,
)
from cnncore.ops.conv import Conv2d, ConvTranspose2d
from cnncore.ops.elementwise import Add, Div, Mul, Sub
from cnncore.ops.linalg import MatMul
from cnncore.ops.linear import Linear
from cnncore.ops.normalize import Normalize

Array = Any


def make_convolutions(plan: Plan) -> int:
    """Convolutions and dense layers whose weights are constants."""
    count = 0
    for node in plan.nodes:
        arrays = [x.array for x in node.inputs]
        if len(arrays) < 2 or arrays[0] is not None or arrays[1] is None:
            continue
        work = _convolution(node.work, node.inputs[0], arrays)
        if work is not None:
            node.work, node.inputs = work, node.inputs[:1]
            count += 1
    return count


def _convolution(work: Any, x: Value, arrays: list[Array]) -> Convolution | None:
    if isinstance(work, (Conv2d, ConvTranspose2d)):
        bias = arrays[2] if len(arrays) > 2 else None
        size = work.size if isinstance(work, ConvTranspose2d) else None
        return Convolution(arrays[1], bias, work.window, work.groups, size)
    if isinstance(work, MatMul) and len(x.shape) == 2 and arrays[1].ndim == 2:
        weight = np.ascontiguousarray(arrays[1].T)[:, :, None, None]
        return Convolution(weight, None, Window2d((1, 1)), linear=True)
    return None


def make_affine(plan: Plan) -> int:
    """Batch norm with fixed statistics, and sums and products with one constant a channel."""
    count = 0
    for node in plan.nodes:
        work = _normalisation(node) or _arithmetic(node)
        if work is not None:
            x = next(x for x in node.inputs if x.array is None)
            node.work, node.inputs = work, [x]
            count += 1
    return count


def _normalisation(node: Node) -> Affine | None:
    if not isinstance(node.work, Normalize):
        return None
    rows = node.work.rows
    if rows.fixed is None or rows.joined != 0:
        return None
    mean, rstd = (np.asarray(s, np.float64).reshape(-1) for s in rows.fixed)
    weight, bias = (x.array for x in node.inputs[1:])
    a = rstd if weight is None else rstd * weight.astype(np.float64)
    b = -mean * a if bias is None else bias.astype(np.float64) - mean * a
    return Affine(a, b)


def _arithmetic(node: Node) -> Affine | None:
    if not isinstance(node.work, (Add, Sub, Mul, Div)) or len(node.inputs) != 2:
        return None
    left, right = node.inputs
    x, constant = (right, left) if left.array is not None else (left, right)
    if constant.array is None or x.array is not None or x.shape != node.output.shape:
        return None
    values = _per_channel(constant.array, x.shape)
    if values is None:
        return None
    one, zero = np.ones_like(values), np.zeros_like(values)
    if isinstance(node.work, Add):
        return Affine(one, values)
    if isinstance(node.work, Mul):
        return Affine(values, zero)
    if isinstance(node.work, Sub):
        return Affine(one, -values) if x is left else Affine(-one, values)
    return Affine(1.0 / values, zero) if x is left else None


def _per_channel(constant: Array, shape: tuple[int, ...]) -> Array | None:
    """One float64 value per channel of ``shape``, if that is what the constant broadcasts to."""
    if len(shape) not in (2, 4) or constant.dtype.kind != "f" or constant.ndim > len(shape):
        return None
    wide = (1,) * (len(shape) - constant.ndim) + constant.shape
    if any(n != 1 for axis, n in enumerate(wide) if axis != 1) or wide[1] not in (1, shape[1]):
        return None
    return np.broadcast_to(constant.astype(np.float64).reshape(-1), (shape[1],)).copy()


# --- fusions --------------------------------------------------------------------------------------


def fold_affine(plan: Plan) -> int:
    """``a·y + b`` into the convolution, or the other affine map, that makes y."""

    def fold(first: Node, second: Node) -> bool:
        affine, made = second.work, first.work
        if not isinstance(affine, Affine) or not _bare(first):
            return False
        if isinstance(made, Affine):
            made = Affine(made.a * affine.a, made.b * affine.a + affine.b, affine.activation)
        elif isinstance(made, Convolution) and len(first.inputs) == 1:
            made = _scaled(made, affine)
        else:
            return False
        second.work, second.inputs = made, first.inputs
        return True

    return _join(plan, fold)


def _scaled(conv: Convolution, affine: Affine) -> Convolution:
    bias = 0.0 if conv.bias is None else conv.bias.astype(np.float64)
    if conv.size is None:
        scale = affine.a[:, None, None, None]
    else:  # weight (O, C/G, KH, KW), C the channels of the result: each filter of a group its part
        groups, filters = conv.groups, conv.weight.shape[0] // conv.groups
        scale = np.repeat(affine.a.reshape(groups, -1), filters, axis=0)[:, :, None, None]
    return replace(
        conv,
        weight=(conv.weight * scale).astype(conv.weight.dtype),
        bias=(affine.a * bias + affine.b).astype(conv.weight.dtype),
        activation=affine.activation,
    )


def make_sums(plan: Plan) -> int:
    """Sums of two arrays of one shape that no convolution took over."""
    count = 0
    for node in plan.nodes:
        shapes = {x.shape for x in node.inputs}
        if isinstance(node.work, Add) and shapes == {node.output.shape}:
            node.work = Sum()
            count += 1
    return count


def fuse_activations(plan: Plan) -> int:
    """``f(y)`` into the convolution, affine map or sum that makes y."""

    def fuse(first: Node, second: Node) -> bool:
        if not isinstance(second.work, Activation) or not _bare(first):
            return False
        if not isinstance(first.work, (Convolution, Affine, Sum)):
            return False
        second.work = replace(first.work, activation=second.work)
        second.inputs = first.inputs
        return True

    return _join(plan, fuse)


def fuse_residuals(plan: Plan) -> int:
    """``y + r`` into the convolution that makes y; of two convolutions the later one takes it."""
    count = 0
    position = {id(node): i for i, node in enumerate(plan.nodes)}
    for add in list(plan.nodes):
        if not isinstance(add.work, Add) or len(add.inputs) != 2:
            continue
        left, right = add.inputs
        if left is right or left.shape != right.shape or left.shape != add.output.shape:
            continue
        hosts = [
            (position[id(host)], host, other)
            for value, other in ((left, right), (right, left))
            if (host := plan.producer(value)) is not None and _takes_residual(plan, host, other)
        ]
        if hosts:
            _, host, other = max(hosts, key=lambda entry: entry[0])
            add.work, add.inputs = host.work, [*host.inputs, other]
            _take_over(host, add)
            plan.nodes.remove(host)
            count += 1
    return count


def _takes_residual(plan: Plan, host: Node, residual: Value) -> bool:
    work = host.work
    if not isinstance(work, Convolution) or work.linear or len(host.inputs) != 1:
        return False
    return _bare(host) and residual.array is None and plan.only_user(host.output) is not None


def fold_padding(plan: Plan) -> int:
    """Zero padding in front of a convolution into its window."""

    def fold(first: Node, second: Node) -> bool:
        conv = second.work
        if not isinstance(conv, Convolution) or conv.size is not None or conv.linear:
            return False
        amounts = _zero_padding(first)
        if amounts is None or second.inputs[0] is not first.output:
            return False
        rows, cols = (
            (old[0] + new[0], old[1] + new[1])
            for old, new in zip(conv.window.padding, amounts, strict=True)
        )
        second.work = replace(conv, window=replace(conv.window, padding=(rows, cols)))
        second.inputs = [*first.inputs, *second.inputs[1:]]
        return True

    return _join(plan, fold)


def _zero_padding(node: Node) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Rows and columns added around a plane, found by sending ones through the op."""
    work = node.work
    if not isinstance(work, Linear) or work.name != "Pad" or len(node.output.shape) != 4:
        return None
    before, after = node.inputs[0].shape, node.output.shape
    if before[:2] != after[:2] or before[2] > after[2] or before[3] > after[3] or not before[0]:
        return None
    inside = work.map.forward(np.ones(before, np.float32))[0, 0]
    if inside.sum() != before[2] * before[3]:  # some of it was cropped
        return None
    top, left = (int(np.flatnonzero(inside.any(axis=1 - a))[0]) for a in (0, 1))
    return (top, after[2] - before[2] - top), (left, after[3] - before[3] - left)


def _bare(node: Node) -> bool:
    """Nothing has been applied to the result yet."""
    work = node.work
    return not isinstance(work, (Convolution, Affine, Sum)) or not work.activation.kind


def _join(plan: Plan, joins: Callable[[Node, Node], bool]) -> int:
    """Let every node swallow the producer of its first input where ``joins`` does it."""
    count = 0
    for second in list(plan.nodes):
        while second.inputs and second.inputs[0].array is None:
            first = plan.producer(second.inputs[0])
            if first is None or plan.only_user(first.output) is not second:
                break
            if not joins(first, second):
                break
            _take_over(first, second)
            plan.nodes.remove(first)
            count += 1
    return count


def _take_over(first: Node, second: Node) -> None:
    """What a report says of a node that has swallowed another."""
    second.parts = [*first.parts, *second.parts]
    second.layers = list(dict.fromkeys([*first.layers, *second.layers]))
    second.view = False


PASSES: dict[str, Callable[[Plan], int]] = {
    "convolutions and dense layers with constant weights": make_convolutions,
    "batch norms and sums or products with constants": make_affine,
    "of them folded into weights": fold_affine,
    "zero paddings folded into windows": fold_padding,
    "residual sums fused": fuse_residuals,
    "sums of their own": make_sums,
    "activations fused": fuse_activations,
}


def fuse(plan: Plan) -> dict[str, int]:
    """Run all passes; how often each could do something."""
    plan.drop_unused()
    return {what: run(plan) for what, run in PASSES.items()}


__all__ = ["PASSES", "fuse"]
