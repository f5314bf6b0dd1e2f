"""Arithmetic: values against NumPy, first and second derivatives against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore import ops, tensor
from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.testing import adjoint_check, gradcheck, gradgradcheck

RNG = np.random.default_rng(0)
POSITIVE = RNG.uniform(0.5, 2.0, (2, 3))
SIGNED = np.array([[0.7, -1.3, 2.1], [-0.4, 1.8, -2.5]])

BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}
UNARY = {
    "neg": np.negative,
    "abs": np.abs,
    "exp": np.exp,
    "sin": np.sin,
    "cos": np.cos,
    "log": np.log,
    "sqrt": np.sqrt,
}
SHAPES = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((4, 1, 3), (2, 1))]


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_two_operands(name, left, right):
    x, y = RNG.uniform(0.5, 2, left), RNG.uniform(2.1, 3, right)
    op = getattr(ops, name)
    np.testing.assert_allclose(op(x, y).numpy(), BINARY[name](x, y), rtol=1e-15)
    np.testing.assert_allclose(op(y, x).numpy(), BINARY[name](y, x), rtol=1e-15)
    gradcheck(op, [x, y])
    gradcheck(op, [y, x])
    gradgradcheck(op, [x, y])


@pytest.mark.parametrize("name", UNARY)
def test_one_operand(name):
    x = POSITIVE if name in ("log", "sqrt") else SIGNED
    op = getattr(ops, name)
    np.testing.assert_allclose(op(x).numpy(), UNARY[name](x), rtol=1e-15)
    gradcheck(op, x)
    gradgradcheck(op, x)


@pytest.mark.parametrize("exponent", [2.0, 3, 1.0, 0.0, -1.5, 0.5])
def test_powers_by_a_number(exponent):
    np.testing.assert_allclose(ops.pow(POSITIVE, exponent).numpy(), POSITIVE**exponent)
    gradcheck(lambda x: ops.pow(x, exponent), POSITIVE)
    gradgradcheck(lambda x: ops.pow(x, exponent), POSITIVE)


def test_powers_of_two_tensors():
    exponent = np.array([1.5, -2.0, 0.7])
    gradcheck(ops.pow, [POSITIVE, exponent])
    gradgradcheck(ops.pow, [POSITIVE, exponent])
    x = tensor([2.0, 3.0], requires_grad=True)
    (2.0**x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2.0**x.data * np.log(2), rtol=1e-6)


def test_powers_of_zero_have_finite_gradients():
    x = tensor([0.0, 0.0, 0.0], requires_grad=True)
    y = tensor([0.0, 1.0, 2.0], requires_grad=True)
    (x**y).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(y.grad.numpy(), [0.0, 0.0, 0.0])


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_a_tie_shares_the_gradient_and_nan_wins(name):
    x, y = tensor([1.0, 2.0], requires_grad=True), tensor([1.0, 2.0], requires_grad=True)
    getattr(ops, name)(x, y).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0.5, 0.5])
    np.testing.assert_array_equal(y.grad.numpy(), [0.5, 0.5])
    assert np.isnan(getattr(ops, name)(tensor([np.nan]), 1.0).numpy()).all()


def test_where_chooses_and_does_not_multiply():
    condition = np.array([True, False, True])
    x, y = np.array([1.0, 2.0, 3.0]), np.array([4.0])
    np.testing.assert_array_equal(ops.where(condition, x, y).numpy(), [1, 4, 3])
    gradcheck(lambda x, y: ops.where(condition, x, y), [x, y])
    gradgradcheck(lambda x, y: ops.where(condition, x * x, y * y), [x, y])
    # log(0) is -inf on the side that is not chosen: no NaN may come of 0 times inf
    z = tensor([0.0, 2.0], requires_grad=True)
    g = tensor([np.inf, 1.0])
    ops.where(z.data > 0, z, 1.0).backward(g)
    np.testing.assert_array_equal(z.grad.numpy(), [0.0, 1.0])


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (None, 1.0), (-1.0, None), (0, 0.5)])
def test_clamp(low, high):
    np.testing.assert_array_equal(ops.clamp(SIGNED, low, high).numpy(), SIGNED.clip(low, high))
    gradcheck(lambda x: ops.clamp(x, low, high), SIGNED)
    gradgradcheck(lambda x: ops.clamp(x * x, low, high), SIGNED)


def test_clamp_passes_the_gradient_at_its_ends_and_nan_through():
    x = tensor([-1.0, 0.0, 1.0, 1.5], requires_grad=True)
    ops.clamp(x, -1.0, 1.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 1, 1, 0])
    assert np.isnan(ops.clamp(tensor([np.nan]), 0.0, 1.0).item())


def test_comparisons_are_plain_booleans():
    x, y = tensor([1.0, 2.0], requires_grad=True), tensor([2.0, 2.0])
    for name, expected in {
        "lt": [True, False],
        "le": [True, True],
        "gt": [False, False],
        "ge": [False, True],
        "eq": [False, True],
    }.items():
        result = getattr(ops, name)(x, y)
        assert result.dtype == bool
        assert not result.requires_grad
        np.testing.assert_array_equal(result.numpy(), expected)
    assert (x < 1.5).numpy().tolist() == [True, False]


def test_numbers_take_the_type_of_the_tensor():
    for dtype in ("float32", "float64"):
        x = tensor(np.ones((), dtype))  # without axes NumPy 1 would promote
        for y in (x + 2, 2.5 * x, x / np.float64(3), 1 - x, 2.0**x, ops.maximum(x, 0.1)):
            assert y.dtype == dtype
    assert (tensor([1, 2]) + 1).dtype == np.int64


@pytest.mark.parametrize("name", [*BINARY, "pow", "lt"])
def test_mixed_types_are_refused_by_name(name):
    with pytest.raises(DTypeError, match=r"float64.*float32|float32.*float64"):
        getattr(ops, name)(tensor([1.0]), np.ones(1))


def test_bad_input():
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        ops.add(tensor([1.0, 2.0, 3.0]), tensor([1.0, 2.0]))
    with pytest.raises(ShapeError, match="broadcast"):
        ops.where(np.array([True, False]), tensor([1.0, 2.0, 3.0]), 0.0)
    with pytest.raises(DTypeError, match="condition"):
        ops.where(np.array([1, 0]), tensor([1.0, 2.0]), 0.0)
    with pytest.raises(DTypeError):
        ops.div(tensor([1, 2]), tensor([1, 2]))
    with pytest.raises(DTypeError):
        ops.add(tensor([1.0]), "one")
    with pytest.raises(DTypeError):
        ops.exp(tensor([1, 2]))
    with pytest.raises(ArgumentError):
        ops.clamp(tensor([1.0]))


def test_conversion_travels_both_ways():
    x = tensor([1.0, 2.0], requires_grad=True)
    y = x.to("float64")
    assert y.dtype == np.float64
    (y * y).sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad.numpy(), [2, 4])
    assert x.to("cpu") is x
    assert x.to("float32") is x
    assert not x.to("int64").requires_grad
    for bad in ("nonsense", "datetime64[s]"):
        with pytest.raises(ArgumentError):
            x.to(bad)


def test_products_keep_only_what_the_other_side_needs():
    x, w = tensor(np.ones((4, 4)), requires_grad=True), tensor(np.ones((4, 4)))
    assert ops.mul(x, w).node.kept_bytes == w.data.nbytes
    assert ops.mul(x, x).node.kept_bytes == 2 * w.data.nbytes
    assert ops.add(x, w).node.kept_bytes == 0


def test_empty_arrays():
    x = tensor(np.ones((0, 3)), requires_grad=True)
    ((x * 2 + x / 3) ** 2).sum().backward()
    assert x.grad.shape == (0, 3)
    adjoint_check(ops.neg, (0, 3))
