"""Native pooling, gather and sampling against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import slow_native as slow
from hypothesis import assume, given, settings, strategies as st

from cnncore.geometry import Window2d
from cnncore.kernels import native
from cnncore.taps import Bins, Taps

pytestmark = pytest.mark.skipif(not native.AVAILABLE, reason=native.REASON)
DTYPES = [np.float32, np.float64]

WINDOWS = [
    ((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), False),
    ((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), False),
    ((3, 2), (1, 3), ((1, 0), (0, 1)), (2, 1), False),
    ((3, 3), (2, 2), ((0, 0), (0, 0)), (1, 1), True),
    ((2, 5), (3, 1), ((1, 1), (2, 2)), (1, 2), True),
    ((1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), False),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", WINDOWS)
def test_max_pool_matches_the_definition_with_ties_and_nan(case, dtype):
    kernel, stride, padding, dilation, ceil = case
    window = Window2d(kernel, stride, padding, dilation)
    rng = np.random.default_rng(0)
    for width in (11, 37, 300):
        x = rng.integers(-3, 3, (2, 2, 9, width)).astype(dtype)  # few values: many ties
        x[rng.random(x.shape) < 0.05] = np.nan
        x[0, 0] = -np.inf  # a window of -inf still has a winner
        size = window.output_size((9, width), ceil)
        expected = slow.max_pool2d(x, window, size)
        for got, want in zip(native.max_pool2d(x, window, size), expected, strict=True):
            np.testing.assert_array_equal(got, want)


@given(
    st.sampled_from([2, 3]),
    st.tuples(*[st.integers(0, 1)] * 4),
    st.tuples(st.integers(1, 12), st.sampled_from([1, 2, 3, 7, 14, 28, 31, 32, 33, 64, 65, 70])),
    st.booleans(),
    st.sampled_from(["ties", "NaN", "-inf", "inf"]),
    st.sampled_from(DTYPES),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_pooling_to_half_the_size(kernel, padding, plane, ceil, fill, dtype, seed):
    top, bottom, left, right = padding
    window = Window2d((kernel, kernel), (2, 2), ((top, bottom), (left, right)), (1, 1))
    assume(plane[0] + top + bottom >= kernel and plane[1] + left + right >= kernel)
    size = window.output_size(plane, ceil)
    ends = [2 * (size[a] - 1) - window.padding[a][0] < plane[a] for a in (0, 1)]
    assume(all(ends))  # the last window sees a pixel
    assume(all(kernel > window.padding[a][0] for a in (0, 1)))
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (2, 2, *plane)).astype(dtype) * rng.choice([-1.0, 1.0], (2, 2, 1, 1))
    if fill != "ties":
        x[rng.random(x.shape) < (0.7 if fill == "-inf" else 0.1)] = float(fill)
    x = x.astype(dtype)
    expected = slow.max_pool2d(x, window, size)
    for got, want in zip(native.max_pool2d(x, window, size), expected, strict=True):
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("width", [1024, 1000 + 2 * 8])
def test_pooling_of_arrays_larger_than_the_cache(kernel, width):
    """Winners go past the cache."""
    x = np.random.default_rng(0).random((1, 9, 1024, width), np.float32)
    x[0, -1, 700, 700] = np.nan
    pad = kernel // 3
    window = Window2d((kernel, kernel), (2, 2), ((pad, pad), (pad, pad)), (1, 1))
    y, winners = native.max_pool2d(x, window, window.output_size(x.shape[2:]))
    framed = np.pad(x[0], ((0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf)
    for c in range(x.shape[1]):  # a few planes at a time, for the sake of memory
        views = np.lib.stride_tricks.sliding_window_view(framed[c], (kernel, kernel))[::2, ::2]
        tap = views.reshape(*views.shape[:2], -1).argmax(-1)  # the first of equals; NaN wins
        rows, cols = np.indices(tap.shape) * 2 - pad
        want = (rows + tap // kernel) * width + cols + tap % kernel
        np.testing.assert_array_equal(winners[0, c], want)
        np.testing.assert_array_equal(y[0, c], x[0, c].reshape(-1)[want])


@pytest.mark.parametrize("dtype", DTYPES)
def test_bin_max_matches_the_definition(dtype):
    rng = np.random.default_rng(1)
    x = rng.integers(-3, 3, (3, 4, 10, 12)).astype(dtype)
    x[rng.random(x.shape) < 0.03] = np.nan
    image = np.array([2, 0, 2, 1, 0])
    start, end = np.sort(rng.integers(0, 11, (2, 5, 3)), axis=0)  # some are empty
    rows = Bins(10, start, end)
    cols = Bins(12, np.array([[0, 3, 7, 12]]), np.array([[4, 3, 12, 12]]))
    expected = slow.bin_max(x, image, rows, cols)
    for got, want in zip(native.bin_max(x, image, rows, cols), expected, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 1), (1, 1), (3, 4), (1, 4)])
def test_gather_and_scatter_add_match_the_definition(shape, dtype):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 5, 4)).astype(dtype)
    index = rng.integers(-1, 5, (shape[0], 7, shape[1]))
    np.testing.assert_array_equal(native.gather(x, index), slow.gather(x, index))
    src = rng.normal(size=(3, 7, 4)).astype(dtype)
    np.testing.assert_array_equal(
        native.scatter_add(src, index, 5), slow.scatter_add(src, index, 5)
    )


def random_taps(rng, groups, length, taps, size):
    return Taps(
        size,
        rng.integers(0, size, (groups, length, taps)),
        rng.normal(size=(groups, length, taps)),
        rng.integers(0, taps + 1, (groups, length)),
    )


def regular_taps(size, length, index, weight):
    index = np.asarray(index, np.int64)[None]
    weight = np.full(index.shape, weight)
    return Taps(size, index, weight, np.full(index.shape[:2], index.shape[2]))


def layouts(rng):
    """(rows, cols, regions): every path of the loops over columns."""
    repeat2 = regular_taps(19, 38, np.arange(38)[:, None] // 2, 1.0)
    pool2 = regular_taps(38, 19, 2 * np.arange(19)[:, None] + [0, 1], 0.5)
    same3 = regular_taps(20, 18, np.arange(18)[:, None] + [0, 1, 2], 1 / 3)
    identity = regular_taps(20, 20, np.arange(20)[:, None], 1.0)
    for rows in (identity, pool2, random_taps(rng, 1, 5, 3, 7)):
        for cols in (repeat2, pool2, same3, identity):
            yield rows, cols, 2
    for taps in (1, 2, 3, 4, 6):
        yield random_taps(rng, 5, 4, taps, 9), random_taps(rng, 1, 6, taps, 11), 5
        yield random_taps(rng, 1, 4, taps, 9), random_taps(rng, 5, 18, taps, 11), 5
    nothing = Taps(
        11, np.zeros((1, 2, 1), np.int64), np.ones((1, 2, 1)), np.zeros((1, 2), np.int64)
    )
    yield random_taps(rng, 1, 4, 2, 9), nothing, 2
    yield nothing, random_taps(rng, 1, 4, 2, 9), 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_resample_and_its_adjoint_match_the_definition(dtype):
    rng = np.random.default_rng(3)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for rows, cols, regions in layouts(rng):
        for image in (None, rng.integers(0, 3, regions)):
            images = regions if image is None else 3
            x = rng.normal(size=(images, 2, rows.size, cols.size)).astype(dtype)
            y = native.resample(x, image, rows, cols)
            assert y.dtype == dtype
            np.testing.assert_allclose(
                y, slow.resample(x, image, rows, cols), rtol=tolerance, atol=tolerance
            )
            gy = rng.normal(size=y.shape).astype(dtype)
            np.testing.assert_allclose(
                native.resample_adjoint(gy, image, rows, cols, images),
                slow.resample_adjoint(gy, image, rows, cols, images),
                rtol=10 * tolerance,
                atol=10 * tolerance,
            )


def test_position_sensitive_resample_matches_the_definition():
    rng = np.random.default_rng(4)
    rows, cols = random_taps(rng, 5, 3, 4, 9), random_taps(rng, 1, 2, 3, 8)
    x, image = rng.normal(size=(2, 12, 9, 8)), rng.integers(0, 2, 5)
    y = native.resample(x, image, rows, cols, True)
    np.testing.assert_allclose(y, slow.resample(x, image, rows, cols, True), rtol=1e-12, atol=1e-12)
    gy = rng.normal(size=y.shape)
    np.testing.assert_allclose(
        native.resample_adjoint(gy, image, rows, cols, 2, True),
        slow.resample_adjoint(gy, image, rows, cols, 2, True),
        rtol=1e-12,
        atol=1e-12,
    )


def test_what_no_tap_reads_cannot_leak_a_nan():
    index = np.array([[[1, 3], [3, 3], [1, 2], [2, 0]]])
    taps = Taps(4, index, np.ones(index.shape), np.array([[1, 0, 2, 0]]))
    x = np.full((1, 1, 4, 4), np.nan)
    x[0, 0, 1:3, 1:3] = [[1.0, 2.0], [4.0, 8.0]]
    want = [[1.0, 0.0, 3.0, 0.0], [0.0] * 4, [5.0, 0.0, 15.0, 0.0], [0.0] * 4]
    for dtype in DTYPES:
        y = native.resample(x.astype(dtype), None, taps, taps)
        np.testing.assert_array_equal(y[0, 0], want)


def test_empty_batches_and_regions():
    window = Window2d((2, 2), (2, 2))
    y, winner = native.max_pool2d(np.zeros((0, 3, 4, 4), np.float32), window, (2, 2))
    assert y.shape == winner.shape == (0, 3, 2, 2)
    rng = np.random.default_rng(5)
    taps = random_taps(rng, 0, 3, 2, 4)
    none = np.zeros(0, np.int64)
    assert native.resample(np.ones((2, 3, 4, 4)), none, taps, taps).shape == (0, 3, 3, 3)
    gx = native.resample_adjoint(np.zeros((0, 3, 3, 3)), none, taps, taps, 2)
    assert gx.shape == (2, 3, 4, 4)
    assert not gx.any()
    assert (
        native.gather(np.ones((2, 0, 3)), np.full((1, 2, 1), -1)).tolist() == [[[0.0] * 3] * 2] * 2
    )
    assert native.scatter_add(np.ones((0, 2, 3)), np.zeros((1, 2, 1), np.int64), 4).shape == (
        0,
        4,
        3,
    )
