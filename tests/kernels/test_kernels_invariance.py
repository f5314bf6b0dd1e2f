"""Backends, instruction sets and numbers of threads agree on every kernel of the contract.

Inputs of linear kernels are small whole numbers: every sum is exact in float32, whatever its order,
so agreement means the same bits.  What rounds is compared within a stated bound; and whatever the
inputs, the number of threads may not change a single bit.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kernel_support import random_bins, window
from test_kernels_pointwise import KINDS, allowed

from cnncore import kernels as k
from cnncore.geometry import Window2d
from cnncore.kernels import dispatch, native
from cnncore.kernels.epilogue import Epilogue, Gate
from cnncore.taps import Taps

needs_native = pytest.mark.skipif(not native.AVAILABLE, reason=native.REASON)

# images, channels, size: several chunks for the threads, several vectors a row and a rest
SHAPE = (3, 16, 45, 50)
WINDOWS = {
    "3x3": window(3, 1, 1),
    "1x1": window(1),
    "strided": window((3, 5), 2, (1, 2)),
    "dilated": Window2d((2, 3), (1, 3), ((0, 2), (1, 0)), (2, 3)),
}


def numbers(rng, whole, dtype, shape):
    """Whole numbers in -3 .. 3, or any."""
    values = rng.integers(-3, 4, shape) if whole else rng.normal(size=shape)
    return values.astype(dtype)


def taps(rng, whole, groups, length, size):
    shape = (groups, length, 3)
    weight = numbers(rng, whole, np.float64, shape)
    return Taps(size, rng.integers(0, size, shape), weight, rng.integers(0, 4, shape[:2]))


def linear(dtype, whole):
    """{name: result} of every kernel that only adds and multiplies, or compares."""
    rng = np.random.default_rng(7)
    results = {}

    def put(name, *arrays):
        results.update({f"{name} {i}": array for i, array in enumerate(arrays)})

    def draw(*shape):
        return numbers(rng, whole, dtype, shape)

    x = draw(*SHAPE)
    size = SHAPE[2:]
    for name, win in WINDOWS.items():
        put(f"columns {name}", c := k.im2col(x, win), k.col2im(draw(*c.shape), size, win))
        for groups in (1, 4, 16):
            weight = draw(32, 16 // groups, *win.kernel)
            for algorithm in ("im2col", "implicit_gemm"):
                y = k.conv2d(x, weight, draw(32), win, groups, algorithm)
                gy = draw(*y.shape)
                back = k.conv_transpose2d(gy, weight, draw(16), size, win, groups, algorithm)
                gweight = k.conv2d_weight(x, gy, win, groups, algorithm)
                put(f"conv {name} {groups} {algorithm}", y, back, gweight)
        bare = Window2d(win.kernel, win.stride, dilation=win.dilation)
        put(f"pool {name}", *k.max_pool2d(x, bare, bare.output_size(size)))
    put("matmul", k.matmul(draw(130, 270), draw(270, 97)), k.matmul(draw(3, 5, 7), draw(7, 4)))
    regions = 60
    image = rng.integers(0, SHAPE[0], regions)
    rows, cols = random_bins(rng, regions, 3, 45), random_bins(rng, 1, 4, 50)
    put("bins", *(found := k.bin_max(x, image, rows, cols)))
    put("region gather", k.region_gather(x, image, found[1]))
    put("region scatter", k.region_scatter(found[0], image, found[1], SHAPE[0], size))
    index = rng.integers(-1, 16, (1, 40, 1))
    put("gather", k.gather(x.reshape(3, 16, -1), index))
    put("scatter", k.scatter_add(draw(3, 40, 900), rng.integers(-1, 9, (3, 40, 1)), 9))
    put("scatter all", k.scatter_add(draw(3, 40, 90), rng.integers(-1, 9, (3, 40, 90)), 9))
    for name, groups, where in (("regions", regions, image), ("shared", 1, None)):
        rows, cols = taps(rng, whole, groups, 4, 45), taps(rng, whole, groups, 4, 50)
        for sensitive in (False, True):
            y = k.resample(x, where, rows, cols, sensitive)
            back = k.resample_adjoint(draw(*y.shape), where, rows, cols, SHAPE[0], sensitive)
            put(f"resample {name} {sensitive}", y, back)
    wide = draw(24, 3000)
    a, b, c = draw(24), draw(24), draw(24)
    put("products", *k.row_products(draw(24, 3000), wide, a))
    for joined, shape in ((0, (6, 4, 1, 4000)), (0, (3, 40, 2, 50)), (2, (6, 4, 10, 50))):
        values, members = draw(*shape), shape[1] * shape[2]
        groups = (1, *shape[1:3]) if joined == 0 else (*shape[:2], 1)
        statistics = draw(*groups).astype(np.float64), draw(*groups).astype(np.float64)
        found = k.normalize_backward(draw(*shape), values, draw(members), *statistics, joined, True)
        put(f"normalize_backward {joined} {shape}", *found)
        gate = Gate(draw(*shape), "relu")
        settings = (*statistics, joined, True, gate)
        found = k.normalize_backward(draw(*shape), values, draw(members), *settings)
        put(f"normalize_backward gated {joined} {shape}", *found)
    put("linear", k.row_linear(wide, a, b), k.row_linear2(wide, draw(24, 3000), a, b, c))
    for axes in ((0, 2, 3), (1,), (0,), (3,), (0, 1, 2, 3), ()):
        put(f"sum {axes}", k.reduce_sum(x, axes))
    for axis in range(4):
        put(f"max {axis}", *k.reduce_max(x, axis))
    for name in ("add", "subtract", "multiply", "maximum"):
        put(name, k.ufunc(name, x, draw(*SHAPE)), k.ufunc(name, x, draw(50)))
    put("take", k.take(x, (slice(None), [1, 1, 0])), k.put_add(draw(4), [0, 1, 1, 0], (3,)))
    corner = rng.integers(0, 40, (900, 2))
    boxes = np.concatenate((corner, corner + rng.integers(0, 16, (900, 2))), axis=1).astype(dtype)
    put("iou", k.box_iou(boxes[:50], boxes))
    put("nms", k.nms(boxes, rng.integers(0, 99, 900).astype(dtype), 0.25))
    return results


def rounded(dtype):
    """{name: (result, bound)} of the kernels whose results round, however exact their inputs."""
    rng = np.random.default_rng(8)
    x = rng.uniform(-6, 6, (3, 21, 700)).astype(dtype)
    eps = np.finfo(dtype).eps
    results = {}
    for kind, params in KINDS.items():
        for order in range(3):
            results[f"{kind} {order}"] = k.pointwise(x, kind, params, order), allowed(x, dtype)
    for name, values in (("middle", x), ("last", x.reshape(-1, 21, 1))):
        for log in (False, True):
            # exp multiplies the rounding of its argument, |x - max| <= 12, and 21 terms are added
            results[f"softmax {name} {log}"] = k.softmax(values, log), 2 * (12 + 21 + 4) * eps
            y = results[f"softmax {name} {log}"][0]
            gradient = k.softmax_backward(values / 8, y, log)
            # sums over the classes of products that add up to a few times the largest of them
            bound = 40 * eps * (1 + abs(values).sum(1).max() / 8)
            results[f"softmax_backward {name} {log}"] = gradient, bound
    rows = rng.uniform(-1, 1, (24, 5000)).astype(dtype)
    mean, squares = k.row_moments(rows)
    # (length) eps Σ|term|, as in ``assert_close``; Welford's updates stay below it as well
    results["mean"], results["squares"] = (mean, 5000 * eps), (squares, 5000 * eps * squares)
    for name, joined, shape in (("few", 0, (6, 4, 1, 5000)), ("many", 2, (4, 8, 3, 500))):
        values = rng.uniform(-1, 1, shape).astype(dtype)
        ended = k.normalize(values, None, None, joined, 1e-3, Epilogue(values, "relu"))
        results[f"normalize ended {name}"] = ended[0], 64 * eps
        y, group_mean, variance = k.normalize(values, None, None, joined, 1e-3)
        results[f"normalize {name}"] = y, 64 * eps
        results[f"normalize {name} variance"] = variance, 64 * eps
        rstd = 1 / np.sqrt(variance + 1e-3)
        gx, gweight, _ = k.normalize_backward(values, values, None, group_mean, rstd, joined)
        results[f"normalize_backward {name}"] = gx, 64 * eps
        results[f"normalize_backward {name} weight"] = gweight, values.size * eps
    param, m, velocity = (rng.uniform(-1, 1, 90_000).astype(dtype) for _ in range(3))
    grad, v = (rng.uniform(0.1, 1, 90_000).astype(dtype) for _ in range(2))
    k.sgd_update(param, grad, velocity, 0.1, 0.9, weight_decay=0.1, nesterov=True)
    results["sgd"] = param.copy(), 12 * 4 * eps
    k.adam_update(param, grad, m, v, 2, 0.1, weight_decay=0.1)
    for name, array in (("velocity", velocity), ("adam", param), ("m", m), ("v", v)):
        results[name] = array, 2 * 12 * 4 * eps
    return results


def assert_agree(one, other):
    """Two runs of ``linear`` (exact) or of ``rounded`` (within the bound of both)."""
    for name, value in one.items():
        if isinstance(value, tuple):
            error = np.abs(value[0].astype(float) - other[name][0])
            assert np.all(error <= 2 * value[1]), (name, error.max())
        else:
            # 0 and -0 are the same number
            np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_every_kernel_takes_part():
    names = {*linear.__code__.co_names, *rounded.__code__.co_names}
    assert set(dispatch.KERNELS) <= names


@needs_native
def test_backends_agree(dtype):
    runs = []
    for backend in ("array", "native"):
        with dispatch.use_backend(backend):
            runs.append((linear(dtype, True), rounded(dtype)))
    for one, other in zip(*runs, strict=True):
        assert_agree(one, other)


@needs_native
def test_the_number_of_threads_changes_no_bit(dtype):
    before = native.get_num_threads()
    runs = []
    try:
        with dispatch.use_backend("native"):
            for threads in (1, 2, 3):
                native.set_num_threads(threads)
                results = {**linear(dtype, False), **rounded(dtype)}
                results = {n: v[0] if isinstance(v, tuple) else v for n, v in results.items()}
                runs.append({name: array.tobytes() for name, array in results.items()})
    finally:
        native.set_num_threads(before)
    for run in runs[1:]:
        assert [name for name in run if run[name] != runs[0][name]] == []


def save(path):
    """What one instruction set gives; runs in a process of its own."""
    flat = {}
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        flat.update({f"{dtype}/exact/{n}": v for n, v in linear(dtype, True).items()})
        for name, (value, bound) in rounded(dtype).items():
            flat[f"{dtype}/value/{name}"], flat[f"{dtype}/bound/{name}"] = value, bound
    np.savez(path, **flat)


@needs_native
def test_instruction_sets_agree(tmp_path):
    here, root = Path(__file__).parent, Path(native.__file__).parents[2]
    runs = []
    for isa in native.describe()["available_isas"]:
        path = tmp_path / f"{isa}.npz"
        search = os.pathsep.join(map(str, (here, here.parent, root)))
        env = {**os.environ, "CNNCORE_ISA": isa, "CNNCORE_BACKEND": "native", "PYTHONPATH": search}
        code = (
            "import sys, test_kernels_invariance as t\n"
            "assert t.native.describe()['isa'] == sys.argv[2]\n"
            "t.save(sys.argv[1])"
        )
        subprocess.run([sys.executable, "-c", code, str(path), isa], env=env, check=True)
        with np.load(path) as arrays:
            runs.append(dict(arrays))
    for run in runs[1:]:
        for name, value in run.items():
            kind = name.split("/")[1]
            if kind == "exact":
                np.testing.assert_array_equal(value, runs[0][name], err_msg=name)
            elif kind == "value":
                error = np.abs(value.astype(float) - runs[0][name])
                assert np.all(error <= 2 * run[name.replace("value", "bound")]), name
