"""Shapes: reshaping, joining, cutting, padding, and values made from shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import require
from cnncore.onnx.graph import constant_of
from cnncore.onnx.node import Node
from cnncore.onnx.operators.support import axis_of, ints, rearranged
from cnncore.onnx.registry import ALL, operator

Array = Any


# --- the same numbers -----------------------------------------------------------------------------


@operator("Identity", widen=False)
def _identity(node: Node, x: Tensor) -> Tensor:
    return x


@operator("Reshape", arrays=(1,), widen=False)
def _reshape(node: Node, x: Tensor, shape: Array | None = None) -> Tensor:
    wanted = list(ints(node.get("shape") if shape is None else shape))
    if not node.get("allowzero", 0):
        wanted = [x.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    if -1 in wanted and 0 in x.shape:  # NumPy cannot tell what -1 stands for
        rest = math.prod(n for n in wanted if n != -1)
        wanted = [(x.size // rest if rest else 0) if n == -1 else n for n in wanted]
    return ops.reshape(x, wanted)


@operator("Flatten", widen=False)
def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis += x.ndim if axis < 0 else 0
    return ops.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def _axes(node: Node, given: Array | None) -> tuple[int, ...] | None:
    axes = node.get("axes") if given is None else ints(given)
    return None if axes is None else tuple(axes)


@operator("Squeeze", arrays=(1,), widen=False)
def _squeeze(node: Node, x: Tensor, axes: Array | None = None) -> Tensor:
    chosen = _axes(node, axes)
    if chosen is None:
        return ops.squeeze(x)
    gone = {axis_of(a, x.ndim) for a in chosen}
    if any(x.shape[a] != 1 for a in gone):
        raise ValueError(f"axes {chosen} of an input of shape {x.shape} to have size 1")
    return ops.reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in gone))


@operator("Unsqueeze", arrays=(1,), widen=False)
def _unsqueeze(node: Node, x: Tensor, axes: Array | None = None) -> Tensor:
    chosen = _axes(node, axes) or ()
    ndim = x.ndim + len(chosen)
    new, old = {axis_of(a, ndim) for a in chosen}, iter(x.shape)
    return ops.reshape(x, tuple(1 if i in new else next(old) for i in range(ndim)))


@operator("Transpose", widen=False)
def _transpose(node: Node, x: Tensor) -> Tensor:
    return ops.permute(x, tuple(node.get("perm", range(x.ndim)[::-1])))


@operator("Expand", arrays=(1,), widen=False)
def _expand(node: Node, x: Tensor, shape: Array) -> Tensor:
    return ops.expand(x, np.broadcast_shapes(x.shape, ints(shape)))


@operator("Tile", arrays=(1, 2), widen=False)
def _tile(node: Node, x: Tensor, repeats: Array, axis: Array | None = None) -> Tensor:
    if axis is None:
        times = ints(repeats)
    else:  # opset 1 to 5: how often, and along which axis
        times = tuple(int(repeats.item()) if i == int(axis.item()) else 1 for i in range(x.ndim))
    return rearranged("Tile", x, lambda a: np.tile(a, times))


# --- joining and cutting --------------------------------------------------------------------------


@operator("Concat", widen=False)
def _concat(node: Node, *inputs: Tensor) -> Tensor:
    return ops.cat(inputs, node.get("axis", 1))


@operator("Split", arrays=(1,), widen=False)
def _split(node: Node, x: Tensor, sizes: Array | None = None) -> tuple[Tensor, ...]:
    axis = axis_of(node.get("axis", 0), x.ndim)
    given = node.get("split") if sizes is None else ints(sizes)
    if not given:
        # Equal parts; the last is smaller if that is not possible (opset 18).
        parts, length = node.get("num_outputs", node.wanted), x.shape[axis]
        each = -(-length // parts)
        given = [max(min(each, length - i * each), 0) for i in range(parts)]
    return ops.split(x, list(given), axis)


@operator("Slice", since=10, arrays=(1, 2, 3, 4), widen=False)
def _slice(
    node: Node,
    x: Tensor,
    starts: Array,
    ends: Array,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Tensor:
    first, last = ints(starts), ints(ends)
    along = range(len(first)) if axes is None else ints(axes)
    by = (1,) * len(first) if steps is None else ints(steps)
    return _cut(x, first, last, along, by)


@operator("Slice", until=9, widen=False)
def _slice_by_attributes(node: Node, x: Tensor) -> Tensor:
    first, last = node.get("starts"), node.get("ends")
    return _cut(x, first, last, node.get("axes", range(len(first))), (1,) * len(first))


def _cut(x: Tensor, starts: Any, ends: Any, axes: Any, steps: Any) -> Tensor:
    key = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis_of(axis, x.ndim)]
        start = start + size if start < 0 else start
        end = end + size if end < 0 else end
        if step > 0:
            bounds: Any = max(start, 0), max(end, 0)
        else:  # backwards: an end before the first element is "to the beginning", not -1
            bounds = min(start, size - 1), None if end < 0 else end
            if start < 0:
                bounds = 0, 0
        key[axis_of(axis, x.ndim)] = slice(bounds[0], bounds[1], step)
    return ops.getitem(x, tuple(key))


@operator("CenterCropPad", arrays=(1,), widen=False)
def _center_crop_pad(node: Node, x: Tensor, shape: Array) -> Tensor:
    axes = [axis_of(a, x.ndim) for a in node.get("axes", range(x.ndim))]
    amounts = [(0, 0)] * x.ndim
    for axis, n in zip(axes, ints(shape), strict=True):
        grown = n - x.shape[axis]
        before = grown // 2 if grown >= 0 else -(-grown // 2)
        amounts[axis] = before, grown - before
    return ops.pad(x, [amount for pair in reversed(amounts) for amount in pair])


@operator("Pad", since=11, arrays=(1, 2, 3), widen=False)
def _pad(
    node: Node, x: Tensor, pads: Array, value: Array | None = None, axes: Array | None = None
) -> Tensor:
    given = ints(pads)
    along = range(x.ndim) if axes is None else [axis_of(a, x.ndim) for a in ints(axes)]
    amounts = [(0, 0)] * x.ndim
    for i, axis in enumerate(along):
        amounts[axis] = given[i], given[i + len(given) // 2]
    fill = 0 if value is None or value.size == 0 else value.reshape(-1)[0]
    return padded(x, amounts, node.get("mode", "constant"), fill)


@operator("Pad", until=10, widen=False)
def _pad_by_attributes(node: Node, x: Tensor) -> Tensor:
    given = node.get("pads", node.get("paddings"))
    amounts = list(zip(given[: x.ndim], given[x.ndim :], strict=True))
    return padded(x, amounts, node.get("mode", "constant"), node.get("value", 0.0))


def padded(x: Tensor, amounts: list[tuple[int, int]], mode: str, fill: Any) -> Tensor:
    """``x`` with (before, after) added to every axis; negative amounts crop."""
    if mode == "constant" and x.dtype.kind == "f":
        flat = [amount for pair in reversed(amounts) for amount in pair]
        return ops.pad(x, flat, "constant", float(fill))
    cut = tuple(
        slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, amounts, strict=True)
    )
    grow = [(max(b, 0), max(a, 0)) for b, a in amounts]
    if mode == "constant":
        return Tensor(np.pad(x.data[cut], grow, constant_values=fill))
    return rearranged("Pad", x, lambda a: np.pad(a[cut], grow, mode=mode))  # type: ignore[call-overload]


# --- channels and space ---------------------------------------------------------------------------


@operator("DepthToSpace", widen=False)
def _depth_to_space(node: Node, x: Tensor) -> Tensor:
    N, C, H, W = x.shape
    b = node.get("blocksize")
    if node.get("mode", "DCR") == "DCR":
        parts = ops.permute(ops.reshape(x, (N, b, b, C // (b * b), H, W)), 0, 3, 4, 1, 5, 2)
    else:
        parts = ops.permute(ops.reshape(x, (N, C // (b * b), b, b, H, W)), 0, 1, 4, 2, 5, 3)
    return ops.reshape(parts, (N, C // (b * b), H * b, W * b))


@operator("SpaceToDepth", widen=False)
def _space_to_depth(node: Node, x: Tensor) -> Tensor:
    N, C, H, W = x.shape
    b = node.get("blocksize")
    parts = ops.reshape(x, (N, C, H // b, b, W // b, b))
    order = (0, 3, 5, 1, 2, 4) if node.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return ops.reshape(ops.permute(parts, *order), (N, C * b * b, H // b, W // b))


@operator("ReverseSequence", arrays=(1,), widen=False)
def _reverse_sequence(node: Node, x: Tensor, lengths: Array) -> Tensor:
    batch, time = node.get("batch_axis", 1), node.get("time_axis", 0)
    step, length = np.arange(x.shape[time])[:, None], lengths[None, :]
    source = np.where(step < length, length - 1 - step, step)  # (time, batch)
    key: list[Any] = [
        np.arange(n).reshape(-1, *(1,) * (x.ndim - 1 - i)) for i, n in enumerate(x.shape)
    ]
    shape = [x.shape[i] if i in (batch, time) else 1 for i in range(x.ndim)]
    key[time] = (source if time < batch else source.T).reshape(shape)
    return ops.getitem(x, tuple(key))


@operator("Trilu", arrays=(1,), widen=False)
def _trilu(node: Node, x: Tensor, k: Array | None = None) -> Tensor:
    offset = 0 if k is None else int(k.item())
    rows, columns = np.ogrid[: x.shape[-2], : x.shape[-1]]
    upper = columns - rows >= offset if node.get("upper", 1) else columns - rows <= offset
    if x.dtype.kind != "f":
        return Tensor(np.where(upper, x.data, np.zeros((), x.dtype)))
    return ops.where(np.broadcast_to(upper, x.shape), x, 0.0)


# --- types ----------------------------------------------------------------------------------------


@operator("Cast", widen=False)
def _cast(node: Node, x: Tensor) -> Tensor:
    helper = require("onnx.helper", "onnx")
    return converted(x, helper.tensor_dtype_to_np_dtype(node.get("to")), node)


@operator("CastLike", widen=False)
def _cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    return converted(x, like.dtype, node)


def converted(x: Tensor, dtype: Any, node: Node) -> Tensor:
    """Another element type; between floats that have gradients, recorded."""
    target = np.dtype(dtype)
    if target == x.dtype:
        return x
    if x.dtype.kind == "f" and target.kind in "fiub" and not is_small(target):
        return ops.to(x, target)
    return Tensor(cast(x.data, target, bool(node.get("saturate", 1)), node.get("round_mode", "up")))


def cast(x: Array, target: np.dtype[Any], saturate: bool, round_mode: str = "up") -> Array:
    """Numbers to any type of ONNX, 8-bit and smaller floats and text included."""
    if target.kind == "O" or target.kind in "US":
        return np.vectorize(str, otypes=[object])(x) if x.size else x.astype(object)
    if x.dtype.kind in "OUS":
        x = np.vectorize(float, otypes=[np.float64])(x) if x.size else x.astype(np.float64)
    return to_small_float(x, target, saturate, round_mode) if is_small(target) else x.astype(target)


def is_small(dtype: np.dtype[Any]) -> bool:
    """Floats of eight bits or fewer."""
    return str(dtype.name).startswith(("float8_", "float6_", "float4_"))


def to_small_float(x: Array, dtype: np.dtype[Any], saturate: bool, round_mode: str) -> Array:
    """Floats of eight bits or fewer; ``saturate`` limits what is too large, infinities included."""
    if dtype.name == "float8_e8m0fnu":
        return _to_power_of_two(x.astype(np.float64), dtype, saturate, round_mode)
    if saturate:
        largest = float(require("ml_dtypes", "onnx").finfo(dtype).max)
        x = x.astype(np.float32).clip(-largest, largest)
    return x.astype(dtype)


def _to_power_of_two(x: Array, dtype: np.dtype[Any], saturate: bool, round_mode: str) -> Array:
    """float8_e8m0: an exponent alone, rounded up, down or to the nearest power of two."""
    fraction, exponent = np.frexp(np.abs(x))  # |x| = fraction · 2^exponent, ½ <= fraction < 1
    power = exponent - 1
    if round_mode == "up":
        power = power + (fraction > 0.5)
    elif round_mode == "nearest":
        power = power + (fraction >= 0.75)
    lost = ~np.isfinite(x) | ((power > 127) if not saturate else False)
    y = np.ldexp(1.0, np.where(x == 0, -127, power.clip(-127, 127)))
    return np.where(lost, np.nan, y).astype(dtype)


# --- values from shapes ---------------------------------------------------------------------------


@operator("Shape", flat=True, widen=False)
def _shape(node: Node, x: Tensor) -> Array:
    return np.array(x.shape[node.get("start", 0) : node.get("end")], np.int64)


@operator("Size", flat=True, widen=False)
def _size(node: Node, x: Tensor) -> Array:
    return np.asarray(x.size, np.int64)


@operator("Constant", widen=False)
def _constant(node: Node) -> Array:
    value = constant_of(node.spec)
    if value is None:
        text = node.get("value_string", node.get("value_strings"))
        if text is None:
            raise node.refuse("a Constant without a value")
        value = np.asarray(text, object)
    return value


@operator("ConstantOfShape", arrays=ALL, widen=False)
def _constant_of_shape(node: Node, shape: Array) -> Array:
    value = node.get("value", np.zeros(1, np.float32))
    return np.full(ints(shape), value.reshape(-1)[0], value.dtype)


@operator("EyeLike", arrays=ALL, widen=False)
def _eye_like(node: Node, x: Array) -> Array:
    dtype: Any = x.dtype
    if node.has("dtype"):
        dtype = require("onnx.helper", "onnx").tensor_dtype_to_np_dtype(node.get("dtype"))
    return np.eye(x.shape[0], x.shape[1], node.get("k", 0), dtype)


@operator("Range", arrays=ALL, widen=False)
def _range(node: Node, start: Array, limit: Array, delta: Array) -> Array:
    first, last, step = start.item(), limit.item(), delta.item()
    count = max(math.ceil((last - first) / step), 0)
    return (first + np.arange(count) * step).astype(start.dtype)


@operator("OneHot", arrays=ALL, widen=False)
def _one_hot(node: Node, indices: Array, depth: Array, values: Array) -> Array:
    count = int(depth.reshape(-1)[0])
    axis = axis_of(node.get("axis", -1), indices.ndim + 1)
    place = np.expand_dims(indices.astype(np.int64), axis)
    place = np.where(place < 0, place + count, place)
    classes = np.arange(count).reshape(-1, *(1,) * (indices.ndim - axis))
    return np.where(place == classes, values[1], values[0]).astype(values.dtype)


@operator("BitCast", arrays=ALL, widen=False)
def _bit_cast(node: Node, x: Array) -> Array:
    helper = require("onnx.helper", "onnx")
    return x.copy().view(helper.tensor_dtype_to_np_dtype(node.get("to")))
