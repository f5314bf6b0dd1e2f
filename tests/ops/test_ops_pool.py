"""Pooling against its definition, one window and one pixel at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from cnncore.autograd import grad, tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.ops.pool import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d
from cnncore.testing import adjoint_check, gradcheck, gradgradcheck
from cnncore.testing.strategies import PoolCase, pool_cases, spaced, spaced_values

RNG = np.random.default_rng(7)


def window_counts(size, kernel, stride, padding, dilation, ceil_mode):
    """Windows along one axis, by trying one after the other."""
    extent = dilation * (kernel - 1) + 1
    count = 0
    while True:
        start = count * stride - padding
        fits = start + extent <= size + padding
        hangs_over = ceil_mode and start < size and start - stride + extent < size + padding
        if not (fits or (hangs_over and count)):
            return count
        count += 1


def pixels(case: PoolCase):
    """``{(i, j): [(h, w), …]}``: the real pixels of every window, and how many with padding."""
    options = {"dilation": (1, 1), **case.options}
    size = case.x.shape[2:]
    names = ("kernel_size", "stride", "padding", "dilation")
    axes = []
    for axis in (0, 1):
        k, s, p, d = (options[name][axis] for name in names)
        starts = [
            i * s - p for i in range(window_counts(size[axis], k, s, p, d, options["ceil_mode"]))
        ]
        axes.append([[start + u * d for u in range(k)] for start in starts])
    windows = {}
    for i, rows in enumerate(axes[0]):
        for j, cols in enumerate(axes[1]):
            real = [(h, w) for h in rows for w in cols if 0 <= h < size[0] and 0 <= w < size[1]]
            p = options["padding"]
            counted = sum(h < size[0] + p[0] for h in rows) * sum(w < size[1] + p[1] for w in cols)
            windows[i, j] = real, counted
    return windows, (len(axes[0]), len(axes[1]))


def slow_max(plane, places):
    """The largest; of equals the first in reading order; the first NaN before everything."""
    best = None
    for h, w in sorted(places):
        value = plane[h, w]
        if best is None or (math.isnan(value) and not math.isnan(best[0])) or value > best[0]:
            best = value, h * plane.shape[1] + w
    return best


# --- maxima ---------------------------------------------------------------------------------------


@given(pool_cases(), st.booleans())
def test_max_pool_against_the_definition(case, ties):
    windows, size = pixels(case)
    assume(all(real for real, _ in windows.values()))
    x = np.round(case.x) if ties else case.x
    y, indices = max_pool2d(x, **case.options, return_indices=True)
    assert y.shape == indices.shape == (*x.shape[:2], *size)
    for n, c in np.ndindex(x.shape[:2]):
        for (i, j), (real, _) in windows.items():
            value, where = slow_max(x[n, c], real)
            assert y.numpy()[n, c, i, j] == value
            assert indices.numpy()[n, c, i, j] == where


@settings(max_examples=15)
@given(pool_cases(max_size=5))
def test_gradients_of_max_pool(case):
    windows, _ = pixels(case)
    assume(all(real for real, _ in windows.values()))
    gradcheck(lambda x: max_pool2d(x, **case.options), case.x)
    gradgradcheck(lambda x: max_pool2d(x, **case.options), case.x)


def test_padding_of_max_pool_is_absent_not_zero():
    assert max_pool2d(np.full((1, 1, 2, 2), -3.0), 2, 1, 1).numpy().max() == -3.0


def test_nan_wins_and_ties_go_to_the_lowest_index():
    x = np.array([[[[2.0, 2.0, math.nan, 9.0, math.nan, 1.0]]]])
    y, where = max_pool2d(x, (1, 2), return_indices=True)
    np.testing.assert_array_equal(y.numpy()[0, 0, 0], [2, math.nan, math.nan])
    assert where.numpy()[0, 0, 0].tolist() == [0, 2, 4]
    _, where = max_pool2d(np.full((1, 1, 1, 5), math.nan), (1, 5), return_indices=True)
    assert where.item() == 0


def test_max_pool_keeps_only_its_indices():
    x = tensor(RNG.normal(size=(2, 3, 8, 8)), requires_grad=True)
    y = max_pool2d(x, 2)
    (kept,) = y.node.kept_arrays()
    assert kept.dtype == np.int64
    assert kept.shape == y.shape


def test_overlapping_windows_add_their_gradients():
    x = tensor(np.array([[[[0.0, 5.0, 1.0]]]]), requires_grad=True)
    max_pool2d(x, (1, 2), 1).backward(np.array([[[[2.0, 3.0]]]]))
    assert x.grad.numpy().ravel().tolist() == [0, 5, 0]


def test_max_pool_third_derivative_graph():
    """Backward is unpooling, its backward gathers, and so on: as often as one likes."""
    x = tensor(spaced_values(RNG, (1, 2, 4, 4)), requires_grad=True)
    gy = tensor(RNG.normal(size=(1, 2, 2, 2)), requires_grad=True)
    y = max_pool2d(x, 2)
    (gx,) = grad(y, x, gy, create_graph=True)
    v = tensor(RNG.normal(size=gx.shape), requires_grad=True)
    (ggy,) = grad(gx, gy, v, create_graph=True)
    (back,) = grad(ggy, v, gy)
    np.testing.assert_array_equal(back.numpy(), gx.numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 2, "padding": 2}, "padding: expected at most half the kernel, 1, got 2"),
        ({"kernel_size": 0}, "kernel_size: expected an integer >= 1, got 0"),
        ({"kernel_size": 2, "stride": 0}, "stride: expected an integer >= 1, got 0"),
        ({"kernel_size": 2, "dilation": -1}, "dilation: expected an integer >= 1, got -1"),
        ({"kernel_size": 2, "padding": -1}, "padding: expected an integer >= 0, got -1"),
        ({"kernel_size": 2.0}, "kernel_size: expected an integer >= 1, got 2.0"),
        ({"kernel_size": (2, 2, 2)}, "kernel_size: expected one integer or a pair"),
        ({"kernel_size": 7}, "x: expected a padded height of at least the kernel's extent 7"),
        # rows -1 and 3 of 0..2: a window of nothing but padding and holes
        ({"kernel_size": (2, 1), "dilation": (4, 1), "padding": (1, 0)}, "sees at least one pixel"),
    ],
)
def test_max_pool_refuses(options, message):
    with pytest.raises(ArgumentError, match="^" + message if ":" in message else message):
        max_pool2d(np.zeros((1, 1, 3, 6)), **options)


@pytest.mark.parametrize(
    "op",
    [
        lambda x: max_pool2d(x, 2),
        lambda x: avg_pool2d(x, 2),
        lambda x: adaptive_avg_pool2d(x, 2),
        lambda x: adaptive_max_pool2d(x, 2),
    ],
)
def test_shapes_and_types_of_all_pooling(op):
    assert op(np.zeros((0, 3, 4, 6), np.float32)).shape[:2] == (0, 3)
    assert op(np.zeros((2, 0, 4, 6))).shape[:2] == (2, 0)
    assert op(np.zeros((1, 1, 4, 6), np.float32)).dtype == np.float32
    assert op(np.zeros((1, 1, 4, 6))).dtype == np.float64
    x = tensor(np.zeros((0, 3, 4, 6)), requires_grad=True)
    y = op(x)
    y.backward(np.zeros(y.shape))
    assert x.grad.shape == x.shape
    with pytest.raises(ArgumentError, match="x: expected shape"):
        op(np.zeros((3, 4, 6)))
    with pytest.raises(ArgumentError, match="x: expected float32 or float64"):
        op(np.zeros((1, 3, 4, 6), np.int64))
    with pytest.raises(ShapeError, match="x: expected a plane of at least one pixel"):
        op(np.zeros((1, 3, 0, 6)))


# --- means ----------------------------------------------------------------------------------------


@given(pool_cases(dilation=False), st.booleans(), st.sampled_from([None, 1, 3]))
def test_avg_pool_against_the_definition(case, include, divisor):
    windows, size = pixels(case)
    y = avg_pool2d(case.x, **case.options, count_include_pad=include, divisor_override=divisor)
    assert y.shape == (*case.x.shape[:2], *size)
    for (i, j), (real, counted) in windows.items():
        rows, cols = zip(*real, strict=True)
        total = case.x[:, :, rows, cols].sum(axis=-1)
        number = divisor or (counted if include else len(real))
        np.testing.assert_allclose(y.numpy()[:, :, i, j], total / number, rtol=1e-12, atol=1e-14)


@settings(max_examples=15)
@given(pool_cases(dilation=False, max_size=5), st.booleans())
def test_avg_pool_is_linear_and_differentiable(case, include):
    def pool(x):
        return avg_pool2d(x, **case.options, count_include_pad=include)

    adjoint_check(pool, case.x.shape)
    gradcheck(pool, case.x)
    gradgradcheck(pool, case.x)


def test_avg_pool_refuses():
    x = np.zeros((1, 1, 4, 4))
    with pytest.raises(ArgumentError, match="divisor_override: expected an integer >= 1, got 0"):
        avg_pool2d(x, 2, divisor_override=0)
    with pytest.raises(ArgumentError, match="padding: expected at most half the kernel"):
        avg_pool2d(x, 3, padding=2)


def test_avg_pool_in_ceil_mode_by_hand():
    # windows of 2 with stride 2 over 3 pixels: the second hangs over and has one pixel
    x = np.array([[[[1.0, 3.0, 5.0]]]])
    assert avg_pool2d(x, (1, 2), ceil_mode=True).numpy().ravel().tolist() == [2, 5]
    # with padding 1: (0 1) (3 5), and the window that would begin at the padding is left out
    got = avg_pool2d(x, (1, 2), padding=(0, 1), ceil_mode=True).numpy().ravel().tolist()
    assert got == [0.5, 4]


# --- adaptive -------------------------------------------------------------------------------------

planes = st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 7), st.integers(1, 7))
grids = st.tuples(st.integers(1, 8), st.integers(1, 8))


def bins(size, count):
    return [range(p * size // count, -(-(p + 1) * size // count)) for p in range(count)]


@given(planes.flatmap(spaced), grids)
def test_adaptive_pools_against_the_definition(x, size):
    mean = adaptive_avg_pool2d(x, size)
    high, where = adaptive_max_pool2d(x, size, return_indices=True)
    assert mean.shape == high.shape == where.shape == (*x.shape[:2], *size)
    for i, rows in enumerate(bins(x.shape[2], size[0])):
        for j, cols in enumerate(bins(x.shape[3], size[1])):
            block = x[:, :, rows][..., cols]
            np.testing.assert_allclose(
                mean.numpy()[:, :, i, j], block.mean(axis=(2, 3)), atol=1e-13
            )
            places = [(h, w) for h in rows for w in cols]
            for n, c in np.ndindex(x.shape[:2]):
                found = high.numpy()[n, c, i, j], where.numpy()[n, c, i, j]
                assert found == slow_max(x[n, c], places)


@settings(max_examples=15)
@given(planes.flatmap(spaced), grids)
def test_gradients_of_adaptive_pools(x, size):
    adjoint_check(lambda x: adaptive_avg_pool2d(x, size), x.shape)
    gradcheck(lambda x: adaptive_max_pool2d(x, size), x)
    gradgradcheck(lambda x: adaptive_max_pool2d(x, size), x)


def test_adaptive_output_sizes():
    x = np.zeros((1, 1, 4, 6))
    assert adaptive_avg_pool2d(x, (None, 2)).shape == (1, 1, 4, 2)
    assert adaptive_max_pool2d(x, 3).shape == (1, 1, 3, 3)
    for bad in (0, (2, 0), (1, 2, 3), 1.5, None):
        with pytest.raises(ArgumentError, match="output_size"):
            adaptive_max_pool2d(x, bad)
