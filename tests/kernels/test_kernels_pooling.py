"""Maxima with switches, gather and scatter, separable sampling, against their definitions."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from device_support import using
from hypothesis import assume, given, settings, strategies as st
from kernel_support import (
    FORMS,
    absolute,
    assert_close,
    assert_exact,
    dtypes,
    each_backend,
    random_bins,
    random_taps,
    seeds,
    window,
    windows,
)

from cnncore import kernels
from cnncore.taps import Bins, Taps, adaptive_means

NAN = float("nan")

# name: (shape, window, output size)
POOLS = {
    "2x2": ((2, 3, 6, 8), window(2, 2), (3, 4)),
    "3x3 padded": ((2, 2, 7, 7), window(3, 2, 1), (4, 4)),
    "overlapping": ((1, 2, 6, 5), window(3, 1), (4, 3)),
    "not square": ((1, 2, 5, 9), window((1, 3), (2, 1), (0, 1)), (3, 9)),
    "stride > kernel": ((1, 1, 9, 9), window(2, 4), (2, 2)),
    "dilated": ((2, 2, 8, 9), window(2, 1, 1, (3, 2)), (7, 9)),
    "ceil mode": ((1, 2, 6, 5), window(3, 2), (3, 2)),
    "ceil mode, padded": ((1, 2, 5, 5), window(2, 2, 1), (3, 3)),
    "padding differs": ((1, 1, 4, 4), window(3, 2, ((0, 1), (2, 0))), (2, 2)),
    "one pixel": ((1, 1, 1, 1), window(1), (1, 1)),
    "whole plane": ((3, 2, 5, 4), window((5, 4)), (1, 1)),
    "no images": ((0, 2, 4, 4), window(2, 2), (2, 2)),
    "wide": ((1, 2, 3, 67), window(2, 1), (2, 66)),
    "wide by twos": ((1, 2, 4, 70), window(2, 2), (2, 35)),
}

FILLS = {
    "random": lambda rng, shape: rng.normal(size=shape),
    "ties": lambda rng, shape: rng.integers(0, 3, shape),
    "all negative": lambda rng, shape: -1 - rng.random(shape),
    "all equal": lambda rng, shape: np.full(shape, -2.0),
    "NaN": lambda rng, shape: np.where(rng.random(shape) < 0.2, NAN, rng.normal(size=shape)),
    "-inf only": lambda rng, shape: np.full(shape, -np.inf),
    "infinite": lambda rng, shape: rng.choice([np.inf, -np.inf, 0.0], shape),
}


def check_pool(x, win, out):
    y, index = kernels.max_pool2d(x, win, out)
    expected, winner = oracles.max_pool2d(x, win, out)
    assert_exact(y, expected.astype(x.dtype.newbyteorder("=")))
    assert_exact(index, winner)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("case", POOLS)
def test_max_pool2d(backend, dtype, rng, case, fill):
    shape, win, out = POOLS[case]
    check_pool(FILLS[fill](rng, shape).astype(dtype), win, out)


# kernel, stride, padding
@pytest.mark.parametrize(
    "places", [(3, 2, 1), (2, 2, 0), (3, 1, 1), (5, 2, 2), (4, 1, 0), (1, 2, 0)]
)
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("width", [14, 28, 32, 33, 67])
def test_max_pool2d_of_wide_planes(backend, dtype, rng, width, fill, places):
    """Whole vectors, the overlapping last one, and rows shorter than a vector."""
    win, shape = window(*places), (2, 2, 13, width)
    check_pool(FILLS[fill](rng, shape).astype(dtype), win, win.output_size(shape[2:]))


def test_max_pool2d_in_bands(backend, dtype, rng):
    """Planes too large for one band of the working space, one NaN in the middle."""
    x = rng.normal(size=(1, 2, 90, 70)).astype(dtype)
    x[0, 1, 41, 33] = NAN
    win = window(3, 2, 1)
    check_pool(x, win, win.output_size(x.shape[2:]))


@pytest.mark.parametrize("form", FORMS)
def test_max_pool2d_of_any_form(backend, dtype, rng, form):
    shape, win, out = POOLS["3x3 padded"]
    check_pool(FORMS[form](rng.normal(size=shape).astype(dtype)), win, out)


@each_backend
@given(windows(), st.booleans(), seeds, dtypes)
@settings(max_examples=40)
def test_max_pool2d_over_any_window(name, placed, ceil_mode, seed, dtype):
    win, size = placed
    out = win.output_size(size, ceil_mode)
    seen = {(i, j) for i, j, *_ in oracles.meetings(size, win, out)}
    assume(len(seen) == out[0] * out[1])  # a window that sees padding only has no maximum
    x = np.random.default_rng(seed).integers(-3, 3, (2, 2, *size)).astype(dtype)
    with using(name):
        check_pool(x, win, out)


def test_padding_never_wins(backend):
    y, index = kernels.max_pool2d(np.full((1, 1, 2, 2), -5.0), window(3, 1, 1), (2, 2))
    assert (y == -5).all()
    assert (index == 0).all()


def check_bins(x, image, rows, cols):
    y, index = kernels.bin_max(x, image, rows, cols)
    expected, winner = oracles.bin_max(x, image, rows, cols)
    assert_exact(y, expected.astype(x.dtype.newbyteorder("=")))
    assert_exact(index, winner)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("groups", [(1, 1), (5, 1), (1, 5), (5, 5)])
def test_bin_max(backend, dtype, rng, groups, fill):
    x = FILLS[fill](rng, (3, 2, 6, 7)).astype(dtype)
    image = rng.integers(0, 3, 5)
    check_bins(x, image, random_bins(rng, groups[0], 3, 6), random_bins(rng, groups[1], 2, 7))


@pytest.mark.parametrize("form", FORMS)
def test_bin_max_of_any_form(backend, dtype, rng, form):
    x = FORMS[form](rng.normal(size=(2, 3, 5, 6)).astype(dtype))
    image = FORMS[form](rng.integers(0, 2, 4))
    check_bins(x, image, random_bins(rng, 4, 2, 5), random_bins(rng, 4, 3, 6))


def test_bin_max_without_regions_or_pixels(backend, rng):
    none = np.zeros(0, np.int64)
    x = rng.normal(size=(2, 3, 5, 6))
    check_bins(x, none, random_bins(rng, 0, 2, 5), random_bins(rng, 1, 2, 6))
    check_bins(np.zeros((0, 3, 5, 6)), none, random_bins(rng, 1, 2, 5), random_bins(rng, 0, 2, 6))
    empty = Bins(5, np.full((2, 2), 3), np.array([[3, 0], [1, 2]]))
    check_bins(x, np.array([0, 1]), empty, random_bins(rng, 2, 2, 6))


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("width", [15, 16, 17, 40])
def test_bin_max_of_wide_planes(backend, dtype, rng, width, fill):
    """Whole vectors, their remainder, and the end of the array, which no vector may pass."""
    x = FILLS[fill](rng, (2, 3, 9, width)).astype(dtype)
    image = rng.integers(0, 2, 6)
    check_bins(x, image, random_bins(rng, 6, 3, 9), random_bins(rng, 6, 4, width))


@pytest.mark.parametrize("form", FORMS)
def test_region_gather_and_scatter(backend, dtype, rng, form):
    x = FORMS[form](rng.normal(size=(3, 2, 4, 5)).astype(dtype))
    image = FORMS[form](rng.integers(0, 3, 6))
    switches = FORMS[form](rng.integers(-1, 20, (6, 2, 2, 3)))
    y = kernels.region_gather(x, image, switches)
    assert_exact(y, oracles.region_gather(x, image, switches).astype(dtype))
    gy = FORMS[form](rng.normal(size=switches.shape).astype(dtype))
    expected, terms = (oracles.region_scatter(g, image, switches, 3, (4, 5)) for g in (gy, abs(gy)))
    assert_close(kernels.region_scatter(gy, image, switches, 3, (4, 5)), expected, 6, terms, dtype)


def test_region_gather_and_scatter_of_nothing(backend):
    none, switches = np.zeros(0, np.int64), np.zeros((0, 2, 1, 1), np.int64)
    assert_exact(
        kernels.region_gather(np.zeros((1, 2, 3, 3)), none, switches), np.zeros((0, 2, 1, 1))
    )
    back = kernels.region_scatter(np.zeros((0, 2, 1, 1)), none, switches, 1, (3, 3))
    assert_exact(back, np.zeros((1, 2, 3, 3)))


# (O, A, I), index (O or 1, J, I or 1)
MOVES = [
    ((2, 5, 3), (2, 4, 3)),
    ((2, 5, 3), (1, 4, 3)),
    ((2, 5, 3), (2, 4, 1)),
    ((4, 7, 1), (4, 9, 1)),
    ((1, 6, 40), (1, 8, 1)),
    ((3, 5, 2), (3, 0, 2)),
    ((0, 5, 2), (1, 3, 2)),
    ((2, 5, 0), (2, 3, 1)),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shapes", MOVES, ids=str)
def test_gather_and_scatter_add(backend, dtype, rng, shapes, form):
    (outer, size, inner), at = shapes
    x = FORMS[form](rng.normal(size=shapes[0]).astype(dtype))
    index = FORMS[form](rng.integers(-1, size, at))
    assert_exact(kernels.gather(x, index), oracles.gather(x, index).astype(dtype))
    src = FORMS[form](rng.normal(size=(outer, at[1], inner)).astype(dtype))
    expected, terms = (oracles.scatter_add(s, index, size) for s in (src, abs(src)))
    assert_close(kernels.scatter_add(src, index, size), expected, at[1], terms, dtype)


def test_gather_from_nothing(backend):
    index = np.full((1, 3, 2), -1)
    assert_exact(kernels.gather(np.zeros((2, 0, 2)), index), np.zeros((2, 3, 2)))
    assert_exact(kernels.scatter_add(np.ones((2, 3, 2)), index, 0), np.zeros((2, 0, 2)))


def test_scatter_add_skips_nan_of_index_minus_one(backend):
    src = np.array([[[NAN], [1.0]]])
    assert_exact(kernels.scatter_add(src, np.array([[[-1], [0]]]), 2), np.array([[[1.0], [0.0]]]))


# --- sampling -------------------------------------------------------------------------------------

# name: (images, channels, size, regions or None, groups of rows and columns, bins, sensitive)
SAMPLINGS = {
    "shared, every image": (3, 2, (5, 6), None, (1, 1), (4, 3), False),
    "own rows, every image": (3, 2, (5, 6), None, (3, 1), (4, 3), False),
    "regions": (2, 3, (6, 5), 5, (5, 5), (3, 2), False),
    "regions, shared columns": (2, 2, (6, 5), 4, (4, 1), (2, 3), False),
    "regions, all shared": (2, 2, (4, 5), 4, (1, 1), (2, 3), False),
    "one bin": (2, 3, (4, 4), 3, (3, 3), (1, 1), False),
    "larger than the input": (1, 2, (3, 2), None, (1, 1), (7, 9), False),
    "wide": (1, 2, (3, 70), None, (1, 1), (2, 66), False),
    # enough channels to lie side by side in vectors, and some left over
    "many channels": (2, 19, (5, 6), None, (1, 1), (4, 3), False),
    "many channels, own rows": (2, 16, (4, 5), None, (2, 1), (7, 9), False),
    "many channels, regions": (2, 35, (5, 4), 9, (9, 9), (3, 3), False),
    "many channels, few regions": (2, 17, (9, 9), 1, (1, 1), (2, 2), False),
    "position sensitive": (2, 12, (5, 6), 4, (4, 4), (2, 3), True),
    "position sensitive, shared": (2, 8, (5, 6), None, (1, 1), (2, 2), True),
    "no regions": (2, 3, (4, 4), 0, (0, 1), (2, 2), False),
    "no images": (0, 3, (4, 4), None, (1, 1), (2, 2), False),
    "no images, no regions": (0, 4, (4, 4), 0, (0, 0), (2, 2), True),
}


def sampling(case, rng):
    images, channels, size, regions, groups, bins, sensitive = SAMPLINGS[case]
    rows, cols = (random_taps(rng, groups[a], bins[a], size[a]) for a in (0, 1))
    image = (
        None
        if regions is None
        else rng.integers(0, images, regions)
        if images
        else (np.zeros(0, np.int64))
    )
    x = rng.normal(size=(images, channels, *size))
    outputs = channels // (bins[0] * bins[1]) if sensitive else channels
    gy = rng.normal(size=(images if regions is None else regions, outputs, *bins))
    return x, gy, image, rows, cols, sensitive


def check_sampling(x, gy, image, rows, cols, sensitive):
    at = (image, rows, cols)
    dtype = x.dtype.newbyteorder("=")
    parts = (image, absolute(rows), absolute(cols))
    taps = rows.index.shape[2] * cols.index.shape[2]
    expected = oracles.resample(x, *at, sensitive)
    terms = oracles.resample(abs(x), *parts, sensitive)
    assert_close(kernels.resample(x, *at, sensitive), expected, taps, terms, dtype)
    back = oracles.resample_adjoint(gy, *at, len(x), sensitive)
    terms = oracles.resample_adjoint(abs(gy), *parts, len(x), sensitive)
    length = taps * gy[:, :1].size  # no pixel meets more
    assert_close(kernels.resample_adjoint(gy, *at, len(x), sensitive), back, length, terms, dtype)


@pytest.mark.parametrize("case", SAMPLINGS)
def test_resample_and_its_adjoint(backend, dtype, rng, case):
    x, gy, *at = sampling(case, rng)
    check_sampling(x.astype(dtype), gy.astype(dtype), *at)


def near_taps(rng, groups, length, size, reach):
    """Outputs that mix some of the positions next to their own, as resizing does; the first
    ``size // 4`` positions are read by nobody, some others neither."""
    taps = random_taps(rng, groups, length, size)
    skip, own = size // 4, np.arange(length)[:, None] * size // length
    index = np.clip(own + rng.integers(-reach, reach + 1, taps.index.shape), skip, size - 1)
    index[np.arange(index.shape[2]) >= taps.count[:, :, None]] = 10**6
    return Taps(size, index, taps.weight, taps.count)


@pytest.mark.parametrize("channels", [2, 17])
@pytest.mark.parametrize("width", [(70, 66), (66, 33), (35, 105), (33, 16), (100, 40), (31, 31)])
@pytest.mark.parametrize("of", ["every image", "own groups", "regions"])
def test_resample_of_neighbours(backend, dtype, rng, channels, width, of):
    """What nobody reads is NaN, forth and back: none may come through."""
    regions = 5 if of == "regions" else 3
    groups = 1 if of == "every image" else regions
    rows = near_taps(rng, groups, 6, 9, 2)
    cols = near_taps(rng, groups, width[1], width[0], 2)
    image = np.array([2, 0, 2, 1, 0]) if of == "regions" else None
    x = rng.normal(size=(3, channels, 9, width[0])).astype(dtype)
    gy = rng.normal(size=(regions, channels, 6, width[1])).astype(dtype)
    check_sampling(x, gy, image, rows, cols, False)
    expected = kernels.resample(x, image, rows, cols)
    x[:, :, :2], x[..., : width[0] // 4] = NAN, NAN
    assert_exact(kernels.resample(x, image, rows, cols), expected)
    expected = kernels.resample_adjoint(gy, image, rows, cols, 3)
    for r in range(regions):
        g = r % groups
        gy[r][:, rows.count[g] == 0] = NAN
        gy[r][:, :, cols.count[g] == 0] = NAN
    assert_exact(kernels.resample_adjoint(gy, image, rows, cols, 3), expected)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (20, 31)])
def test_resample_of_whole_planes(backend, dtype, rng, size):
    """A single output of equal weights, as a global average has, is a sum."""
    x = rng.normal(size=(2, 3, *size)).astype(dtype)
    rows, cols = adaptive_means(size[0], 1), adaptive_means(size[1], 1)
    check_sampling(x, rng.normal(size=(2, 3, 1, 1)).astype(dtype), None, rows, cols, False)
    where = np.array([1, 0, 1])
    check_sampling(x, rng.normal(size=(3, 3, 1, 1)).astype(dtype), where, rows, cols, False)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", ["regions", "position sensitive", "shared, every image"])
def test_resample_of_any_form(backend, dtype, rng, case, form):
    x, gy, image, rows, cols, sensitive = sampling(case, rng)
    x, gy = (FORMS[form](a.astype(dtype)) for a in (x, gy))
    image = image if image is None else FORMS[form](image)
    check_sampling(x, gy, image, rows, cols, sensitive)


@each_backend
@given(st.sampled_from(sorted(SAMPLINGS)), seeds)
@settings(max_examples=60)
def test_resampling_is_transposed_by_its_adjoint(name, case, seed):
    """Exactly, with whole numbers: <A x, y> = <x, Aᵀ y>."""
    rng = np.random.default_rng(seed)
    x, gy, image, rows, cols, sensitive = sampling(case, rng)
    x, gy = (rng.integers(-8, 9, a.shape).astype(float) for a in (x, gy))
    rows, cols = (
        Taps(t.size, t.index, rng.integers(-4, 5, t.weight.shape).astype(float), t.count)
        for t in (rows, cols)
    )
    with using(name):
        ax = kernels.resample(x, image, rows, cols, sensitive)
        back = kernels.resample_adjoint(gy, image, rows, cols, len(x), sensitive)
    assert (ax * gy).sum() == (x * back).sum()


def test_rows_without_taps_read_nothing(backend, dtype):
    """A NaN in the image reaches only outputs that sample it, back as well as forth."""
    index = np.array([[[0, 0], [1, 0], [0, 0]]])
    taps = Taps(2, index, np.ones((1, 3, 2)), np.array([[1, 1, 0]]))
    x = np.array([[[[NAN, 1.0], [2.0, 3.0]]]], dtype)
    expected = np.array([[[[NAN, 1, 0], [2, 3, 0], [0, 0, 0]]]], dtype)
    assert_exact(kernels.resample(x, None, taps, taps), expected)
    gy = np.full((1, 1, 3, 3), NAN, dtype)
    gy[..., :2, :2] = x
    assert_exact(kernels.resample_adjoint(gy, None, taps, taps, 1), x)
