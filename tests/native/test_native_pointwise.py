"""Native activations against their formulas, and derivatives against differences of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slow_native as slow

from cnncore.kernels import native

pytestmark = pytest.mark.skipif(not native.AVAILABLE, reason=native.REASON)

KINDS = {
    "relu": (),
    "relu6": (),
    "leaky_relu": (0.2,),
    "elu": (1.3,),
    "selu": (),
    "celu": (0.7,),
    "gelu": (),
    "gelu_tanh": (),
    "silu": (),
    "mish": (),
    "sigmoid": (),
    "log_sigmoid": (),
    "hardsigmoid": (),
    "hardswish": (),
    "hardtanh": (-1.25, 0.875),
    "tanh": (),
    "softplus": (1.5, 6.0),
    "softsign": (),
}
KINKS = np.array([-3.0, -1.25, 0.0, 0.875, 3.0, 4.0, 6.0])


def away_from_kinks(n=157):
    x = np.linspace(-9, 9, n)  # odd: tails of vectors are used
    return x[np.abs(x[:, None] - KINKS).min(axis=1) > 1e-3]


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_formula(kind):
    x = away_from_kinks()
    want = np.array([slow.activation(kind, v, KINDS[kind]) for v in x])
    np.testing.assert_allclose(native.pointwise(x, kind, KINDS[kind]), want, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_differences_of_the_order_below(kind, order):
    x, step = away_from_kinks(), 1e-5

    def below(v):
        return native.pointwise(v, kind, KINDS[kind], order - 1)

    want = (8 * (below(x + step) - below(x - step)) - below(x + 2 * step) + below(x - 2 * step)) / (
        12 * step
    )
    got = native.pointwise(x, kind, KINDS[kind], order)
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_float64_rounded(kind, order):
    x = np.concatenate([away_from_kinks(4001), np.geomspace(1e-30, 80, 301)])
    x = np.concatenate([x, -x]).astype(np.float32)
    want = native.pointwise(x.astype(np.float64), kind, KINDS[kind], order)
    got = native.pointwise(x, kind, KINDS[kind], order)
    assert got.dtype == np.float32
    # eight units in the last place of the value, and of 1 where terms of that size cancel
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(got, want, rtol=8 * eps, atol=8 * eps)


def test_scale_multiplies_and_shapes_are_kept():
    rng = np.random.default_rng(0)
    x, scale = rng.normal(size=(2, 3, 4, 5, 7)).astype(np.float32)[:2]
    for kind, params in KINDS.items():
        for order in range(3):
            plain = native.pointwise(x, kind, params, order)
            assert plain.shape == x.shape
            np.testing.assert_array_equal(
                native.pointwise(x, kind, params, order, scale), plain * scale
            )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kind", "x", "slope"),
    [
        ("relu", 0.0, 0.0),
        ("relu6", 0.0, 0.0),
        ("relu6", 6.0, 0.0),
        ("leaky_relu", 0.0, 0.2),
        ("elu", 0.0, 1.3),
        ("hardsigmoid", -3.0, 0.0),
        ("hardsigmoid", 3.0, 0.0),
        ("hardswish", -3.0, 0.0),
        ("hardswish", 3.0, 1.0),
        ("hardtanh", -1.0, 0.0),
        ("hardtanh", 2.0, 0.0),
    ],
)
def test_slope_at_a_kink(kind, x, slope, dtype):
    params = (-1.0, 2.0) if kind == "hardtanh" else KINDS[kind]
    got = native.pointwise(np.full(19, x, dtype), kind, params, 1)
    np.testing.assert_array_equal(got, np.full(19, slope, dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_huge_arguments_stay_finite_and_nan_stays_nan(kind, dtype):
    x = np.array([-1e30, -1e4, -100, 100, 1e4, 1e30] * 4, dtype)
    for order in range(3):
        assert np.isfinite(native.pointwise(x, kind, KINDS[kind], order)).all()
    assert np.isnan(native.pointwise(np.full(21, np.nan, dtype), kind, KINDS[kind])).all()


def test_softplus_switches_at_its_threshold():
    x = np.array([2.0, 2.0 + 1e-9])
    want = [math.log1p(math.exp(2.0)), 2.0 + 1e-9]
    np.testing.assert_array_equal(native.pointwise(x, "softplus", (1.0, 2.0)), want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "maximum"])
def test_large_binary_operations_are_numpys(name, dtype):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 5, 7001)).astype(dtype)
    a[0, ::7], b[0, ::5] = np.nan, np.nan
    one = np.array(1.5, dtype)
    for pair in ((a, b), (a, one), (one, b)):
        np.testing.assert_array_equal(native.ufunc(name, *pair), getattr(np, name)(*pair))


def test_other_functions_go_to_numpy():
    x = np.linspace(0.5, 2, 5)
    np.testing.assert_array_equal(native.ufunc("exp", x), np.exp(x))
    np.testing.assert_array_equal(native.ufunc("add", x[:, None], x), np.add.outer(x, x))
