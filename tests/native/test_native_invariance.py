"""No native result depends on the threads, nor, beyond rounding, on the instruction set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnncore.geometry import Window2d
from cnncore.kernels import native
from cnncore.taps import Bins, Taps

pytestmark = pytest.mark.skipif(not native.AVAILABLE, reason=native.REASON)


def everything(dtype):
    """Results of every kernel here on inputs large enough for several chunks."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 16, 48, 50)).astype(dtype)
    rows2 = x.reshape(8, -1)
    flat = x.reshape(-1)
    image = rng.integers(0, 4, 60)

    def taps(groups, length, size):
        shape = (groups, length, 4)
        index, weight = rng.integers(0, size, shape), rng.normal(size=shape)
        return Taps(size, index, weight, rng.integers(0, 5, shape[:2]))

    rows, cols = taps(60, 7, 48), taps(60, 7, 50)
    results = {}

    def put(name, *arrays):
        for i, array in enumerate(arrays):
            results[f"{name}{i}"] = array

    put("pool", *native.max_pool2d(x, Window2d((3, 3), (2, 2), ((1, 1), (1, 1))), (24, 25)))
    bins = Bins(48, np.array([[0, 10]]), np.array([[20, 48]]))
    wide = Bins(50, np.array([[0, 10, 20]]), np.array([[20, 48, 50]]))
    put("bins", *native.bin_max(x, image, bins, wide))
    index = rng.integers(-1, 16, (1, 40, 1))
    put("gather", native.gather(x.reshape(4, 16, -1), index))
    put("scatter", native.scatter_add(x.reshape(2, 40, -1), rng.integers(-1, 9, (2, 40, 1)), 9))
    y = native.resample(x, image, rows, cols)
    put("resample", y, native.resample_adjoint(y, image, rows, cols, 4))
    put("moments", *native.row_moments(rows2), *native.row_moments(flat[None]))
    put("products", *native.row_products(rows2[::-1], rows2, rows2[:, 0]))
    a, b, c = (np.ascontiguousarray(rows2[:, k]) for k in range(3))
    put("linear", native.row_linear(rows2, a, b), native.row_linear2(rows2, rows2, a, b, c))
    for kind in ("relu", "gelu", "silu", "tanh", "mish"):
        put(kind, *(native.pointwise(x, kind, (), order, x) for order in range(3)))
    put("ufunc", *(native.ufunc(name, x, x[::-1]) for name in ("add", "divide", "maximum")))
    put("sum", *(native.reduce_sum(x, axes) for axes in ((0, 2, 3), (1,), (0,), (0, 1, 2, 3))))
    put("max", *native.reduce_max(x, 1), *native.reduce_max(rows2, 1))
    put("softmax", *(native.softmax(x.reshape(4, 16, -1), log) for log in (False, True)))
    put("softmax_rows", native.softmax(x.reshape(-1, 50, 1)))
    corners = 10 * rng.random((9000, 2))
    boxes = np.concatenate([corners, corners + rng.random((9000, 2))], axis=1).astype(dtype)
    put("iou", native.box_iou(boxes[:300], boxes))
    put("nms", native.nms(boxes, flat[:9000], 0.1))
    state = [flat.copy(), flat[::-1].copy(), flat**2, flat.copy(), flat.copy()]
    native.adam_update(state[0], flat, state[1], state[2], 2, 0.1, weight_decay=0.1)
    native.sgd_update(state[3], flat, state[4], 0.1, 0.9)
    put("optim", *state)
    return results


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_are_the_same_bits_for_any_number_of_threads(dtype):
    before = native.get_num_threads()
    try:
        native.set_num_threads(1)
        one = everything(dtype)
        for threads in (2, 3):
            native.set_num_threads(threads)
            many = everything(dtype)
            for name, array in one.items():
                assert array.tobytes() == many[name].tobytes(), (name, threads)
    finally:
        native.set_num_threads(before)


def test_instruction_sets_agree(tmp_path: Path):
    here, root = Path(__file__).parent, Path(native.__file__).parents[2]
    code = (
        "import sys, numpy as np, test_native_invariance as t\n"
        "np.savez(sys.argv[1], **{f'{d}_{k}': v for d in ('float32', 'float64')"
        " for k, v in t.everything(np.dtype(d)).items()})"
    )
    runs = {}
    for isa in native.describe()["available_isas"]:
        path = tmp_path / f"{isa}.npz"
        env = {
            **os.environ,
            "CNNCORE_ISA": isa,
            "PYTHONPATH": os.pathsep.join([str(here), str(root)]),
        }
        subprocess.run([sys.executable, "-c", code, str(path)], env=env, check=True)
        with np.load(path) as arrays:
            runs[isa] = dict(arrays)
    first = runs.pop("baseline")
    for isa, run in runs.items():
        for name, array in run.items():
            if array.dtype == np.int64:
                np.testing.assert_array_equal(array, first[name], err_msg=f"{name} {isa}")
            else:  # fused multiply-adds round once where others round twice
                close = 1e-4 if array.dtype == np.float32 else 1e-12
                np.testing.assert_allclose(
                    array, first[name], rtol=close, atol=close, err_msg=f"{name} {isa}"
                )
