"""Device kernels where a GPU would spread out: several pieces, strips, blocks, any order.

What each kernel computes is tested in ``tests/kernels`` (backend "cuda on the host").  Here the
same numbers must come out however the grid is played: backwards (which betrays a step that reads
what its neighbours write), with one block that strides over everything, with 64-bit indices.
"""

from __future__ import annotations

import math

import device_support as support
import numpy as np
import oracles
import pytest
from device_support import brought_in, taken_out

from cnncore import kernels
from cnncore.kernels import cuda, dispatch

pytestmark = [support.needs_device_code]
ORDERS = [{"reverse": True}, {"max_blocks": 1}, {"max_blocks": 3, "reverse": True}, {"wide": True}]
DTYPES = [np.float32, np.float64]


def drawn(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def on_device(name, *args, **kwargs):
    with support.hosted():
        assert dispatch.resolve(name, device=True)[0] == "cuda"
        call = getattr(kernels, name)
        return taken_out(call(*map(brought_in, args), **kwargs))


def updated(name, *args, **kwargs):
    """An update in place, as a function: the new parameter and what is remembered."""
    states = [args[0].copy(), args[1], *(a.copy() for a in args[2:])]
    on_device(name, *states, **kwargs)
    return (states[0], *states[2:])


def boxes(count, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 30, (count, 2))], 1).astype(dtype)


CASES = {
    "pointwise": lambda: on_device("pointwise", drawn(5, 613), "mish", (), 2, drawn(5, 613)),
    "row_moments short": lambda: on_device("row_moments", drawn(37, 49)),
    "row_moments long": lambda: on_device("row_moments", drawn(3, 20000)),
    "row_products": lambda: on_device("row_products", drawn(9, 77), drawn(9, 77), drawn(9)),
    "row_products long": lambda: on_device(
        "row_products", drawn(2, 9000), drawn(2, 9000), drawn(2)
    ),
    "row_linear": lambda: on_device("row_linear", drawn(7, 12), drawn(7), drawn(7)),
    "row_linear2": lambda: on_device(
        "row_linear2", drawn(7, 13), drawn(7, 13), *(drawn(7) for _ in range(3))
    ),
    "normalize": lambda: on_device("normalize", drawn(3, 5, 1, 60), drawn(5), drawn(5), 0, 1e-3),
    "normalize groups": lambda: on_device("normalize", drawn(3, 5, 2, 60), None, None, 2, 1e-3),
    "normalize_backward": lambda: on_device(
        "normalize_backward",
        drawn(3, 5, 1, 60),
        drawn(3, 5, 1, 60),
        drawn(5),
        np.zeros((1, 5, 1)),
        np.ones((1, 5, 1)),
        0,
    ),
    "reduce_sum rows": lambda: on_device("reduce_sum", drawn(40, 3, 100), (1, 2)),
    "reduce_sum columns": lambda: on_device("reduce_sum", drawn(2, 1300, 5), (1,)),
    "reduce_max rows": lambda: on_device("reduce_max", drawn(40, 300), 1),
    "reduce_max columns": lambda: on_device("reduce_max", drawn(40, 300), 0),
    "softmax rows": lambda: on_device("softmax", drawn(40, 300, 1)),
    "softmax columns": lambda: on_device("softmax", drawn(4, 30, 50), log=True),
    "softmax_backward rows": lambda: on_device(
        "softmax_backward", drawn(40, 300, 1), drawn(40, 300, 1)
    ),
    "softmax_backward columns": lambda: on_device(
        "softmax_backward", drawn(4, 30, 50), drawn(4, 30, 50), log=True
    ),
    "box_iou": lambda: on_device("box_iou", boxes(40), boxes(33, 1)),
    "nms": lambda: on_device("nms", boxes(700), drawn(700), 0.3),
    "put_add": lambda: on_device(
        "put_add", drawn(900), np.random.default_rng(2).integers(0, 50, 900), (50,)
    ),
    "sgd_update": lambda: updated(
        "sgd_update", drawn(999), drawn(999), drawn(999), lr=0.1, momentum=0.9
    ),
    "adam_update": lambda: updated(
        "adam_update", drawn(999), drawn(999), drawn(999), drawn(999) ** 2, step=2, lr=0.1
    ),
}


@pytest.mark.skipif(support.REAL, reason="plays the grid on the host")
@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_the_grid_does_not_matter(case, order):
    expected = CASES[case]()
    with support.host_order(**order):
        actual = CASES[case]()
    expected, actual = (v if isinstance(v, tuple) else (v,) for v in (expected, actual))
    for a, e in zip(actual, expected, strict=True):
        assert not np.isnan(e).any()  # room that no thread wrote would hold NaN
        np.testing.assert_array_equal(a, e)


def test_every_device_kernel_is_played():
    """Kernels of these files; the convolutions and samplings play grids in files of their own."""
    files = {"boxes", "indexing", "optim", "pointwise", "reduce", "rows"}
    mine = {
        name
        for name in dispatch.KERNELS
        if getattr(getattr(cuda, name, None), "__module__", "").rpartition(".")[2] in files
    }
    assert {case.partition(" ")[0] for case in CASES} == mine


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [8192, 8193, 25000])
def test_rows_in_pieces(length, dtype):
    x = (drawn(3, length, dtype=dtype) + 100).astype(dtype)
    x[0, 0] = 1e6  # an outlier must not serve as the point around which squares are taken
    mean, squares = on_device("row_moments", x)
    exact = [math.fsum(map(float, row)) / length for row in x]
    want = [math.fsum((float(v) - m) ** 2 for v in row) for row, m in zip(x, exact, strict=True)]
    close = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(mean, exact, rtol=close)
    np.testing.assert_allclose(squares, want, rtol=close)
    gy = drawn(3, length, dtype=dtype, seed=1)
    sums, products = on_device("row_products", gy, x, mean)
    expected = oracles.row_products(gy, x, mean)
    scale = np.abs(oracles.row_products(abs(gy), abs(x), -abs(mean))[1])
    np.testing.assert_allclose(sums, expected[0], atol=close * length)
    assert (np.abs(products - expected[1]) <= close * scale).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "axes"), [((1, 300001), (1,)), ((270000, 3), (0,)), ((2, 600, 3, 2), (1, 3))]
)
def test_sums_in_pieces(shape, axes, dtype):
    x = drawn(*shape, dtype=dtype)
    want = x.astype(np.float64).sum(axis=axes)
    close = 1e-6 if dtype == np.float32 else 1e-14
    bound = close * np.abs(x.astype(np.float64)).sum(axis=axes)
    assert (np.abs(on_device("reduce_sum", x, axes) - want) <= bound).all()


def test_infinities_and_nan_in_rows():
    x = np.array([[1.0, np.inf, 2.0], [1.0, 2.0, 3.0], [np.nan, 0.0, 0.0]], np.float32)
    mean, squares = on_device("row_moments", x)
    assert mean.tolist()[:2] == [np.inf, 2.0]
    assert squares[1] == 2.0
    assert np.isnan([squares[0], mean[2], squares[2]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_nms_of_several_strips(dtype):
    """More boxes than one table of overlaps holds."""
    count = 8192 + 2 * 64 + 5
    rng = np.random.default_rng(3)
    some, scores = boxes(count, dtype=dtype), rng.random(count).astype(dtype)
    some[:, :2] *= 10
    some[:, 2:] = some[:, :2] + boxes(count, 1, dtype)[:, :2] / 4 + 1
    kept = on_device("nms", some, scores, 0.4)
    with dispatch.use_backend("array"):
        expected = kernels.nms(some, scores, 0.4)
    assert 100 < len(expected) < count
    np.testing.assert_array_equal(kept, expected)
