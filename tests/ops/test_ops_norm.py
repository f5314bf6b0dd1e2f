"""The normalisations against their formulas, written with NumPy means and variances."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore import grad, ops, tensor
from cnncore.autograd import observe
from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.testing import gradcheck, gradgradcheck

RNG = np.random.default_rng(7)
X = RNG.normal(size=(3, 4, 2, 3)) * 2 + 1
WEIGHT, BIAS = RNG.normal(size=4), RNG.normal(size=4)
EPS = 1e-5


def standard(x, axes):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + EPS)


def affine(x, weight=WEIGHT, bias=BIAS):
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return x * weight.reshape(shape) + bias.reshape(shape)


def grouped(x, groups):
    rows = x.reshape(len(x), groups, -1)
    return standard(rows, 2).reshape(x.shape)


def batch(x, w, b, **ending):
    return ops.batch_norm(x, None, None, w, b, True, **ending)


def with_running(x, w, b, **ending):
    mean, var = np.array([0.5, -1, 0, 2]), np.array([0.5, 1, 2, 3])
    return ops.batch_norm(x, mean, var, w, b, **ending)


NORMS = {
    "batch": (batch, lambda x: standard(x, (0, 2, 3))),
    "instance": (lambda x, w, b: ops.instance_norm(x, None, None, w, b),
                 lambda x: standard(x, (2, 3))),
    "group 2": (lambda x, w, b, **ending: ops.group_norm(x, 2, w, b, **ending),
                lambda x: grouped(x, 2)),
    "group 1": (lambda x, w, b: ops.group_norm(x, 1, w, b), lambda x: grouped(x, 1)),
    "running": (with_running, lambda x: (x - np.array([0.5, -1, 0, 2]).reshape(1, 4, 1, 1))
                / np.sqrt(np.array([0.5, 1, 2, 3]).reshape(1, 4, 1, 1) + EPS)),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_formula_and_derivatives(name):
    op, formula = NORMS[name]
    np.testing.assert_allclose(op(X, WEIGHT, BIAS).numpy(), affine(formula(X)), rtol=1e-11)
    np.testing.assert_allclose(op(X, None, None).numpy(), formula(X), rtol=1e-11)
    gradcheck(op, [X, WEIGHT, BIAS])
    gradgradcheck(op, [X, WEIGHT, BIAS], rtol=1e-5)
    gradgradcheck(lambda x: op(x, None, None), X, rtol=1e-5)


@pytest.mark.parametrize("activation", ["", "relu", "relu6"])
@pytest.mark.parametrize("joined", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize("name", ["batch", "running", "group 2"])
def test_norm_with_an_ending(name, activation, joined):
    """The same as ops of their own, forward and to the second derivative, and observed as such."""
    weight, residual = np.array([1.0, -4, 8, 2]), 2 * RNG.normal(size=X.shape)
    inputs = [X, weight, BIAS, *([residual] if joined else [])]

    norm = NORMS[name][0]

    def fused(x, w, b, r=None):
        return norm(x, w, b, residual=r, activation=activation)

    def separate(x, w, b, r=None):
        y = norm(x, w, b)
        y = y if r is None else y + r
        return getattr(ops, activation)(y) if activation else y

    np.testing.assert_allclose(fused(*inputs).numpy(), separate(*inputs).numpy(), rtol=1e-12)
    gy = RNG.normal(size=X.shape)
    found, wanted = [], []
    for op, into in ((fused, found), (separate, wanted)):
        leaves = [tensor(value, requires_grad=True) for value in inputs]
        op(*leaves).backward(tensor(gy))
        into += [leaf.grad.numpy() for leaf in leaves]
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13)
    gradcheck(fused, inputs)
    gradgradcheck(fused, inputs, rtol=1e-5)
    names = []
    with observe(lambda e: names.append(e.subject.name) if e.kind == "after_forward" else None):
        fused(*map(tensor, inputs))
    ending = ["Add"] * joined + [activation.capitalize()] * bool(activation)
    assert names == ["Normalize", *ending]


def test_batch_norm_with_an_ending_is_one_op_and_keeps_its_result():
    x, r = (tensor(value, requires_grad=True) for value in (X, X[::-1].copy()))
    y = ops.batch_norm(x, None, None, training=True, residual=r, activation="relu")
    assert y.node.name == "NormalizeRelu"
    assert any(array is y.data for array in y.node.kept_arrays())
    alone = ops.batch_norm(x, None, None, training=True, residual=r)
    assert not any(array is alone.data for array in alone.node.kept_arrays())


def test_ends_of_batch_norm_where_statistics_are_constant_or_nothing_is_there():
    mean, var = np.zeros(4), np.ones(4)
    x = tensor(X)
    y = ops.batch_norm(x, mean, var, residual=x, activation="relu")
    np.testing.assert_array_equal(y.numpy(), ops.relu(ops.batch_norm(x, mean, var) + x).numpy())
    empty = tensor(X[:0])
    y = ops.batch_norm(empty, mean, var, training=True, residual=empty, activation="relu6")
    assert y.shape == (0, 4, 2, 3)


def test_bad_ends_of_batch_norm():
    with pytest.raises(ArgumentError, match="activation"):
        ops.batch_norm(X, None, None, training=True, activation="gelu")
    with pytest.raises(ShapeError, match="residual"):
        ops.batch_norm(X, None, None, training=True, residual=X[:1])
    with pytest.raises(DTypeError, match="residual"):
        ops.batch_norm(X, None, None, training=True, residual=X.astype(np.float32))


def test_layer_norm():
    weight, bias = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    expected = standard(X, (2, 3)) * weight + bias
    np.testing.assert_allclose(
        ops.layer_norm(X, (2, 3), weight, bias).numpy(), expected, rtol=1e-11
    )
    np.testing.assert_allclose(ops.layer_norm(X, 3).numpy(), standard(X, 3), rtol=1e-11)
    inputs = [X[:2, :2], weight, bias]
    gradcheck(lambda x, w, b: ops.layer_norm(x, (2, 3), w, b), inputs)
    gradgradcheck(lambda x, w, b: ops.layer_norm(x, (2, 3), w, b), inputs, rtol=1e-5)


def test_batch_norm_of_vectors():
    x = X[:, :, 0, 0]
    np.testing.assert_allclose(batch(x, WEIGHT, BIAS).numpy(), affine(standard(x, 0)), rtol=1e-11)


@pytest.mark.parametrize("name", ["batch", "group 2", "running"])
def test_only_some_gradients_and_third_derivatives(name):
    """A cotangent may be missing in the second pass; the third differentiates the second."""
    op, _ = NORMS[name]
    for wanted in (0, 1, 2):
        inputs = [tensor(v, requires_grad=i == wanted) for i, v in enumerate((X, WEIGHT, BIAS))]
        everything = [tensor(v, requires_grad=True) for v in (X, WEIGHT, BIAS)]
        (some,) = grad((op(*inputs) ** 2).sum(), inputs[wanted])
        (full,) = grad((op(*everything) ** 2).sum(), everything[wanted])
        np.testing.assert_allclose(some.numpy(), full.numpy(), rtol=1e-12)

    def slope(x):
        (gx,) = grad((op(x, None, None) ** 3).sum(), x, create_graph=True)
        return gx

    gradgradcheck(slope, X[:2, :, :, :2], rtol=1e-4, atol=1e-5)


def test_running_statistics_are_unbiased_and_written_in_place():
    mean, var = np.zeros(4), np.ones(4)
    ops.batch_norm(X, mean, var, training=True, momentum=0.25)
    np.testing.assert_allclose(mean, 0.25 * X.mean((0, 2, 3)))
    np.testing.assert_allclose(var, 0.75 + 0.25 * X.var((0, 2, 3), ddof=1))
    tensors = tensor(np.zeros(4, np.float32)), tensor(np.ones(4, np.float32))
    before = tensors[0].data
    ops.batch_norm(X.astype(np.float32), *tensors, training=True, momentum=0.25)
    assert tensors[0].data is before
    np.testing.assert_allclose(tensors[1].numpy(), var, rtol=1e-5)
    mean, var = np.zeros(4), np.ones(4)
    ops.instance_norm(X, mean, var)
    np.testing.assert_allclose(mean, 0.1 * X.mean((2, 3)).mean(0))
    np.testing.assert_allclose(var, 0.9 + 0.1 * X.var((2, 3), ddof=1).mean(0))


def test_far_from_zero_in_single_precision():
    x = (X + 1000).astype(np.float32)
    y = ops.batch_norm(x, None, None, training=True).numpy()
    np.testing.assert_allclose(y, standard(x.astype(np.float64), (0, 2, 3)), atol=2e-3)


def test_one_value_per_channel_cannot_be_normalised():
    for call in (
        lambda: ops.batch_norm(np.ones((1, 3)), None, None, training=True),
        lambda: ops.batch_norm(np.ones((1, 3, 1, 1)), None, None, training=True),
        lambda: ops.instance_norm(np.ones((2, 3, 1))),
    ):
        with pytest.raises(ShapeError, match="more than one"):
            call()


def test_empty_batches():
    x = tensor(np.ones((0, 4, 2, 2)), requires_grad=True)
    weight, bias = (tensor(v, requires_grad=True) for v in (WEIGHT, BIAS))
    mean, var = np.full(4, 3.0), np.ones(4)
    for y in (
        ops.batch_norm(x, mean, var, weight, bias, True),
        ops.instance_norm(x, None, None, weight, bias),
        ops.group_norm(x, 2, weight, bias),
        ops.layer_norm(x, (2, 2)),
        ops.local_response_norm(x, 3),
    ):
        assert y.shape == x.shape
        y.sum().backward()
    assert not weight.grad.numpy().any()
    assert mean.tolist() == [3.0] * 4  # no batch, nothing to learn from


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_local_response_norm(size):
    alpha, beta, k = 0.5, 0.75, 2.0
    expected = np.empty_like(X)
    for c in range(4):
        lo, hi = max(0, c - size // 2), min(4, c + (size - 1) // 2 + 1)
        total = (X[:, lo:hi] ** 2).sum(1)
        expected[:, c] = X[:, c] / (k + alpha / size * total) ** beta
    y = ops.local_response_norm(X, size, alpha, beta, k)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12)
    gradcheck(lambda x: ops.local_response_norm(x, size, alpha, beta, k), X[:2])
    gradgradcheck(lambda x: ops.local_response_norm(x, size, alpha, beta, k), X[:1])


def test_bad_input():
    for call in (
        lambda: ops.batch_norm(np.ones(3), None, None, training=True),
        lambda: ops.batch_norm(X, None, None),
        lambda: ops.batch_norm(X, np.ones(3), np.ones(4)),
        lambda: ops.batch_norm(X, np.ones(4), -np.ones(4)),
        lambda: ops.batch_norm(X, None, None, np.ones(3), training=True),
        lambda: ops.batch_norm(X, None, None, training=True, eps=-1.0),
        lambda: ops.group_norm(X, 3),
        lambda: ops.group_norm(X, 0),
        lambda: ops.layer_norm(X, (3, 2)),
        lambda: ops.layer_norm(X, (2, 3), np.ones(3)),
        lambda: ops.instance_norm(np.ones((2, 3))),
        lambda: ops.local_response_norm(X, 0),
    ):
        with pytest.raises(ArgumentError):
            call()
    with pytest.raises(DTypeError, match="float32"):
        ops.batch_norm(X, None, None, np.ones(4, np.float32), training=True)
