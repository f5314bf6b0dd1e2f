"""Matrix product and the convolution family: a convolution is a matrix, its gradient the transpose.

``im2col`` writes the windows of an image side by side as columns; then a convolution is one matrix
product with the flattened filters, its transpose is the product with the transposed filters and
``col2im``, and the weight gradient is the product of gradient and columns.  The ``implicit_gemm``
variants do the same without the column matrix: one product per kernel position.  They also stand
in for ``direct`` and ``depthwise``, which differ from them in memory accesses only.  Winograd's
forms are in ``winograd.py``; with dilation they are ``im2col`` here, and so is ``auto``.
"""

from __future__ import annotations

from collections.abc import Iterator

from cnncore.geometry import Pair, Window2d
from cnncore.kernels.array import winograd
from cnncore.kernels.array.activation import pointwise
from cnncore.kernels.array.elementwise import ufunc
from cnncore.kernels.array.modules import Array, array_module, finish, native, quiet
from cnncore.kernels.epilogue import Epilogue, finished
from cnncore.kernels.switches import get_precision

Slices = tuple[slice, slice]
POSITIONS = ("implicit_gemm", "direct", "depthwise")


@quiet
def matmul(a: Array, b: Array) -> Array:
    """See ``contract.matmul``."""
    xp = array_module(a)
    return finish(xp, xp.matmul(native(a), native(b)))


def padded(x: Array, window: Window2d, output_size: Pair) -> Array:
    """``x`` with zeros around it: the rows and columns that the windows touch."""
    xp = array_module(x)
    height, width = (window.stride[a] * (output_size[a] - 1) + window.extent[a] for a in (0, 1))
    top, left = window.padding[0][0], window.padding[1][0]
    plane = xp.zeros((*x.shape[:2], height, width), native(x[:0]).dtype)
    rows, cols = min(x.shape[2], height - top), min(x.shape[3], width - left)
    if rows > 0 and cols > 0:
        plane[:, :, top : top + rows, left : left + cols] = x[:, :, :rows, :cols]
    return plane


def cropped(plane: Array, size: Pair, window: Window2d) -> Array:
    """The transpose of ``padded``: the part of ``plane`` on the image, else zeros."""
    xp = array_module(plane)
    top, left = window.padding[0][0], window.padding[1][0]
    x = xp.zeros((*plane.shape[:2], *size), plane.dtype)
    rows, cols = min(size[0], plane.shape[2] - top), min(size[1], plane.shape[3] - left)
    if rows > 0 and cols > 0:
        x[:, :, :rows, :cols] = plane[:, :, top : top + rows, left : left + cols]
    return x


def positions(window: Window2d, output_size: Pair) -> Iterator[tuple[int, int, Slices]]:
    """Each kernel position (u, v) and the pixels of the padded plane it meets in all windows."""
    (sh, sw), (dh, dw) = window.stride, window.dilation
    for u in range(window.kernel[0]):
        rows = slice(u * dh, u * dh + sh * (output_size[0] - 1) + 1, sh)
        for v in range(window.kernel[1]):
            yield u, v, (rows, slice(v * dw, v * dw + sw * (output_size[1] - 1) + 1, sw))


def im2col(x: Array, window: Window2d) -> Array:
    """See ``contract.im2col``."""
    xp = array_module(x)
    images, channels = x.shape[:2]
    out = window.output_size(x.shape[2:])
    plane = padded(x, window, out)
    cols = xp.empty((images, channels, *window.kernel, *out), plane.dtype)
    for u, v, (rows, columns) in positions(window, out):
        cols[:, :, u, v] = plane[:, :, rows, columns]
    return cols.reshape(images, channels * window.kernel[0] * window.kernel[1], out[0] * out[1])


@quiet
def col2im(cols: Array, size: Pair, window: Window2d) -> Array:
    """See ``contract.col2im``."""
    xp = array_module(cols)
    out = window.output_size(size)
    images, channels = cols.shape[0], cols.shape[1] // (window.kernel[0] * window.kernel[1])
    cols = native(cols).reshape(images, channels, *window.kernel, *out)
    plane = _empty_plane(xp, images, channels, window, out, cols.dtype)
    for u, v, (rows, columns) in positions(window, out):
        plane[:, :, rows, columns] += cols[:, :, u, v]
    return cropped(plane, size, window)


@quiet
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
    epilogue: Epilogue | None = None,
) -> Array:
    """See ``contract.conv2d``: ``weight @ im2col(x)``, group by group."""
    xp = array_module(x)
    weight = native(weight)
    (images, channels), outputs = x.shape[:2], weight.shape[0]
    out = window.output_size(x.shape[2:])
    m = _winograd_form(algorithm, window)
    if m:
        y = winograd.convolve(_split(native(x), groups), _grouped(weight, groups), out, window, m)
    elif algorithm in POSITIONS:
        y = xp.zeros((images, groups, outputs // groups, out[0] * out[1]), weight.dtype)
        plane, filters = padded(x, window, out), _grouped(weight, groups)
        for u, v, (rows, columns) in positions(window, out):
            pixels = plane[:, :, rows, columns]
            pixels = pixels.reshape(images, groups, channels // groups, out[0] * out[1])
            y += filters[:, :, :, u, v] @ pixels
    else:
        cols = im2col(x, window)
        cols = cols.reshape(images, groups, cols.shape[1] // groups, cols.shape[2])
        y = weight.reshape(groups, outputs // groups, -1) @ cols
    y = _with_bias(y.reshape(images, outputs, *out), bias)
    return finished(y, epilogue, ufunc, pointwise)


@quiet
def conv_transpose2d(
    y: Array,
    weight: Array,
    bias: Array | None,
    size: Pair,
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
    epilogue: Epilogue | None = None,
) -> Array:
    """See ``contract.conv_transpose2d``: ``col2im(weightᵀ @ y)``, group by group."""
    xp = array_module(y)
    weight = native(weight)
    images, outputs, *out = y.shape
    channels = weight.shape[1] * groups
    y = native(y).reshape(images, groups, outputs // groups, out[0] * out[1])
    m = _winograd_form(algorithm, window)
    if m:
        plane = y.reshape(*y.shape[:3], *out)
        x = winograd.transpose(plane, _grouped(weight, groups), size, window, m)
        x = x.reshape(images, channels, *size)
    elif algorithm in POSITIONS:
        plane = _empty_plane(xp, images, channels, window, (out[0], out[1]), weight.dtype)
        filters = _grouped(weight, groups)
        for u, v, (rows, columns) in positions(window, (out[0], out[1])):
            pixels = filters[:, :, :, u, v].swapaxes(1, 2) @ y
            plane[:, :, rows, columns] += pixels.reshape(images, channels, *out)
        x = cropped(plane, size, window)
    else:
        cols = weight.reshape(groups, outputs // groups, -1).swapaxes(1, 2) @ y
        taps = window.kernel[0] * window.kernel[1]
        x = col2im(cols.reshape(images, channels * taps, out[0] * out[1]), size, window)
    return finished(_with_bias(x, bias), epilogue, ufunc, pointwise)


@quiet
def conv2d_weight(
    x: Array, gy: Array, window: Window2d, groups: int = 1, algorithm: str = "auto"
) -> Array:
    """See ``contract.conv2d_weight``: ``gy @ im2col(x)ᵀ``, summed over images, group by group."""
    xp = array_module(x)
    images, channels = x.shape[:2]
    outputs, out = gy.shape[1], (gy.shape[2], gy.shape[3])
    m = _winograd_form(algorithm, window)
    if m:
        planes = _split(native(x), groups), _split(native(gy), groups)
        gweight = winograd.weight_gradient(*planes, window, m)
        return finish(xp, gweight.reshape(outputs, channels // groups, *window.kernel))
    # images become part of the summed axis, so that one product per group does the whole sum
    gy = native(gy).reshape(images, groups, outputs // groups, out[0] * out[1])
    gy = _join_images(xp, gy)
    shape = (outputs, channels // groups, *window.kernel)
    if algorithm in POSITIONS:
        gweight = xp.empty(shape, gy.dtype)
        plane = padded(x, window, out)
        for u, v, (rows, columns) in positions(window, out):
            pixels = plane[:, :, rows, columns]
            pixels = pixels.reshape(images, groups, channels // groups, out[0] * out[1])
            product = gy @ _join_images(xp, pixels).swapaxes(1, 2)
            gweight[:, :, u, v] = product.reshape(shape[:2])
        return gweight
    cols = im2col(x, window)
    cols = cols.reshape(images, groups, cols.shape[1] // groups, cols.shape[2])
    return finish(xp, (gy @ _join_images(xp, cols).swapaxes(1, 2)).reshape(shape))


def _empty_plane(
    xp: Array, images: int, channels: int, window: Window2d, out: Pair, dtype: Array
) -> Array:
    """Zeros of the size that ``padded`` gives."""
    size = [window.stride[a] * (out[a] - 1) + window.extent[a] for a in (0, 1)]
    return xp.zeros((images, channels, *size), dtype)


def _winograd_form(algorithm: str, window: Window2d) -> int:
    """Rows of a tile's results; 0 for other algorithms, and where dilation is not 1."""
    if window.dilation != (1, 1):
        return 0
    forms = {"winograd_2x2": 2, "winograd_4x4": 4}
    forms |= {"winograd_phases_3x3": 3, "winograd_phases_4x4": 4}
    forms["winograd"] = 4 if get_precision() == "fast" or window.stride == (2, 2) else 2
    return forms.get(algorithm, 0)


def _split(x: Array, groups: int) -> Array:
    """``(N, C, H, W) -> (N, G, C/G, H, W)``."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def _grouped(weight: Array, groups: int) -> Array:
    """``(O, C/G, KH, KW) -> (G, O/G, C/G, KH, KW)``."""
    return weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])


def _join_images(xp: Array, a: Array) -> Array:
    """``(N, G, M, P) -> (G, M, N·P)``."""
    images, groups, rows, length = a.shape
    return xp.ascontiguousarray(a.transpose(1, 2, 0, 3)).reshape(groups, rows, images * length)


def _with_bias(y: Array, bias: Array | None) -> Array:
    if bias is not None:
        y += native(bias)[None, :, None, None]
    return y
