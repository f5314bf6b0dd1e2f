"""Checks of the matrix product and the convolution family."""

from __future__ import annotations

import functools

from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import Pair, Window2d, as_int, checked_size
from cnncore.kernels.checks.algorithms import algorithm as check_algorithm
from cnncore.kernels.checks.arrays import Array, broadcast, factors, floats, rank, shape
from cnncore.kernels.checks.rows import activation
from cnncore.kernels.epilogue import Epilogue


@functools.lru_cache(maxsize=1024)
def valid_window(window: Window2d) -> None:
    """A window made by hand may hold anything; ``Window2d.make`` has already checked its own."""
    if not isinstance(window, Window2d):
        raise ArgumentError("window", "a Window2d", type(window).__name__, "Window2d.make(...)")
    Window2d.make(window.kernel, window.stride, window.padding, window.dilation)


@functools.lru_cache(maxsize=4096)
def _windows(window: Window2d, size: Pair, argument: str) -> Pair:
    """Output size of a window, checked; remembered, because layers ask for the same one again."""
    valid_window(window)
    return window.output_size(size, argument=argument)


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
    rank("weight", weight, "O C/G KH KW")
    if 0 in weight.shape:
        raise ShapeError("weight", "at least one filter, channel, row and column", weight.shape)
    if weight.shape[2:] != window.kernel:
        raise ShapeError("weight", f"kernel {window.kernel}, the window's", weight.shape[2:])


def _size(size: Pair) -> Pair:
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ArgumentError("size", "a pair (h, w)", repr(size))
    return as_int("size", size[0], 0), as_int("size", size[1], 0)


def matmul(a: Array, b: Array) -> bool:
    on_device = factors(("a", "b"), a, b)
    if a.ndim < 2 or b.ndim < 2:
        name, x = ("a", a) if a.ndim < 2 else ("b", b)
        raise ShapeError(name, "at least two axes", x.shape, "add an axis with x[None]")
    if a.shape[-1] != b.shape[-2]:
        expected = f"shape (..., {a.shape[-1]}, N), as a has {a.shape[-1]} columns"
        raise ShapeError("b", expected, b.shape)
    batch = () if a.ndim == b.ndim == 2 else broadcast("b", a.shape[:-2], b.shape[:-2])
    checked_size("a and b", *batch, a.shape[-2], b.shape[-1])
    return on_device


def im2col(x: Array, window: Window2d) -> bool:
    on_device = floats(("x",), x)
    rank("x", x, "N C H W")
    out = _windows(window, x.shape[2:], "x")
    checked_size("x", x.shape[0], x.shape[1], *window.kernel, *out)
    return on_device


def col2im(cols: Array, size: Pair, window: Window2d) -> bool:
    on_device = floats(("cols",), cols)
    rank("cols", cols, "N C·KH·KW OH·OW")
    out = _windows(window, _size(size), "size")
    taps = window.kernel[0] * window.kernel[1]
    if cols.shape[1] % taps or cols.shape[2] != out[0] * out[1]:
        expected = f"shape (N, a multiple of KH·KW = {taps}, OH·OW = {out[0]}·{out[1]})"
        raise ShapeError("cols", expected, cols.shape)
    checked_size("size", cols.shape[0], cols.shape[1], *size)
    return on_device


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
    epilogue: Epilogue | None = None,
) -> bool:
    if bias is None:
        on_device = factors(("x", "weight"), x, weight)
    else:
        on_device = factors(("x", "weight", "bias"), x, weight, bias)
    rank("x", x, "N C H W")
    out = _windows(window, x.shape[2:], "x")
    _filters(weight, window)
    _groups(groups, x.shape[1], weight)
    if bias is not None:
        shape("bias", bias, (weight.shape[0],), "(O,)")
    check_algorithm(algorithm, window, weight.shape[1], weight.shape[0] // groups, "output")
    checked_size("x", x.shape[0], x.shape[1], *window.kernel, *out)
    checked_size("x", x.shape[0], weight.shape[0], *out)
    if epilogue is not None:
        _epilogue(epilogue, x, (x.shape[0], weight.shape[0], *out))
    return on_device


def conv_transpose2d(
    y: Array,
    weight: Array,
    bias: Array | None,
    size: Pair,
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
    epilogue: Epilogue | None = None,
) -> bool:
    if bias is None:
        on_device = factors(("y", "weight"), y, weight)
    else:
        on_device = factors(("y", "weight", "bias"), y, weight, bias)
    rank("y", y, "N O OH OW")
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
        shape("bias", bias, (channels,), "(C,)")
    check_algorithm(algorithm, window, weight.shape[1], weight.shape[0] // groups, "input")
    checked_size("size", y.shape[0], channels, *size)
    checked_size("y", y.shape[0], channels, *window.kernel, *out)
    if epilogue is not None:
        _epilogue(epilogue, y, (y.shape[0], channels, *size))
    return on_device


def _epilogue(epilogue: Epilogue, beside: Array, result: tuple[int, ...]) -> None:
    if epilogue.residual is not None:
        factors(("the input", "residual"), beside, epilogue.residual)
        shape("residual", epilogue.residual, result, "that of the result")
    if epilogue.activation:
        activation(epilogue.activation, epilogue.params)


def conv2d_weight(
    x: Array, gy: Array, window: Window2d, groups: int = 1, algorithm: str = "auto"
) -> bool:
    on_device = factors(("x", "gy"), x, gy)
    rank("x", x, "N C H W")
    rank("gy", gy, "N O OH OW")
    out = _windows(window, x.shape[2:], "x")
    groups = as_int("groups", groups, 1)
    for name, channels in (("x", x.shape[1]), ("gy", gy.shape[1])):
        if channels == 0 or channels % groups:
            raise ShapeError(name, f"a multiple of groups = {groups} channels", channels)
    shape("gy", gy, (x.shape[0], gy.shape[1], *out), "(N, O, OH, OW)")
    check_algorithm(algorithm, window, x.shape[1] // groups, gy.shape[1] // groups, "weight")
    checked_size("x", x.shape[0], x.shape[1], *window.kernel, *out)
    checked_size("gy", gy.shape[1], x.shape[1] // groups, *window.kernel)
    return on_device
