"""Small checks of the engine, each from a definition, the adjoint identity or finite differences.

They are run plainly (and must pass) and under the deliberate faults (and must fail): that is how we
know that checks of these kinds can fail.  Definitions are loops written from the papers; none calls
what it tests.
"""

from __future__ import annotations

import math

import numpy as np

from cnncore import kernels, ops
from cnncore.geometry import Window2d
from cnncore.taps import Bins
from cnncore.testing import adjoint_check, gradcheck, gradgradcheck
from cnncore.testing.strategies import spaced_values

WINDOW = Window2d((2, 3), (1, 2), ((1, 0), (1, 2)), (2, 1))


def _rng(seed=0):
    return np.random.default_rng(seed)


def _same(got, expected, tolerance=1e-12):
    np.testing.assert_allclose(np.asarray(got), expected, rtol=tolerance, atol=tolerance)


# --- definitions ----------------------------------------------------------------------------------


def conv_by_loops(x, weight, stride, padding, dilation, groups):
    """Cross-correlation, one output at a time; padding ((top, bottom), (left, right))."""
    (N, _, H, W), (outputs, CG, KH, KW) = x.shape, weight.shape
    (top, bottom), (left, right) = padding
    OH = (H + top + bottom - dilation[0] * (KH - 1) - 1) // stride[0] + 1
    OW = (W + left + right - dilation[1] * (KW - 1) - 1) // stride[1] + 1
    y = np.zeros((N, outputs, OH, OW))
    for n, o, i, j in np.ndindex(*y.shape):
        first = o // (outputs // groups) * CG
        for c, u, v in np.ndindex(CG, KH, KW):
            h, w = i * stride[0] + u * dilation[0] - top, j * stride[1] + v * dilation[1] - left
            if 0 <= h < H and 0 <= w < W:
                y[n, o, i, j] += x[n, first + c, h, w] * weight[o, c, u, v]
    return y


def seen_by(size, k, s, p, i):
    """The pixels of one axis that window i sees."""
    return [q for q in range(i * s - p, i * s - p + k) if 0 <= q < size]


def max_pool_by_loops(x, k, s, p):
    """Values and switches of max pooling; the first NaN, else the first largest, wins."""
    H, W = x.shape[2:]
    OH, OW = (H + 2 * p - k) // s + 1, (W + 2 * p - k) // s + 1
    y, switch = np.zeros((*x.shape[:2], OH, OW)), np.zeros((*x.shape[:2], OH, OW), np.int64)
    for n, c, i, j in np.ndindex(*y.shape):
        pixels = [(h, w) for h in seen_by(H, k, s, p, i) for w in seen_by(W, k, s, p, j)]
        values = [float(x[n, c, h, w]) for h, w in pixels]
        nans = [t for t, value in enumerate(values) if math.isnan(value)]
        winner = nans[0] if nans else values.index(max(values))
        y[n, c, i, j], switch[n, c, i, j] = (
            values[winner],
            pixels[winner][0] * W + pixels[winner][1],
        )
    return y, switch


def roi_pool_by_loops(x, boxes, output_size, scale):
    """Girshick 2015: rounded edges, the last pixel included, maximum of each bin."""
    H, W = x.shape[2:]
    PH, PW = output_size
    y = np.zeros((len(boxes), x.shape[1], PH, PW))
    for r, (image, *box) in enumerate(boxes):
        x1, y1, x2, y2 = (math.floor(edge * scale + 0.5) for edge in box)
        height, width = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        for c, i, j in np.ndindex(x.shape[1], PH, PW):
            rows = range(y1 + i * height // PH, y1 + math.ceil((i + 1) * height / PH))
            cols = range(x1 + j * width // PW, x1 + math.ceil((j + 1) * width / PW))
            pixels = [
                x[int(image), c, h, w] for h in rows for w in cols if 0 <= h < H and 0 <= w < W
            ]
            y[r, c, i, j] = max(pixels, default=0.0)
    return y


def bilinear(plane, h, w):
    """The value between four pixels; zero more than a pixel outside."""
    H, W = plane.shape
    if not (-1 <= h <= H and -1 <= w <= W):
        return 0.0
    h, w = min(max(h, 0), H - 1), min(max(w, 0), W - 1)
    h0, w0 = math.floor(h), math.floor(w)
    h1, w1 = min(h0 + 1, H - 1), min(w0 + 1, W - 1)
    a, b = h - h0, w - w0
    above = (1 - b) * plane[h0, w0] + b * plane[h0, w1]
    below = (1 - b) * plane[h1, w0] + b * plane[h1, w1]
    return (1 - a) * above + a * below


def roi_align_by_loops(x, boxes, output_size, scale, samples, aligned):
    """He et al. 2017: the mean of samples² bilinear samples a bin."""
    PH, PW = output_size
    y = np.zeros((len(boxes), x.shape[1], PH, PW))
    for r, (image, *box) in enumerate(boxes):
        x1, y1, x2, y2 = (edge * scale - (0.5 if aligned else 0.0) for edge in box)
        height, width = y2 - y1, x2 - x1
        if not aligned:
            height, width = max(height, 1.0), max(width, 1.0)
        for c, i, j in np.ndindex(x.shape[1], PH, PW):
            total = 0.0
            for s, t in np.ndindex(samples, samples):
                h = y1 + (i + (s + 0.5) / samples) * height / PH
                w = x1 + (j + (t + 0.5) / samples) * width / PW
                total += bilinear(x[int(image), c], h, w)
            y[r, c, i, j] = total / samples**2
    return y


# --- convolution ----------------------------------------------------------------------------------


def convolution_is_its_definition():
    x, weight = _rng().normal(size=(2, 4, 5, 6)), _rng(1).normal(size=(6, 2, 2, 3))
    got = ops.conv2d(x, weight, None, (1, 2), ((1, 0), (1, 2)), (2, 1), groups=2)
    _same(got, conv_by_loops(x, weight, (1, 2), ((1, 0), (1, 2)), (2, 1), 2))


def transposed_convolution_is_the_transpose():
    weight = _rng(2).integers(-3, 4, (4, 2, 2, 3)).astype(float)
    adjoint_check(
        lambda x: ops.conv2d(x, weight, stride=(1, 2), padding=1), (1, 2, 4, 5), exact=True
    )


def weight_gradient_of_convolution():
    x, weight = _rng(3).normal(size=(2, 2, 5, 6)), _rng(4).normal(size=(2, 2, 2, 2))
    gradcheck(lambda w: ops.conv2d(x, w, padding=1, dilation=(1, 2)), weight)


def folding_is_the_transpose_of_unfolding():
    adjoint_check(lambda x: ops.unfold(x, (2, 3), padding=1), (1, 2, 4, 4), exact=True)


# --- pooling --------------------------------------------------------------------------------------


def max_pool_of_negative_numbers():
    x = -1 - _rng(5).random((1, 2, 5, 6))
    _same(ops.max_pool2d(x, 3, 2, 1), max_pool_by_loops(x, 3, 2, 1)[0], 0)


def max_pool_ties_go_to_the_lowest_index():
    x = _rng(6).integers(0, 2, (1, 2, 5, 6)).astype(float)
    switches = ops.max_pool2d(x, 3, 2, 1, return_indices=True)[1]
    _same(switches, max_pool_by_loops(x, 3, 2, 1)[1], 0)


def nan_wins_every_maximum():
    x = _rng(7).normal(size=(1, 1, 5, 6))
    x[0, 0, 2, 3] = x[0, 0, 3, 3] = np.nan
    y, switches = ops.max_pool2d(x, 2, 1, return_indices=True)
    expected, winners = max_pool_by_loops(x, 2, 1, 0)
    _same(y, expected, 0)
    _same(switches, winners, 0)


def max_pool_gradient_adds_where_windows_overlap():
    gradcheck(lambda x: ops.max_pool2d(x, 3, 1), spaced_values(_rng(8), (1, 2, 5, 5)))


def average_pool_is_its_definition():
    x = _rng(9).normal(size=(1, 2, 5, 6))
    for with_padding in (True, False):
        y = np.asarray(ops.avg_pool2d(x, 3, 2, 1, count_include_pad=with_padding))
        for i, j in np.ndindex(*y.shape[2:]):
            block = x[:, :, seen_by(5, 3, 2, 1, i)][:, :, :, seen_by(6, 3, 2, 1, j)]
            count = 9 if with_padding else block.shape[2] * block.shape[3]
            _same(y[:, :, i, j], block.sum(axis=(2, 3)) / count)


def unpooling_follows_the_switches():
    x = spaced_values(_rng(10), (1, 2, 4, 6))
    y, switches = ops.max_pool2d(x, 2, return_indices=True)
    back = np.asarray(ops.max_unpool2d(y, switches, 2))
    is_winner = np.zeros(x.shape, bool)
    for n, c, i, j in np.ndindex(*y.shape):
        block = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        u, v = np.argwhere(block == block.max())[0]
        is_winner[n, c, 2 * i + u, 2 * j + v] = True
    _same(back, np.where(is_winner, x, 0), 0)


# --- regions and resampling -----------------------------------------------------------------------

BOXES = np.array([[0, 0.6, 0.7, 4.2, 5.3], [1, 2.2, 1.1, 6.9, 3.4], [0, 1.3, 2.6, 3.1, 6.2]])


def roi_pool_is_its_definition():
    x = spaced_values(_rng(11), (2, 2, 7, 8))
    _same(ops.roi_pool(x, BOXES, (2, 3)), roi_pool_by_loops(x, BOXES, (2, 3), 1.0), 0)


def roi_pool_ties_go_to_the_lowest_index():
    x = _rng(12).integers(0, 2, (1, 1, 4, 5)).astype(float)
    start, end = np.array([[0, 2]]), np.array([[3, 5]])
    rows, cols = Bins(4, np.array([[0, 1]]), np.array([[2, 4]])), Bins(5, start, end)
    _, index = kernels.bin_max(x, np.zeros(1, np.int64), rows, cols)
    for i, j in np.ndindex(2, 2):
        pixels = [
            (-x[0, 0, h, w], h * 5 + w)
            for h in range(rows.start[0, i], rows.end[0, i])
            for w in range(start[0, j], end[0, j])
        ]
        assert index[0, 0, i, j] == min(pixels)[1]


def roi_align_is_its_definition():
    x = _rng(13).normal(size=(2, 2, 7, 8))
    for aligned in (False, True):
        got = ops.roi_align(x, BOXES, (2, 3), 1.0, 2, aligned)
        _same(got, roi_align_by_loops(x, BOXES, (2, 3), 1.0, 2, aligned))


def roi_align_gradient_is_the_transpose():
    adjoint_check(lambda x: ops.roi_align(x, BOXES, (2, 3), 1.0, 2, True), (2, 1, 7, 8))


def bilinear_interpolation_is_its_definition():
    x = _rng(14).normal(size=(1, 1, 4, 5))
    for corners in (True, False):
        got = ops.interpolate(x, size=(7, 3), mode="bilinear", align_corners=corners)
        rows, cols = (
            np.arange(m) * (n - 1) / (m - 1) if corners else (np.arange(m) + 0.5) * n / m - 0.5
            for n, m in ((4, 7), (5, 3))
        )
        wide = np.stack([np.interp(cols, np.arange(5), row) for row in x[0, 0]])
        expected = np.stack([np.interp(rows, np.arange(4), column) for column in wide.T], axis=1)
        _same(np.asarray(got)[0, 0], expected)


# --- the engine -----------------------------------------------------------------------------------


def gradients_of_two_uses_add_up():
    gradcheck(lambda x: x * x + x, _rng(15).normal(size=(2, 3)))


def broadcast_operands_get_the_sum():
    gradcheck(lambda x, b: x * b, [_rng(16).normal(size=(3, 4)), _rng(17).normal(size=(1, 4))])


def repeated_indices_add_up():
    adjoint_check(lambda x: x[np.array([0, 0, 2])], (3, 2), exact=True)


# --- normalisation, activation, softmax -----------------------------------------------------------


def batch_norm_gradient():
    x, weight = _rng(18).normal(size=(3, 2, 2, 2)), np.array([1.5, -0.7])
    gradcheck(lambda x: ops.batch_norm(x, None, None, weight, None, training=True), x)


def statistics_far_from_zero():
    deviation = np.array([[-3.0, -1.0, 1.0, 3.0], [2.0, -2.0, 2.0, -2.0]])
    mean, squares = kernels.row_moments(deviation + 2.0**30)
    _same(mean, [2.0**30] * 2, 0)
    _same(squares, [20.0, 16.0], 1e-9)


def leaky_relu_gradient():
    x = np.array([-2.0, -0.5, 0.7, 3.0])
    gradcheck(lambda x: ops.leaky_relu(x, 0.1), x)


def second_derivative_of_silu():
    gradgradcheck(ops.silu, _rng(19).normal(size=(2, 3)))


def softmax_of_large_numbers():
    e = math.e
    _same(ops.softmax(np.array([[1000.0, 1001.0]]), 1), [[1 / (1 + e), e / (1 + e)]])


# --- boxes, optimisers ----------------------------------------------------------------------------


def boxes_overlap_by_hand():
    a, b = np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 1, 3, 3], [0, 0, 2, 2], [2, 0, 3, 2]])
    _same(kernels.box_iou(a, b), [[1 / 7, 1, 0]])


def nms_keeps_what_equals_the_threshold():
    boxes = np.array([[0.0, 0, 1, 2], [0, 0, 1, 1]])  # the overlap is exactly one half
    assert kernels.nms(boxes, np.array([0.9, 0.8]), 0.5).tolist() == [0, 1]


def nms_is_stable():
    boxes = np.array([[0.0, 0, 1, 1], [5, 5, 6, 6], [0, 0, 1, 1]])
    assert kernels.nms(boxes, np.array([0.5, 0.5, 0.5]), 0.5).tolist() == [0, 1]


def adam_moves_by_the_learning_rate_at_first():
    """Kingma & Ba 2015, 2.1: the first step is lr · sign(g), whatever the size of g."""
    param, grad = np.zeros(3), np.array([1e-3, -5.0, 200.0])
    kernels.adam_update(param, grad, np.zeros(3), np.zeros(3), 1, 0.1, eps=0.0)
    _same(param, [-0.1, 0.1, -0.1])


def momentum_gathers_gradients():
    param, velocity = np.zeros(1), np.zeros(1)
    for _ in range(3):
        kernels.sgd_update(param, np.ones(1), velocity, 1.0, momentum=0.5)
    _same(param, [-(1 + 1.5 + 1.75)])
