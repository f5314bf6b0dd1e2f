"""Blocked arrays (compiled networks): every kernel against the plain one on planes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnncore.errors import ArgumentError
from cnncore.geometry import Window2d
from cnncore.kernels import array, blocked as kernels, native

pytestmark = pytest.mark.skipif(not native.AVAILABLE, reason=native.REASON)

DTYPES = [np.float32, np.float64]
PLANES = [(1, 3, 5, 7), (2, 40, 9, 4), (1, 16, 1, 1), (3, 33, 17, 19), (0, 5, 4, 4)]


def memory(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    lanes = kernels.block_lanes(dtype)
    n, c, h, w = shape
    return np.full((n, -(-c // lanes), h, w, lanes), np.nan, dtype)


def blocked(x: np.ndarray) -> np.ndarray:
    y = memory(x.shape, x.dtype)
    kernels.to_blocked(x, y)
    return y


def planes(x: np.ndarray, channels: int) -> np.ndarray:
    y = np.full((x.shape[0], channels, *x.shape[2:4]), np.nan, x.dtype)
    kernels.from_blocked(x, y)
    return y


def numbers(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


def close(got: np.ndarray, wanted: np.ndarray) -> None:
    assert got.dtype == wanted.dtype
    tolerance = 1e-4 if got.dtype == np.float32 else 1e-11
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", PLANES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_there_and_back(shape: tuple[int, ...], dtype: Any) -> None:
    x = numbers(*shape, dtype=dtype)
    y = blocked(x)
    np.testing.assert_array_equal(planes(y, shape[1]), x)
    lanes = y.shape[-1]
    channels = np.moveaxis(y, -1, 2).reshape(shape[0], y.shape[1] * lanes, *shape[2:])
    np.testing.assert_array_equal(channels[:, : shape[1]], x)
    assert not channels[:, shape[1] :].any(), f"{lanes} lanes: the rest is zero"


@pytest.mark.parametrize("shape", PLANES)
@pytest.mark.parametrize("window", [(3, 2, 1), (2, 2, 0), (3, 1, 1), (1, 1, 0)])
def test_maximum(shape: tuple[int, ...], window: tuple[int, int, int]) -> None:
    w = Window2d.make(*window)
    if min(shape[2:]) < w.kernel[0] - 2 * w.padding[0][0]:
        return
    x, size = numbers(*shape), w.output_size(shape[2:])
    if x.size:
        x.flat[[0, -1]] = np.nan
    y = memory((*shape[:2], *size), x.dtype)
    kernels.pool(blocked(x), shape, w, size, y)
    np.testing.assert_array_equal(planes(y, shape[1]), array.max_pool2d(x, w, size)[0])


@pytest.mark.parametrize("shape", PLANES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_scale_affine_select(shape: tuple[int, ...], dtype: Any) -> None:
    x, r = numbers(*shape, dtype=dtype), numbers(*shape[::-1], dtype=dtype).T
    n, c, h, w = shape
    means = memory((n, c, 1, 1), dtype)
    kernels.mean(blocked(x), shape, means)
    close(planes(means, c), x.mean((2, 3), keepdims=True))
    y = memory(shape, dtype)
    kernels.affine(blocked(x), shape, means, None, None, "silu", (), y)
    close(planes(y, c), array.pointwise(x * x.mean((2, 3), keepdims=True), "silu"))
    a, b = numbers(1, c, 1, 1, dtype=dtype), numbers(1, c, 1, 1, dtype=dtype) + 1
    kernels.affine(
        blocked(x), shape, blocked(a), blocked(b), blocked(r), "hardtanh", (-0.5, 0.7), y
    )
    close(planes(y, c), np.clip(a * x + b + r, -0.5, 0.7))
    rows, columns = [*list(range(h)), 0, h - 1], [w - 1, *list(range(w))]
    y = memory((n, c, len(rows), len(columns)), dtype)
    kernels.select(blocked(x), shape, rows, columns, y)
    np.testing.assert_array_equal(planes(y, c), x[:, :, rows][:, :, :, columns])


CONVOLUTIONS = [  # N, C, H, W, O, groups, kernel, stride, padding, dilation
    (2, 6, 9, 11, 6, 6, 3, 1, 1, 1),
    (1, 40, 9, 21, 40, 40, 3, 2, 1, 1),
    (1, 20, 30, 33, 20, 20, 5, 2, 2, 1),
    (2, 3, 30, 17, 24, 1, (3, 2), (3, 2), (0, 1), (2, 3)),
    (3, 5, 1, 1, 7, 1, 1, 1, 0, 1),
    (1, 64, 14, 14, 96, 1, 1, 1, 0, 1),
    (2, 48, 8, 9, 40, 1, 1, 2, 0, 1),
    (1, 64, 6, 5, 128, 2, 3, 1, 1, 1),
    (1, 530, 5, 5, 20, 1, 3, 1, 1, 1),
    (4, 37, 14, 14, 50, 1, 3, 2, 1, 1),
    (1, 3, 64, 64, 64, 1, 7, 2, 3, 1),
    (2, 24, 10, 12, 12, 1, 2, 2, 0, 1),
    (2, 20, 23, 26, 34, 1, 3, 1, 1, 1),
    (1, 40, 13, 29, 20, 1, 3, 1, 0, 1),
    (2, 17, 7, 7, 70, 1, 3, 1, (2, 1), 1),
    (0, 4, 5, 5, 4, 1, 3, 1, 1, 1),
    (2, 128, 31, 32, 64, 1, 3, 2, 1, 1),  # four phases of Winograd's, in tiles of 4x4
    (1, 70, 30, 29, 70, 1, 4, 2, 1, 1),
    (2, 70, 17, 34, 40, 1, 3, 1, 2, 2),
]


@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions(case: Any, dtype: Any, transposed: bool) -> None:
    n, c, h, w, o, groups, *window = case
    win = Window2d.make(*window)
    weight = numbers(o, c // groups, *win.kernel, dtype=dtype) / np.sqrt(c * 9 / groups)
    weight = weight.astype(dtype)
    shape, other = (n, c, h, w), (n, o, *win.output_size((h, w)))
    source, target = (other, shape) if transposed else (shape, other)
    x, residual, bias = (numbers(*s, dtype=dtype) for s in (source, target, (target[1],)))
    plain = (
        array.conv_transpose2d(x, weight, bias, (h, w), win, groups)
        if transposed
        else array.conv2d(x, weight, bias, win, groups)
    )
    for planar in (False, True):
        if not kernels.serves(source, target[1], groups, transposed, planar):
            continue
        for kind, params in (("", ()), ("relu", ()), ("silu", ()), ("hardtanh", (-0.3, 0.4))):
            layer = kernels.convolution(
                weight, bias, source, win, groups, (h, w) if transposed else None, kind, params,
                planar,
            )  # fmt: skip
            for r in (None, residual):
                y = memory(target, dtype)
                layer.run(x if planar else blocked(x), None if r is None else blocked(r), y)
                wanted = plain if r is None else plain + r
                wanted = array.pointwise(wanted, kind, params) if kind else wanted
                close(planes(y, target[1]), wanted)


@pytest.mark.parametrize("shape", [(1, 40, 56, 57), (3, 33, 7, 7), (2, 700, 4, 5), (9, 3, 2, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_convolution_of_scaled_channels(shape: tuple[int, ...], dtype: Any) -> None:
    x, scale = numbers(*shape, dtype=dtype), numbers(*shape[:2], 1, 1, dtype=dtype)
    weight = (numbers(50, shape[1], 1, 1) / np.sqrt(shape[1])).astype(dtype)
    point = Window2d((1, 1))
    residual = numbers(shape[0], 50, *shape[2:], dtype=dtype)
    wanted = array.conv2d(x * scale, weight, None, point)
    layer = kernels.convolution(weight, None, shape, point, 1, None, "", (), False)
    for r in (None, residual):
        y = memory(wanted.shape, dtype)
        layer.run(blocked(x), None if r is None else blocked(r), y, blocked(scale))
        close(planes(y, 50), wanted if r is None else wanted + r)


INVERTED = [  # N, C, H, W, E, O, kernel, stride, padding, dilation
    (2, 5, 9, 11, 40, 7, 3, 1, 1, 1),
    (1, 24, 60, 96, 70, 24, 3, 1, 1, 1),
    (3, 3, 21, 50, 33, 0, 5, 2, 2, 1),
    (1, 16, 33, 130, 96, 20, 3, 2, 1, 1),
    (2, 17, 12, 13, 20, 35, (3, 2), (1, 2), ((0, 1), (2, 0)), (2, 1)),
    (1, 4, 70, 200, 100, 4, 3, 1, 1, 1),
    (8, 6, 7, 7, 80, 40, 3, 1, 1, 1),
    (1, 4, 3, 2, 5, 0, 1, 1, 0, 1),
    (0, 4, 5, 5, 8, 4, 3, 1, 1, 1),
    (2, 40, 60, 50, 0, 9, 3, 1, 1, 1),
    (1, 33, 31, 30, 0, 40, 5, 2, 2, 1),
    (1, 8, 90, 90, 160, 8, 5, 2, 2, 1),
    (1, 8, 64, 112, 144, 16, 3, 1, (2, 0), (3, 1)),
]


@pytest.mark.parametrize("case", INVERTED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["relu6", "silu"])
def test_inverted_residuals(case: Any, dtype: Any, kind: str) -> None:
    """One step and the convolutions it stands for; E 0: nothing is expanded."""
    n, c, h, w, e, o, *settings = case
    expands, e = e > 0, e or c
    window = Window2d.make(*settings)
    x = numbers(n, c, h, w, dtype=dtype)
    weights = [numbers(e, c, 1, 1), numbers(e, 1, *window.kernel), numbers(o, e, 1, 1)]
    weights = [(a / np.sqrt(max(1, a[:1].size))).astype(dtype) for a in weights]
    biases = [numbers(e, dtype=dtype), None, numbers(o, dtype=dtype)]
    point = Window2d((1, 1))
    middle = array.pointwise(array.conv2d(x, weights[0], biases[0], point), kind) if expands else x
    middle = array.pointwise(array.conv2d(middle, weights[1], biases[1], window, e), kind)
    wanted = array.conv2d(middle, weights[2], biases[2], point) if o else middle
    last = (weights[2], biases[2], "", ())
    one, two = ((weights[i], biases[i], kind, ()) for i in (0, 1))
    stages = [one if expands else None, two, last if o else None]
    layer = kernels.inverted(x.shape, window, stages)
    residual = numbers(*wanted.shape, dtype=dtype)
    for r in (None, residual) if o else (None,):
        y = memory(wanted.shape, dtype)
        layer.run(blocked(x), None if r is None else blocked(r), y)
        close(planes(y, wanted.shape[1]), wanted if r is None else wanted + r)


def test_no_number_of_threads_changes_a_bit() -> None:
    x, weight = numbers(2, 70, 30, 31), numbers(90, 70, 3, 3)
    window = Window2d.make(3, 1, 1)
    results = []
    before = native.get_num_threads()
    try:
        for threads in (1, 2, 5):
            native.set_num_threads(threads)
            y = memory((2, 90, 30, 31), x.dtype)
            settings = (weight, None, x.shape, window, 1, None, "silu", (), False)
            kernels.convolution(*settings).run(blocked(x), None, y)
            results.append(planes(y, 90))
    finally:
        native.set_num_threads(before)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_refusals() -> None:
    x = blocked(numbers(1, 20, 6, 6))
    window = Window2d.make(3, 1, 1)
    settings = (numbers(8, 20, 3, 3), None, (1, 20, 6, 6), window, 1, None, "", ())
    layer = kernels.convolution(*settings, False)
    with pytest.raises(ValueError, match="out"):
        layer.run(x, None, memory((1, 8, 6, 7), np.float64))
    with pytest.raises(ValueError, match="residual"):
        layer.run(x, x[:, :, 1:], memory((1, 8, 6, 6), np.float64))
    with pytest.raises(ValueError, match="x"):
        layer.run(x.astype(np.float32), None, memory((1, 8, 6, 6), np.float64))
    with pytest.raises(ValueError, match="scale"):
        layer.run(x, None, memory((1, 8, 6, 6), np.float64), memory((1, 20, 1, 1), np.float64))
    with pytest.raises(ArgumentError, match="groups"):
        kernels.convolution(
            numbers(6, 2, 1, 1), None, (1, 4, 3, 3), Window2d((1, 1)), 2, None, "", (), False
        )
    with pytest.raises(ArgumentError, match="shape"):
        kernels.convolution(
            numbers(6, 4, 1, 1), None, (1, 5, 3, 3), Window2d((1, 1)), 1, None, "", (), False
        )
    with pytest.raises(ArgumentError, match="rows"):
        kernels.select(x, (1, 20, 6, 6), [6], [0], memory((1, 20, 1, 1), x.dtype))
    with pytest.raises(ArgumentError, match="x"):
        kernels.mean(x, (1, 40, 6, 6), memory((1, 40, 1, 1), x.dtype))
