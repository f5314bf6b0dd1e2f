"""The kernels of the contract written from their definitions, element by element, in float64."""

from __future__ import annotations

import math

import numpy as np


def larger(value: float, best: float) -> bool:
    """Whether a later value takes over: only if larger, or the first NaN."""
    return not math.isnan(best) and (math.isnan(value) or value > best)


def max_pool2d(x, window, output_size):
    n, c, height, width = x.shape
    y = np.zeros((n, c, *output_size), x.dtype)
    winner = np.full(y.shape, -1, np.int64)
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.stride, window.dilation
    (top, _), (left, _) = window.padding
    for b, k, i, j in np.ndindex(*y.shape):
        for u in range(kh):
            for v in range(kw):
                h, w = i * sh - top + u * dh, j * sw - left + v * dw
                if not (0 <= h < height and 0 <= w < width):
                    continue
                if winner[b, k, i, j] < 0 or larger(x[b, k, h, w], y[b, k, i, j]):
                    y[b, k, i, j], winner[b, k, i, j] = x[b, k, h, w], h * width + w
    return y, winner


def bin_max(x, image, rows, cols):
    y = np.zeros((len(image), x.shape[1], rows.length, cols.length), x.dtype)
    winner = np.full(y.shape, -1, np.int64)
    for r, c, p, q in np.ndindex(*y.shape):
        g, k = r % len(rows.start), r % len(cols.start)
        for h in range(rows.start[g, p], rows.end[g, p]):
            for w in range(cols.start[k, q], cols.end[k, q]):
                value = x[image[r], c, h, w]
                if winner[r, c, p, q] < 0 or larger(value, y[r, c, p, q]):
                    y[r, c, p, q], winner[r, c, p, q] = value, h * x.shape[3] + w
    return y, winner


def gather(x, index):
    outer, _, inner = x.shape
    index = np.broadcast_to(index, (outer, index.shape[1], inner))
    y = np.zeros(index.shape, x.dtype)
    for o, j, i in np.ndindex(*y.shape):
        if index[o, j, i] >= 0:
            y[o, j, i] = x[o, index[o, j, i], i]
    return y


def scatter_add(src, index, size):
    outer, _, inner = src.shape
    index = np.broadcast_to(index, src.shape)
    y = np.zeros((outer, size, inner), src.dtype)
    for o, j, i in np.ndindex(*src.shape):
        if index[o, j, i] >= 0:
            y[o, index[o, j, i], i] += src[o, j, i]
    return y


def valid_taps(taps, region, position):
    g = region % len(taps.count)
    for t in range(taps.count[g, position]):
        yield taps.index[g, position, t], taps.weight[g, position, t]


def resample(x, image, rows, cols, position_sensitive=False):
    image = range(len(x)) if image is None else image
    ph, pw = rows.length, cols.length
    channels = x.shape[1] // (ph * pw) if position_sensitive else x.shape[1]
    y = np.zeros((len(image), channels, ph, pw))
    for r, c, p, q in np.ndindex(*y.shape):
        source = (c * ph + p) * pw + q if position_sensitive else c
        for h, a in valid_taps(rows, r, p):
            for w, b in valid_taps(cols, r, q):
                y[r, c, p, q] += a * b * x[image[r], source, h, w]
    return y


def resample_adjoint(gy, image, rows, cols, images, position_sensitive=False):
    image = range(len(gy)) if image is None else image
    ph, pw = rows.length, cols.length
    channels = gy.shape[1] * (ph * pw if position_sensitive else 1)
    gx = np.zeros((images, channels, rows.size, cols.size))
    for r, c, p, q in np.ndindex(*gy.shape):
        source = (c * ph + p) * pw + q if position_sensitive else c
        for h, a in valid_taps(rows, r, p):
            for w, b in valid_taps(cols, r, q):
                gx[image[r], source, h, w] += a * b * gy[r, c, p, q]
    return gx


def box_iou(a, b):
    y = np.zeros((len(a), len(b)))
    for i, j in np.ndindex(*y.shape):
        width = min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0])
        height = min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1])
        common = max(width, 0) * max(height, 0)
        areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a[i], b[j]))
        y[i, j] = common / (areas - common) if areas - common > 0 else 0
    return y


def nms(boxes, scores, threshold):
    order = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept = []
    for i in order:
        if all(box_iou(boxes[i : i + 1], boxes[k : k + 1])[0, 0] <= threshold for k in kept):
            kept.append(i)
    return kept


# --- activations, in terms of the mathematical functions alone ------------------------------------


def logistic(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def activation(kind, x, params):
    """f(x) for one float."""
    p, q = (*params, 0.0, 0.0)[:2]
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return {
        "relu": lambda: max(x, 0.0),
        "relu6": lambda: min(max(x, 0.0), 6.0),
        "leaky_relu": lambda: x if x > 0 else p * x,
        "elu": lambda: x if x > 0 else p * math.expm1(x),
        "selu": lambda: scale * (x if x > 0 else alpha * math.expm1(x)),
        "celu": lambda: x if x > 0 else p * math.expm1(x / p),
        "gelu": lambda: x * 0.5 * math.erfc(-x / math.sqrt(2)),
        "gelu_tanh": lambda: (
            0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        ),
        "silu": lambda: x * logistic(x),
        "mish": lambda: x * math.tanh(math.log1p(math.exp(x))),
        "sigmoid": lambda: logistic(x),
        "log_sigmoid": lambda: -math.log1p(math.exp(-x)),
        "hardsigmoid": lambda: min(max(x / 6 + 0.5, 0.0), 1.0),
        "hardswish": lambda: x * min(max(x / 6 + 0.5, 0.0), 1.0),
        "hardtanh": lambda: min(max(x, p), q),
        "tanh": lambda: math.tanh(x),
        "softplus": lambda: x if p * x > q else math.log1p(math.exp(p * x)) / p,
        "softsign": lambda: x / (1 + abs(x)),
    }[kind]()
