"""Winograd convolution against the definition, its setting, and what it refuses."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest
from device_support import using
from hypothesis import given, settings, strategies as st
from kernel_support import AVAILABLE, dtypes, each_backend, seeds, window

import cnncore
from cnncore import kernels
from cnncore.errors import ArgumentError
from cnncore.kernels import dispatch, native
from cnncore.kernels.array.winograd import matrices
from cnncore.kernels.epilogue import Epilogue

FORMS = {"winograd_2x2": 2, "winograd_4x4": 4}
PHASE_FORMS = {"winograd_phases_3x3": 3, "winograd_phases_4x4": 4}

# name: (N, C, O, groups, size, padding)
CASES = {
    "one result": (1, 1, 1, 1, (3, 3), 0),
    "one pixel": (1, 2, 3, 1, (1, 1), 1),
    "no images": (0, 2, 3, 1, (5, 5), 1),
    "a tile and a bit": (1, 3, 2, 1, (5, 6), 1),
    "not square": (2, 2, 3, 1, (3, 11), 1),
    "one row": (1, 2, 2, 1, (1, 9), 1),
    "groups": (2, 6, 4, 2, (6, 5), 1),
    "depthwise": (1, 3, 3, 3, (5, 5), 1),
    "padding differs on all sides": (1, 2, 3, 1, (5, 6), ((0, 2), (1, 0))),
    "padding wider than the kernel": (1, 2, 1, 1, (3, 4), ((4, 3), (0, 5))),
    "more than a vector of channels": (1, 17, 2, 1, (4, 4), 1),
    "more than a panel of outputs": (1, 2, 37, 1, (4, 4), 1),
}


def assert_near(actual, expected, length):
    """Sums of ``length`` products of numbers below 1, by transforms that make rounding errors grow.

    A bound by norms would allow thousands of units in the last place; the errors measured in
    docs/accuracy.md are some ten of the largest value.  16 units of Σ|term| must be enough.
    """
    assert actual.shape == expected.shape
    assert actual.flags.c_contiguous
    if actual.size:
        error = np.abs(actual.astype(np.float64) - expected).max()
        assert error <= 16 * np.finfo(actual.dtype).eps * length


def draw_case(case, dtype, rng, dilation):
    n, c, o, groups, size, padding = case
    win = window(3, 1, padding, dilation)
    out = oracles.output_size(size, win)
    shapes = ((n, c, *size), (o, c // groups, 3, 3), (n, o, *out), (o,), (c,))
    return [rng.uniform(-1, 1, shape).astype(dtype) for shape in shapes], win


def check(case, dtype, rng, algorithm, dilation=1):
    groups, size = case[3], case[4]
    (x, weight, gy, bias, gbias), win = draw_case(case, dtype, rng, dilation)
    args = (win, groups)
    y = kernels.conv2d(x, weight, bias, *args, algorithm)
    assert_near(y, oracles.conv2d(x, weight, bias, *args), weight[0].size)
    gx = kernels.conv_transpose2d(gy, weight, gbias, size, *args, algorithm)
    expected = oracles.conv_transpose2d(gy, weight, gbias, size, *args)
    assert_near(gx, expected, weight[:, 0].size // groups)
    gweight = kernels.conv2d_weight(x, gy, *args, algorithm)
    assert_near(gweight, oracles.conv2d_weight(x, gy, *args), max(1, gy[:, 0].size))


@pytest.mark.parametrize("algorithm", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_all_directions_are_the_definition(backend, dtype, rng, case, algorithm):
    check(CASES[case], dtype, rng, algorithm)


DILATED = {
    "one result": (2, (1, 1, 1, 1, (5, 5), 0)),
    "one pixel": (3, (1, 2, 3, 1, (1, 1), 3)),
    "no images": (2, (0, 2, 3, 1, (5, 5), 2)),
    "a tile and a bit": (2, (2, 3, 2, 1, (9, 10), 2)),
    "not square": (3, (1, 2, 3, 1, (3, 17), 3)),
    "groups": (2, (2, 6, 4, 2, (6, 5), 2)),
    "padding differs on all sides": (4, (1, 2, 3, 1, (9, 8), ((0, 5), (6, 1)))),
    "more than a vector": (4, (1, 18, 37, 1, (7, 18), 4)),
}


@pytest.mark.parametrize("algorithm", FORMS)
@pytest.mark.parametrize("case", DILATED)
def test_lattices_of_a_dilation_are_the_definition(backend, dtype, rng, case, algorithm):
    dilation, layer = DILATED[case]
    check(layer, dtype, rng, algorithm, dilation)


@st.composite
def layers(draw, dilation=1):
    groups = draw(st.integers(1, 2))
    channels, outputs = (groups * draw(st.integers(1, 5)) for _ in range(2))
    side = st.tuples(st.integers(0, 4), st.integers(0, 4))
    padding = (draw(side), draw(side))
    least = 2 * dilation + 1
    size = tuple(draw(st.integers(max(1, least - sum(p)), 10 + least)) for p in padding)
    return draw(st.integers(0, 2)), channels, outputs, groups, size, padding


@each_backend
@given(layers(), dtypes, seeds, st.sampled_from(sorted(FORMS)))
@settings(max_examples=25)
def test_any_layer(name, case, dtype, seed, algorithm):
    with using(name):
        check(case, dtype, np.random.default_rng(seed), algorithm)


@each_backend
@given(st.data(), st.integers(2, 4), dtypes, seeds, st.sampled_from(sorted(FORMS)))
@settings(max_examples=25)
def test_any_dilated_layer(name, data, dilation, dtype, seed, algorithm):
    case = data.draw(layers(dilation))
    with using(name):
        check(case, dtype, np.random.default_rng(seed), algorithm, dilation)


# Stride 2: (N, O, C, groups, (OH, OW), padding, more rows and columns than the smallest x)
PHASES = {
    "one pixel": (1, 1, 1, 1, (1, 1), 0, (0, 0)),
    "no images": (0, 2, 3, 1, (3, 3), 1, (0, 0)),
    "twice the size": (2, 3, 2, 1, (4, 5), 1, (1, 1)),
    "even padding": (1, 2, 3, 1, (5, 4), 2, (0, 0)),
    "padding differs on all sides": (1, 2, 3, 1, (5, 6), ((0, 3), (1, 2)), (0, 1)),
    "padding wider than the kernel": (1, 2, 1, 1, (7, 8), ((5, 1), (2, 6)), (1, 0)),
    "groups": (1, 4, 6, 2, (3, 4), 1, (1, 1)),
    "one row": (1, 3, 2, 1, (1, 9), 1, (0, 0)),
    "a tile and a bit": (1, 2, 2, 1, (5, 9), 1, (0, 1)),
    "more than a vector": (1, 18, 37, 1, (4, 3), 1, (0, 0)),
}


def check_phases(case, dtype, rng, kernel, algorithm):
    n, o, c, groups, out, padding, more = case
    win = window(kernel, 2, padding)
    size = win.transposed_size(out, more)
    x, gy, weight, gbias, bias = (
        rng.uniform(-1, 1, shape).astype(dtype)
        for shape in ((n, c, *size), (n, o, *out), (o, c // groups, kernel, kernel), c, o)
    )
    args = (win, groups)
    y = kernels.conv2d(x, weight, bias, *args, algorithm)
    assert_near(y, oracles.conv2d(x, weight, bias, *args), weight[0].size)
    gx = kernels.conv_transpose2d(gy, weight, gbias, size, *args, algorithm)
    expected = oracles.conv_transpose2d(gy, weight, gbias, size, *args)
    assert_near(gx, expected, 4 * o // groups + 1)
    gweight = kernels.conv2d_weight(x, gy, *args, algorithm)
    assert_near(gweight, oracles.conv2d_weight(x, gy, *args), max(1, gy[:, 0].size))


@pytest.mark.parametrize("algorithm", ["winograd", *PHASE_FORMS])
@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("case", PHASES)
def test_four_phases_are_the_definition(backend, dtype, rng, case, kernel, algorithm):
    check_phases(PHASES[case], dtype, rng, kernel, algorithm)


@each_backend
@given(
    st.integers(1, 2),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 2),
    st.tuples(st.integers(3, 10), st.integers(3, 10)),
    st.tuples(*2 * [st.tuples(st.integers(0, 3), st.integers(0, 3))]),
    st.tuples(st.integers(0, 1), st.integers(0, 1)),
    st.sampled_from([3, 4]),
    st.sampled_from(sorted(PHASE_FORMS)),
    dtypes,
    seeds,
)
@settings(max_examples=25)
def test_four_phases_of_any_layer(
    name, n, o, c, groups, out, padding, more, kernel, algorithm, dtype, seed
):
    with using(name):
        case = (n, o * groups, c * groups, groups, out, padding, more)
        check_phases(case, dtype, np.random.default_rng(seed), kernel, algorithm)


@pytest.mark.parametrize(("m", "r"), [(2, 3), (4, 3), (3, 2), (4, 2)])
def test_the_matrices_multiply_polynomials(rng, m, r):
    A, B, G = matrices(m, r)
    pixels, taps = rng.normal(size=m + r - 1), rng.normal(size=r)
    slid = [pixels[i : i + r] @ taps for i in range(m)]
    np.testing.assert_allclose(A.T @ ((G @ taps) * (B.T @ pixels)), slid, atol=1e-13)


LARGE = {  # many tiles and few; several runs of tiles a row; panels and vectors with a rest
    "many tiles": ((2, 19, 41, 43), 37),
    "few tiles": ((1, 70, 9, 10), 70),
    "wide": ((1, 5, 6, 150), 40),
    "several portions": ((1, 130, 56, 60), 150),
}


def large(name, dtype, algorithm, dilation=1):
    """Results on inputs too large for the slow oracle: all three directions."""
    (n, c, h, w), o = LARGE[name]
    rng = np.random.default_rng(3)
    win = window(3, 1, dilation, dilation)
    x, weight, gy = (
        rng.normal(size=shape).astype(dtype) for shape in ((n, c, h, w), (o, c, 3, 3), (n, o, h, w))
    )
    epilogue = Epilogue(gy, "leaky_relu", (0.25,))
    return (
        kernels.conv2d(x, weight, weight[:, 0, 0, 0].copy(), win, 1, algorithm, epilogue),
        kernels.conv_transpose2d(gy, weight, None, (h, w), win, 1, algorithm),
        kernels.conv2d_weight(x, gy, win, 1, algorithm),
    )


def large_phases(name, dtype, kernel, algorithm):
    """The same with stride 2; the result of the transpose is the larger plane."""
    (n, c, h, w), o = LARGE[name]
    rng = np.random.default_rng(3)
    win = window(kernel, 2, 1)
    size = (2 * h, 2 * w)
    x, weight, gy = (
        rng.normal(size=shape).astype(dtype)
        for shape in ((n, o, *size), (c, o, kernel, kernel), (n, c, h, w))
    )
    return (
        kernels.conv2d(
            x, weight, weight[:, 0, 0, 0].copy(), win, 1, algorithm, Epilogue(gy, "relu", ())
        ),
        kernels.conv_transpose2d(
            gy,
            weight,
            weight[0, :, 0, 0].copy(),
            size,
            win,
            1,
            algorithm,
            Epilogue(x, "leaky_relu", (0.25,)),
        ),
        kernels.conv2d_weight(x, gy, win, 1, algorithm),
    )


@pytest.mark.parametrize("algorithm", PHASE_FORMS)
@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("name", LARGE)
def test_large_phases_agree_with_the_column_matrix(dtype, name, kernel, algorithm):
    with dispatch.use_backend("array"):
        expected = large_phases(name, dtype, kernel, "im2col")
    for actual, right in zip(large_phases(name, dtype, kernel, algorithm), expected, strict=True):
        error = np.abs(actual - right).max() / np.abs(right).max()
        assert error < (1e-5 if dtype == np.float32 else 2e-14)


@pytest.mark.parametrize("algorithm", FORMS)
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("name", LARGE)
def test_large_layers_agree_with_the_column_matrix(dtype, name, dilation, algorithm):
    with dispatch.use_backend("array"):
        expected = large(name, dtype, "im2col", dilation)
    for actual, right in zip(large(name, dtype, algorithm, dilation), expected, strict=True):
        error = np.abs(actual - right).max() / np.abs(right).max()
        assert error < (2e-5 if dtype == np.float32 else 4e-14)


@pytest.mark.skipif("native" not in AVAILABLE, reason="compiled kernels only")
@pytest.mark.parametrize("algorithm", [*FORMS, *PHASE_FORMS])
@pytest.mark.parametrize("name", LARGE)
def test_the_number_of_threads_changes_no_bit(dtype, name, algorithm):
    before = native.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 5):
            native.set_num_threads(threads)
            if algorithm in FORMS:
                results = large(name, dtype, algorithm) + large(name, dtype, algorithm, 2)
            else:
                results = large_phases(name, dtype, 3, algorithm)
            runs.append([y.tobytes() for y in results])
        assert runs[0] == runs[1] == runs[2]
    finally:
        native.set_num_threads(before)


@pytest.mark.parametrize("isa", native.describe().get("available_isas", []))
def test_every_instruction_set_is_the_definition(isa):
    here = Path(__file__).parent
    code = (
        "import itertools, numpy as np, test_kernels_winograd as t\n"
        "for d in (np.float32, np.float64):\n"
        "    for form in t.FORMS:\n"
        "        for case in t.CASES.values():\n"
        "            t.check(case, d, np.random.default_rng(0), form)\n"
        "        for name in t.LARGE:\n"
        "            t.test_large_layers_agree_with_the_column_matrix(d, name, 1, form)\n"
        "            t.test_large_layers_agree_with_the_column_matrix(d, name, 2, form)\n"
        "        for dilation, case in t.DILATED.values():\n"
        "            t.check(case, d, np.random.default_rng(0), form, dilation)\n"
        "    for kernel, form in itertools.product((3, 4), t.PHASE_FORMS):\n"
        "        for case in t.PHASES.values():\n"
        "            t.check_phases(case, d, np.random.default_rng(0), kernel, form)\n"
        "        for name in t.LARGE:\n"
        "            t.test_large_phases_agree_with_the_column_matrix(d, name, kernel, form)\n"
    )
    path = os.pathsep.join([str(here), str(here.parent), str(Path(cnncore.__file__).parents[1])])
    env = {**os.environ, "CNNCORE_ISA": isa, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


PREPARED = {  # (N, C, H, W), O, kernel, stride, padding, dilation, some of which "auto" takes
    "many tiles": ((4, 64, 56, 56), 64, 3, 2, 1, 1),
    "few tiles": ((1, 128, 28, 28), 128, 3, 2, 1, 1),
    "many tiles of 4x4": ((4, 64, 56, 56), 64, 4, 2, 1, 1),
    "few tiles of 4x4": ((1, 64, 28, 28), 96, 4, 2, 1, 1),
    "lattices": ((2, 64, 32, 32), 64, 3, 1, 2, 2),
    "few lattices": ((1, 128, 16, 16), 128, 3, 1, 3, 3),
}


@pytest.mark.skipif("native" not in AVAILABLE, reason="compiled kernels only")
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", PREPARED)
def test_layers_prepared_for_many_calls(dtype, rng, name, transposed):
    shape, o, *settings_ = PREPARED[name]
    win = window(*settings_)
    other = (shape[0], o, *win.output_size(shape[2:]))
    source, target = (other, shape) if transposed else (shape, other)
    weight = rng.normal(size=(o, shape[1], *win.kernel)).astype(dtype)
    bias = rng.normal(size=target[1]).astype(dtype)
    size = shape[2:] if transposed else None
    layer = native.prepare_convolution(weight, bias, source, win, 1, size, "relu", ())
    weight64, bias64 = weight.astype(np.float64), bias.astype(np.float64)
    weight[:] = 0  # the layer has what it needs
    for _ in range(2):
        x, residual = (rng.normal(size=s).astype(dtype) for s in (source, target))
        y = np.empty(target, dtype)
        layer.run(x, residual, y)
        with dispatch.use_backend("array"):
            x64 = x.astype(np.float64)
            if transposed:
                sums = kernels.conv_transpose2d(x64, weight64, bias64, size, win, 1, "im2col")
            else:
                sums = kernels.conv2d(x64, weight64, bias64, win, 1, "im2col")
        right = np.maximum(sums + residual, 0)
        error = np.abs(y - right).max() / right.max()
        assert error < (1e-5 if dtype == np.float32 else 2e-14)


def test_the_precision_decides_what_winograd_is(backend, rng):
    x, weight = (rng.normal(size=s).astype(np.float32) for s in ((1, 64, 56, 56), (64, 64, 3, 3)))
    one, two, four = (
        lambda form=form: kernels.conv2d(x, weight, None, window(3, 1, 1), 1, form)
        for form in ("winograd", "winograd_2x2", "winograd_4x4")
    )
    assert cnncore.get_precision() == "fast"
    assert one().tobytes() == four().tobytes()
    with cnncore.set_precision("strict"):
        assert cnncore.get_precision() == "strict"
        assert one().tobytes() == two().tobytes()
        four()  # by name it is always served
    assert cnncore.get_precision() == "fast"
    if backend in ("array", "native"):  # where the two forms exist
        assert one().tobytes() != two().tobytes()


def test_a_precision_that_does_not_exist_is_refused():
    with pytest.raises(ArgumentError, match="strict"):
        cnncore.set_precision("exact")
    assert cnncore.get_precision() == "fast"


UNSERVED = {
    "kernel": ("winograd", window((3, 2)), 1),
    "kernel of the phases": ("winograd_phases_3x3", window(5, 2), 1),
    "stride of the phases": ("winograd_phases_4x4", window(3, 1), 1),
    "stride": ("winograd_4x4", window(3, 2), 1),
    "dilation": ("winograd_2x2", window(3, 1, 2, 5), 1),
    "channels of a group": ("depthwise", window(3), 2),
}


@pytest.mark.parametrize("name", UNSERVED)
def test_what_an_algorithm_does_not_serve_is_refused_in_words(backend, name):
    algorithm, win, groups = UNSERVED[name]
    x, weight = np.ones((1, 4, 8, 8)), np.ones((4, 4 // groups, *win.kernel))
    gy = np.ones((1, 4, *win.output_size((8, 8))))
    calls = (
        lambda: kernels.conv2d(x, weight, None, win, groups, algorithm),
        lambda: kernels.conv_transpose2d(gy, weight, None, (8, 8), win, groups, algorithm),
        lambda: kernels.conv2d_weight(x, gy, win, groups, algorithm),
    )
    for call in calls:
        with pytest.raises(ArgumentError, match=r"implicit_gemm.*it is for") as caught:
            call()
        assert caught.value.argument == "algorithm"


def test_a_nan_stays_in_its_tiles(backend):
    """It may spread over the tiles that read it, unlike with a plain sum, and no further."""
    x, weight = np.ones((1, 1, 20, 20), np.float32), np.ones((1, 1, 3, 3), np.float32)
    x[0, 0, 9, 9] = np.nan
    for algorithm, m in FORMS.items():
        lost = np.isnan(kernels.conv2d(x, weight, None, window(3, 1, 1), 1, algorithm)[0, 0])
        reading = [t for t in range(-(-20 // m)) if t * m - 1 <= 9 <= t * m + m]
        inside = np.zeros((20, 20), bool)
        for r, c in itertools.product(reading, reading):
            inside[r * m : (r + 1) * m, c * m : (c + 1) * m] = True
        assert lost[8:11, 8:11].all()
        assert not lost[~inside].any()
