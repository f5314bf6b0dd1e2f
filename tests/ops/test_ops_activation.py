"""Activations against their formulas (SciPy, NumPy), derivatives numerically."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from cnncore import grad, ops, tensor
from cnncore.errors import ArgumentError, DTypeError, GraphError, ShapeError
from cnncore.testing import adjoint_check, gradcheck, gradgradcheck

# No value at a kink of any of them.
X = np.array([-7.3, -4.1, -2.6, -1.4, -0.9, -0.3, 0.2, 0.45, 0.8, 1.7, 2.9, 4.4, 6.6])

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


FORMULAS = {
    "relu": (ops.relu, lambda x: x * (x > 0)),
    "relu6": (ops.relu6, lambda x: x.clip(0, 6)),
    "leaky_relu": (ops.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x)),
    "leaky_relu 0.3": (lambda x: ops.leaky_relu(x, 0.3), lambda x: np.where(x > 0, x, 0.3 * x)),
    "elu": (ops.elu, lambda x: elu(x, 1.0)),
    "elu 0.5": (lambda x: ops.elu(x, 0.5), lambda x: elu(x, 0.5)),
    "selu": (ops.selu, lambda x: SELU_SCALE * elu(x, SELU_ALPHA)),
    "celu 2": (lambda x: ops.celu(x, 2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x / 2))),
    "gelu": (ops.gelu, lambda x: x * stats.norm.cdf(x)),
    "gelu tanh": (
        lambda x: ops.gelu(x, "tanh"),
        lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    "silu": (ops.silu, lambda x: x * special.expit(x)),
    "mish": (ops.mish, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "sigmoid": (ops.sigmoid, special.expit),
    "log_sigmoid": (ops.log_sigmoid, special.log_expit),
    "hardsigmoid": (ops.hardsigmoid, lambda x: (x / 6 + 0.5).clip(0, 1)),
    "hardswish": (ops.hardswish, lambda x: x * (x / 6 + 0.5).clip(0, 1)),
    "hardtanh": (ops.hardtanh, lambda x: x.clip(-1, 1)),
    "hardtanh -2 0.5": (lambda x: ops.hardtanh(x, -2.0, 0.5), lambda x: x.clip(-2, 0.5)),
    "tanh": (ops.tanh, np.tanh),
    "softplus": (ops.softplus, lambda x: np.log1p(np.exp(x))),
    "softplus 2": (lambda x: ops.softplus(x, 2.0), lambda x: np.log1p(np.exp(2 * x)) / 2),
    "softsign": (ops.softsign, lambda x: x / (1 + np.abs(x))),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formula_and_derivatives(name):
    op, formula = FORMULAS[name]
    np.testing.assert_allclose(op(X).numpy(), formula(X), rtol=1e-12, atol=1e-14)
    gradcheck(op, X)
    gradgradcheck(op, X)


@pytest.mark.parametrize("name", FORMULAS)
def test_extreme_values_stay_finite(name):
    op, formula = FORMULAS[name]
    x = tensor(np.array([-1e4, -90.0, 90.0, 1e4], np.float32), requires_grad=True)
    y = op(x)
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(formula(x.data.astype(np.float64)))
    assert np.isfinite(y.numpy()[finite]).all()
    (gx,) = grad(y.sum(), x, create_graph=True)
    assert np.isfinite(gx.numpy()).all()
    if gx.requires_grad:
        (ggx,) = grad(gx.sum(), x, allow_unused=True)
        assert ggx is None or np.isfinite(ggx.numpy()).all()


@pytest.mark.parametrize(
    ("op", "at", "slope"),
    [
        (ops.relu, 0.0, 0.0),
        (ops.relu6, 0.0, 0.0),
        (ops.relu6, 6.0, 0.0),
        (lambda x: ops.leaky_relu(x, 0.25), 0.0, 0.25),
        (lambda x: ops.elu(x, 0.5), 0.0, 0.5),
        (ops.hardtanh, -1.0, 0.0),
        (ops.hardtanh, 1.0, 0.0),
        (lambda x: ops.prelu(x, tensor([0.25])), 0.0, 0.25),
    ],
)
def test_slopes_at_kinks_are_those_of_torch(op, at, slope):
    x = tensor([at], requires_grad=True)
    op(x).backward()
    assert x.grad.item() == slope


def test_relu_keeps_one_array_and_nan():
    x = tensor(np.linspace(-1, 1, 100), requires_grad=True)
    y = ops.relu(x)
    assert y.node.kept_bytes == x.data.nbytes
    assert y.node.kept_arrays()[0] is y.data
    assert np.isnan(ops.relu(tensor([np.nan])).item())


def test_third_derivatives_are_refused_in_words():
    x = tensor([1.0], requires_grad=True)
    (first,) = grad(ops.tanh(x), x, create_graph=True)
    (second,) = grad(first, x, create_graph=True)
    with pytest.raises(GraphError, match="beyond the second"):
        grad(second, x)


@pytest.mark.parametrize(("shape", "slopes"), [((3, 4), 4), ((2, 4, 2), 4), ((2, 3), 1), ((5,), 1)])
def test_prelu(shape, slopes):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 1, shape) * rng.choice([-1, 1], shape)
    weight = rng.normal(size=slopes)
    column = weight.reshape((1, -1) + (1,) * (len(shape) - 2)) if slopes > 1 else weight
    np.testing.assert_allclose(ops.prelu(x, weight).numpy(), np.where(x > 0, x, column * x))
    gradcheck(ops.prelu, [x, weight])
    gradgradcheck(ops.prelu, [x, weight])


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax(dim):
    x = np.random.default_rng(0).normal(size=(3, 4, 2)) * 3
    np.testing.assert_allclose(ops.softmax(x, dim).numpy(), special.softmax(x, dim), rtol=1e-13)
    np.testing.assert_allclose(
        ops.log_softmax(x, dim).numpy(), special.log_softmax(x, dim), rtol=1e-12
    )
    for op in (ops.softmax, ops.log_softmax):
        gradcheck(lambda x: op(x, dim), x)  # noqa: B023
        gradgradcheck(lambda x: op(x, dim), x)  # noqa: B023


def test_softmax_at_the_limits():
    x = tensor([[-np.inf, 1000.0, -np.inf], [1e30, -1e30, 0.0]])
    np.testing.assert_array_equal(ops.softmax(x, 1).numpy(), [[0, 1, 0], [1, 0, 0]])
    assert ops.softmax(tensor(np.ones((0, 3))), 1).shape == (0, 3)
    assert ops.softmax(tensor(1.0), 0).item() == 1
    with pytest.raises(ShapeError):
        ops.softmax(tensor(np.ones((3, 0))), 1)


def test_dropout():
    x = np.random.default_rng(1).normal(size=(100, 100))
    drawn = ops.dropout(x, 0.3, generator=np.random.default_rng(5)).numpy()
    kept = drawn != 0
    assert abs(kept.mean() - 0.7) < 0.02
    np.testing.assert_allclose(drawn[kept], x[kept] / 0.7)
    again = ops.dropout(x, 0.3, generator=np.random.default_rng(5)).numpy()
    np.testing.assert_array_equal(drawn, again)
    adjoint_check(lambda x: ops.dropout(x, 0.3, generator=np.random.default_rng(5)), (5, 6))
    ops.manual_seed(3)
    first = ops.dropout(x).numpy()
    assert not np.array_equal(first, ops.dropout(x).numpy())
    ops.manual_seed(3)
    np.testing.assert_array_equal(first, ops.dropout(x).numpy())
    assert not ops.dropout(x, 1.0).numpy().any()
    t = tensor(x)
    assert ops.dropout(t, training=False) is t
    assert ops.dropout(t, 0.0) is t


def test_bad_input():
    x = tensor([1.0])
    for call in (
        lambda: ops.gelu(x, "erf"),
        lambda: ops.dropout(x, 1.5),
        lambda: ops.dropout(x, -0.1),
        lambda: ops.dropout(x, np.nan),
        lambda: ops.celu(x, 0.0),
        lambda: ops.softplus(x, 0.0),
        lambda: ops.hardtanh(x, 1.0, -1.0),
        lambda: ops.leaky_relu(x, "0.1"),
        lambda: ops.elu(x, np.inf),
        lambda: ops.softmax(x, 1),
        lambda: ops.prelu(tensor(np.ones((2, 3), np.float32)), tensor([1.0, 2.0])),
    ):
        with pytest.raises(ArgumentError):
            call()
    for name in ("relu", "gelu", "tanh"):
        with pytest.raises(DTypeError):
            getattr(ops, name)(tensor([1, 2]))
