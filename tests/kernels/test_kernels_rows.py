"""Row kernels, reductions, softmax, indexing, boxes and updates against their definitions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import oracles
import pytest
from device_support import using
from hypothesis import given, settings, strategies as st
from kernel_support import FORMS, assert_close, assert_exact, dtypes, each_backend, seeds

from cnncore import kernels
from cnncore.kernels.epilogue import Epilogue, Gate

NAN, INF = float("nan"), float("inf")
ROWS = [(1, 1), (3, 5), (5, 1), (0, 4), (2, 67), (33, 3), (1, 1000)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_row_kernels(backend, dtype, rng, shape, form):
    x, z = (FORMS[form](rng.normal(size=shape).astype(dtype)) for _ in range(2))
    a, b, c = (FORMS[form](rng.normal(size=shape[0]).astype(dtype)) for _ in range(3))
    length = shape[1]
    mean, squares = kernels.row_moments(x)
    expected = oracles.row_moments(x)
    spread = np.abs(x).max(axis=1, initial=0).astype(float)
    assert_close(mean, expected[0], length, spread, dtype)
    # the mean's rounding enters each deviation: (|x| + |mean|)² bounds a term
    assert_close(squares, expected[1], length + 4, length * (2 * spread) ** 2, dtype)
    sums, products = kernels.row_products(x, z, a)
    expected = oracles.row_products(x, z, a)
    terms = oracles.row_products(abs(x), abs(z), -abs(a))
    assert_close(sums, expected[0], length, terms[0], dtype)
    assert_close(products, expected[1], length + 1, terms[1], dtype)
    terms = oracles.row_linear2(*map(abs, (x, z, a, b, c)))
    assert_close(kernels.row_linear(x, a, b), oracles.row_linear(x, a, b), 2, terms + 1, dtype)
    actual = kernels.row_linear2(x, z, a, b, c)
    assert_close(actual, oracles.row_linear2(x, z, a, b, c), 3, terms, dtype)


@pytest.mark.parametrize("digits_left", [0.5, 0.95])
def test_moments_of_rows_far_from_zero(backend, dtype, rng, digits_left):
    """Rows of 0, 1 and 2 plus eps^-0.5 (E[x²] − E[x]² loses everything) or eps^-0.95 (so does
    Σ(x − mean)² with a mean of the same precision)."""
    far = np.round(np.finfo(dtype).eps ** -digits_left)
    rows = (far + rng.integers(0, 3, (3, 65))).astype(dtype)
    exact = [[Fraction(float(v)) for v in row] for row in rows]
    means = [sum(row) / len(row) for row in exact]
    pairs = zip(exact, means, strict=True)
    expected = np.array([float(sum((v - mean) ** 2 for v in row)) for row, mean in pairs])
    mean, squares = kernels.row_moments(rows)
    assert_close(mean, np.array(list(map(float, means))), 1, rows.max(axis=1), dtype)
    assert_close(squares, expected, 65, expected, dtype)


# groups of one row and of many, more and fewer than 16 groups, rows longer than a piece
NORMALISED = [
    (4, 3, 1, 5),
    (2, 20, 1, 9),
    (1, 4, 3, 7),
    (3, 6, 2, 1),
    (5, 2, 1, 33000),
    (2, 17, 2, 64),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("joined", [0, 2])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", NORMALISED, ids=str)
def test_normalize(backend, dtype, rng, shape, affine, joined, form):
    x, gy = (FORMS[form](rng.normal(size=shape).astype(dtype) + 2) for _ in range(2))
    channels = shape[1] * shape[2]
    weight, bias = (FORMS[form](rng.normal(size=channels).astype(dtype)) for _ in range(2))
    weight, bias = (weight, bias) if affine else (None, None)
    y, mean, variance = kernels.normalize(x, weight, bias, joined, 1e-3)
    expected = oracles.normalize(x, weight, bias, joined, 1e-3)
    close = 2e-5 if dtype == np.float32 else 2e-12
    assert mean.dtype == variance.dtype == np.float64
    assert y.dtype == dtype
    for got, want in zip((y, mean, variance), expected, strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=close, atol=close)
    rstd = 1 / np.sqrt(expected[2] + 1e-3)
    for fixed in (False, True):
        found = kernels.normalize_backward(gy, x, weight, expected[1], rstd, joined, fixed)
        wanted = oracles.normalize_backward(gy, x, weight, expected[1], rstd, joined, fixed)
        for got, want in zip(found, wanted, strict=True):
            assert got.shape == want.shape
            assert got.dtype == dtype
            # sums over a channel are of as many terms of size 1
            scale = 1 + np.sqrt(x.size / channels) * (got.ndim == 1)
            np.testing.assert_allclose(got, want, rtol=close, atol=10 * close * scale)


CLAMPS = {  # activation -> its limits, written out
    ("", ()): (-INF, INF),
    ("relu", ()): (0, INF),
    ("relu6", ()): (0, 6),
    ("hardtanh", (-0.5, 1.0)): (-0.5, 1.0),
}


@pytest.mark.parametrize("ending", CLAMPS, ids=lambda e: e[0] or "none")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_row_linear_with_an_ending(backend, dtype, rng, shape, form, ending):
    x, residual = (FORMS[form](3 * rng.normal(size=shape).astype(dtype)) for _ in range(2))
    a, b = (FORMS[form](rng.normal(size=shape[0]).astype(dtype)) for _ in range(2))
    terms = oracles.row_linear(abs(x), abs(a), abs(b)) + abs(residual) + 1
    for added in (None, residual):
        y = oracles.row_linear(x, a, b) + (0 if added is None else added)
        got = kernels.row_linear(x, a, b, Epilogue(added, *ending))
        assert_close(got, np.clip(y, *CLAMPS[ending]), 3, terms, dtype)


@pytest.mark.parametrize("joined", [0, 2])
@pytest.mark.parametrize("ending", CLAMPS, ids=lambda e: e[0] or "none")
@pytest.mark.parametrize("shape", NORMALISED, ids=str)
def test_normalize_with_an_ending(backend, dtype, rng, shape, ending, joined):
    """A residual and an activation after it are what they are in passes of their own."""
    check_ending(rng, dtype, shape, ending, joined, FORMS["contiguous"])


@each_backend
@given(
    st.tuples(*(st.integers(1, most) for most in (4, 20, 3, 70))),
    st.sampled_from(list(CLAMPS)),
    st.sampled_from([0, 2]),
    st.sampled_from(list(FORMS)),
    seeds,
    dtypes,
)
@settings(max_examples=60)
def test_random_normalize_with_an_ending(name, shape, ending, joined, form, seed, dtype):
    with using(name):
        check_ending(np.random.default_rng(seed), dtype, shape, ending, joined, FORMS[form])


def check_ending(rng, dtype, shape, ending, joined, form):
    x, gy, residual = (form(3 * rng.normal(size=shape).astype(dtype)) for _ in range(3))
    channels = shape[1] * shape[2]
    weight, bias = (form(4 * rng.normal(size=channels).astype(dtype)) for _ in range(2))
    (low, high), close = CLAMPS[ending], 4e-5 if dtype == np.float32 else 4e-12
    v, mean, variance = oracles.normalize(x, weight, bias, joined, 0.1)
    for added in (None, residual):
        y, got_mean, got_variance = kernels.normalize(
            x, weight, bias, joined, 0.1, Epilogue(added, *ending)
        )
        expected = np.clip(v if added is None else v + added, low, high)
        np.testing.assert_allclose(y, expected, rtol=close, atol=10 * close)
        np.testing.assert_allclose(got_mean, mean, rtol=close, atol=close)
        np.testing.assert_allclose(got_variance, variance, rtol=close, atol=close)
    if not ending[0]:
        return
    # Results at the limits, where the gradient stops, and around them.
    y = form(np.clip(rng.normal(size=shape) * 4, low, high).astype(dtype))
    rstd = 1 / np.sqrt(variance + 0.1)
    gate = Gate(y, *ending)
    found = kernels.normalize_backward(gy, x, weight, mean, rstd, joined, False, gate)
    through = np.where((y > low) & (y < high), gy, 0)
    wanted = oracles.normalize_backward(through, x, weight, mean, rstd, joined, False)
    for got, want in zip(found, wanted, strict=True):
        scale = 1 + np.sqrt(x.size / channels) * (got.ndim == 1)
        np.testing.assert_allclose(got, want, rtol=close, atol=100 * close * scale)


def test_what_is_not_finite_after_a_normalisation(backend, dtype):
    """NaN stays NaN through an activation and passes no gradient; Inf passes it through ReLU."""
    x = np.array([1.0, -1.0, 1.0, -1.0], dtype).reshape(1, 1, 1, 4)
    added = np.array([NAN, INF, -INF, 0.5], dtype).reshape(x.shape)
    y = kernels.normalize(x, None, None, 0, 0.0, Epilogue(added, "relu"))[0]
    np.testing.assert_array_equal(y.ravel(), [NAN, INF, 0, 0])
    y = kernels.normalize(x, None, None, 0, 0.0, Epilogue(added, "relu6"))[0]
    np.testing.assert_array_equal(y.ravel(), [NAN, 6, 0, 0])
    mean, gate = np.zeros((1, 1, 1)), Gate(added, "relu")
    gx, _, gbias = kernels.normalize_backward(x, x, None, mean, mean + 1, 0, True, gate)
    np.testing.assert_array_equal(gx.ravel()[1:], [-1, 0, -1])
    np.testing.assert_array_equal(gbias, [-2])


def test_normalize_far_from_zero(backend, dtype, rng):
    """E[x²] − E[x]² would lose the variance; a group of NaN or Inf spoils no other."""
    far = np.round(np.finfo(dtype).eps ** -0.5)
    x = (far + rng.integers(0, 3, (4, 3, 1, 25))).astype(dtype)
    exact = oracles.normalize(x - far.astype(dtype), None, None, 0, 0.0)
    y, _, variance = kernels.normalize(x, None, None, 0, 0.0)
    np.testing.assert_allclose(variance, exact[2], rtol=1e-4)
    np.testing.assert_allclose(y, exact[0], atol=2e-2)  # the product with 1/deviation rounds
    x[1, 1, 0, 3] = INF
    y, mean, _ = kernels.normalize(x, None, None, 0, 0.0)
    assert not np.isfinite(mean[0, 1, 0])
    assert np.isfinite(y[:, [0, 2]]).all()
    assert not np.isfinite(y[:, 1]).any()


def test_normalize_without_images(backend, dtype):
    x = np.zeros((0, 2, 3, 4), dtype)
    y, mean, variance = kernels.normalize(x, None, None, 2, 1e-5)
    assert y.shape == x.shape
    assert mean.shape == variance.shape == (0, 2, 1)
    gx, gweight, gbias = kernels.normalize_backward(x, x, None, mean, variance, 2)
    assert gx.shape == x.shape
    assert_exact(gweight, np.zeros(6, dtype))
    assert_exact(gbias, np.zeros(6, dtype))


SUMS = [
    ((3, 4, 5), (0, 2)),
    ((3, 4, 5), (1,)),
    ((3, 4, 5), (0, 1, 2)),
    ((3, 4, 5), ()),
    ((7,), (0,)),
    ((), ()),
    ((2, 0, 3), (1,)),
    ((0, 3), (1,)),
    ((2, 3, 4, 5), (0, 2, 3)),
    ((2, 3, 4, 5), (3, 1)),
    ((2, 1, 513), (2,)),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", SUMS, ids=str)
def test_reduce_sum(backend, dtype, rng, case, form):
    shape, axes = case
    if not shape and form in ("every second", "reversed"):
        pytest.skip("no axis to stride along")
    x = FORMS[form](rng.normal(size=shape).astype(dtype))
    terms = oracles.reduce_sum(abs(x), axes)
    y = kernels.reduce_sum(x, axes)
    assert not np.shares_memory(x, y)
    assert_close(y, oracles.reduce_sum(x, axes), x.size, terms, dtype)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("fill", ["random", "ties", "NaN", "-inf"])
def test_reduce_max(backend, dtype, rng, axis, fill, form):
    x = rng.normal(size=(4, 5, 19)) if fill == "random" else rng.integers(0, 3, (4, 5, 19)) * 1.0
    if fill == "NaN":
        x[rng.random(x.shape) < 0.2] = NAN
    if fill == "-inf":
        x[:] = -INF
    x = FORMS[form](x.astype(dtype))
    y, index = kernels.reduce_max(x, axis)
    expected, winner = oracles.reduce_max(x, axis)
    assert_exact(y, expected.astype(dtype))
    assert_exact(index, winner)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(2, 5, 3), (3, 1, 2), (4, 9, 1), (1, 40, 1), (0, 3, 2)], ids=str)
@pytest.mark.parametrize("log", [False, True])
def test_softmax(backend, dtype, rng, shape, log, form):
    x = FORMS[form]((20 * rng.normal(size=shape)).astype(dtype))
    expected = oracles.softmax(x, log)
    # exp multiplies the rounding of its argument (at most the range of x) by its result
    span = 1 + 2 * np.abs(x).max(initial=0)
    terms = span * (np.ones(shape) if log else expected)
    assert_close(kernels.softmax(x, log), expected, shape[1], terms, dtype)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "shape", [(3, 5, 1), (2, 40, 1), (2, 3, 7), (1, 21, 300), (0, 2, 3)], ids=str
)
def test_softmax_backward(backend, dtype, rng, shape, log):
    """Against the Jacobian, column by column: ``p (δ − pᵀ)``, or ``δ − 1 pᵀ`` for the logarithm."""
    y = oracles.softmax(rng.normal(size=shape), log).astype(dtype)
    gy = rng.normal(size=shape).astype(dtype)
    expected, terms = np.zeros(shape), np.zeros(shape)
    for o, i in np.ndindex(shape[0], shape[2]):
        out, g = y[o, :, i].astype(float), gy[o, :, i].astype(float)
        p = np.exp(out) if log else out
        eye = np.eye(shape[1])
        jacobian = eye - np.outer(np.ones_like(p), p) if log else np.diag(p) - np.outer(p, p)
        expected[o, :, i] = jacobian.T @ g
        ones = np.ones_like(p)
        sizes = eye + np.outer(p, ones) if log else eye * p + np.outer(p, p)
        terms[o, :, i] = sizes @ abs(g)
    assert_close(kernels.softmax_backward(gy, y, log), expected, shape[1] + 8, terms, dtype)


def test_softmax_of_extremes(backend, dtype):
    x = np.array([[[-INF], [3.0], [-INF]]], dtype)
    assert_exact(kernels.softmax(x), np.array([[[0], [1], [0]]], dtype))
    assert_exact(kernels.softmax(x, True), np.array([[[-INF], [0], [-INF]]], dtype))
    large = np.array([[[1e30], [1e30]]], dtype)
    assert_exact(kernels.softmax(large), np.full((1, 2, 1), 0.5, dtype))
    assert np.isnan(kernels.softmax(np.array([[[NAN], [1.0]]], dtype))).all()


# --- NumPy's functions and indexing ---------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name", ["add", "subtract", "multiply", "divide", "maximum", "exp", "sqrt"]
)
def test_ufunc(backend, dtype, rng, name, form):
    function = getattr(np, name)
    arrays = [rng.random((3, 1, 4)) + 0.5, rng.random((2, 1)) + 0.5][: function.nin]
    arrays = [FORMS[form](a.astype(dtype)) for a in arrays]
    y = kernels.ufunc(name, *arrays)
    expected = function(*(a.astype(np.float64) for a in arrays))
    assert_close(y, expected, 1, 2 * abs(expected), dtype)
    assert not any(np.shares_memory(y, a) for a in arrays)


def test_ufunc_of_large_and_single_arrays(backend, dtype, rng):
    x, z = (rng.normal(size=(3, 70, 131)).astype(dtype) for _ in range(2))
    one = np.array(2.5, dtype)
    for name in ("add", "subtract", "multiply", "divide", "maximum"):
        for pair in ((x, z), (x, one), (one, x), (x, z[0]), (one, one)):
            assert_exact(kernels.ufunc(name, *pair), np.asarray(getattr(np, name)(*pair)), dtype)
    assert_exact(kernels.ufunc("greater", x, one), x > 2.5)


def test_take_is_a_new_array(backend, dtype, rng):
    x = rng.normal(size=(4, 5, 6)).astype(dtype)
    keys = [
        (slice(None), 2), (0, 1, 2), (Ellipsis, slice(None, None, -2)), [0, 0, 3],
        (np.array([1, 2]), slice(None), np.array([0, 5])), x > 0, (None, 1),
    ]  # fmt: skip
    for form in FORMS.values():
        for key in keys:
            y = kernels.take(form(x), key)
            assert_exact(y, np.asarray(x[key]), dtype)
            assert not np.shares_memory(y, x)


def test_put_add_transposes_take(backend, dtype, rng):
    keys = [
        (slice(None), 2), (0, 1, 2), (Ellipsis, slice(None, None, -2)), [0, 0, 3],
        (np.array([1, 1, 1]), slice(None), np.array([5, 0, 5])), rng.random((4, 5, 6)) > 0.5,
    ]  # fmt: skip
    for form in FORMS.values():
        for key in keys:
            src = rng.integers(-9, 9, np.zeros((4, 5, 6))[key].shape).astype(dtype)
            expected = np.zeros((4, 5, 6), dtype)
            where = np.arange(120).reshape(4, 5, 6)[key]
            for at, value in zip(np.ravel(where), np.ravel(src), strict=True):
                expected.reshape(-1)[at] += value
            if src.ndim:
                src = form(src)
            assert_exact(kernels.put_add(src, key, (4, 5, 6)), expected)


# --- boxes ----------------------------------------------------------------------------------------


def random_boxes(rng, count, dtype):
    """Corners on a coarse grid: exact areas, many ties, some without area."""
    corner, extent = rng.integers(0, 12, (count, 2)), rng.integers(0, 8, (count, 2))
    return np.concatenate((corner, corner + extent), axis=1).astype(dtype)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("counts", [(5, 7), (0, 4), (3, 0), (0, 0), (1, 40)], ids=str)
def test_box_iou(backend, dtype, rng, counts, form):
    a, b = (FORMS[form](random_boxes(rng, n, dtype)) for n in counts)
    expected = oracles.box_iou(a, b)
    assert_close(kernels.box_iou(a, b), expected, 1, expected, dtype)


def test_box_iou_by_hand(backend, dtype):
    a = np.array([[0, 0, 2, 2], [5, 5, 5, 5]], dtype)
    b = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 5, 5]], dtype)
    expected = np.array([[1 / 7, 1, 0], [0, 0, 0]])
    assert_close(kernels.box_iou(a, b), expected, 1, expected, dtype)


@each_backend
@given(st.integers(0, 40), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), seeds, dtypes)
@settings(max_examples=60)
def test_nms(name, count, threshold, seed, dtype):
    """Areas are whole numbers and thresholds powers of two, so no rounding decides."""
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, count, dtype)
    scores = rng.integers(0, 5, count).astype(dtype)  # many ties
    with using(name):
        for form in ("contiguous", "column major", "foreign bytes"):
            kept = kernels.nms(FORMS[form](boxes), FORMS[form](scores), threshold)
            assert_exact(kept, oracles.nms(boxes, scores, threshold))


def test_nms_orders_infinite_scores(backend):
    boxes = np.array([[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5.0]])
    kept = kernels.nms(boxes, np.array([-INF, INF, 0.0]), 0.5)
    assert kept.tolist() == [1, 2, 0]


# --- updates --------------------------------------------------------------------------------------

SGD = [
    {"lr": 0.1},
    {"lr": 0.1, "weight_decay": 0.01},
    {"lr": 0.1, "momentum": 0.9},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
]
ADAM = [
    {"step": 1, "lr": 0.01},
    {"step": 7, "lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3},
    {"step": 3, "lr": 0.01, "weight_decay": 0.1},
    {"step": 3, "lr": 0.01, "weight_decay": 0.1, "decoupled": True},
]


def check_update(update, oracle, states, grad, options, dtype):
    """All states (param first) after the update, element by element."""
    before = [None if s is None else s.copy() for s in states]
    param, *rest = states
    assert update(param, FORMS["foreign bytes"](grad), *rest, **options) is None
    for at in np.ndindex(*param.shape):
        values = [None if s is None else float(s[at]) for s in before]
        expected = oracle(values[0], float(grad[at]), *values[1:], **options)
        for state, value in zip(states, expected, strict=True):
            if state is not None:
                # fewer than 12 roundings of numbers below 4, the bound on inputs and their sums
                assert abs(float(state[at]) - value) <= 12 * 4 * np.finfo(dtype).eps
    assert not np.array_equal(before[0], param) or param.size == 0


@pytest.mark.parametrize("options", SGD, ids=str)
@pytest.mark.parametrize("shape", [(1,), (3, 5), (0,), (3, 7, 11)], ids=str)
def test_sgd_update(backend, dtype, rng, shape, options):
    param, grad, velocity = (rng.uniform(-1, 1, shape).astype(dtype) for _ in range(3))
    if "momentum" not in options:
        velocity = None
    check_update(kernels.sgd_update, oracles.sgd_update, [param, velocity], grad, options, dtype)


@pytest.mark.parametrize("options", ADAM, ids=str)
@pytest.mark.parametrize("shape", [(1,), (3, 5), (0,), (3, 7, 11)], ids=str)
def test_adam_update(backend, dtype, rng, shape, options):
    param, grad, m = (rng.uniform(-1, 1, shape).astype(dtype) for _ in range(3))
    v = rng.uniform(0.1, 1, shape).astype(dtype)  # away from 0, where the root is steep
    check_update(kernels.adam_update, oracles.adam_update, [param, m, v], grad, options, dtype)
