"""Convolution and its transpose over one, two or three axes, deformable convolution, col2im.

One axis is a plane of one row.  Three axes are a sum over the kernel's depth: for each of its
layers, the slices of the input that it meets are convolved as planes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.onnx.node import Node
from cnncore.onnx.operators.support import Windows, halves, ints, windows
from cnncore.onnx.registry import operator
from cnncore.ops.linear import apply
from cnncore.ops.shape import gather_map

Array = Any


@operator("Conv")
def conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``(N, C, …) -> (N, O, …)``"""
    w = windows(node, ints(node.get("kernel_shape", weight.shape[2:])), x.shape[2:])
    if w.kernel != weight.shape[2:]:
        raise ValueError(f"kernel_shape {w.kernel} for a weight of shape {weight.shape}")
    return convolve(node, x, weight, bias, w)


def convolve(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None, w: Windows) -> Tensor:
    """The convolution of a node's ``group``, over as many axes as the window has."""
    groups, axes = node.get("group", 1), len(w.kernel)
    if axes == 1:
        y = _plane(ops.unsqueeze(x, 2), ops.unsqueeze(weight, 2), bias, w, (-1, 0), groups)
        return ops.squeeze(y, 2)
    if axes == 2:
        return _plane(x, weight, bias, w, (0, 1), groups)
    if axes != 3:
        raise node.refuse(f"{axes} spatial axes")
    return _volume(x, weight, bias, w, groups)


def _plane(
    x: Tensor, weight: Tensor, bias: Tensor | None, w: Windows, axes: tuple[int, int], groups: int
) -> Tensor:
    plane = w.plane(*axes)
    return ops.conv2d(x, weight, bias, plane.stride, plane.padding, plane.dilation, groups)


def _volume(x: Tensor, weight: Tensor, bias: Tensor | None, w: Windows, groups: int) -> Tensor:
    N, C = x.shape[:2]
    depth = w.output_size(x.shape[2:])[0]
    before, after = w.pads[0]
    x = ops.pad(x, (0, 0, 0, 0, before, after))
    total = None
    for k in range(w.kernel[0]):
        first, step = k * w.dilations[0], w.strides[0]
        slices = x[:, :, first : first + (depth - 1) * step + 1 : step]
        planes = ops.reshape(ops.permute(slices, 0, 2, 1, 3, 4), (N * depth, C, *x.shape[3:]))
        part = _plane(planes, weight[:, :, k], None if k else bias, w, (1, 2), groups)
        total = part if total is None else ops.add(total, part)
    assert total is not None  # a kernel has at least one layer
    y = ops.reshape(total, (N, depth, *total.shape[1:]))
    return ops.permute(y, 0, 2, 1, 3, 4)


@operator("ConvTranspose")
def conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``(N, C, …) -> (N, O, …)``: the whole of what the kernel reaches, then cropped or padded."""
    size, kernel = x.shape[2:], weight.shape[2:]
    count, groups = len(size), node.get("group", 1)
    w = windows(node, ints(node.get("kernel_shape", kernel)), size)
    extra = ints(node.get("output_padding", (0,) * count))
    reach = [(n - 1) * s + e for n, s, e in zip(size, w.strides, w.extent, strict=True)]
    pads = _transposed_pads(node, size, w, extra, reach)
    wanted = [r + e - b - a for r, e, (b, a) in zip(reach, extra, pads, strict=True)]
    if count == 2 and _is_plain(w, extra, pads):
        return ops.conv_transpose2d(x, weight, bias, w.strides, pads, extra, groups, w.dilations)
    free = Windows(w.kernel, w.strides, w.dilations, ((0, 0),) * count)
    if count == 1:
        y = _plane_transpose(ops.unsqueeze(x, 2), ops.unsqueeze(weight, 2), free, (-1, 0), groups)
        y = ops.squeeze(y, 2)
    elif count == 2:
        y = _plane_transpose(x, weight, free, (0, 1), groups)
    elif count == 3:
        y = _volume_transpose(x, weight, free, groups, reach[0])
    else:
        raise node.refuse(f"{count} spatial axes")
    amounts = [(-b, n - r + b) for (b, _), n, r in zip(pads, wanted, reach, strict=True)]
    y = ops.pad(y, [amount for pair in reversed(amounts) for amount in pair])
    return y if bias is None else ops.add(y, ops.reshape(bias, (-1, *(1,) * count)))


def _is_plain(w: Windows, extra: tuple[int, ...], pads: tuple[tuple[int, int], ...]) -> bool:
    small = all(e < s for e, s in zip(extra, w.strides, strict=True))
    return small and all(p >= 0 for pair in pads for p in pair)


def _transposed_pads(
    node: Node, size: Any, w: Windows, extra: tuple[int, ...], reach: list[int]
) -> tuple[tuple[int, int], ...]:
    """What is cut off at both ends: given, or whatever makes the output as large as asked for."""
    auto = node.get("auto_pad", "NOTSET")
    if node.has("output_shape"):
        wanted = ints(node.get("output_shape"))[-len(size) :]
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(n * s for n, s in zip(size, w.strides, strict=True))
    elif auto == "VALID":
        return ((0, 0),) * len(size)
    else:
        given = ints(node.get("pads", (0,) * (2 * len(size))))
        return tuple(zip(given[: len(size)], given[len(size) :], strict=True))
    upper = auto == "SAME_UPPER"
    total = [r + e - n for r, e, n in zip(reach, extra, wanted, strict=True)]
    # More than the kernel reaches is added at the end.
    return tuple(halves(t, upper) if t >= 0 else (0, t) for t in total)


def _plane_transpose(
    x: Tensor, weight: Tensor, w: Windows, axes: tuple[int, int], groups: int
) -> Tensor:
    plane = w.plane(*axes)
    return ops.conv_transpose2d(x, weight, None, plane.stride, 0, 0, groups, plane.dilation)


def _volume_transpose(x: Tensor, weight: Tensor, w: Windows, groups: int, depth: int) -> Tensor:
    N, C, D = x.shape[:3]
    planes = ops.reshape(ops.permute(x, 0, 2, 1, 3, 4), (N * D, C, *x.shape[3:]))
    total = None
    for k in range(w.kernel[0]):
        y = _plane_transpose(planes, weight[:, :, k], w, (1, 2), groups)
        plane: tuple[int, ...] = y.shape[1:]
        # Spread the slices `stride` apart, then shift them to where this layer of the kernel is.
        y = ops.reshape(y, (N, D, 1, *plane))
        y = ops.pad(y, (0, 0, 0, 0, 0, 0, 0, w.strides[0] - 1))
        y = ops.reshape(y, (N, D * w.strides[0], *plane))
        first = k * w.dilations[0]
        y = ops.pad(y, (0, 0, 0, 0, 0, 0, first, depth - first - y.shape[1]))
        total = y if total is None else ops.add(total, y)
    assert total is not None
    return ops.permute(total, 0, 2, 1, 3, 4)


@operator("Col2Im", arrays=(1, 2))
def col2im(node: Node, cols: Tensor, image_shape: Array, block_shape: Array) -> Tensor:
    """``(N, C·prod(block), L) -> (N, C, *image)``: blocks added back to where they lie."""
    image, block = ints(image_shape), ints(block_shape)
    w = windows(node, block, image)
    taps = [
        np.arange(n)[None, :] * s + np.arange(k)[:, None] * d - before
        for n, k, s, d, (before, _) in zip(
            w.output_size(image), block, w.strides, w.dilations, w.pads, strict=True
        )
    ]
    # One flat position for every (element of the block, place of the block); -1 outside the image.
    index: Array = np.zeros((1, 1), np.int64)
    outside: Array = np.zeros((1, 1), bool)
    for size, positions in zip(image, taps, strict=True):
        index = index[:, None, :, None] * size + positions[None, :, None, :]
        missing = (positions < 0) | (positions >= size)
        outside = outside[:, None, :, None] | missing[None, :, None, :]
        rows, columns = index.shape[0] * index.shape[1], index.shape[2] * index.shape[3]
        index, outside = index.reshape(rows, columns), outside.reshape(rows, columns)
    flat = np.where(outside, -1, index).reshape(1, -1, 1)
    N, channels = cols.shape[0], cols.shape[1] // math.prod(block)
    values = ops.reshape(cols, (N * channels, flat.size, 1))
    y = apply(gather_map(flat, math.prod(image)).T, values)
    return ops.reshape(y, (N, channels, *image))


@operator("DeformConv")
def deform_conv(
    node: Node,
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Convolution whose taps are moved by ``offset`` and scaled by ``mask``: planes only.

    Source: Dai et al., "Deformable convolutional networks", 2017; Zhu et al., 2019, for the mask.
    """
    from cnncore.onnx.operators.resize import sample_linear

    if x.ndim != 4:
        raise node.refuse(f"{x.ndim - 2} spatial axes")
    N, C, H, W = x.shape
    filters, (KH, KW) = weight.shape[0], weight.shape[2:]
    w = windows(node, (KH, KW), (H, W))
    OH, OW = w.output_size((H, W))
    G, D = node.get("group", 1), node.get("offset_group", 1)
    moved = ops.reshape(offset, (N * D, KH * KW, 2, OH, OW))
    taps = np.stack(np.meshgrid(np.arange(KH), np.arange(KW), indexing="ij"), -1).reshape(-1, 2)
    out = np.stack(np.meshgrid(np.arange(OH), np.arange(OW), indexing="ij"))
    place = []
    for axis in range(2):
        base = out[axis] * w.strides[axis] - w.pads[axis][0]
        base = base[None] + (taps[:, axis] * w.dilations[axis])[:, None, None]
        place.append(ops.add(moved[:, :, axis], Tensor(base.astype(x.dtype))))
    planes = ops.reshape(x, (N * D, C // D, H, W))
    flat = [ops.reshape(p, (N * D, KH * KW * OH * OW)) for p in place]
    values = sample_linear(planes, flat, "zeros")  # (N·D, C/D, KH·KW·OH·OW)
    if mask is not None:
        values = ops.mul(values, ops.reshape(mask, (N * D, 1, KH * KW * OH * OW)))
    cols = ops.reshape(values, (N, G, C // G * KH * KW, OH * OW))
    y = ops.matmul(ops.reshape(weight, (1, G, filters // G, -1)), cols)
    y = ops.reshape(y, (N, filters, OH, OW))
    return y if bias is None else ops.add(y, ops.reshape(bias, (-1, 1, 1)))
