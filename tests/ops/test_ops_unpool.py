"""Unpooling against its definition, and against the pooling whose transpose it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from cnncore.autograd import tensor
from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.ops.pool import max_pool2d
from cnncore.ops.unpool import max_unpool2d, unpool_bed_of_nails, unpool_nearest, unpooling
from cnncore.testing import adjoint_check, gradcheck, gradgradcheck
from cnncore.testing.strategies import pool_cases, values

planes = st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(1, 4), st.integers(1, 4))
kernels = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(planes.flatmap(values), kernels)
def test_fixed_unpooling_against_the_definition(x, kernel):
    near, nails = unpool_nearest(x, kernel).numpy(), unpool_bed_of_nails(x, kernel).numpy()
    assert near.shape == nails.shape
    assert near.shape == (*x.shape[:2], x.shape[2] * kernel[0], x.shape[3] * kernel[1])
    for i, j in np.ndindex(near.shape[2:]):
        source = x[:, :, i // kernel[0], j // kernel[1]]
        np.testing.assert_array_equal(near[:, :, i, j], source)
        nailed = i % kernel[0] == 0 and j % kernel[1] == 0
        np.testing.assert_array_equal(nails[:, :, i, j], source if nailed else 0 * source)


@settings(max_examples=15)
@given(planes.filter(lambda shape: shape[0] > 0), kernels)
def test_fixed_unpooling_is_linear(shape, kernel):
    adjoint_check(lambda x: unpool_nearest(x, kernel), shape, exact=True)
    adjoint_check(lambda x: unpool_bed_of_nails(x, kernel), shape, exact=True)
    x = np.arange(np.prod(shape), dtype=float).reshape(shape)
    gradgradcheck(lambda x: unpool_nearest(x, kernel), x)


def test_a_nan_stays_where_it_is():
    x = np.array([[[[np.nan, 1.0]]]])
    assert np.isnan(unpool_bed_of_nails(x, 2).numpy()).sum() == 1
    assert np.isnan(unpool_nearest(x, 2).numpy()).sum() == 4


@st.composite
def switched(draw):
    """Any values and any switches into any plane: also repeated ones."""
    shape = draw(planes)
    window = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    size = tuple((n - 1) * s + s for n, s in zip(shape[2:], window, strict=True))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    return rng.normal(size=shape), rng.integers(0, size[0] * size[1], shape), window, size


@given(switched())
def test_max_unpool_against_the_definition(case):
    x, indices, window, size = case
    y = max_unpool2d(x, indices, window)
    expected = np.zeros((*x.shape[:2], size[0] * size[1]))
    for place in np.ndindex(x.shape):
        expected[(*place[:2], indices[place])] += x[place]
    np.testing.assert_allclose(y.numpy(), expected.reshape(y.shape), rtol=1e-12)


@settings(max_examples=15)
@given(switched().filter(lambda case: case[0].size > 0))
def test_max_unpool_is_linear_and_differentiable(case):
    x, indices, window, size = case
    adjoint_check(unpooling(indices, size), x.shape, exact=True)
    gradcheck(lambda x: max_unpool2d(x, indices, window), x)
    gradgradcheck(lambda x: max_unpool2d(x, indices, window), x)


@given(pool_cases(dilation=False, ceil_mode=False))
def test_unpooling_is_the_gradient_of_pooling(case):
    """And pooling the unpooled maxima gives them back where windows do not overlap."""
    options = {name: case.options[name] for name in ("kernel_size", "stride", "padding")}
    x = tensor(case.x, requires_grad=True)
    y, indices = max_pool2d(x, **options, return_indices=True)
    size = x.shape[2:]
    usual = [
        (n - 1) * s - 2 * p + k for n, k, s, p in zip(y.shape[2:], *options.values(), strict=True)
    ]
    assume(all(abs(n - u) < s for n, u, s in zip(size, usual, options["stride"], strict=True)))
    unpooled = max_unpool2d(y, indices, **options, output_size=size)
    y.backward(y.numpy())
    np.testing.assert_array_equal(x.grad.numpy(), unpooled.numpy())


def test_equal_switches_add_up():
    x = np.array([[[[2.0, 3.0]]]])
    assert max_unpool2d(x, [[[[1, 1]]]], (1, 2)).numpy().ravel().tolist() == [0, 5, 0, 0]


def test_output_sizes():
    x, indices = np.ones((1, 1, 2, 2)), np.zeros((1, 1, 2, 2), int)
    assert max_unpool2d(x, indices, 3, 2).shape == (1, 1, 5, 5)
    assert max_unpool2d(x, indices, 3, 2, 1).shape == (1, 1, 3, 3)
    assert max_unpool2d(x, indices, 3, 2, output_size=(6, 4)).shape == (1, 1, 6, 4)
    assert max_unpool2d(x, indices, 3, 2, output_size=(1, 1, 6, 4)).shape == (1, 1, 6, 4)
    with pytest.raises(ArgumentError, match=r"output_size: .* width among \[4, 5, 6\], got 7"):
        max_unpool2d(x, indices, 3, 2, output_size=(6, 7))
    with pytest.raises(ArgumentError, match=r"output_size: expected \(1, 1\) first"):
        max_unpool2d(x, indices, 3, 2, output_size=(2, 1, 6, 6))


def test_bad_switches_are_refused():
    x, indices = np.ones((2, 1, 2, 2)), np.zeros((2, 1, 2, 2), int)
    for wrong in (16, -1, 2**62):
        indices[1, 0, 1, 0] = wrong
        with pytest.raises(ArgumentError, match=rf"indices\[1, 0, 1, 0\].* 4·4.* got {wrong}"):
            max_unpool2d(x, indices, 2)
    with pytest.raises(ShapeError, match=r"indices: expected the shape of x"):
        max_unpool2d(x, indices[:, :, :1], 2)
    with pytest.raises(DTypeError, match="indices: expected integers, got float64"):
        max_unpool2d(x, indices * 0.5, 2)
    with pytest.raises(ArgumentError, match="at most 2\\*\\*59 elements"):
        unpool_nearest(x, 2**30)
    with pytest.raises(ArgumentError, match="kernel_size: expected an integer >= 1, got 0"):
        unpool_bed_of_nails(x, (1, 0))


def test_no_images():
    empty = np.zeros((0, 2, 3, 3), np.float32)
    assert max_unpool2d(empty, np.zeros(empty.shape, int), 2).shape == (0, 2, 6, 6)
