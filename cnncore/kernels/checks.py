"""Refusals, in words.  Every kernel of the contract is checked here before any backend sees it.

One function per kernel with the kernel's signature.  It raises an ``ArgumentError`` that names the
argument, or returns whether the arrays live on a device.  What passes here cannot make a backend
read or write outside its arrays.  Foreign byte order and strides pass: backends convert them.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Optional, Sequence

import numpy as np

from cnncore.errors import ArgumentError, DeviceError, DTypeError, ShapeError
from cnncore.geometry import Pair, Window2d, as_int, checked_size
from cnncore.kernels.contract import CONV_ALGORITHMS
from cnncore.taps import Bins, Taps

Array = Any

F32, F64, I64 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)

# kind of ``pointwise`` -> names of its parameters
POINTWISE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("relu", "relu6", "selu", "gelu", "gelu_tanh", "silu", "mish"), ()),
    **dict.fromkeys(("sigmoid", "log_sigmoid", "hardsigmoid", "hardswish"), ()),
    **dict.fromkeys(("tanh", "softsign"), ()),
    "leaky_relu": ("slope",),
    "elu": ("alpha",),
    "celu": ("alpha",),
    "hardtanh": ("low", "high"),
    "softplus": ("beta", "threshold"),
}

# --- arrays ---------------------------------------------------------------------------------------


def _device(argument: str, x: Array) -> bool:
    """Whether an array is on a device; what is no array is refused."""
    if isinstance(x, np.ndarray):
        if isinstance(x, (np.matrix, np.ma.MaskedArray)):
            raise DTypeError(argument, "a plain array", type(x).__name__, "np.asarray(...)")
        return False
    if not hasattr(x, "__cuda_array_interface__"):
        raise DTypeError(
            argument, "a NumPy or CuPy array", type(x).__name__, "np.asarray(..., np.float32)"
        )
    return True


def _same_device(names: Sequence[str], arrays: Sequence[Array]) -> bool:
    first = _device(names[0], arrays[0])
    for name, array in zip(names[1:], arrays[1:]):
        if _device(name, array) != first:
            places = ("the host (NumPy)", "a device (CuPy)")
            raise DeviceError(
                name,
                f"an array on {places[first]}, where {names[0]} is",
                f"one on {places[not first]}",
                'move one of them with Tensor.to("cpu") or Tensor.to("cuda")',
            )
    return first


def _floats(names: Sequence[str], *arrays: Array) -> bool:
    """Float arrays of one type on one device; whether that is a GPU."""
    dtype = getattr(arrays[0], "dtype", None)
    if dtype is F32 or dtype is F64:  # the usual case, without a single call more
        for array in arrays:
            if type(array) is not np.ndarray or array.dtype is not dtype:
                break
        else:
            return False
    device = _same_device(names, arrays)
    for name, array in zip(names, arrays):
        if array.dtype.newbyteorder("=") not in (F32, F64):
            hint = f"{name}.astype(np.float32)"
            raise DTypeError(name, "float32 or float64", array.dtype, hint)
    first = arrays[0].dtype.newbyteorder("=")
    for name, array in zip(names[1:], arrays[1:]):
        if array.dtype.newbyteorder("=") != first:
            hint = f"{name}.astype({names[0]}.dtype)"
            raise DTypeError(name, f"{first}, the type of {names[0]}", array.dtype, hint)
    return device


def _indices(argument: str, index: Array, low: int, high: int, beside: Array) -> None:
    """int64 on the device of ``beside``, all in ``low .. high - 1``."""
    _same_device(("the float arrays", argument), (beside, index))
    if index.dtype.newbyteorder("=") != I64:
        raise DTypeError(argument, "int64", index.dtype, f"{argument}.astype(np.int64)")
    if index.size and not low <= int(index.min()) <= int(index.max()) < high:
        got = f"{int(index.min())} .. {int(index.max())}"
        raise ArgumentError(argument, f"indices in {low} .. {high - 1}", got)


def _rank(argument: str, x: Array, axes: str) -> None:
    """The rank that a description such as ``"N C H W"`` has."""
    if x.ndim != axes.count(" ") + 1:
        letters = ", ".join(axes.split())
        raise ShapeError(argument, f"shape ({letters})", x.shape, "x[None] adds an axis")


def _shape(argument: str, x: Array, expected: tuple[int, ...], meaning: str) -> None:
    if x.shape != expected:
        raise ShapeError(argument, f"shape {meaning} = {expected}", x.shape)


def _boxes(argument: str, boxes: Array) -> None:
    """(M, 4), finite, no negative extent; the error names the first bad box."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError(argument, "shape (M, 4), one xyxy row a box", boxes.shape)
    extent = boxes[:, 2:] - boxes[:, :2]
    # NaN fails every comparison; inf - inf is NaN, inf - 1 is inf
    good = (extent >= 0) & (extent < math.inf)
    if not bool(good.all()):
        bad = int((~good).any(axis=1).argmax())
        values = [float(v) for v in boxes[bad]]
        raise ArgumentError(
            argument, "finite boxes with x1 <= x2 and y1 <= y2", f"box {bad} = {values}"
        )


# --- windows --------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _valid_window(window: Window2d) -> None:
    """A window made by hand may hold anything; ``Window2d.make`` has already checked its own."""
    if not isinstance(window, Window2d):
        raise ArgumentError("window", "a Window2d", type(window).__name__, "Window2d.make(...)")
    Window2d.make(window.kernel, window.stride, window.padding, window.dilation)


@functools.lru_cache(maxsize=4096)
def _windows(window: Window2d, size: Pair, argument: str) -> Pair:
    """Output size of a window, checked; remembered, because layers ask for the same one again."""
    _valid_window(window)
    return window.output_size(size, argument=argument)


@functools.lru_cache(maxsize=4096)
def _windows_see_pixels(window: Window2d, size: Pair, output_size: Pair) -> None:
    """In max pooling padding is absent, so a window with padding only would have no maximum."""
    _valid_window(window)
    for axis, name in enumerate(("height", "width")):
        as_int("output_size", output_size[axis], 1)
        taps = [window.dilation[axis] * k for k in range(window.kernel[axis])]
        for window_index in range(output_size[axis]):
            first = window_index * window.stride[axis] - window.padding[axis][0]
            if not any(0 <= first + tap < size[axis] for tap in taps):
                raise ShapeError(
                    "x",
                    f"a {name} of which every window sees at least one pixel",
                    f"{name} {size[axis]}, window {window_index} beginning at {first}",
                    "less padding or dilation, a smaller output_size, or a larger input",
                )


def _groups(groups: int, channels: int, weight: Array) -> None:
    groups = as_int("groups", groups, 1)
    if channels % groups:
        hint = "groups must divide the channels"
        raise ArgumentError("groups", f"a divisor of the {channels} channels", groups, hint)
    if weight.shape[0] % groups:
        expected = f"a divisor of the {weight.shape[0]} output channels"
        raise ArgumentError("groups", expected, groups)
    if weight.shape[1] * groups != channels:
        expected = f"shape (O, C/groups, KH, KW) with C/groups = {channels // groups}"
        raise ShapeError("weight", expected, weight.shape)


def _filters(weight: Array, window: Window2d) -> None:
    _rank("weight", weight, "O C/G KH KW")
    if 0 in weight.shape:
        raise ShapeError("weight", "at least one filter, channel, row and column", weight.shape)
    if weight.shape[2:] != window.kernel:
        raise ShapeError("weight", f"kernel {window.kernel}, the window's", weight.shape[2:])


def _algorithm(algorithm: str) -> None:
    if algorithm not in CONV_ALGORITHMS:
        raise ArgumentError("algorithm", f"one of {CONV_ALGORITHMS}", repr(algorithm))


def matmul(a: Array, b: Array) -> bool:
    device = _floats(("a", "b"), a, b)
    if a.ndim < 2 or b.ndim < 2:
        name, x = ("a", a) if a.ndim < 2 else ("b", b)
        raise ShapeError(name, "at least two axes", x.shape, "add an axis with x[None]")
    if a.shape[-1] != b.shape[-2]:
        expected = f"shape (..., {a.shape[-1]}, N), as a has {a.shape[-1]} columns"
        raise ShapeError("b", expected, b.shape)
    if a.ndim > 2 or b.ndim > 2:
        batch = _broadcast("b", a.shape[:-2], b.shape[:-2])
        checked_size("a and b", *batch, a.shape[-2], b.shape[-1])
    return device


def _broadcast(argument: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(argument, f"axes that broadcast with {shapes[0]}", shapes[-1]) from None


def im2col(x: Array, window: Window2d) -> bool:
    device = _floats(("x",), x)
    _rank("x", x, "N C H W")
    out = _windows(window, x.shape[2:], "x")
    checked_size("x", x.shape[0], x.shape[1], *window.kernel, *out)
    return device


def col2im(cols: Array, size: Pair, window: Window2d) -> bool:
    device = _floats(("cols",), cols)
    _rank("cols", cols, "N C·KH·KW OH·OW")
    out = _windows(window, _size(size), "size")
    taps = window.kernel[0] * window.kernel[1]
    if cols.shape[1] % taps or cols.shape[2] != out[0] * out[1]:
        expected = f"shape (N, a multiple of KH·KW = {taps}, OH·OW = {out[0]}·{out[1]})"
        raise ShapeError("cols", expected, cols.shape)
    checked_size("size", cols.shape[0], cols.shape[1], *size)
    return device


def _size(size: Pair) -> Pair:
    if type(size) is tuple and len(size) == 2 and type(size[0]) is int and type(size[1]) is int:
        if size[0] >= 0 and size[1] >= 0:
            return size
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ArgumentError("size", "a pair (h, w)", repr(size))
    return as_int("size", size[0], 0), as_int("size", size[1], 0)


def conv2d(
    x: Array,
    weight: Array,
    bias: Optional[Array],
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
) -> bool:
    if bias is None:
        device = _floats(("x", "weight"), x, weight)
    else:
        device = _floats(("x", "weight", "bias"), x, weight, bias)
    _rank("x", x, "N C H W")
    out = _windows(window, x.shape[2:], "x")
    _filters(weight, window)
    _groups(groups, x.shape[1], weight)
    if bias is not None:
        _shape("bias", bias, (weight.shape[0],), "(O,)")
    _algorithm(algorithm)
    checked_size("x", x.shape[0], x.shape[1], *window.kernel, *out)
    checked_size("x", x.shape[0], weight.shape[0], *out)
    return device


def conv_transpose2d(
    y: Array,
    weight: Array,
    bias: Optional[Array],
    size: Pair,
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
) -> bool:
    if bias is None:
        device = _floats(("y", "weight"), y, weight)
    else:
        device = _floats(("y", "weight", "bias"), y, weight, bias)
    _rank("y", y, "N O OH OW")
    out = _windows(window, _size(size), "size")
    _filters(weight, window)
    groups = as_int("groups", groups, 1)
    channels = weight.shape[1] * groups
    if y.shape[1] != weight.shape[0]:
        raise ShapeError("y", f"{weight.shape[0]} channels, one a filter", y.shape)
    _groups(groups, channels, weight)
    if y.shape[2:] != out:
        expected = f"a plane of {out}, the windows that fit into size {size}"
        hint = "Window2d.transposed_candidates lists the sizes that fit"
        raise ShapeError("y", expected, y.shape[2:], hint)
    if bias is not None:
        _shape("bias", bias, (channels,), "(C,)")
    _algorithm(algorithm)
    checked_size("size", y.shape[0], channels, *size)
    checked_size("y", y.shape[0], channels, *window.kernel, *out)
    return device


def conv2d_weight(
    x: Array, gy: Array, window: Window2d, groups: int = 1, algorithm: str = "auto"
) -> bool:
    device = _floats(("x", "gy"), x, gy)
    _rank("x", x, "N C H W")
    _rank("gy", gy, "N O OH OW")
    out = _windows(window, x.shape[2:], "x")
    groups = as_int("groups", groups, 1)
    for name, channels in (("x", x.shape[1]), ("gy", gy.shape[1])):
        if channels == 0 or channels % groups:
            raise ShapeError(name, f"a multiple of groups = {groups} channels", channels)
    _shape("gy", gy, (x.shape[0], gy.shape[1], *out), "(N, O, OH, OW)")
    _algorithm(algorithm)
    checked_size("x", x.shape[0], x.shape[1], *window.kernel, *out)
    checked_size("gy", gy.shape[1], x.shape[1] // groups, *window.kernel)
    return device


# --- pooling, switches, sampling ------------------------------------------------------------------


def max_pool2d(x: Array, window: Window2d, output_size: Pair) -> bool:
    device = _floats(("x",), x)
    _rank("x", x, "N C H W")
    if not isinstance(output_size, tuple) or len(output_size) != 2:
        raise ArgumentError("output_size", "a pair (h, w)", repr(output_size))
    _windows_see_pixels(window, x.shape[2:], output_size)
    checked_size("output_size", *x.shape[:2], *output_size)
    return device


def _image(image: Array, images: int, beside: Array) -> int:
    """The number of regions, each of an image that exists."""
    if getattr(image, "ndim", None) != 1:
        raise ShapeError("image", "shape (R,)", getattr(image, "shape", type(image).__name__))
    _indices("image", image, 0, images, beside)
    return int(image.shape[0])


def _axis(argument: str, table: Any, kind: type, size: int, regions: int) -> None:
    """Taps or bins of one axis: their type, the axis they are made for, the number of regions."""
    if not isinstance(table, kind):
        raise ArgumentError(argument, f"{kind.__name__} from cnncore.taps", type(table).__name__)
    first = table.index if isinstance(table, Taps) else table.start
    if table.size != size:
        raise ShapeError(argument, f"an axis of {size} pixels", table.size)
    if first.shape[0] not in (1, regions):
        raise ShapeError(argument, f"1 or {regions} regions", first.shape[0])
    _taps(argument, table) if isinstance(table, Taps) else _bins(argument, table)


def _host(argument: str, dtype: Any, *arrays: Array) -> None:
    for array in arrays:
        if type(array) is not np.ndarray or array.dtype != dtype:
            got = getattr(array, "dtype", type(array).__name__)
            raise DTypeError(argument, f"NumPy arrays of {dtype}", got)


def _taps(argument: str, taps: Taps) -> None:
    _host(argument, I64, taps.index, taps.count)
    _host(argument, F64, taps.weight)
    if taps.index.ndim != 3 or taps.weight.shape != taps.index.shape:
        raise ShapeError(argument, "index and weight of shape (G, P, T)", taps.weight.shape)
    _shape(f"{argument}.count", taps.count, taps.index.shape[:2], "(G, P)")
    if not taps.count.size:
        return
    if taps.count.min() < 0 or taps.count.max() > taps.index.shape[2]:
        expected = f"counts in 0 .. {taps.index.shape[2]}"
        raise ArgumentError(argument, expected, f"{taps.count.min()} .. {taps.count.max()}")
    index = taps.index
    if index.size and (index.min() < 0 or index.max() >= taps.size):
        # only the first ``count`` taps of a row mean anything; the rest may hold what it likes
        index = index[np.arange(index.shape[2]) < taps.count[:, :, None]]
        if index.size and (index.min() < 0 or index.max() >= taps.size):
            got = f"{index.min()} .. {index.max()}"
            raise ArgumentError(argument, f"indices in 0 .. {taps.size - 1}", got)


def _bins(argument: str, bins: Bins) -> None:
    _host(argument, I64, bins.start, bins.end)
    if bins.start.ndim != 2 or bins.start.shape != bins.end.shape:
        raise ShapeError(argument, "start and end of shape (G, P)", bins.end.shape)
    for edge in (bins.start, bins.end):
        if edge.size and (edge.min() < 0 or edge.max() > bins.size):
            got = f"{edge.min()} .. {edge.max()}"
            raise ArgumentError(argument, f"edges in 0 .. {bins.size}", got)


def bin_max(x: Array, image: Array, rows: Bins, cols: Bins) -> bool:
    device = _floats(("x",), x)
    _rank("x", x, "N C H W")
    regions = _image(image, x.shape[0], x)
    _axis("rows", rows, Bins, x.shape[2], regions)
    _axis("cols", cols, Bins, x.shape[3], regions)
    checked_size("rows", regions, x.shape[1], rows.length, cols.length)
    return device


def _switches(index: Array, outer: int, inner: int, size: int, beside: Array) -> None:
    _rank("index", index, "O J I")
    if index.shape[0] not in (1, outer) or index.shape[2] not in (1, inner):
        raise ShapeError("index", f"shape ({outer} or 1, J, {inner} or 1)", index.shape)
    _indices("index", index, -1, size, beside)


def gather(x: Array, index: Array) -> bool:
    device = _floats(("x",), x)
    _rank("x", x, "O A I")
    _switches(index, x.shape[0], x.shape[2], x.shape[1], x)
    checked_size("index", x.shape[0], index.shape[1], x.shape[2])
    return device


def scatter_add(src: Array, index: Array, size: int) -> bool:
    device = _floats(("src",), src)
    _rank("src", src, "O J I")
    size = as_int("size", size, 0)
    checked_size("size", src.shape[0], size, src.shape[2])
    _switches(index, src.shape[0], src.shape[2], size, src)
    if index.shape[1] != src.shape[1]:
        raise ShapeError("index", f"{src.shape[1]} along its middle axis, as src has", index.shape)
    return device


def _sampled_regions(image: Optional[Array], images: int, beside: Array) -> int:
    return images if image is None else _image(image, images, beside)


def resample(
    x: Array, image: Optional[Array], rows: Taps, cols: Taps, position_sensitive: bool = False
) -> bool:
    device = _floats(("x",), x)
    _rank("x", x, "N C H W")
    regions = _sampled_regions(image, x.shape[0], x)
    _axis("rows", rows, Taps, x.shape[2], regions)
    _axis("cols", cols, Taps, x.shape[3], regions)
    bins = rows.length * cols.length
    if position_sensitive and (bins == 0 or x.shape[1] % bins):
        expected = f"a multiple of PH·PW = {rows.length}·{cols.length} channels"
        raise ShapeError("x", expected, x.shape)
    checked_size("x", regions, x.shape[1], rows.length, cols.length)
    checked_size("x", regions, x.shape[1], rows.length, x.shape[3])
    return device


def resample_adjoint(
    gy: Array,
    image: Optional[Array],
    rows: Taps,
    cols: Taps,
    images: int,
    position_sensitive: bool = False,
) -> bool:
    device = _floats(("gy",), gy)
    _rank("gy", gy, "R C PH PW")
    images = as_int("images", images, 0)
    regions = _sampled_regions(image, images, gy)
    _axis("rows", rows, Taps, rows.size, regions)
    _axis("cols", cols, Taps, cols.size, regions)
    expected = (regions, gy.shape[1], rows.length, cols.length)
    _shape("gy", gy, expected, "(R, C, PH, PW)")
    channels = gy.shape[1] * (rows.length * cols.length if position_sensitive else 1)
    checked_size("images", images, channels, rows.size, cols.size)
    return device


# --- rows, pointwise, reductions ------------------------------------------------------------------


def row_moments(x: Array) -> bool:
    device = _floats(("x",), x)
    _rank("x", x, "R I")
    if x.shape[1] == 0:
        raise ShapeError("x", "rows of at least one element", x.shape)
    return device


def _per_row(x: Array, names: Sequence[str], *vectors: Array) -> None:
    for name, vector in zip(names, vectors):
        _shape(name, vector, (x.shape[0],), "(R,)")


def row_products(gy: Array, x: Array, mean: Array) -> bool:
    device = _floats(("gy", "x", "mean"), gy, x, mean)
    _rank("gy", gy, "R I")
    _shape("x", x, gy.shape, "that of gy")
    _per_row(gy, ("mean",), mean)
    return device


def row_linear(x: Array, a: Array, b: Array) -> bool:
    device = _floats(("x", "a", "b"), x, a, b)
    _rank("x", x, "R I")
    _per_row(x, ("a", "b"), a, b)
    return device


def row_linear2(x: Array, z: Array, a: Array, b: Array, c: Array) -> bool:
    device = _floats(("x", "z", "a", "b", "c"), x, z, a, b, c)
    _rank("x", x, "R I")
    _shape("z", z, x.shape, "that of x")
    _per_row(x, ("a", "b", "c"), a, b, c)
    return device


def pointwise(
    x: Array, kind: str, params: Sequence[float] = (), order: int = 0, scale: Optional[Array] = None
) -> bool:
    if scale is None:
        device = _floats(("x",), x)
    else:
        device = _floats(("x", "scale"), x, scale)
        _shape("scale", scale, x.shape, "that of x")
    names = POINTWISE.get(kind)
    if names is None:
        raise ArgumentError("kind", f"one of {sorted(POINTWISE)}", repr(kind))
    if len(params) != len(names):
        raise ArgumentError("params", f"{len(names)} numbers {names} for {kind}", tuple(params))
    for name, value in zip(names, params):
        if not math.isfinite(value):
            raise ArgumentError("params", f"a finite {name}", value)
    if kind in ("celu", "softplus") and params[0] == 0:
        raise ArgumentError("params", f"a {names[0]} other than 0, which divides", params[0])
    if order not in (0, 1, 2):
        raise ArgumentError("order", "0, 1 or 2", order)
    return device


def ufunc(name: str, *arrays: Array) -> bool:
    function = getattr(np, name, None) if isinstance(name, str) else None
    if not isinstance(function, np.ufunc) or function.nout != 1:
        raise ArgumentError("name", "a NumPy universal function with one result", repr(name))
    if len(arrays) != function.nin:
        raise ArgumentError("arrays", f"{function.nin} for {name}", len(arrays))
    device = _same_device([f"array {i}" for i in range(len(arrays))], arrays)
    floats = {a.dtype.newbyteorder("=") for a in arrays if a.dtype.kind == "f"}
    if len(floats) > 1:
        expected = "floating arrays of one type"
        raise DTypeError("arrays", expected, [str(a.dtype) for a in arrays], "astype first")
    if len(arrays) > 1 and arrays[0].shape != arrays[1].shape:
        checked_size("arrays", *_broadcast("arrays", *(a.shape for a in arrays)))
    return device


def reduce_sum(x: Array, axes: tuple[int, ...]) -> bool:
    device = _floats(("x",), x)
    if not isinstance(axes, tuple) or len(set(axes)) != len(axes):
        raise ArgumentError("axes", "a tuple of distinct axes", repr(axes))
    for axis in axes:
        _reduced_axis("axes", x, axis)
    return device


def _reduced_axis(argument: str, x: Array, axis: int) -> None:
    if as_int(argument, axis, 0) >= x.ndim:
        raise ArgumentError(argument, f"axes in 0 .. {x.ndim - 1}", axis)


def reduce_max(x: Array, axis: int) -> bool:
    device = _floats(("x",), x)
    _reduced_axis("axis", x, axis)
    if x.shape[axis] == 0:
        hint = "nothing has no maximum"
        raise ShapeError("x", f"at least one element along axis {axis}", x.shape, hint)
    return device


def softmax(x: Array, log: bool = False) -> bool:
    device = _floats(("x",), x)
    _rank("x", x, "O K I")
    if x.shape[1] == 0:
        raise ShapeError("x", "at least one class along the middle axis", x.shape)
    return device


# --- boxes ----------------------------------------------------------------------------------------


def box_iou(a: Array, b: Array) -> bool:
    device = _floats(("a", "b"), a, b)
    _boxes("a", a)
    _boxes("b", b)
    checked_size("a and b", a.shape[0], b.shape[0])
    return device


def nms(boxes: Array, scores: Array, iou_threshold: float) -> bool:
    device = _floats(("boxes", "scores"), boxes, scores)
    _boxes("boxes", boxes)
    _shape("scores", scores, (boxes.shape[0],), "(M,)")
    if bool((scores != scores).any()):
        bad = int((scores != scores).argmax())
        raise ArgumentError("scores", "no NaN", f"score {bad} is NaN")
    if not 0.0 <= iou_threshold <= 1.0:
        raise ArgumentError("iou_threshold", "a number in 0 .. 1", iou_threshold)
    return device


# --- optimiser updates ----------------------------------------------------------------------------


def _in_place(names: Sequence[str], arrays: Sequence[Array], written: Sequence[str]) -> bool:
    """One shape; what is written can be written and shares no memory with anything else."""
    device = _floats(names, *arrays)
    for name, array in zip(names, arrays):
        if array.shape != arrays[0].shape:
            raise ShapeError(name, f"the shape of {names[0]}, {arrays[0].shape}", array.shape)
    if device:
        return device
    for k, (name, array) in enumerate(zip(names, arrays)):
        if name not in written:
            continue
        if not array.flags.writeable:
            raise ArgumentError(name, "a writable array", "a read-only one", f"{name}.copy()")
        for i, other in enumerate(arrays):
            if i != k and np.may_share_memory(array, other) and np.shares_memory(array, other):
                got = f"memory shared with {names[i]}"
                raise ArgumentError(name, "memory of its own", got, f"{names[i]}.copy()")
    return device


def _finite(argument: str, value: float, low: float = -math.inf, below: float = math.inf) -> None:
    if not (math.isfinite(value) and low <= value < below):
        raise ArgumentError(argument, f"a number in {low} <= number < {below}", value)


def sgd_update(
    param: Array,
    grad: Array,
    velocity: Optional[Array],
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> bool:
    if velocity is None:
        device = _in_place(("param", "grad"), (param, grad), ("param",))
    else:
        names = ("param", "grad", "velocity")
        device = _in_place(names, (param, grad, velocity), ("param", "velocity"))
    _finite("lr", lr, 0.0)
    _finite("momentum", momentum, 0.0)
    _finite("dampening", dampening)
    _finite("weight_decay", weight_decay, 0.0)
    if (velocity is None) != (momentum == 0):
        got = "None" if velocity is None else "an array"
        raise ArgumentError("velocity", f"None exactly when momentum is 0 (it is {momentum})", got)
    return device


def adam_update(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> bool:
    names = ("param", "grad", "m", "v")
    device = _in_place(names, (param, grad, m, v), ("param", "m", "v"))
    as_int("step", step, 1)
    _finite("lr", lr, 0.0)
    _finite("beta1", beta1, 0.0, 1.0)
    _finite("beta2", beta2, 0.0, 1.0)
    _finite("eps", eps, 0.0)
    _finite("weight_decay", weight_decay, 0.0)
    return device


# --- NumPy indexing -------------------------------------------------------------------------------


def take(x: Array, key: Any) -> bool:
    return _device("x", x)


def put_add(src: Array, key: Any, shape: tuple[int, ...]) -> bool:
    device = _floats(("src",), src)
    checked_size("shape", *(as_int("shape", size, 0) for size in shape))
    return device
