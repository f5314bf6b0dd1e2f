"""The tiled products: every tile, layout, element type and split, executed on the host.

The numbers are small integers, which every type holds exactly and whose sums stay exact in float32,
so a result is right or wrong: a wrong address, a fragment in the wrong lane or a slice too few
cannot hide in a tolerance.
"""

from __future__ import annotations

import contextlib

import device_support as support
import ml_dtypes
import numpy as np
import oracles
import pytest
from hypothesis import given, settings, strategies as st
from kernel_support import window, windows

from cnncore import kernels
from cnncore.errors import ArgumentError, DTypeError
from cnncore.kernels import dispatch, switches
from cnncore.kernels.epilogue import Epilogue

pytestmark = support.needs_device_code

BF16 = ml_dtypes.bfloat16
# name: (element type, whether TF32 is allowed)
TYPES = {
    "float32": (np.float32, False),
    "tf32": (np.float32, True),
    "float64": (np.float64, False),
    "float16": (np.float16, False),
    "bfloat16": (BF16, False),
}

# name: (N, C, O, groups, size, window)
CASES = {
    "3x3": (2, 5, 7, 1, (6, 5), window(3, 1, 1)),
    "3x3 by channels": (2, 16, 24, 1, (6, 5), window(3, 1, 1)),
    "strided by channels": (1, 8, 8, 1, (7, 9), window(3, 2, 1)),
    "stride 3, dilation 2": (2, 8, 16, 1, (9, 8), window((3, 2), 3, 2, 2)),
    "stride 2, dilation 2": (1, 3, 5, 1, (9, 8), window(3, 2, 1, 2)),
    "stride 4 > kernel 2": (2, 3, 2, 1, (9, 10), window(2, 4)),
    "groups": (2, 24, 48, 3, (5, 4), window(3, 2, 1)),
    "depthwise": (2, 6, 6, 6, (5, 6), window(3, 2, 1)),
    "1x1, planes of whole vectors": (3, 24, 16, 1, (4, 6), window(1)),
    "1x1, planes of odd size": (3, 24, 16, 1, (3, 5), window(1)),
    "1x1 strided": (2, 8, 8, 1, (5, 6), window(1, 2)),
    "1x1 with padding": (1, 8, 8, 1, (2, 2), window(1, 1, 1)),
    "padding differs": (1, 4, 8, 1, (5, 6), window(3, 2, ((0, 2), (3, 1)))),
    "no images": (0, 8, 8, 1, (4, 4), window(3)),
    "several tiles": (1, 9, 70, 1, (12, 13), window(3, 1, 1)),
    "large tiles": (1, 8, 136, 1, (12, 13), window((1, 3), 1, (0, 1))),
    "long sum": (1, 64, 3, 1, (6, 6), window((5, 4), 1, 2)),
    "many channels": (1, 64, 64, 1, (4, 3), window((2, 3), 2, 1)),
    "long sum of pixels": (4, 3, 5, 1, (20, 18), window(3, 1, 1)),
}


def integers(rng, shape, dtype):
    return rng.integers(-2, 3, shape).astype(dtype)


@contextlib.contextmanager
def pretending(version=90, shared=227 * 1024):
    """The host's device is said to be another."""
    if support.REAL:
        pytest.skip("a real device is what it is")
    module = support.host_module()
    module.pretend_capability(version, shared)
    try:
        yield
    finally:
        module.pretend_capability(90, 227 * 1024)


def operands(case, dtype, seed=0):
    n, c, o, groups, size, win = CASES[case]
    rng = np.random.default_rng(seed)
    out = oracles.output_size(size, win)
    x, y = integers(rng, (n, c, *size), dtype), integers(rng, (n, o, *out), dtype)
    weight = integers(rng, (o, c // groups, *win.kernel), dtype)
    return x, weight, y, win, groups, size


def run(kernel, *arrays, tf32=False, **settings):
    with support.hosted(), switches.allow_tf32(tf32):
        moved = support.on_device(getattr(kernels, kernel))
        return np.asarray(moved(*arrays, **settings), np.float64)


def rounded(x, dtype):
    return np.asarray(np.asarray(x).astype(dtype), np.float64)


def check_family(x, weight, y, win, groups, size, tf32=False, algorithm="implicit_gemm"):
    dtype, how = x.dtype, {"groups": groups, "algorithm": algorithm, "tf32": tf32}
    cases = (
        ("conv2d", (x, weight, None, win), oracles.conv2d(x, weight, None, win, groups)),
        (
            "conv_transpose2d",
            (y, weight, None, size, win),
            oracles.conv_transpose2d(y, weight, None, size, win, groups),
        ),
        ("conv2d_weight", (x, y, win), oracles.conv2d_weight(x, y, win, groups)),
    )
    for kernel, arguments, expected in cases:
        actual = run(kernel, *arguments, **how)
        np.testing.assert_array_equal(actual, rounded(expected, dtype), err_msg=kernel)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("case", CASES)
def test_implicit_products_are_exact(case, kind):
    dtype, tf32 = TYPES[kind]
    check_family(*operands(case, dtype), tf32)


@pytest.mark.parametrize("kind", ["float32", "tf32", "float16"])
@pytest.mark.parametrize("algorithm", ["auto", "im2col", "direct"])
@pytest.mark.parametrize("case", ["groups", "depthwise", "stride 3, dilation 2", "no images"])
def test_other_algorithms_are_exact(case, algorithm, kind):
    dtype, tf32 = TYPES[kind]
    check_family(*operands(case, dtype), tf32, algorithm)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("case", ["3x3 by channels", "large tiles"])
def test_no_barrier_is_missing(case, kind):
    dtype, tf32 = TYPES[kind]
    if support.REAL:
        pytest.skip("plays with the order of the host")
    with support.host_order(reverse=True, max_blocks=1):
        check_family(*operands(case, dtype), tf32)


@pytest.mark.parametrize("kind", ["float32", "tf32", "float16"])
def test_little_shared_memory_means_small_tiles(kind):
    dtype, tf32 = TYPES[kind]
    with pretending(80, 64 * 1024):
        check_family(*operands("large tiles", dtype), tf32)


@given(windows(), st.integers(0, 2**31), st.sampled_from(sorted(TYPES)), st.sampled_from([1, 8]))
@settings(max_examples=60)
def test_any_window(drawn, seed, kind, channels):
    win, size = drawn
    dtype, tf32 = TYPES[kind]
    rng = np.random.default_rng(seed)
    groups = int(rng.integers(1, 3))
    n, c, o = int(rng.integers(1, 3)), groups * channels, groups * int(rng.choice([1, 3, 8]))
    out = oracles.output_size(size, win)
    x, y = integers(rng, (n, c, *size), dtype), integers(rng, (n, o, *out), dtype)
    weight = integers(rng, (o, c // groups, *win.kernel), dtype)
    check_family(x, weight, y, win, groups, size, tf32)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("case", ["groups", "long sum"])
def test_bias_residual_and_activation(case, kind):
    dtype, tf32 = TYPES[kind]
    x, weight, y, win, groups, size = operands(case, dtype)
    rng = np.random.default_rng(1)
    for kernel, from_, channels in (("conv2d", x, 0), ("conv_transpose2d", y, 1)):
        bias = integers(rng, weight.shape[0] if channels == 0 else x.shape[1], dtype)
        residual = integers(rng, y.shape if channels == 0 else x.shape, dtype)
        extra = () if channels == 0 else (size,)
        linear = getattr(oracles, kernel)(from_, weight, bias, *extra, win, groups)
        expected = np.maximum(linear + np.asarray(residual, np.float64), 0)
        epilogue = Epilogue(residual, "relu")
        for algorithm in ("implicit_gemm", "im2col"):
            how = {"algorithm": algorithm, "epilogue": epilogue, "tf32": tf32}
            actual = run(kernel, from_, weight, bias, *extra, win, groups, **how)
            if algorithm == "im2col" and channels == 1 and np.dtype(dtype).itemsize == 2:
                continue  # its column matrix is rounded too
            np.testing.assert_array_equal(actual, rounded(expected, dtype))


@pytest.mark.parametrize("kind", TYPES)
def test_inexact_numbers_are_as_close_as_the_type_allows(kind):
    dtype, tf32 = TYPES[kind]
    # (half a unit in the last place of) what the factors and the result are rounded to
    bound = {"float32": 2**-22, "tf32": 2**-10, "float64": 2**-50, "float16": 2**-10}
    rng = np.random.default_rng(0)
    win = window(3, 1, 1)
    x, weight = (rng.normal(size=s).astype(dtype) for s in ((2, 8, 6, 5), (8, 8, 3, 3)))
    actual = run("conv2d", x, weight, None, win, algorithm="implicit_gemm", tf32=tf32)
    expected = oracles.conv2d(x, weight, None, win)
    terms = oracles.conv2d(abs(x), abs(weight), None, win)
    assert np.all(abs(actual - expected) <= bound.get(kind, 2**-7) * terms)
    if kind == "tf32":  # it has been rounded, and by no more
        assert np.any(abs(actual - expected) > 2**-16 * terms)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_results_are_rounded_to_the_nearest(kind):
    """One product a result, exact in float32: what is left is the rounding of the result."""
    dtype, _ = TYPES[kind]
    rng = np.random.default_rng(0)
    numbers = np.ldexp(rng.integers(256, 512, 4000).astype(np.float32), rng.integers(-24, 8, 4000))
    numbers[:3] = np.inf, -np.inf, np.nan
    numbers = (numbers * rng.choice([-1, 1], 4000)).astype(dtype)
    for factor in (1.0, 1.25, 1.0078125, 3.0, 100.0, 0.00390625):
        weight = np.array([[[[factor]]]], dtype)
        actual = run("conv2d", numbers.reshape(1, 1, 40, 100), weight, None, window(1))
        with np.errstate(over="ignore", invalid="ignore"):
            product = numbers.astype(np.float32) * np.float32(weight)
            np.testing.assert_array_equal(actual.ravel(), rounded(product, dtype).ravel())


def test_tf32_rounds_to_the_nearest():
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=4000).astype(np.float32)
    numbers[:4] = 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 - 2**-23, -1 - 2**-11  # ties go outwards
    bits = (numbers.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    x, one = numbers.reshape(1, 1, 40, 100), np.ones((1, 1, 1, 1), np.float32)
    actual = run("conv2d", x, one, None, window(1), tf32=True)
    np.testing.assert_array_equal(actual.ravel(), bits.view(np.float32))


def test_results_do_not_depend_on_the_run():
    """Split sums are added in an order of their own, whatever the order of the blocks."""
    rng = np.random.default_rng(0)
    win = window(3, 1, 1)
    x, gy = (rng.normal(size=s).astype(np.float32) for s in ((3, 3, 20, 18), (3, 5, 20, 18)))
    first = run("conv2d_weight", x, gy, win, algorithm="implicit_gemm")
    if not support.REAL:
        with support.host_order(reverse=True, max_blocks=2):
            again = run("conv2d_weight", x, gy, win, algorithm="implicit_gemm")
        np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (65, 7, 70), (130, 40, 132), (3, 200, 5), (16, 8, 8)])
def test_matmul(sizes, kind):
    dtype, tf32 = TYPES[kind]
    m, k, n = sizes
    rng = np.random.default_rng(0)
    for batch in ((), (2,)):
        a, b = integers(rng, (*batch, m, k), dtype), integers(rng, (k, n), dtype)
        expected = np.matmul(a.astype(np.float64), b.astype(np.float64))
        np.testing.assert_array_equal(run("matmul", a, b, tf32=tf32), rounded(expected, dtype))


def test_arrays_that_begin_between_vectors():
    x, weight, *_ = operands("1x1, planes of whole vectors", np.float32)
    win = window(1)
    expected = oracles.conv2d(x, weight, None, win)
    for shift in (1, 2, 3):
        with support.hosted():
            moved = support.brought_in(np.concatenate([np.zeros(shift, np.float32), x.ravel()]))
            there = moved[shift:].reshape(x.shape)
            actual = kernels.conv2d(there, support.brought_in(weight), None, win)
            np.testing.assert_array_equal(actual.get(), expected)


# --- refusals -------------------------------------------------------------------------------------


def test_narrow_types_need_a_device():
    x, weight = np.ones((1, 1, 3, 3), np.float16), np.ones((1, 1, 2, 2), np.float16)
    with pytest.raises(DTypeError, match="float16 needs a CUDA device"):
        kernels.conv2d(x, weight, None, window(2))


def test_types_are_not_mixed():
    with support.hosted():
        x = support.brought_in(np.ones((1, 1, 3, 3), np.float16))
        weight = support.brought_in(np.ones((1, 1, 2, 2), np.float32))
        with pytest.raises(DTypeError, match="weight"):
            kernels.conv2d(x, weight, None, window(2))


def test_bfloat16_needs_a_newer_device():
    with pretending(75, 64 * 1024):
        x, weight, *_ = operands("3x3", BF16)
        with pytest.raises(ArgumentError, match="or newer"):
            run("conv2d", x, weight, None, window(3, 1, 1))
        check_family(*operands("3x3", np.float16))
        check_family(*operands("3x3", np.float32), tf32=True)  # allowed is not available: float32


def test_tf32_is_off_unless_asked_for():
    assert switches.tf32_allowed() is False


def test_these_are_the_kernels_that_ran():
    with support.hosted():
        for name in ("conv2d", "conv_transpose2d", "conv2d_weight", "matmul", "im2col", "col2im"):
            assert dispatch.resolve(name, device=True)[0] == "cuda"
