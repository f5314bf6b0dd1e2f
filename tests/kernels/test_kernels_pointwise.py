"""Activations and their first two derivatives against jets of their formulas."""

from __future__ import annotations

from math import exp, log1p, pi, sqrt

import numpy as np
import oracles
import pytest
from device_support import using
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from kernel_support import FORMS, assert_exact, each_backend

from cnncore import kernels

KINDS = {
    "relu": (), "relu6": (), "leaky_relu": (0.01,), "elu": (1.3,), "selu": (), "celu": (0.7,),
    "gelu": (), "gelu_tanh": (), "silu": (), "mish": (), "sigmoid": (), "log_sigmoid": (),
    "hardsigmoid": (), "hardswish": (), "hardtanh": (-1.5, 2.0), "tanh": (),
    "softplus": (2.0, 20.0), "softsign": (),
}  # fmt: skip


def allowed(x, dtype):
    """Rounding of f and its derivatives.

    Each is a polynomial in x of degree at most 2 with coefficients below 4 times smooth bounded
    functions; a chain of fewer than 16 operations, each with an error of u relative to an
    intermediate of that size.  The result's own u |f| is included, since |f| <= 2 + 2 |x|.
    """
    return 16 * np.finfo(dtype).eps * 4 * (1 + x.astype(np.float64) ** 2)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(backend, dtype, rng, kind, order):
    x = np.concatenate((rng.uniform(-8, 8, 200), rng.normal(size=100))).astype(dtype)
    y = kernels.pointwise(x, kind, KINDS[kind], order)
    assert y.dtype == dtype
    error = np.abs(y - oracles.pointwise(x, kind, KINDS[kind], order))
    worst = np.argmax(error - allowed(x, dtype))
    assert (error <= allowed(x, dtype)).all(), f"at x = {x[worst]!r}: {error[worst]}"


@pytest.mark.parametrize("kind", KINDS)
def test_scale_multiplies(backend, dtype, rng, kind):
    x, scale = (rng.uniform(-4, 4, (3, 50)).astype(dtype) for _ in range(2))
    for order in (0, 1, 2):
        plain = kernels.pointwise(x, kind, KINDS[kind], order)
        scaled = kernels.pointwise(x, kind, KINDS[kind], order, scale)
        # one rounding, or two where f stays in a register of higher precision
        np.testing.assert_allclose(scaled, plain * scale, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3, 17)], ids=str)
def test_any_form_and_shape(backend, dtype, rng, form, shape):
    if not shape and form in ("every second", "reversed"):
        pytest.skip("no axis to stride along")
    x, scale = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    expected = np.maximum(x, 0) * scale
    y = kernels.pointwise(FORMS[form](x), "relu", scale=FORMS[form](scale))
    assert_exact(y, np.asarray(expected), dtype)


# kind, params, x, order, value: PyTorch's choice where a derivative jumps
KINKS = [
    ("relu", (), 0.0, 1, 0.0),
    ("relu6", (), 0.0, 1, 0.0),
    ("relu6", (), 6.0, 1, 0.0),
    ("hardtanh", (-2.0, 3.0), -2.0, 1, 0.0),
    ("hardtanh", (-2.0, 3.0), 3.0, 1, 0.0),
    ("leaky_relu", (0.125,), 0.0, 1, 0.125),
    ("elu", (0.5,), 0.0, 1, 0.5),
    ("elu", (0.5,), 0.0, 2, 0.5),
    ("celu", (0.5,), 0.0, 1, 1.0),
    ("celu", (0.5,), 0.0, 2, 2.0),
    ("hardsigmoid", (), -3.0, 1, 0.0),
    ("hardsigmoid", (), 3.0, 1, 0.0),
    ("hardswish", (), -3.0, 1, 0.0),
    ("hardswish", (), 3.0, 1, 1.0),
    ("softsign", (), 0.0, 2, 0.0),
    ("softplus", (1.0, 2.0), 2.0, 2, None),  # beta x > threshold is strict: still curved here
]


@pytest.mark.parametrize("case", KINKS, ids=str)
def test_kinks(backend, dtype, case):
    kind, params, x, order, value = case
    y = float(kernels.pointwise(np.array([x], dtype), kind, params, order)[0])
    if value is None:
        assert y > 0
    else:
        assert y == value


LIMITS = {  # f, f', f'' far to the left and far to the right; None grows
    "relu": ((0, 0, 0), (None, 1, 0)), "relu6": ((0, 0, 0), (6, 0, 0)),
    "elu": ((-1.3, 0, 0), (None, 1, 0)), "celu": ((-0.7, 0, 0), (None, 1, 0)),
    "gelu": ((0, 0, 0), (None, 1, 0)), "gelu_tanh": ((0, 0, 0), (None, 1, 0)),
    "silu": ((0, 0, 0), (None, 1, 0)), "mish": ((0, 0, 0), (None, 1, 0)),
    "sigmoid": ((0, 0, 0), (1, 0, 0)), "log_sigmoid": ((None, 1, 0), (0, 0, 0)),
    "hardsigmoid": ((0, 0, 0), (1, 0, 0)), "hardswish": ((0, 0, 0), (None, 1, 0)),
    "hardtanh": ((-1.5, 0, 0), (2, 0, 0)), "tanh": ((-1, 0, 0), (1, 0, 0)),
    "softplus": ((0, 0, 0), (None, 1, 0)), "softsign": ((-1, 0, 0), (1, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("kind", LIMITS)
def test_far_from_zero_nothing_overflows(backend, dtype, kind):
    for x in (200.0, 1e4, 1e10, float(np.finfo(dtype).max) / 8):
        for side, sign in ((0, -1), (1, 1)):
            point = np.array([sign * x], dtype)
            for order, limit in enumerate(LIMITS[kind][side]):
                y = float(kernels.pointwise(point, kind, KINDS[kind], order)[0])
                if limit is None:
                    assert y == point[0]
                else:
                    # softsign comes near its limits as 1/x
                    assert abs(y - limit) <= (1.01 / x if kind == "softsign" else 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_stays_nan(backend, dtype, kind):
    assert np.isnan(kernels.pointwise(np.array([np.nan], dtype), kind, KINDS[kind])).all()


@pytest.mark.parametrize("kind", ["gelu", "silu", "log_sigmoid"])
def test_tails_keep_their_relative_accuracy(backend, kind):
    """Where f is tiny, 1 − (almost 1) would leave no digit."""
    x = np.array([-30.0, -20.0, -12.0, -8.0]) if kind != "log_sigmoid" else np.array([8.0, 30.0])
    y = kernels.pointwise(x, kind)

    def bell_tail(v):  # Laplace's continued fraction: density/(|v| + 1/(|v| + 2/(|v| + …)))
        fraction = 0.0
        for k in range(60, 0, -1):
            fraction = k / (abs(v) + fraction)
        return exp(-0.5 * v * v) / sqrt(2 * pi) / (abs(v) + fraction)

    exact = {
        "gelu": lambda v: v * bell_tail(v),
        "silu": lambda v: v * exp(v) / (1 + exp(v)),
        "log_sigmoid": lambda v: -log1p(exp(-v)),
    }[kind]
    expected = np.array([exact(v) for v in x])
    # exp(−x²/2) multiplies the rounding of its exponent by x²/2; the rest is a few roundings.
    # Where x/√2 is squared instead of x, that rounding is four times as large.
    rtol = (16 + 2 * x**2) * np.finfo(np.float64).eps / 2
    assert (np.abs(y - expected) <= rtol * np.abs(expected)).all(), (y - expected) / expected


@each_backend
@given(
    arrays.arrays(np.float64, st.integers(1, 40), elements=st.floats(-10, 10)),
    st.sampled_from(sorted(KINDS)),
    st.integers(0, 2),
)
@settings(max_examples=60)
def test_any_numbers(name, x, kind, order):
    with using(name):
        y = kernels.pointwise(x, kind, KINDS[kind], order)
    assert (np.abs(y - oracles.pointwise(x, kind, KINDS[kind], order)) <= allowed(x, x.dtype)).all()
