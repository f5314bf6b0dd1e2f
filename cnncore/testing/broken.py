"""Wrong kernels, written as people write them wrong.  Used by ``faults`` only.

Each takes the real kernel of the backend in use and then the arguments of the contract.  What can
be broken by one changed argument is; the others are slow definitions with the mistake in them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from cnncore.geometry import Pair, Window2d
from cnncore.kernels import array
from cnncore.kernels.epilogue import finished
from cnncore.taps import Bins, Taps

Array = Any
Kernel = Callable[..., Any]


def _window_max(
    x: Array, window: Window2d, output_size: Pair, wins: Callable[[float, float], bool], edge: bool
) -> tuple[Array, Array]:
    """Max pooling by definition; ``wins(challenger, best)``; with ``edge`` padding counts as 0."""
    N, C, H, W = x.shape
    y = np.empty((N, C, *output_size), x.dtype)
    switch = np.empty(y.shape, np.int64)
    for n, c, i, j in np.ndindex(*y.shape):
        best, where = None, -1
        for u, v in np.ndindex(*window.kernel):
            h = i * window.stride[0] - window.padding[0][0] + u * window.dilation[0]
            w = j * window.stride[1] - window.padding[1][0] + v * window.dilation[1]
            if 0 <= h < H and 0 <= w < W:
                value, at = x[n, c, h, w], h * W + w
            elif edge and where >= 0:
                value, at = x.dtype.type(0), where
            else:
                continue
            if best is None or wins(value, best):
                best, where = value, at
        y[n, c, i, j], switch[n, c, i, j] = best, where
    return y, switch


def zero_padded_max(real: Kernel, x: Array, window: Window2d, output_size: Pair) -> Any:
    return _window_max(x, window, output_size, lambda new, best: new > best, True)


def max_tie_highest(real: Kernel, x: Array, window: Window2d, output_size: Pair) -> Any:
    return _window_max(x, window, output_size, lambda new, best: new >= best, False)


def max_ignores_nan(real: Kernel, x: Array, window: Window2d, output_size: Pair) -> Any:
    def wins(new: float, best: float) -> bool:
        return new > best or np.isnan(best)

    return _window_max(x, window, output_size, wins, False)


def bin_max_tie_highest(real: Kernel, x: Array, image: Array, rows: Bins, cols: Bins) -> Any:
    """The plane upside down: the last winner becomes the first, and its index is turned back."""

    def turned(bins: Bins) -> Bins:
        return Bins(bins.size, bins.size - bins.end, bins.size - bins.start)

    y, index = real(np.ascontiguousarray(x[:, :, ::-1, ::-1]), image, turned(rows), turned(cols))
    return y, np.where(index < 0, index, rows.size * cols.size - 1 - index)


def col2im_overwrites(real: Kernel, cols: Array, size: Pair, window: Window2d) -> Array:
    """``=`` where ``+=`` should be: of overlapping windows only the last is left."""
    N, OH, OW = len(cols), *window.output_size(size)
    KH, KW = window.kernel
    cols = cols.reshape(N, -1, KH, KW, OH, OW)
    x = np.zeros((N, cols.shape[1], *size), cols.dtype)
    for u, v, i, j in np.ndindex(KH, KW, OH, OW):
        h = i * window.stride[0] - window.padding[0][0] + u * window.dilation[0]
        w = j * window.stride[1] - window.padding[1][0] + v * window.dilation[1]
        if 0 <= h < size[0] and 0 <= w < size[1]:
            x[:, :, h, w] = cols[:, :, u, v, i, j]
    return x


def conv_transpose_overwrites(
    real: Kernel, y: Array, weight: Array, bias: Any, size: Pair, window: Window2d, *rest: Any
) -> Array:
    """The last output pixel that reaches an input pixel overwrites what others have added."""
    x = None
    for i, j in np.ndindex(*y.shape[2:]):
        one = np.zeros_like(y)
        one[:, :, i, j] = y[:, :, i, j]
        part = real(one, weight, None, size, window, *rest)
        x = part if x is None else np.where(part != 0, part, x)
    if x is None:
        return real(y, weight, bias, size, window, *rest)
    return x if bias is None else x + bias[:, None, None]


def scatter_overwrites(
    real: Kernel, src: Array, index: Array, size: int, skips: bool = True
) -> Array:
    x = np.zeros((src.shape[0], size, src.shape[2]), src.dtype)
    index = np.broadcast_to(index, src.shape)
    for o, j, i in np.ndindex(*src.shape):
        if index[o, j, i] >= 0:
            x[o, index[o, j, i], i] = src[o, j, i]
    return x


def resample_adjoint_overwrites(
    real: Kernel,
    gy: Array,
    image: Array | None,
    rows: Taps,
    cols: Taps,
    images: int,
    position_sensitive: bool = False,
) -> Array:
    """Of several regions (or output pixels) that read one pixel, only the last is counted."""
    if image is None:
        image = np.arange(len(gy))
    gx = None
    for r, i, j in np.ndindex(len(gy), *gy.shape[2:]):
        one = np.zeros_like(gy)
        one[r, :, i, j] = gy[r, :, i, j]
        part = real(one, image, rows, cols, images, position_sensitive)
        gx = part if gx is None else np.where(part != 0, part, gx)
    return real(gy, image, rows, cols, images, position_sensitive) if gx is None else gx


def put_overwrites(real: Kernel, src: Array, key: Any, shape: tuple[int, ...]) -> Array:
    x = np.zeros(shape, src.dtype)
    x[key] = src
    return x


def conv_swaps_axes(real: Kernel, x: Array, weight: Array, *rest: Any) -> Array:
    """The kernel read as (width, height)."""
    outputs, channels, KH, KW = weight.shape
    return real(
        x, np.ascontiguousarray(weight.reshape(outputs, channels, KW, KH).swapaxes(2, 3)), *rest
    )


def conv_is_flipped(real: Kernel, x: Array, weight: Array, *rest: Any) -> Array:
    """Convolution as mathematicians write it (or a transpose that is not flipped)."""
    return real(x, np.ascontiguousarray(weight[:, :, ::-1, ::-1]), *rest)


def conv_interleaves_groups(
    real: Kernel,
    x: Array,
    weight: Array,
    bias: Array | None,
    window: Window2d,
    groups: int = 1,
    algorithm: str = "auto",
) -> Array:
    """Group g takes channels g, g + G, g + 2G … instead of a run of neighbours."""
    N, C, H, W = x.shape
    mixed = x.reshape(N, C // groups, groups, H, W).swapaxes(1, 2).reshape(x.shape)
    return real(np.ascontiguousarray(mixed), weight, bias, window, groups, algorithm)


def conv_shifts_padding(
    real: Kernel, x: Array, weight: Array, bias: Array | None, window: Window2d, *rest: Any
) -> Array:
    """The padding of the top at the bottom, of the left at the right."""
    (top, bottom), (left, right) = window.padding
    turned = dataclasses.replace(window, padding=((bottom, top), (right, left)))
    return real(x, weight, bias, turned, *rest)


def weight_gradient_undilated(
    real: Kernel, x: Array, gy: Array, window: Window2d, groups: int = 1, algorithm: str = "auto"
) -> Array:
    """The weight gradient of a convolution without dilation: taps are read too close together."""
    KH, KW = window.kernel
    gweight = real(x, gy, window, groups, algorithm)
    for u, v in np.ndindex(KH, KW):
        # One tap is a 1x1 convolution on a shifted plane; shift by u instead of by u·dilation.
        shift = window.padding[0][0] - u, window.padding[1][0] - v
        rows, cols = (
            np.arange(gy.shape[2 + a]) * window.stride[a] - shift[a] for a in (0, 1)
        )  # fmt: skip
        inside = [(p >= 0) & (p < n) for p, n in zip((rows, cols), x.shape[2:], strict=True)]
        pixels = x[:, :, rows.clip(0, x.shape[2] - 1)][:, :, :, cols.clip(0, x.shape[3] - 1)]
        pixels = pixels * inside[0][:, None] * inside[1]
        pixels = pixels.reshape(len(x), groups, -1, *gy.shape[2:])
        grouped = gy.reshape(len(x), groups, -1, *gy.shape[2:])
        product = np.einsum("ngohw,ngchw->goc", grouped, pixels)
        gweight[:, :, u, v] = product.reshape(gweight.shape[:2])
    return gweight


def softmax_overflows(real: Kernel, x: Array, log: bool = False) -> Array:
    """Without subtracting the maximum."""
    with np.errstate(all="ignore"):
        powers = np.exp(x)
        total = powers.sum(axis=1, keepdims=True)
        return x - np.log(total) if log else powers / total


def moments_cancel(real: Kernel, x: Array) -> Any:
    """``E[x²] − E[x]²``, which cancels for rows far from zero."""
    mean = x.mean(axis=1)
    return mean, ((x * x).mean(axis=1) - mean * mean) * x.shape[1]


def variance_cancels(
    real: Kernel, x: Array, weight: Any, bias: Any, joined: int, eps: float, ending: Any = None
) -> Any:
    """The same mistake in the kernel that normalises."""
    mean = x.mean(axis=(joined, 3), keepdims=True)
    variance = (x * x).mean(axis=(joined, 3), keepdims=True) - mean * mean
    y = (x - mean) / np.sqrt(np.maximum(variance, 0) + eps)
    channels = (1, *x.shape[1:3], 1)
    y = y if weight is None else y * weight.reshape(channels)
    y = y if bias is None else y + bias.reshape(channels)
    y = finished(y.astype(x.dtype), ending, array.ufunc, array.pointwise)
    return y, *(s[..., 0].astype(np.float64) for s in (mean, variance))


def normalisation_ignores_variance(real: Kernel, *args: Any) -> Any:
    """Backward of a normalisation that takes its statistics for constants."""
    return real(*args[:6], True, *args[7:])


def second_derivative_doubled(
    real: Kernel, x: Array, kind: str, params: Any = (), order: int = 0, scale: Any = None
) -> Array:
    y = real(x, kind, params, order, scale)
    return y * 2 if order == 2 else y


def leaky_slope_lost(
    real: Kernel, x: Array, kind: str, params: Any = (), order: int = 0, scale: Any = None
) -> Array:
    """The derivative of leaky ReLU is that of ReLU."""
    if kind == "leaky_relu" and order == 1:
        kind, params = "relu", ()
    return real(x, kind, params, order, scale)


def nms_at_threshold(real: Kernel, boxes: Array, scores: Array, iou_threshold: float) -> Array:
    """``>=`` where ``>`` should be."""
    return real(boxes, scores, float(np.nextafter(boxes.dtype.type(iou_threshold), -1)))


def nms_unstable(real: Kernel, boxes: Array, scores: Array, iou_threshold: float) -> Array:
    """Equal scores in descending index."""
    kept = real(boxes[::-1].copy(), scores[::-1].copy(), iou_threshold)
    return len(boxes) - 1 - kept


def iou_counts_edges(real: Kernel, a: Array, b: Array) -> Array:
    """Widths with the old ``+ 1``, for boxes that do not include their last pixel."""
    one = np.array([0, 0, 1, 1], a.dtype)
    return real(a + one, b + one)


def adam_uncorrected(real: Kernel, *args: Any, step: int = 0, **options: Any) -> None:
    """Without bias correction: ``1 − βᵗ`` for t so large that it is 1."""
    names = ("param", "grad", "m", "v", "step")
    given = dict(zip(names, args, strict=False))
    given.pop("step", None)
    real(*given.values(), 10**9, *args[5:], **options)


def sgd_dampens_first(real: Kernel, *args: Any, **options: Any) -> None:
    """Velocity is overwritten by the gradient instead of gathering it."""
    velocity = args[2] if len(args) > 2 else options.get("velocity")
    if velocity is not None:
        velocity[...] = 0
    real(*args, **options)
