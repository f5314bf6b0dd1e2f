"""Matrix product and the convolution family against their definitions."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from device_support import using
from hypothesis import given, settings, strategies as st
from kernel_support import (
    FORMS,
    assert_close,
    assert_exact,
    dtypes,
    each_backend,
    seeds,
    window,
    windows,
)

from cnncore import kernels

ALGORITHMS = ("auto", "im2col", "implicit_gemm", "direct")

# name: (N, C, O, groups, size, window)
CASES = {
    "plain 3x3": (2, 3, 4, 1, (6, 5), window(3, 1, 1)),
    "one pixel": (1, 1, 1, 1, (1, 1), window(1)),
    "1x1": (2, 5, 3, 1, (4, 7), window(1)),
    "1x1 strided": (2, 4, 3, 1, (5, 7), window(1, 2)),
    "no images": (0, 2, 3, 1, (5, 5), window(3)),
    "not square": (1, 2, 3, 1, (9, 4), window((2, 3), (3, 1), (1, 2))),
    "stride > kernel": (2, 2, 2, 1, (8, 9), window(2, (3, 4))),
    "rows left over": (1, 2, 2, 1, (8, 8), window(3, 3)),
    "dilated": (1, 2, 3, 1, (9, 8), window(3, 1, 2, (2, 3))),
    "groups": (2, 6, 4, 2, (5, 6), window(3, 2, 1)),
    "depthwise": (1, 4, 4, 4, (6, 6), window(3, 1, 1)),
    "depthwise, two outputs a channel": (1, 3, 6, 3, (5, 5), window(3, 2, 1)),
    "padding differs on all sides": (1, 2, 3, 1, (5, 6), window(3, 2, ((0, 2), (3, 1)))),
    "one pixel, padding below only": (1, 2, 3, 1, (3, 4), window(1, 1, ((0, 2), (0, 0)))),
    "one pixel, padding to the right only": (1, 2, 3, 1, (3, 4), window(1, 1, ((0, 0), (0, 2)))),
    "padding wider than the kernel": (1, 1, 2, 1, (2, 3), window(2, 1, 3)),
    "kernel as large as the plane": (2, 3, 2, 1, (4, 3), window((4, 3))),
    "many channels": (1, 33, 17, 1, (3, 3), window(3, 1, 1)),
    "wide": (1, 2, 2, 1, (2, 70), window((1, 5), 1, (0, 2))),
}


def operands(case, rng, dtype):
    n, c, o, groups, size, win = CASES[case]
    out = oracles.output_size(size, win)
    x, weight = rng.normal(size=(n, c, *size)), rng.normal(size=(o, c // groups, *win.kernel))
    y, gbias, bias = rng.normal(size=(n, o, *out)), rng.normal(size=c), rng.normal(size=o)
    return [a.astype(dtype) for a in (x, weight, bias, y, gbias)], win, groups, size


def check_forward(x, weight, bias, win, groups, algorithms=ALGORITHMS):
    expected = oracles.conv2d(x, weight, bias, win, groups)
    terms = oracles.conv2d(abs(x), abs(weight), None if bias is None else abs(bias), win, groups)
    for algorithm in algorithms:
        actual = kernels.conv2d(x, weight, bias, win, groups, algorithm)
        assert_close(actual, expected, weight[0].size + 1, terms, x.dtype.newbyteorder("="))


def check_transpose(y, weight, bias, size, win, groups, algorithms=ALGORITHMS):
    expected = oracles.conv_transpose2d(y, weight, bias, size, win, groups)
    absent = None if bias is None else abs(bias)
    terms = oracles.conv_transpose2d(abs(y), abs(weight), absent, size, win, groups)
    length = weight[:, 0].size // groups + 1
    for algorithm in algorithms:
        actual = kernels.conv_transpose2d(y, weight, bias, size, win, groups, algorithm)
        assert_close(actual, expected, length, terms, y.dtype.newbyteorder("="))


def check_weight(x, gy, win, groups, algorithms=ALGORITHMS):
    expected = oracles.conv2d_weight(x, gy, win, groups)
    terms = oracles.conv2d_weight(abs(x), abs(gy), win, groups)
    for algorithm in algorithms:
        actual = kernels.conv2d_weight(x, gy, win, groups, algorithm)
        assert_close(actual, expected, gy[:, :1].size, terms, x.dtype.newbyteorder("="))


@pytest.mark.parametrize("case", CASES)
def test_the_family_is_what_it_says(backend, dtype, rng, case):
    (x, weight, bias, y, gbias), win, groups, size = operands(case, rng, dtype)
    check_forward(x, weight, bias, win, groups)
    check_transpose(y, weight, gbias, size, win, groups)
    check_weight(x, y, win, groups)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", ["plain 3x3", "groups", "1x1", "1x1 strided"])
def test_any_form_of_array_is_served(backend, dtype, rng, case, form):
    (x, weight, bias, y, gbias), win, groups, size = operands(case, rng, dtype)
    x, weight, bias, y, gbias = (FORMS[form](a) for a in (x, weight, bias, y, gbias))
    check_forward(x, weight, bias, win, groups)
    check_transpose(y, weight, gbias, size, win, groups)
    check_weight(x, y, win, groups)
    columns = kernels.im2col(x, win)
    assert_exact(columns, oracles.im2col(x, win).astype(dtype))
    columns = FORMS[form](columns)
    terms = oracles.col2im(abs(columns), size, win)
    expected = oracles.col2im(columns, size, win)
    assert_close(kernels.col2im(columns, size, win), expected, 9, terms, dtype)


@pytest.mark.parametrize("case", CASES)
def test_columns_are_the_windows(backend, dtype, rng, case):
    (x, *_), win, _, size = operands(case, rng, dtype)
    columns = kernels.im2col(x, win)
    assert_exact(columns, oracles.im2col(x, win).astype(dtype))
    g = rng.normal(size=columns.shape).astype(dtype)
    terms = oracles.col2im(abs(g), size, win)
    length = win.kernel[0] * win.kernel[1]
    assert_close(kernels.col2im(g, size, win), oracles.col2im(g, size, win), length, terms, dtype)


@each_backend
@given(
    windows(),
    st.integers(0, 2),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    seeds,
    dtypes,
)
@settings(max_examples=25)
def test_any_window(name, placed, images, groups, inputs, outputs, seed, dtype):
    win, size = placed
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(images, groups * inputs, *size)).astype(dtype)
    weight = rng.normal(size=(groups * outputs, inputs, *win.kernel)).astype(dtype)
    out = oracles.output_size(size, win)
    y = rng.normal(size=(images, groups * outputs, *out)).astype(dtype)
    with using(name):
        check_forward(x, weight, None, win, groups, ALGORITHMS[1:])
        check_transpose(y, weight, None, size, win, groups, ALGORITHMS[1:])
        check_weight(x, y, win, groups, ALGORITHMS[1:])


def integers(rng, *shape):
    """Small whole numbers: their sums of products are exact in float64, whatever the order."""
    return rng.integers(-8, 9, shape).astype(np.float64)


@each_backend
@given(windows(12), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), seeds)
@settings(max_examples=40)
def test_each_is_the_transpose_of_the_other(name, placed, groups, inputs, outputs, seed):
    """<A x, y> = <x, Aᵀ y> exactly, and both are the same form, linear in the weight."""
    win, size = placed
    rng = np.random.default_rng(seed)
    x = integers(rng, 2, groups * inputs, *size)
    weight = integers(rng, groups * outputs, inputs, *win.kernel)
    with using(name):
        for algorithm in ("im2col", "implicit_gemm"):
            ax = kernels.conv2d(x, weight, None, win, groups, algorithm)
            y = integers(rng, *ax.shape)
            form = (ax * y).sum()
            back = kernels.conv_transpose2d(y, weight, None, size, win, groups, algorithm)
            assert form == (back * x).sum()
            assert form == (kernels.conv2d_weight(x, y, win, groups, algorithm) * weight).sum()
        columns = kernels.im2col(x, win)
        g = integers(rng, *columns.shape)
        assert (columns * g).sum() == (kernels.col2im(g, size, win) * x).sum()


SHAPES = [
    ((1, 1), (1, 1)),
    ((3, 4), (4, 5)),
    ((0, 4), (4, 5)),
    ((3, 0), (0, 5)),
    ((17, 33), (33, 19)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((3, 4), (2, 4, 5)),
    ((0, 3, 4), (4, 5)),
    ((1, 40), (40, 1)),
    # few rows or few columns, read where they lie
    ((1, 67), (67, 131)),
    ((3, 35), (35, 90)),
    ((7, 64), (64, 6)),
    ((40, 50), (50, 5)),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_matmul(backend, dtype, rng, shapes, form):
    a, b = (FORMS[form](rng.normal(size=shape).astype(dtype)) for shape in shapes)
    terms = oracles.matmul(abs(a), abs(b))
    assert_close(kernels.matmul(a, b), oracles.matmul(a, b), a.shape[-1], terms, dtype)
    turned = kernels.matmul(b.swapaxes(-1, -2), a.swapaxes(-1, -2))
    assert_close(
        turned, oracles.matmul(a, b).swapaxes(-1, -2), a.shape[-1], terms.swapaxes(-1, -2), dtype
    )


def test_matmul_of_blocks_larger_than_a_cache_line_of_panels(backend, dtype, rng):
    """Past every blocking factor of a packed product; whole numbers, so the answer is exact."""
    a, b = (rng.integers(-3, 4, shape).astype(dtype) for shape in ((150, 700), (700, 530)))
    assert_exact(kernels.matmul(a, b), (a.astype(int) @ b.astype(int)).astype(dtype))


def test_nan_and_inf_pass_where_they_belong(backend):
    x = np.zeros((1, 1, 5, 5), np.float32)
    x[0, 0, 2, 2] = np.nan
    y = kernels.conv2d(x, np.ones((1, 1, 3, 3), np.float32), None, window(3))
    assert np.isnan(y).all()
    y = kernels.conv2d(x, np.ones((1, 1, 1, 1), np.float32), None, window(1))
    assert np.isnan(y).sum() == 1
