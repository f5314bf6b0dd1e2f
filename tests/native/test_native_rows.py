"""Native rows, reductions, softmax, boxes and optimisers against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slow_native as slow

from cnncore.kernels import native

pytestmark = pytest.mark.skipif(not native.AVAILABLE, reason=native.REASON)
DTYPES = [np.float32, np.float64]
# one element, tails of vectors, several blocks, several pieces
SHAPES = [(0, 3), (5, 1), (3, 17), (4, 4096), (2, 9001), (3, 70001)]


def tolerance(dtype):
    return 2e-6 if dtype == np.float32 else 1e-13


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
def test_row_moments_are_stable_far_from_zero(shape, offset, dtype):
    x = (np.random.default_rng(0).normal(size=shape) + offset).astype(dtype)
    mean, squares = native.row_moments(x)
    exact = [math.fsum(map(float, row)) / len(row) for row in x]
    want = [math.fsum((float(v) - m) ** 2 for v in row) for row, m in zip(x, exact, strict=True)]
    np.testing.assert_allclose(mean, exact, rtol=tolerance(dtype), atol=tolerance(dtype) / 10)
    # merging blocks sees their means, which far from zero are only known to an ulp of the offset
    close = tolerance(dtype) + (5e-18 * offset if dtype == np.float64 else 0)
    np.testing.assert_allclose(squares, want, rtol=close, atol=tolerance(dtype))


def test_row_moments_of_an_infinite_row():
    mean, squares = native.row_moments(np.array([[1.0, np.inf, 2.0], [1.0, 2.0, 3.0]], np.float32))
    assert mean.tolist() == [np.inf, 2.0]
    assert np.isnan(squares[0])
    assert squares[1] == 2.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_row_products_and_linear_maps(shape, dtype):
    rng = np.random.default_rng(1)
    x, z = rng.normal(size=(2, *shape)).astype(dtype)
    a, b, c = rng.normal(size=(3, shape[0])).astype(dtype)
    x64, z64, a64, b64, c64 = (v.astype(np.float64) for v in (x, z, a, b, c))
    close = {"rtol": tolerance(dtype), "atol": 200 * tolerance(dtype)}  # sums of 70,001 terms
    sums, products = native.row_products(z, x, a)
    np.testing.assert_allclose(sums, z64.sum(axis=1), **close)
    np.testing.assert_allclose(products, (z64 * (x64 - a64[:, None])).sum(axis=1), **close)
    close["atol"] = 4 * tolerance(dtype)
    linear = native.row_linear(x, a, b)
    np.testing.assert_allclose(linear, a64[:, None] * x64 + b64[:, None], **close)
    linear2 = native.row_linear2(x, z, a, b, c)
    want = a64[:, None] * x64 + b64[:, None] * z64 + c64[:, None]
    np.testing.assert_allclose(linear2, want, **close)
    assert sums.dtype == products.dtype == linear.dtype == linear2.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((3, 4, 5), (1,)),
        ((3, 4, 5), ()),
        ((3, 4, 5), (0, 1, 2)),
        ((8, 6, 11, 7), (0, 2, 3)),
        ((8, 6, 11, 7), (1, 3)),
        ((2, 3, 2, 3, 2, 3, 2), (0, 2, 4, 6)),
        ((1, 40000, 3), (1,)),
        ((50001,), (0,)),
        ((2, 300, 5000), (1,)),
        ((3, 0, 4), (1,)),
        ((0, 4), (1,)),
        ((), ()),
        ((5, 1, 6), (1,)),
        ((1, 1), (0, 1)),
    ],
)
def test_reduce_sum_matches_exact_sums(shape, axes, dtype):
    x = np.random.default_rng(2).normal(size=shape).astype(dtype)
    got = native.reduce_sum(x, axes)
    want = x.astype(np.float64).sum(axis=axes)
    assert got.shape == want.shape
    assert got.dtype == dtype
    assert got.base is not x
    np.testing.assert_allclose(got, want, rtol=tolerance(dtype), atol=100 * tolerance(dtype))


def test_float32_sums_do_not_drift():
    tenth = np.float32(0.1)  # added up one by one, three million of them are 3 % off
    total = native.reduce_sum(np.full((1, 3_000_001), tenth), (1,))
    np.testing.assert_allclose(total, 3_000_001 * float(tenth), rtol=4e-6)
    totals = native.reduce_sum(np.full((200_000, 3), tenth), (0,))
    np.testing.assert_allclose(totals, 200_000 * float(tenth), rtol=4e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 7, 300), 1), ((4, 9), 1), ((70, 5), 0), ((6,), 0)]
)
def test_reduce_max_takes_the_first_winner_and_nan(shape, axis, dtype):
    rng = np.random.default_rng(3)
    x = rng.integers(-2, 3, shape).astype(dtype)
    x[rng.random(shape) < 0.05] = np.nan
    moved = np.moveaxis(x, axis, 0)
    values, index = moved[0].copy(), np.zeros(moved.shape[1:], np.int64)
    for position in np.ndindex(*values.shape):
        for k in range(1, len(moved)):
            if slow.larger(moved[(k, *position)], values[position]):
                values[position], index[position] = moved[(k, *position)], k
    got_values, got_index = native.reduce_max(x, axis)
    np.testing.assert_array_equal(got_values, values)
    np.testing.assert_array_equal(got_index, index)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 11, 1), (2, 1000, 1), (3, 4, 301), (1, 1, 7), (0, 3, 4)])
@pytest.mark.parametrize("offset", [-500, 500])
def test_softmax_and_its_logarithm(shape, offset, dtype):
    x = 3 * np.random.default_rng(4).normal(size=shape).astype(dtype) + offset
    exact = x.astype(np.float64)
    powers = np.exp(exact - exact.max(axis=1, keepdims=True, initial=-np.inf))
    want = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(native.softmax(x), want, rtol=2 * tolerance(dtype))
    np.testing.assert_allclose(
        native.softmax(x, True), np.log(want), rtol=2 * tolerance(dtype), atol=tolerance(dtype)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inner", [1, 20])
def test_softmax_of_minus_infinity_is_exact(inner, dtype):
    x = np.full((1, 21, inner), -np.inf, dtype)
    x[0, 17] = -3
    np.testing.assert_array_equal(native.softmax(x), (x == -3).astype(dtype))
    np.testing.assert_array_equal(native.softmax(x, True), np.where(x == -3, 0, -np.inf))
    x[0, 4] = np.nan
    assert np.isnan(native.softmax(x)).all()


def random_boxes(rng, n, dtype):
    corner = rng.integers(0, 12, (n, 2))
    return np.concatenate([corner, corner + rng.integers(0, 9, (n, 2))], axis=1).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_boxes_match_the_definition(dtype):
    rng = np.random.default_rng(5)
    a, b = random_boxes(rng, 23, dtype), random_boxes(rng, 9, dtype)
    np.testing.assert_allclose(native.box_iou(a, b), slow.box_iou(a, b), rtol=tolerance(dtype))
    scores = rng.integers(0, 5, 23).astype(dtype)  # ties
    for threshold in (0.0, 0.2, 1 / 3, 0.5, 1.0):
        kept = native.nms(a, scores, threshold)
        assert kept.dtype == np.int64
        assert kept.tolist() == slow.nms(a, scores, dtype(threshold))


def test_nms_of_nothing_and_of_broken_boxes():
    assert native.nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).tolist() == []
    boxes = np.full((40, 4), np.nan, np.float32)
    assert sorted(native.nms(boxes, boxes[:, 0], 0.5)) == list(range(40))
    assert not native.box_iou(boxes, boxes).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_update_is_the_rule(momentum, nesterov, dtype):
    rng = np.random.default_rng(6)
    param, grad, velocity = rng.normal(size=(3, 5, 7)).astype(dtype)
    p, g, v = (x.astype(np.float64) for x in (param, grad, velocity))
    g = g + 0.1 * p
    v = momentum * v + 0.7 * g
    step = (g + momentum * v if nesterov else v) if momentum else g
    state = velocity if momentum else None
    native.sgd_update(param, grad, state, 0.2, momentum, 0.3, 0.1, nesterov)
    np.testing.assert_allclose(param, p - 0.2 * step, rtol=tolerance(dtype), atol=tolerance(dtype))
    if momentum:
        np.testing.assert_allclose(velocity, v, rtol=tolerance(dtype), atol=tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_update_is_the_rule(decoupled, dtype):
    rng = np.random.default_rng(7)
    param, grad, m = rng.normal(size=(3, 4, 11)).astype(dtype)
    v = rng.random((4, 11)).astype(dtype)
    p, g, m64, v64 = (x.astype(np.float64) for x in (param, grad, m, v))
    if decoupled:
        p = p - 0.02 * 0.1 * p
    else:
        g = g + 0.1 * p
    m64, v64 = 0.8 * m64 + 0.2 * g, 0.95 * v64 + 0.05 * g * g
    p = p - 0.02 * (m64 / (1 - 0.8**3)) / (np.sqrt(v64 / (1 - 0.95**3)) + 1e-6)
    native.adam_update(param, grad, m, v, 3, 0.02, 0.8, 0.95, 1e-6, 0.1, decoupled)
    for got, want in ((param, p), (m, m64), (v, v64)):
        np.testing.assert_allclose(got, want, rtol=2 * tolerance(dtype), atol=tolerance(dtype))
