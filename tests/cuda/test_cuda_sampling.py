"""Convolutions, switches and sampling on other grids: any order of blocks and threads, same bits.

What they compute is tested in ``tests/kernels`` (backend "cuda on the host"); here are the sizes at
which a device would spread out: columns in several parts, many regions of few images.
"""

from __future__ import annotations

import gc

import device_support as support
import numpy as np
import oracles
import pytest
from device_support import brought_in, taken_out

from cnncore import kernels
from cnncore.geometry import Window2d
from cnncore.kernels import cuda, dispatch
from cnncore.kernels.cuda import sampling
from cnncore.taps import Bins, Taps

pytestmark = [support.needs_device_code]
ORDERS = [{"reverse": True}, {"max_blocks": 1}, {"max_blocks": 3, "reverse": True}, {"wide": True}]
WINDOW = Window2d((3, 2), (2, 1), ((1, 0), (1, 1)), (1, 2))


def on_device(name, *args, **kwargs):
    with support.hosted():
        assert dispatch.resolve(name, device=True)[0] == "cuda"
        return taken_out(getattr(kernels, name)(*map(brought_in, args), **kwargs))


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def places(shape, size, seed=0):
    """Indices from -1 on, many of them equal."""
    return np.random.default_rng(seed).integers(-1, size, shape).astype(np.int64)


def taps(regions, length, size, most, seed):
    """Any sparse matrix: rows without taps, repeated and descending indices."""
    rng = np.random.default_rng(seed)
    shape = (regions, length, most)
    count = rng.integers(0, most + 1, shape[:2])
    return Taps(size, rng.integers(0, size, shape), rng.normal(size=shape), count)


def bins(regions, length, size, seed):
    ends = np.sort(np.random.default_rng(seed).integers(0, size + 1, (2, regions, length)), 0)
    return Bins(size, ends[0].astype(np.int64), ends[1].astype(np.int64))


def regions(count, images):
    return np.random.default_rng(7).integers(0, images, count).astype(np.int64)


def resampling(name, many, position_sensitive=False, own=False):
    count, images, channels = (3, 3, 6) if own else (9, 3, 6)
    rows = taps(count if many else 1, 2, 7, 4, 1)
    cols = taps(count if many else 1, 3, 5, 3, 2)
    image = None if own else regions(count, images)
    if name == "resample":
        return (drawn(images, channels * (6 if position_sensitive else 1), 7, 5), image, rows, cols,
                position_sensitive)  # fmt: skip
    return drawn(count, channels, 2, 3), image, rows, cols, images, position_sensitive


CASES = {
    "max_pool2d": (drawn(2, 3, 9, 8), WINDOW, (5, 8)),
    "bin_max": (drawn(3, 4, 8, 9), regions(7, 3), bins(7, 3, 8, 1), bins(1, 2, 9, 2)),
    "gather": (drawn(3, 50, 4), places((1, 33, 4), 50)),
    "gather planes": (drawn(3, 50, 1), places((3, 33, 1), 50)),
    "scatter_add columns": (drawn(3, 200, 4), places((3, 200, 1), 9), 9),
    "scatter_add plane": (drawn(2, 200, 1), places((2, 200, 1), 30), 30),
    "scatter_add parts": (drawn(2, 900, 1), places((1, 900, 1), 800), 800),
    "region_gather": (drawn(3, 4, 8, 9), regions(7, 3), places((7, 4, 2, 3), 72)),
    "region_scatter": (drawn(7, 4, 5, 8), regions(7, 3), places((7, 4, 5, 8), 72), 3, (8, 9)),
    "region_scatter none": (drawn(0, 2, 5, 8), regions(0, 3), places((0, 2, 5, 8), 72), 3, (8, 9)),
    "resample": resampling("resample", many=True),
    "resample shared": resampling("resample", many=False, own=True),
    "resample by position": resampling("resample", many=True, position_sensitive=True),
    "resample_adjoint": resampling("resample_adjoint", many=True),
    "resample_adjoint shared": resampling("resample_adjoint", many=False, own=True),
    "resample_adjoint by position": resampling("resample_adjoint", True, position_sensitive=True),
    "im2col": (drawn(2, 3, 9, 8), WINDOW),
    "col2im": (drawn(2, 18, 4 * 8), (9, 8), WINDOW),
    "matmul": (drawn(2, 70, 30), drawn(30, 65)),
    "conv2d": (drawn(2, 6, 9, 8), drawn(4, 3, 3, 2), drawn(4), WINDOW, 2),
    "conv_transpose2d": (drawn(2, 4, 4, 8), drawn(4, 3, 3, 2), drawn(6), (9, 8), WINDOW, 2),
    "conv2d_weight": (drawn(2, 6, 9, 8), drawn(2, 4, 4, 8), WINDOW, 2),
}


def called(case):
    results = on_device(case.partition(" ")[0], *CASES[case])
    return results if isinstance(results, tuple) else (results,)


@pytest.mark.skipif(support.REAL, reason="plays the grid on the host")
@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_the_grid_does_not_matter(case, order):
    expected = called(case)
    with support.host_order(**order):
        actual = called(case)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("case", [c for c in CASES if "conv" not in c and "mul" not in c])
def test_any_table_as_it_is_defined(case):
    name, arguments = case.partition(" ")[0], CASES[case]
    if name == "col2im":
        expected = oracles.col2im(arguments[0], *arguments[1:])
    else:
        expected = getattr(oracles, name)(*arguments)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for a, e in zip(called(case), expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=2e-5, atol=2e-5)


def test_every_device_kernel_is_played():
    files = {"convolution", "sampling"}
    mine = {
        name
        for name in dispatch.KERNELS
        if getattr(getattr(cuda, name, None), "__module__", "").rpartition(".")[2] in files
    }
    assert {case.partition(" ")[0] for case in CASES} == mine


def test_tables_go_to_the_device_once_and_leave_with_the_host():
    gc.collect()
    before = len(sampling._tables)
    x = drawn(1, 1, 4, 4)
    rows, cols = taps(1, 2, 4, 2, 1), taps(1, 2, 4, 2, 2)
    first = on_device("resample", x, None, rows, cols)
    held = dict(sampling._tables)
    np.testing.assert_array_equal(on_device("resample", x, None, rows, cols), first)
    assert len(sampling._tables) == before + 2
    assert all(sampling._tables[key] is value for key, value in held.items())
    del rows, cols
    gc.collect()
    assert len(sampling._tables) == before
