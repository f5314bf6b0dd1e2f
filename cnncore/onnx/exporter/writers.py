"""One writer for every op that models are made of: how it is said in ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnncore.inference.plan import Node
from cnncore.onnx.exporter.builder import Builder, flat_pads, shape_of

Array = Any
# (builder, the op or activation, names of its inputs, the traced node) -> name of the result
Writer = Callable[[Builder, Any, list[str], Node], str]

WRITERS: dict[str, Writer] = {}


def writes(*names: str) -> Callable[[Writer], Writer]:
    """Enter a writer for traced ops of these names."""

    def enter(writer: Writer) -> Writer:
        WRITERS.update(dict.fromkeys(names, writer))
        return writer

    return enter


# --- convolution and products ---------------------------------------------------------------------


def _window_attributes(window: Any) -> dict[str, Any]:
    return {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "dilations": list(window.dilation),
        "pads": flat_pads(window.padding),
    }


@writes("Conv2d")
def _conv(b: Builder, op: Any, x: list[str], node: Node) -> str:
    return b.node("Conv", *x, group=op.groups, **_window_attributes(op.window))


@writes("ConvTranspose2d")
def _conv_transpose(b: Builder, op: Any, x: list[str], node: Node) -> str:
    height, width = shape_of(node)[2:]
    usual = op.window.transposed_size((height, width))
    extra = [n - m for n, m in zip(op.size, usual, strict=True)]
    attributes = _window_attributes(op.window)
    return b.node("ConvTranspose", *x, group=op.groups, output_padding=extra, **attributes)


@writes("MatMul")
def _matmul(b: Builder, op: Any, x: list[str], node: Node) -> str:
    return b.node("MatMul", *x)


# --- pooling --------------------------------------------------------------------------------------


@writes("MaxPool2d")
def _max_pool(b: Builder, op: Any, x: list[str], node: Node) -> str:
    ceil = op.output_size != op.window.output_size(shape_of(node)[2:])
    attributes = {"ceil_mode": int(ceil), **_window_attributes(op.window)}
    if id(node.others[0]) not in b.read:
        return b.node("MaxPool", *x, **attributes)
    y, switches = b.results("MaxPool", 2, *x, **attributes)
    b.define(node.others[0], switches)
    b.pooled[switches] = (x[0], shape_of(node))
    return y


@writes("MaxUnpool2d")
def _max_unpool(b: Builder, op: Any, x: list[str], node: Node) -> str:
    """Values added at the places that the switches name, flat in all that was pooled.

    ONNX's MaxUnpool would keep one of several values for a place, and the sizes that it takes other
    than the window's are understood differently by runtimes.
    """
    if len(x) < 2 or x[1] not in b.pooled:
        raise b.refuse("max unpooling by switches that are not those of a max pooling")
    source, shape = b.pooled[x[1]]
    if node.output.shape != shape:
        raise b.refuse(f"max unpooling into {node.output.shape} of a pooling of {shape}")
    zero = b.onnx.numpy_helper.from_array(np.zeros(1, node.output.dtype))
    sizes = b.node("Shape", source)
    count = b.node("ReduceProd", sizes, keepdims=1)
    empty = b.node("ConstantOfShape", count, value=zero)
    values, places = (b.node("Reshape", name, b.ints(-1)) for name in x)
    filled = b.node("ScatterElements", empty, places, values, reduction="add")
    return b.node("Reshape", filled, sizes)


@writes("AvgPool2d")
def _avg_pool(b: Builder, op: Any, x: list[str], node: Node) -> str:
    window, divisor = op.map.settings["window"], op.map.settings["divisor"]
    ceil = node.output.shape[2:] != window.output_size(shape_of(node)[2:])
    if divisor is not None:
        return dense_resampling(b, op, x, node)
    if window.kernel == (1, 1) and window.padding == ((0, 0), (0, 0)):
        # One pixel in so many.  As a pool, ONNX Runtime 1.31 merges a Pad before it into its
        # padding, and then refuses padding as large as the kernel.
        ends = b.ints(*shape_of(node)[2:])
        return b.node("Slice", x[0], b.ints(0, 0), ends, b.ints(2, 3), b.ints(*window.stride))
    include = int(op.map.settings["count_include_pad"])
    attributes = _window_attributes(window)
    return b.node("AveragePool", *x, ceil_mode=int(ceil), count_include_pad=include, **attributes)


@writes("AdaptiveAvgPool2d", "AdaptiveMaxPool2d")
def _adaptive(b: Builder, op: Any, x: list[str], node: Node) -> str:
    size, bins = shape_of(node)[2:], node.output.shape[2:]
    kind = "Average" if "Avg" in node.parts[0] else "Max"
    if bins == (1, 1):
        return b.node(f"Global{kind}Pool", *x)
    if all(n % m == 0 for n, m in zip(size, bins, strict=True)):
        kernel = [n // m for n, m in zip(size, bins, strict=True)]
        return b.node(f"{kind}Pool", *x, kernel_shape=kernel, strides=kernel)
    if kind == "Max":
        raise b.refuse(f"adaptive max pooling of {size} into {bins}, which does not divide it,")
    return dense_resampling(b, op, x, node)


# --- resampling -----------------------------------------------------------------------------------


@writes("UnpoolBedOfNails", "Interpolate_area")
def dense_resampling(b: Builder, op: Any, x: list[str], node: Node) -> str:
    """``Rows · x · Colsᵀ`` with the two matrices written out: right for any resampling."""
    size = shape_of(node)[2:]
    rows, cols = (
        _dense(op.map.constants[3 * axis : 3 * axis + 3], size[axis]).astype(node.output.dtype)
        for axis in (0, 1)
    )
    across = b.node("MatMul", x[0], b.weight(cols.T))
    return b.node("MatMul", b.weight(rows), across)


def _dense(taps: tuple[Array, ...], size: int) -> Array:
    index, weight, count = taps
    matrix = np.zeros((index.shape[1], size))
    valid = np.arange(index.shape[2]) < count[0][:, None]
    np.add.at(matrix, (np.arange(len(matrix))[:, None], index[0]), np.where(valid, weight[0], 0.0))
    return matrix


# mode of ops.interpolate -> mode, coordinates and rounding of Resize
RESIZE = {
    "nearest": ("nearest", "asymmetric", "floor"),
    "nearest-exact": ("nearest", "half_pixel", "round_prefer_ceil"),
    "bilinear": ("linear", "half_pixel", None),
    "bicubic": ("cubic", "half_pixel", None),
}


@writes(
    "Interpolate_nearest",
    "Interpolate_nearest-exact",
    "Interpolate_bilinear",
    "Interpolate_bicubic",
)
def _interpolate(b: Builder, op: Any, x: list[str], node: Node) -> str:
    settings = op.map.settings
    mode, coordinates, rounding = RESIZE[settings["mode"]]
    if settings["align_corners"]:
        coordinates = "align_corners"
    return _resize(b, x[0], node, settings["scales"], mode, coordinates, rounding)


@writes("UnpoolNearest")
def _unpool_nearest(b: Builder, op: Any, x: list[str], node: Node) -> str:
    return _resize(b, x[0], node, (None, None), "nearest", "asymmetric", "floor")


def _resize(
    b: Builder, x: str, node: Node, scales: Any, mode: str, coordinates: str, rounding: str | None
) -> str:
    size, wanted = shape_of(node)[2:], node.output.shape[2:]
    if scales == (None, None) and all(m % n == 0 for n, m in zip(size, wanted, strict=True)):
        scales = tuple(m // n for n, m in zip(size, wanted, strict=True))
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": rounding,
    }
    if scales == (None, None):
        pixels = b.node("Shape", x, end=2)  # of images and channels, whatever they are
        sizes = b.node("Concat", pixels, b.ints(*wanted), axis=0)
        return b.node("Resize", x, "", "", sizes, **attributes)
    factors = b.weight(np.array((1, 1, *scales), np.float32))
    return b.node("Resize", x, "", factors, **attributes)


# --- normalisation --------------------------------------------------------------------------------


@writes("Normalize")
def _normalize(b: Builder, op: Any, x: list[str], node: Node) -> str:
    rows, dtype, eps = op.rows, node.output.dtype, op.eps
    _, groups, per_group, inner = rows.shape
    channels = groups * per_group
    if rows.joined == 0 and rows.fixed is None:
        raise b.refuse("batch norm with the statistics of the batch (call model.eval() first)")
    if rows.joined == 2 and channels == 1 and rows.fixed is None:
        return _layer_norm(b, x, node, inner, eps)
    scale = x[1] or b.weight(np.ones(channels, dtype))
    shift = x[2] if len(x) > 2 and x[2] else b.weight(np.zeros(channels, dtype))
    if rows.fixed is not None:
        mean, rstd = (np.asarray(s).reshape(-1) for s in rows.fixed)
        variance = np.maximum(1.0 / (rstd * rstd) - eps, 0.0)
        statistics = (b.weight(v.astype(dtype)) for v in (mean, variance))
        return b.node("BatchNormalization", x[0], scale, shift, *statistics, epsilon=eps)
    if per_group == 1:
        return b.node("InstanceNormalization", x[0], scale, shift, epsilon=eps)
    return b.node("GroupNormalization", x[0], scale, shift, epsilon=eps, num_groups=groups)


def _layer_norm(b: Builder, x: list[str], node: Node, inner: int, eps: float) -> str:
    shape = shape_of(node)
    axis = len(shape)
    while axis > 0 and math.prod(shape[axis:]) < inner:
        axis -= 1
    scale = b.weight(np.ones(shape[axis:], node.output.dtype))
    return b.node("LayerNormalization", x[0], scale, axis=axis, epsilon=eps)


@writes("ChannelMean")
def _channel_mean(b: Builder, op: Any, x: list[str], node: Node) -> str:
    """The mean over neighbouring channels: a column of them is pooled as if it were a plane."""
    size, shape = op.map.settings["size"], shape_of(node)
    plane = b.node("Reshape", x[0], b.ints(0, 1, shape[1], math.prod(shape[2:])))
    pads = [size // 2, 0, (size - 1) // 2, 0]
    mean = b.node("AveragePool", plane, kernel_shape=[size, 1], pads=pads, count_include_pad=1)
    return b.node("Reshape", mean, b.ints(0, *shape[1:]))


@writes("Softmax", "LogSoftmax")
def _softmax(b: Builder, op: Any, x: list[str], node: Node) -> str:
    return b.node(node.parts[0], *x, axis=op.axis)


# --- element by element ---------------------------------------------------------------------------

# Traced op -> ONNX operator of the same inputs and no attributes.
SAME = {
    "Add": "Add",
    "Sub": "Sub",
    "Mul": "Mul",
    "Div": "Div",
    "Pow": "Pow",
    "Maximum": "Max",
    "Minimum": "Min",
    "Neg": "Neg",
    "Exp": "Exp",
    "Log": "Log",
    "Sqrt": "Sqrt",
    "Sin": "Sin",
    "Cos": "Cos",
    "Tan": "Tan",
    "Sinh": "Sinh",
    "Cosh": "Cosh",
    "Arcsin": "Asin",
    "Arccos": "Acos",
    "Arctan": "Atan",
    "Arcsinh": "Asinh",
    "Arccosh": "Acosh",
    "Arctanh": "Atanh",
    "Absolute": "Abs",
}


@writes(*SAME)
def _same(b: Builder, op: Any, x: list[str], node: Node) -> str:
    return b.node(SAME[node.parts[0]], *x)


@writes("Clamp")
def _clamp(b: Builder, op: Any, x: list[str], node: Node) -> str:
    dtype = node.output.dtype
    limits = ["" if v is None else b.scalar(v, dtype) for v in (op.low, op.high)]
    return b.node("Clip", x[0], *limits)


@writes("WherePositive")
def _where_positive(b: Builder, op: Any, x: list[str], node: Node) -> str:
    positive = b.node("Greater", x[0], b.scalar(0.0, node.output.dtype))
    return b.node("Where", positive, *x)


@writes("Where")
def _where(b: Builder, op: Any, x: list[str], node: Node) -> str:
    return b.node("Where", b.weight(op.condition), *x)


@writes("To")
def _to(b: Builder, op: Any, x: list[str], node: Node) -> str:
    return b.node(
        "Cast", *x, to=b.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(node.output.dtype))
    )


# kind of ``kernels.pointwise`` -> operator and the names of its parameters
ACTIVATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "relu": ("Relu", ()),
    "leaky_relu": ("LeakyRelu", ("alpha",)),
    "elu": ("Elu", ("alpha",)),
    "celu": ("Celu", ("alpha",)),
    "selu": ("Selu", ()),
    "gelu": ("Gelu", ()),
    "mish": ("Mish", ()),
    "sigmoid": ("Sigmoid", ()),
    "hardswish": ("HardSwish", ()),
    "tanh": ("Tanh", ()),
    "softsign": ("Softsign", ()),
}


def activation(b: Builder, op: Any, x: list[str], node: Node) -> str:
    """Any kind of ``kernels.pointwise``."""
    kind, params, dtype = op.kind, op.params, node.output.dtype
    if kind in ACTIVATIONS:
        name, parameters = ACTIVATIONS[kind]
        return b.node(name, *x, **dict(zip(parameters, params, strict=True)))
    if kind in ("relu6", "hardtanh"):
        low, high = params or (0.0, 6.0)
        return b.node("Clip", x[0], b.scalar(low, dtype), b.scalar(high, dtype))
    if kind == "hardsigmoid":
        return b.node("HardSigmoid", *x, alpha=1.0 / 6.0, beta=0.5)
    if kind == "gelu_tanh":
        return b.node("Gelu", *x, approximate="tanh")
    if kind == "silu":
        return b.node("Mul", x[0], b.node("Sigmoid", x[0]))
    if kind == "log_sigmoid":
        return b.node("Neg", b.node("Softplus", b.node("Neg", x[0])))
    if kind == "softplus":
        beta = b.scalar(params[0], dtype)
        return b.node("Div", b.node("Softplus", b.node("Mul", x[0], beta)), beta)
    raise b.refuse(f"the activation {kind}")


# --- reductions -----------------------------------------------------------------------------------


@writes("Sum")
def _sum(b: Builder, op: Any, x: list[str], node: Node) -> str:
    axes = op.map.settings["axes"]
    keep = len(node.output.shape) == len(shape_of(node))
    if not axes:
        return x[0]
    return b.node("ReduceSum", x[0], b.ints(*axes), keepdims=int(keep))


@writes("Amax")
def _amax(b: Builder, op: Any, x: list[str], node: Node) -> str:
    return b.node("ReduceMax", x[0], b.ints(*op.axes), keepdims=1)


# --- shapes ---------------------------------------------------------------------------------------


@writes("Reshape")
def _reshape(b: Builder, op: Any, x: list[str], node: Node) -> str:
    old, new = shape_of(node), list(node.output.shape)
    if new and old and new[0] == old[0]:
        new[0] = 0  # as many as there are: the batch
    return b.node("Reshape", x[0], b.ints(*new))


@writes("Expand")
def _expand(b: Builder, op: Any, x: list[str], node: Node) -> str:
    wide, axes = node.output.shape, op.map.settings["axes"]
    kept = [1 if i in axes else n for i, n in enumerate(wide)]
    narrow = x[0]
    if list(shape_of(node)) != kept:
        narrow = b.node("Reshape", narrow, b.ints(*kept))
    return b.node("Expand", narrow, b.ints(*(n if i in axes else 1 for i, n in enumerate(wide))))


@writes("Permute")
def _permute(b: Builder, op: Any, x: list[str], node: Node) -> str:
    return b.node("Transpose", *x, perm=list(op.map.settings["order"]))


@writes("Transpose")
def _transpose(b: Builder, op: Any, x: list[str], node: Node) -> str:
    i, j = op.map.settings["axes"]
    order = list(range(len(shape_of(node))))
    order[i], order[j] = j, i
    return b.node("Transpose", *x, perm=order)


@writes("Flip")
def _flip(b: Builder, op: Any, x: list[str], node: Node) -> str:
    axes = op.map.settings["axes"]
    least = -(2**31)
    every = ([-1] * len(axes), [least] * len(axes), axes, [-1] * len(axes))
    return b.node("Slice", x[0], *(b.ints(*values) for values in every))


@writes("Cat")
def _cat(b: Builder, op: Any, x: list[str], node: Node) -> str:
    return b.node("Concat", *x, axis=op.axis)


@writes("Pad", "Crop")
def _pad(b: Builder, op: Any, x: list[str], node: Node) -> str:
    """What is added and what is cut off as two nodes: not every runtime takes negative pads."""
    sign = 1 if node.parts[0] == "Pad" else -1
    pads = [(sign * before, sign * after) for before, after in op.map.settings["pads"]]
    y, shape = x[0], shape_of(node)
    cut = [i for i, pair in enumerate(pads) if min(pair) < 0]
    if cut:
        starts = [max(-pads[i][0], 0) for i in cut]
        ends = [shape[i] - max(-pads[i][1], 0) for i in cut]
        y = b.node("Slice", y, *(b.ints(*values) for values in (starts, ends, cut)))
    grown = [(max(before, 0), max(after, 0)) for before, after in pads]
    return b.node("Pad", y, b.ints(*flat_pads(grown))) if np.any(grown) else y


@writes("Gather")
def _gather(b: Builder, op: Any, x: list[str], node: Node) -> str:
    """Rows of the middle axis by one index for all, which is how ops select and reflect."""
    index = op.map.constants[0]
    if index.shape[0] != 1 or index.shape[2] != 1 or (index < 0).any():
        raise b.refuse("an index of its own for every element")
    return b.node("Gather", x[0], b.ints(*index.reshape(-1).tolist()), axis=1)


@writes("GetItem")
def _getitem(b: Builder, op: Any, x: list[str], node: Node) -> str:
    key, shape = op.map.settings["key"], shape_of(node)
    parts = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in [p for p in parts if not hasattr(p, "dtype")]:
        at = next(i for i, p in enumerate(parts) if p is Ellipsis)
        named = sum(p is not None and p is not Ellipsis for p in parts)
        parts[at : at + 1] = [slice(None)] * (len(shape) - named)
    arrays = [p for p in parts if hasattr(p, "dtype")]
    if arrays:
        others = [p for p in parts if not hasattr(p, "dtype")]
        whole = all(isinstance(p, slice) and p == slice(None) for p in others)
        if len(arrays) > 1 or not whole or arrays[0].dtype.kind == "b":
            raise b.refuse("indexing by several arrays")
        axis = next(i for i, p in enumerate(parts) if hasattr(p, "dtype"))
        return b.node("Gather", x[0], b.weight(arrays[0].astype(np.int64)), axis=axis)
    return _slices(b, x[0], parts, shape)


def _slices(b: Builder, x: str, parts: list[Any], shape: tuple[int, ...]) -> str:
    starts, ends, axes, steps, gone, new = [], [], [], [], [], []
    axis = kept = 0
    for part in parts:
        if part is None:
            new.append(kept)
            kept += 1
            continue
        if isinstance(part, slice):
            kept += 1
        else:
            index = int(part) % shape[axis]
            part = slice(index, index + 1)
            gone.append(axis)
        if part != slice(None):
            start, stop, step = part.indices(shape[axis])
            starts.append(start)
            ends.append(stop if stop >= 0 else -(2**31))
            axes.append(axis)
            steps.append(step)
        axis += 1
    if axes:
        x = b.node("Slice", x, *(b.ints(*values) for values in (starts, ends, axes, steps)))
    if gone:
        x = b.node("Squeeze", x, b.ints(*gone))
    return b.node("Unsqueeze", x, b.ints(*new)) if new else x
