"""Reductions and matrix products: values against NumPy, derivatives against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from cnncore import grad, ops, tensor
from cnncore.autograd import observe
from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.testing import adjoint_check, gradcheck, gradgradcheck
from cnncore.testing.strategies import spaced_values

X = np.random.default_rng(1).normal(size=(2, 3, 4))
DIMS = [None, 0, -1, (0, 2), (1,), (0, 1, 2)]


def _axis(dim):
    return dim if not isinstance(dim, list) else tuple(dim)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", DIMS)
def test_sums_and_means(dim, keepdim):
    np.testing.assert_allclose(ops.sum(X, dim, keepdim).numpy(), X.sum(dim, keepdims=keepdim))
    np.testing.assert_allclose(ops.mean(X, dim, keepdim).numpy(), X.mean(dim, keepdims=keepdim))
    adjoint_check(lambda x: ops.sum(x, dim, keepdim), X.shape)
    adjoint_check(lambda x: ops.mean(x, dim, keepdim), X.shape)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", DIMS)
def test_extremes(dim, keepdim):
    x = spaced_values(np.random.default_rng(0), (2, 3, 4))
    np.testing.assert_array_equal(ops.amax(x, dim, keepdim).numpy(), x.max(dim, keepdims=keepdim))
    np.testing.assert_array_equal(ops.amin(x, dim, keepdim).numpy(), x.min(dim, keepdims=keepdim))
    gradcheck(lambda x: ops.amax(x, dim, keepdim), x)
    gradgradcheck(lambda x: ops.amin(x * x, dim, keepdim), x)


def test_equal_maxima_share_and_nan_wins():
    x = tensor([[1.0, 3.0, 3.0, 3.0], [0.0, 0.0, 0.0, 2.0]], requires_grad=True)
    ops.amax(x, 1).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[0, 1 / 3, 1 / 3, 1 / 3], [0, 0, 0, 1]], rtol=1e-6)
    y = tensor([1.0, np.nan, 2.0], requires_grad=True)
    top = y.max()
    assert np.isnan(top.item())
    top.backward()
    np.testing.assert_array_equal(y.grad.numpy(), [0, 1, 0])


@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("dim", DIMS[:-1])
def test_spreads(dim, correction):
    if dim == 0 and correction:
        dim = 1
    axis = _axis(dim)
    np.testing.assert_allclose(ops.var(X, dim, correction).numpy(), X.var(axis, ddof=correction))
    np.testing.assert_allclose(
        ops.std(X, dim, correction, True).numpy(), X.std(axis, ddof=correction, keepdims=True)
    )
    gradcheck(lambda x: ops.var(x, dim, correction), X)
    gradgradcheck(lambda x: ops.std(x, dim, correction), X)


def test_the_spread_of_equal_values_has_gradient_zero():
    x = tensor(np.ones(4), requires_grad=True)
    ops.std(x).backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros(4))


@pytest.mark.parametrize("dim", DIMS)
def test_logsumexp(dim):
    np.testing.assert_allclose(ops.logsumexp(X, dim).numpy(), special.logsumexp(X, _axis(dim)))
    gradcheck(lambda x: ops.logsumexp(x, dim), X)
    gradgradcheck(lambda x: ops.logsumexp(x, dim, True), X)


def test_logsumexp_does_not_overflow():
    x = tensor(np.array([[1e4, 1e4], [-np.inf, 0.0], [-np.inf, -np.inf], [np.inf, 0.0]]))
    expected = [1e4 + np.log(2), 0.0, -np.inf, np.inf]
    np.testing.assert_allclose(ops.logsumexp(x, 1).numpy(), expected)


def test_nothing():
    empty = tensor(np.ones((0, 3)), requires_grad=True)
    assert ops.sum(empty).item() == 0
    np.testing.assert_array_equal(ops.sum(empty, 0).numpy(), np.zeros(3))
    assert ops.mean(empty, 1).shape == (0,)
    assert ops.amax(empty, 1).shape == (0,)
    assert ops.var(empty, 1).shape == (0,)
    for op in (ops.mean, ops.amax, ops.amin, ops.var, ops.std):
        with pytest.raises(ShapeError, match="at least one element"):
            op(empty)
    with pytest.raises(ShapeError):
        ops.logsumexp(empty, 0)
    ops.sum(empty, 0).sum().backward()
    assert empty.grad.shape == (0, 3)


def test_integers_and_booleans_can_be_counted():
    assert ops.sum(tensor([True, True, False])).item() == 2
    np.testing.assert_array_equal(ops.sum(tensor([[1, 2], [3, 4]]), 0, True).numpy(), [[4, 6]])
    with pytest.raises(DTypeError):
        ops.mean(tensor([1, 2]))


def test_bad_input():
    for dim in (3, -4, (0, 0), 1.0, "1"):
        with pytest.raises(ArgumentError):
            ops.sum(tensor(X), dim)
    with pytest.raises(ArgumentError, match="correction"):
        ops.var(tensor([1.0]))


# --- matrices -------------------------------------------------------------------------------------

PRODUCTS = [
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (5, 3, 4)),
    ((2, 1, 2, 3), (4, 3, 1)),
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((4, 2, 3), (3,)),
    ((3,), (4, 3, 2)),
]


@pytest.mark.parametrize(("left", "right"), PRODUCTS)
def test_products(left, right):
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=left), rng.normal(size=right)
    np.testing.assert_allclose(ops.matmul(a, b).numpy(), a @ b, rtol=1e-13)
    gradcheck(ops.matmul, [a, b])
    gradgradcheck(ops.matmul, [a, b])


@pytest.mark.parametrize("lead", [(), (5,), (2, 3), (0,)])
def test_linear(lead):
    rng = np.random.default_rng(4)
    x, weight, bias = rng.normal(size=(*lead, 3)), rng.normal(size=(4, 3)), rng.normal(size=4)
    np.testing.assert_allclose(ops.linear(x, weight, bias).numpy(), x @ weight.T + bias, rtol=1e-13)
    if lead != (0,):
        gradcheck(ops.linear, [x, weight, bias])
        gradgradcheck(ops.linear, [x, weight, bias])


def test_linear_is_one_op_and_three_for_observers():
    rng = np.random.default_rng(5)
    x, weight, bias = (rng.normal(size=shape) for shape in ((5, 3), (4, 3), (4,)))
    results = []
    for watching in ((), (lambda event: None,)):
        leaves = [tensor(value, requires_grad=True) for value in (x, weight, bias)]
        with observe(*watching):
            y = ops.linear(*leaves)
        results.append([y, *grad(y, leaves, tensor(np.arange(20.0).reshape(5, 4)))])
    assert [y.node.name for y, *_ in results] == ["Dense", "Add"]
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    with pytest.raises(DTypeError, match="bias"):
        ops.linear(x, weight, bias.astype(np.float32))


@pytest.mark.parametrize("wants", [True, False])
def test_the_gradient_of_a_transposed_factor_is_stored_as_the_factor_is(wants):
    rng = np.random.default_rng(5)
    x, weight, gy = rng.normal(size=(5, 3)), rng.normal(size=(4, 3)), rng.normal(size=(5, 4))
    x, weight = tensor(x, requires_grad=wants), tensor(weight, requires_grad=True)
    gradients = []
    factor = ops.transpose(weight)
    factor.register_hook(gradients.append)
    ops.matmul(x, factor).backward(gy)
    assert gradients[0].data.T.flags.c_contiguous  # so the weight's needs no copy
    np.testing.assert_allclose(weight.grad.numpy(), gy.T @ x.numpy(), rtol=1e-13)


def test_bad_matrices():
    m = tensor(np.ones((2, 3)))
    with pytest.raises(ShapeError):
        ops.matmul(m, m)
    with pytest.raises(ShapeError):
        ops.matmul(m, tensor(np.ones(())))
    with pytest.raises(DTypeError, match="float32"):
        ops.matmul(m, tensor(np.ones((3, 2), np.float32)))
    with pytest.raises(ShapeError, match="weight"):
        ops.linear(m, tensor(np.ones((4, 2))))
    with pytest.raises(ShapeError, match="bias"):
        ops.linear(m, tensor(np.ones((4, 3))), tensor(np.ones(3)))
