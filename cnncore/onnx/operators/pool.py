"""Pooling over one, two or three axes, global pooling, unpooling, and pooling of regions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.onnx.node import Node
from cnncore.onnx.operators.support import Windows, exactly, ints, separable, windows
from cnncore.onnx.registry import operator
from cnncore.ops.linear import apply
from cnncore.ops.pool import MaxPool2d
from cnncore.ops.shape import gather_map
from cnncore.roi_grid import RoiGrid
from cnncore.taps import Taps

Array = Any


# --- maxima ---------------------------------------------------------------------------------------


@operator("MaxPool")
def max_pool(node: Node, x: Tensor) -> Any:
    """``(N, C, …)``; the second output is where each maximum was, flat in the whole input."""
    w = windows(node, ints(node.get("kernel_shape")), x.shape[2:])
    size = w.output_size(x.shape[2:], bool(node.get("ceil_mode", 0)))
    if len(size) > 3:
        raise node.refuse(f"{len(size)} spatial axes")
    y, place = exactly(x, lambda t: _maxima(t, w, size))
    if node.wanted < 2:
        return y
    return y, _flat_places(place, x.shape, bool(node.get("storage_order", 0)))


def _maxima(x: Tensor, w: Windows, size: tuple[int, ...]) -> tuple[Tensor, Array]:
    """Maxima, and their flat positions within one image's channel."""
    N, C, spatial = x.shape[0], x.shape[1], x.shape[2:]
    if len(size) == 1:
        y, place = MaxPool2d(w.plane(-1, 0), (1, size[0]))(ops.unsqueeze(x, 2))
        return ops.squeeze(y, 2), place.numpy().reshape(N, C, *size)
    if len(size) == 2:
        y, place = MaxPool2d(w.plane(0, 1), (size[0], size[1]))(x)
        return y, place.numpy()
    # A maximum over a box is the maximum along its depth of the maxima of its planes.
    depth, plane = spatial[0], size[1] * size[2]
    flat = ops.reshape(x, (N, C * depth, *spatial[1:]))
    y, inner = MaxPool2d(w.plane(1, 2), (size[1], size[2]))(flat)
    columns = ops.reshape(y, (N, C, depth, plane))
    y, outer = MaxPool2d(w.plane(0, -1), (size[0], plane))(columns)
    layer = outer.numpy() // plane
    within = np.take_along_axis(inner.numpy().reshape(N, C, depth, plane), layer, 2)
    place = layer * (spatial[1] * spatial[2]) + within
    return ops.reshape(y, (N, C, *size)), place.reshape(N, C, *size)


def _flat_places(place: Array, shape: tuple[int, ...], column_major: bool) -> Array:
    spatial = shape[2:]
    if column_major:
        place = np.ravel_multi_index(np.unravel_index(place, spatial), spatial, order="F")
    channel = np.arange(shape[0] * shape[1]).reshape(*shape[:2], *(1,) * len(spatial))
    return place + channel * math.prod(spatial)


@operator("MaxUnpool", arrays=(1, 2))
def max_unpool(node: Node, x: Tensor, indices: Array, output_shape: Array | None = None) -> Tensor:
    """Every value back to the flat position that its index names; zeros elsewhere."""
    w = windows(node, ints(node.get("kernel_shape")), x.shape[2:])
    usual = tuple(
        (n - 1) * s + k - before - after
        for n, s, k, (before, after) in zip(x.shape[2:], w.strides, w.kernel, w.pads, strict=True)
    )
    shape = (*x.shape[:2], *usual)
    index = indices.astype(np.int64).reshape(1, -1, 1)
    y = apply(gather_map(index, math.prod(shape)).T, ops.reshape(x, (1, -1, 1)))
    y = ops.reshape(y, shape)
    if output_shape is None:
        return y
    grown = [int(n) - m for n, m in zip(output_shape[2:], usual, strict=True)]
    return ops.pad(y, [amount for g in reversed(grown) for amount in (0, g)])


# --- sums and means -------------------------------------------------------------------------------


def _window_taps(
    size: int, length: int, w: Windows, axis: int, include_pad: bool, mean: bool
) -> Taps:
    """Each output is the sum or mean of the elements its window meets along one axis.

    A mean counts padding if ``include_pad``, but never what hangs over the padding's far end.
    """
    kernel, step, hole = w.kernel[axis], w.strides[axis], w.dilations[axis]
    before, after = w.pads[axis]
    position = np.arange(length)[:, None] * step - before + np.arange(kernel) * hole
    inside = (position >= 0) & (position < size)
    order = np.argsort(~inside, axis=1, kind="stable")  # what exists comes first
    index = np.take_along_axis(np.where(inside, position, 0), order, 1)
    counted = position < size + after if include_pad else inside
    weight = 1.0 / np.maximum(counted.sum(1), 1) if mean else np.ones(length)
    return Taps(
        size,
        index[None].astype(np.int64),
        np.broadcast_to(weight[:, None], index.shape)[None].copy(),
        inside.sum(1)[None].astype(np.int64),
    )


def _pooled(node: Node, x: Tensor, name: str, mean: bool) -> Tensor:
    w = windows(node, ints(node.get("kernel_shape")), x.shape[2:])
    size = w.output_size(x.shape[2:], bool(node.get("ceil_mode", 0)))
    include = bool(node.get("count_include_pad", 0))
    matrices = {
        axis + 2: _window_taps(n, size[axis], w, axis, include, mean)
        for axis, n in enumerate(x.shape[2:])
    }
    return separable(name, x, matrices)


@operator("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    """The mean of each window: a product of means along the axes."""
    return _pooled(node, x, "AveragePool", mean=True)


@operator("LpPool")
def lp_pool(node: Node, x: Tensor) -> Tensor:
    """``(Σ |x|ᵖ)^(1/p)`` over each window."""
    return _root(node, _pooled(node, _powers(node, x), "LpPool", mean=False))


def _powers(node: Node, x: Tensor) -> Tensor:
    p = node.get("p", 2)
    return ops.mul(x, x) if p == 2 else ops.abs(x) if p == 1 else ops.pow(ops.abs(x), float(p))


def _root(node: Node, y: Tensor) -> Tensor:
    p = node.get("p", 2)
    return ops.sqrt(y) if p == 2 else y if p == 1 else ops.pow(y, 1.0 / p)


# --- global ---------------------------------------------------------------------------------------


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@operator("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    """The mean over all spatial axes."""
    return ops.mean(x, _spatial(x), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    """The maximum over all spatial axes."""
    return ops.amax(x, _spatial(x), keepdim=True)


@operator("GlobalLpPool")
def global_lp_pool(node: Node, x: Tensor) -> Tensor:
    """``(Σ |x|ᵖ)^(1/p)`` over all spatial axes."""
    return _root(node, ops.sum(_powers(node, x), _spatial(x), keepdim=True))


# --- regions --------------------------------------------------------------------------------------


@operator("MaxRoiPool", arrays=(1,))
def max_roi_pool(node: Node, x: Tensor, rois: Array) -> Tensor:
    """RoI pooling of rows (image, x1, y1, x2, y2)."""
    return ops.roi_pool(x, rois, ints(node.get("pooled_shape")), node.get("spatial_scale", 1.0))


@operator("RoiAlign", arrays=(1, 2))
def roi_align(node: Node, x: Tensor, rois: Array, image: Array) -> Tensor:
    """RoI Align of boxes (x1, y1, x2, y2) of the images that ``image`` names."""
    boxes = np.concatenate([image.reshape(-1, 1).astype(np.float64), rois], axis=1)
    size = node.get("output_height", 1), node.get("output_width", 1)
    scale, ratio = node.get("spatial_scale", 1.0), node.get("sampling_ratio", 0)
    default = "output_half_pixel" if node.opset < 16 else "half_pixel"
    aligned = node.get("coordinate_transformation_mode", default) == "half_pixel"
    if node.get("mode", "avg") == "avg":
        return ops.roi_align(x, boxes, size, scale, max(ratio, 0), aligned)
    return _roi_align_max(x, RoiGrid.make(boxes, size, scale, x.shape[0]), ratio, aligned)


def _roi_align_max(x: Tensor, grid: RoiGrid, ratio: int, aligned: bool) -> Tensor:
    """The largest *weighted pixel* in each bin, which is how ONNX defines this mode.

    Each bilinear sample weighs four pixels; the maximum is taken over weight times pixel, not over
    the samples.  One region at a time, because each may have a sampling of its own.
    """
    regions = []
    for box, image in zip(grid.boxes, grid.image, strict=True):
        one = RoiGrid(box[None], np.zeros(1, np.int64), grid.output_size)
        rows, cols = (_corners(one, axis, x.shape[2 + axis], ratio, aligned) for axis in (0, 1))
        (yi, yw), (xi, xw) = rows, cols  # (PH, S) and (PW, T)
        pixels = ops.getitem(
            x[int(image)], (slice(None), yi[:, None, :, None], xi[None, :, None, :])
        )
        weight = yw[:, None, :, None] * xw[None, :, None, :]
        values = ops.mul(pixels, Tensor(weight.astype(x.dtype)))
        regions.append(ops.amax(values, (3, 4)))
    if not regions:
        return Tensor(np.zeros((0, x.shape[1], *grid.output_size), x.dtype))
    return ops.stack(regions)


def _corners(grid: RoiGrid, axis: int, size: int, ratio: int, aligned: bool) -> tuple[Array, Array]:
    """Pixel and weight of both neighbours of every sample along one axis: ``(P, 2 S)`` each."""
    low, high = float(grid.boxes[0, 1 - axis]), float(grid.boxes[0, 3 - axis])
    bins = grid.output_size[axis]
    extent = high - low if aligned else max(high - low, 1.0)
    samples = ratio if ratio > 0 else math.ceil(extent / bins)
    if samples < 1:
        raise ArgumentError("rois", "regions of positive size", (low, high), "sampling_ratio=2")
    p, s = np.arange(bins)[:, None], np.arange(samples)
    position = low - (0.5 if aligned else 0.0) + (p + (s + 0.5) / samples) * (extent / bins)
    inside = (position >= -1.0) & (position <= size)
    position = position.clip(0.0, size - 1.0)
    first = np.minimum(position.astype(np.int64), max(size - 2, 0))
    upper = position - first
    weight = np.stack([1.0 - upper, upper], -1) * inside[..., None]
    index = np.stack([first, np.minimum(first + 1, size - 1)], -1)
    return index.reshape(bins, -1), weight.reshape(bins, -1)
