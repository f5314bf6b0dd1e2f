"""The compiled convolution family against its definition, written as loops over taps in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from cnncore.errors import ArgumentError
from cnncore.geometry import Window2d
from cnncore.kernels import native
from cnncore.kernels.epilogue import Epilogue

pytestmark = pytest.mark.skipif(not native.AVAILABLE, reason=native.REASON)

ALGORITHMS = ("auto", "im2col", "implicit_gemm", "direct")
TOLERANCE = {np.float32: 3e-5, np.float64: 1e-12}


@dataclass
class Case:
    """One random layer; images may be none, planes may have rows that no window reaches."""

    images: int
    groups: int
    channels: int  # of one group
    outputs: int  # of one group
    size: tuple[int, int]
    window: Window2d

    @property
    def out_size(self) -> tuple[int, int]:
        return self.window.output_size(self.size)


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 1, 1, 2, 6]))
    window = Window2d(
        (int(rng.integers(1, 5)), int(rng.integers(1, 5))),
        (int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        (
            (int(rng.integers(0, 4)), int(rng.integers(0, 4))),
            (int(rng.integers(0, 4)), int(rng.integers(0, 4))),
        ),
        (int(rng.integers(1, 3)), int(rng.integers(1, 3))),
    )
    smallest = window.extent
    return Case(
        int(rng.integers(0, 5)),
        groups,
        int(rng.choice([1, 2, 3, 17])),
        int(rng.choice([1, 2, 5, 33, 70])),
        (smallest[0] + int(rng.integers(0, 14)), smallest[1] + int(rng.integers(0, 14))),
        window,
    )


def taps(case: Case) -> list[tuple[int, int, tuple[slice, slice]]]:
    """Each tap of the kernel with the slice of the padded plane that it sees."""
    (oh, ow), w = case.out_size, case.window
    found = []
    for u in range(w.kernel[0]):
        for v in range(w.kernel[1]):
            top, left = u * w.dilation[0], v * w.dilation[1]
            rows = slice(top, top + (oh - 1) * w.stride[0] + 1, w.stride[0])
            found.append(
                (u, v, (rows, slice(left, left + (ow - 1) * w.stride[1] + 1, w.stride[1])))
            )
    return found


def padded(case: Case, x: np.ndarray) -> np.ndarray:
    p = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *case.window.padding))
    return p.reshape(case.images, case.groups, case.channels, *p.shape[2:])


def grouped(case: Case, y: np.ndarray) -> np.ndarray:
    return y.astype(np.float64).reshape(case.images, case.groups, case.outputs, *case.out_size)


def grouped_weight(case: Case, weight: np.ndarray) -> np.ndarray:
    return weight.astype(np.float64).reshape(
        case.groups, case.outputs, case.channels, *case.window.kernel
    )


def forward_by_definition(case: Case, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    planes, w = padded(case, x), grouped_weight(case, weight)
    y = np.zeros((case.images, case.groups, case.outputs, *case.out_size))
    for u, v, (rows, cols) in taps(case):
        y += np.einsum("ngchw,goc->ngohw", planes[..., rows, cols], w[..., u, v])
    return y.reshape(case.images, case.groups * case.outputs, *case.out_size)


def transpose_by_definition(case: Case, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    (h, w), (top, left) = case.size, (case.window.padding[0][0], case.window.padding[1][0])
    x = padded(case, np.zeros((case.images, case.groups * case.channels, h, w)))
    planes, filters = grouped(case, y), grouped_weight(case, weight)
    for u, v, (rows, cols) in taps(case):
        x[..., rows, cols] += np.einsum("ngohw,goc->ngchw", planes, filters[..., u, v])
    return x[..., top : top + h, left : left + w].reshape(
        case.images, case.groups * case.channels, h, w
    )


def weight_by_definition(case: Case, x: np.ndarray, gy: np.ndarray) -> np.ndarray:
    planes, gradients = padded(case, x), grouped(case, gy)
    gw = np.zeros((case.groups, case.outputs, case.channels, *case.window.kernel))
    for u, v, (rows, cols) in taps(case):
        gw[..., u, v] = np.einsum("ngchw,ngohw->goc", planes[..., rows, cols], gradients)
    return gw.reshape(-1, case.channels, *case.window.kernel)


def arrays(case: Case, dtype: type, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((case.images, case.groups * case.channels, *case.size))
    weight = rng.standard_normal((case.groups * case.outputs, case.channels, *case.window.kernel))
    gy = rng.standard_normal((case.images, case.groups * case.outputs, *case.out_size))
    return x.astype(dtype), weight.astype(dtype), gy.astype(dtype)


def assert_close(got: np.ndarray, want: np.ndarray, dtype: type) -> None:
    assert got.dtype == dtype
    assert got.flags.c_contiguous
    scale = 1 + np.abs(want).max(initial=0)
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("seed", range(25))
def test_family_follows_the_definition(seed: int, algorithm: str, dtype: type) -> None:
    check_family(random_case(seed), algorithm, dtype, seed)


def depthwise_case(seed: int) -> Case:
    """The windows that have loops of their own and some that have not, on planes whose rows end
    before, on and after the end of a vector; more rows than one strip; uneven paddings."""
    rng = np.random.default_rng(seed)
    kernel, stride = [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1), (7, 2), (4, 3)][seed % 7]
    pads = [(int(a), int(b)) for a, b in rng.integers(0, kernel + 1, (2, 2))]
    window = Window2d((kernel, kernel), (stride, stride), (pads[0], pads[1]))
    size = int(rng.choice([5, 7, 33, 70])), int(rng.choice([1, 7, 8, 15, 16, 17, 31, 64, 75]))
    size = max(size[0], kernel - sum(pads[0])), max(size[1], kernel - sum(pads[1]))
    channels, outputs = [(1, 1), (1, 2), (2, 1)][seed % 3]
    return Case(int(rng.integers(1, 4)), int(rng.choice([2, 5])), channels, outputs, size, window)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(56))
def test_depthwise_follows_the_definition(seed: int, dtype: type) -> None:
    check_family(depthwise_case(seed), "auto", dtype, seed)


def test_strides_as_wide_as_a_vector_follow_the_definition() -> None:
    """Kernels below, at and above the stride, results cut on every side, several images."""
    rng = np.random.default_rng(0)
    for kernel, stride in (((64, 64), (32, 32)), ((40, 17), (20, 17)), ((5, 33), (3, 16))):
        pads = ((2, 5), (7, 0))
        window = Window2d(kernel, stride, pads)
        size = tuple(
            2 * s + k - sum(p) + int(rng.integers(0, s))
            for k, s, p in zip(kernel, stride, pads, strict=True)
        )
        case = Case(2, 2, 3, 2, (size[0], size[1]), window)
        for algorithm in ("auto", "direct"):
            for dtype in (np.float32, np.float64):
                check_family(case, algorithm, dtype, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("width", [1, 5, 14, 16, 28, 32, 64, 70])
def test_kernels_as_large_as_the_stride_follow_the_definition(
    width: int, rows: int, dtype: type
) -> None:
    """Tiles of pixels inside a row, at its end and across several; uneven blocks of rows; groups;
    a bias, a residual and an activation at the end."""
    window = Window2d((rows, 2), (rows, 2))
    check_transposes(Case(2, 2, 9, 3, (rows * (70 // width + 2), 2 * width), window), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stride", [(2, 2), (1, 2), (2, 1), (3, 2), (2, 3), (5, 17)], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (7, 8), (14, 15), (32, 70)], ids=str)
def test_strides_of_one_pixel_follow_the_definition(
    size: tuple[int, int], stride: tuple[int, int], dtype: type
) -> None:
    """Results between rows and columns of the bias alone."""
    check_transposes(Case(2, 2, 9, 35, size, Window2d((1, 1), stride)), dtype)


def check_transposes(case: Case, dtype: type) -> None:
    """ "direct" in all directions, then with a bias, a residual and an activation at the end."""
    check_family(case, "direct", dtype, 0)
    x, weight, gy = arrays(case, dtype, 1)
    bias = np.arange(x.shape[1]).astype(dtype)
    want = transpose_by_definition(case, gy, weight) + bias[:, None, None] + x
    got = native.conv_transpose2d(
        gy, weight, bias, case.size, case.window, case.groups, "direct", Epilogue(x, "relu")
    )
    assert_close(got, np.maximum(want, 0), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(9, 11), (7, 7), (4, 7), (14, 14), (3, 5), (2, 1), (28, 30)])
def test_nothing_outside_a_plane_touches_a_depthwise_result(
    size: tuple[int, int], dtype: type
) -> None:
    """Lanes beyond a row are masked: what lies there (here infinities) may not come in by 0 · ∞."""
    for kernel, stride in ((3, 1), (3, 2), (5, 1), (5, 2), (7, 1)):
        window = Window2d((kernel, kernel), (stride, stride), ((kernel // 2,) * 2,) * 2)
        x = np.full((1, 3, *size), np.inf, dtype)
        x[:, 1] = 1
        gy = np.full((1, 3, *window.output_size(size)), np.inf, dtype)
        gy[:, 1] = 1
        weight = np.ones((3, 1, kernel, kernel), dtype)
        assert np.isfinite(native.conv2d(x, weight, None, window, 3)[:, 1]).all()
        assert np.isfinite(native.conv_transpose2d(gy, weight, None, size, window, 3)[:, 1]).all()
        assert np.isfinite(native.conv2d_weight(x, gy, window, 3)[1]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(7, 7), (5, 3), (13, 14), (6, 20), (9, 40)])
def test_a_tap_that_never_sees_infinity_has_a_finite_gradient(
    size: tuple[int, int], dtype: type
) -> None:
    """Lanes and rows without a gy are not there: they may not come in by 0 · ∞ either."""
    window = Window2d((3, 3), (1, 1), ((1, 1), (1, 1)))
    for last in (np.s_[..., -1, :], np.s_[..., -1]):
        x, gy = np.ones((2, 3, *size), dtype), np.ones((2, 3, *size), dtype)
        x[last] = np.inf
        gweight = native.conv2d_weight(x, gy, window, 3)
        rows, columns = (0, slice(None)) if last[-1] == slice(None) else (slice(None), 0)
        assert np.isfinite(gweight[:, 0, rows, columns]).all()
        assert np.isinf(gweight[:, 0, 2, 2]).all()


def narrow_case(seed: int) -> Case:
    """Planes with rows of at most a vector or two, more planes than a task; heights about the
    tallest that have loops of their own (64)."""
    rng = np.random.default_rng(seed)
    kernel, stride = [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)][seed % 5]
    pads = [(int(a), int(b)) for a, b in rng.integers(0, kernel + 1, (2, 2))]
    if rng.integers(2):
        pads = [(kernel // 2, kernel // 2)] * 2
    window = Window2d((kernel, kernel), (stride, stride), (pads[0], pads[1]))
    size = int(rng.choice([1, 2, 7, 13, 14, 63, 64, 65])), int(rng.integers(1, 34))
    size = max(size[0], kernel - sum(pads[0])), max(size[1], kernel - sum(pads[1]))
    return Case(int(rng.integers(1, 4)), int(rng.choice([1, 3, 40])), 1, 1, size, window)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(80))
def test_depthwise_of_narrow_planes_follows_the_definition(seed: int, dtype: type) -> None:
    check_family(narrow_case(seed), "depthwise", dtype, seed)


@pytest.mark.parametrize("size", [(7, 7), (14, 14), (70, 70), (200, 30)])
def test_depthwise_epilogue_meets_every_plane(size: tuple[int, int]) -> None:
    """Planes done in one go and planes in bands, each with its bias, residual and activation."""
    for channels in (1, 130):
        case = Case(2, channels, 1, 1, size, Window2d((3, 3), (1, 1), ((1, 1), (1, 1))))
        x, weight, _ = arrays(case, np.float32, 0)
        bias = np.random.default_rng(1).standard_normal(channels).astype(np.float32)
        residual = np.random.default_rng(2).standard_normal(x.shape).astype(np.float32)
        expected = forward_by_definition(case, x, weight) + bias[:, None, None] + residual
        got = native.conv2d(
            x, weight, bias, case.window, channels, "depthwise", Epilogue(residual, "relu")
        )
        assert_close(got, np.maximum(expected, 0), np.float32)


def check_family(case: Case, algorithm: str, dtype: type, seed: int) -> None:
    x, weight, gy = arrays(case, dtype, seed)
    rng = np.random.default_rng(seed + 1)
    bias = rng.standard_normal(len(weight)).astype(dtype)
    x_bias = rng.standard_normal(x.shape[1]).astype(dtype)
    args = (case.window, case.groups, algorithm)
    assert_close(
        native.conv2d(x, weight, bias, *args),
        forward_by_definition(case, x, weight) + bias[:, None, None],
        dtype,
    )
    assert_close(
        native.conv_transpose2d(gy, weight, x_bias, case.size, *args),
        transpose_by_definition(case, gy, weight) + x_bias[:, None, None],
        dtype,
    )
    assert_close(native.conv2d_weight(x, gy, *args), weight_by_definition(case, x, gy), dtype)


# (N, C, O, groups, plane, window): large enough to be split, in every way an algorithm splits.
SPLIT = [
    (2, 16, 24, 1, (40, 41), Window2d((3, 3), (1, 1), ((1, 1), (1, 1)))),
    (1, 64, 96, 1, (28, 28), Window2d((1, 1))),
    (2, 40, 30, 1, (56, 55), Window2d((1, 1))),
    (1, 3, 20, 1, (65, 70), Window2d((7, 7), (2, 2), ((3, 3), (3, 3)))),
    (3, 40, 33, 1, (14, 14), Window2d((4, 4), (2, 2), ((1, 1), (1, 1)))),
    (2, 32, 32, 8, (20, 20), Window2d((3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2))),
    (1, 2, 2, 2, (150, 130), Window2d((5, 5), (1, 1), ((2, 2), (2, 2)))),
    (2, 40, 40, 40, (33, 30), Window2d((3, 3), (2, 2), ((1, 1), (1, 1)))),
    (1, 5, 6, 1, (200, 200), Window2d((16, 16), (8, 8), ((4, 4), (4, 4)))),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", ["auto", "direct"])
@pytest.mark.parametrize("layer", SPLIT, ids=lambda s: f"{s[1]}x{s[4][0]}-{s[5].kernel[0]}")
def test_any_number_of_threads_gives_the_same_bits(
    layer: tuple, algorithm: str, dtype: type
) -> None:
    n, c, o, groups, size, window = layer
    case = Case(n, groups, c // groups, o // groups, size, window)
    x, weight, gy = arrays(case, dtype, 0)
    before, results = native.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            native.set_num_threads(threads)
            results.append(
                [
                    native.conv2d(x, weight, None, window, groups, algorithm).tobytes(),
                    native.conv_transpose2d(
                        gy, weight, None, size, window, groups, algorithm
                    ).tobytes(),
                    native.conv2d_weight(x, gy, window, groups).tobytes(),
                ]
            )
    finally:
        native.set_num_threads(before)
    assert results[0] == results[1] == results[2]


# Kernels of one pixel, whose weight gradient reads planes in place and may exchange x and gy:
# more channels than outputs and the reverse, groups, strides, planes of a multiple of 1 KB.
POINTWISE = [
    (3, 1, 20, 50, (15, 17), (1, 1)),
    (3, 1, 50, 20, (15, 17), (1, 1)),
    (2, 3, 5, 37, (9, 11), (1, 1)),
    (2, 2, 130, 9, (14, 14), (2, 2)),
    (2, 1, 9, 40, (15, 14), (2, 1)),
    (2, 1, 12, 35, (16, 32), (1, 1)),
    (1, 1, 40, 90, (7, 7), (1, 1)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", ["direct", "implicit_gemm"])
@pytest.mark.parametrize("layer", POINTWISE, ids=str)
def test_pointwise_layers_follow_the_definition(layer: tuple, algorithm: str, dtype: type) -> None:
    n, groups, c, o, size, stride = layer
    check_family(Case(n, groups, c, o, size, Window2d((1, 1), stride)), algorithm, dtype, 0)


# Many filters, few pixels: rows are filters, and the pixels of all images share the panels.
JOINED = [
    (4, 64, 130, (7, 7), Window2d((1, 1))),
    (3, 300, 70, (5, 6), Window2d((1, 1))),
    (2, 33, 90, (9, 8), Window2d((1, 1), (2, 2))),
    (3, 20, 90, (9, 8), Window2d((3, 3), (2, 2), ((1, 1), (1, 1)))),
    (2, 40, 150, (5, 4), Window2d((3, 2), (1, 1), ((2, 0), (1, 3)), (1, 2))),
    (2, 12, 128, (11, 13), Window2d((4, 5), (3, 3), ((2, 3), (4, 1)))),
    (5, 16, 128, (1, 1), Window2d((3, 3), (1, 1), ((1, 1), (1, 1)))),
    (1, 70, 520, (3, 3), Window2d((3, 3), (2, 1))),
    # Transposes whose taps do not overlap: with gaps, and with rows and columns that end early.
    (2, 33, 90, (10, 12), Window2d((2, 2), (2, 2))),
    (3, 40, 60, (9, 14), Window2d((1, 2), (2, 2))),
    (2, 20, 70, (14, 11), Window2d((2, 3), (3, 4))),
    (2, 33, 64, (10, 8), Window2d((1, 1), (2, 2))),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", JOINED, ids=str)
def test_many_filters_and_few_pixels_follow_the_definition(layer: tuple, dtype: type) -> None:
    n, c, o, size, win = layer
    check_family(Case(n, 1, c, o, size, win), "implicit_gemm", dtype, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layer", JOINED, ids=str)
def test_many_filters_and_few_pixels_finish_their_results(layer: tuple, dtype: type) -> None:
    n, c, o, size, win = layer
    case = Case(n, 1, c, o, size, win)
    x, weight, gy = arrays(case, dtype, 0)
    y = forward_by_definition(case, x, weight)
    back = transpose_by_definition(case, gy, weight)
    residual = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    got = native.conv2d(
        x, weight, None, win, 1, "implicit_gemm", epilogue=Epilogue(residual, "relu")
    )
    assert_close(got, np.maximum(y + residual, 0), dtype)
    got = native.conv_transpose2d(
        gy, weight, None, size, win, 1, "implicit_gemm", epilogue=Epilogue(x, "relu")
    )
    assert_close(got, np.maximum(back + x, 0), dtype)


@pytest.mark.parametrize("layer", JOINED, ids=str)
def test_many_filters_and_few_pixels_give_the_same_bits_on_any_threads(layer: tuple) -> None:
    n, c, o, size, win = layer
    x, weight, gy = arrays(Case(4 * n, 1, c, o, size, win), np.float32, 0)
    before, results = native.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            native.set_num_threads(threads)
            y = native.conv2d(x, weight, None, win, 1, "implicit_gemm")
            back = native.conv_transpose2d(gy, weight, None, size, win, 1, "implicit_gemm")
            results.append((y, back))
    finally:
        native.set_num_threads(before)
    for y, back in results[1:]:
        np.testing.assert_array_equal(y, results[0][0])
        np.testing.assert_array_equal(back, results[0][1])


@pytest.mark.parametrize("seed", range(10))
def test_im2col_and_its_transpose(seed: int) -> None:
    case = random_case(seed)
    x, _, _ = arrays(case, np.float64, seed)
    cols = native.im2col(x, case.window)
    want = np.stack([padded(case, x)[..., rows, c] for _, _, (rows, c) in taps(case)], axis=3)
    np.testing.assert_array_equal(cols, want.reshape(cols.shape))
    back = np.random.default_rng(seed).standard_normal(cols.shape)
    adjoint = np.vdot(x, native.col2im(back, case.size, case.window))
    assert np.vdot(cols, back) == pytest.approx(adjoint, rel=1e-12, abs=1e-12)


def test_large_blocks_agree_with_the_definition() -> None:
    """Several channel blocks, pixel bands and panels at once, and planes read in place."""
    for channels, kernel, size in ((300, 3, 30), (128, 1, 32), (130, 1, 31)):
        pad = kernel // 2
        window = Window2d((kernel, kernel), (1, 1), ((pad, pad), (pad, pad)))
        case = Case(2, 1, channels, 150, (size, size), window)
        x, weight, gy = arrays(case, np.float32, channels)
        assert_close(
            native.conv2d(x, weight, None, window),
            forward_by_definition(case, x, weight),
            np.float32,
        )
        assert_close(
            native.conv2d_weight(x, gy, window), weight_by_definition(case, x, gy), np.float32
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_matmul(dtype: type) -> None:
    rng = np.random.default_rng(0)
    for m, k, n in [(0, 3, 4), (3, 0, 4), (1, 1, 1), (15, 33, 65), (130, 520, 70), (3, 700, 300)]:
        a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        want = a.astype(np.float64) @ b.astype(np.float64)
        for left in (a, np.asfortranarray(a), np.repeat(a, 2, axis=0)[::2], a[::-1][::-1]):
            for right in (b, np.asfortranarray(b)):
                assert_close(native.matmul(left, right), want, dtype)
        assert_close(native.matmul(a[::-1], b), want[::-1], dtype)
    a, b = rng.standard_normal((3, 1, 40, 50)), rng.standard_normal((4, 50, 20))
    assert_close(native.matmul(a, b), a @ b, np.float64)


def test_foreign_layouts_are_served() -> None:
    case = Case(2, 1, 3, 4, (6, 7), Window2d((3, 3)))
    x, weight, _ = arrays(case, np.float32, 0)
    want = native.conv2d(x, weight, None, case.window)
    for foreign in (np.asfortranarray(x), x.astype(">f4"), x[:, :, ::-1][:, :, ::-1]):
        np.testing.assert_array_equal(native.conv2d(foreign, weight, None, case.window), want)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("groups", {"groups": 2}),
        ("weight", {"weight": np.zeros((4, 2, 3, 3), np.float32)}),
        ("weight", {"weight": np.zeros((4, 3, 3, 3))}),
        ("bias", {"bias": np.zeros(3, np.float32)}),
        ("stride", {"window": Window2d((3, 3), (0, 1))}),
        ("dilation", {"window": Window2d((3, 3), dilation=(1, -1))}),
        ("padding", {"window": Window2d((3, 3), padding=((-1, 0), (0, 0)))}),
        ("kernel_size", {"window": Window2d((0, 3))}),
        ("x", {"window": Window2d((3, 3), dilation=(9, 1))}),
        ("x", {"x": np.zeros((2, 3, 6), np.float32)}),
        ("x", {"x": np.zeros((2, 3, 6, 7), np.int32)}),
        ("algorithm", {"algorithm": "magic"}),
    ],
)
def test_refusals_name_the_argument(name: str, change: dict[str, object]) -> None:
    """Compiled code refuses by itself, whatever was checked before it."""
    arguments: dict[str, object] = {
        "x": np.zeros((2, 3, 6, 7), np.float32),
        "weight": np.zeros((4, 3, 3, 3), np.float32),
        "bias": None,
        "window": Window2d((3, 3)),
        "groups": 1,
        "algorithm": "auto",
    } | change
    with pytest.raises(ArgumentError) as caught:
        native.conv2d(*arguments.values())  # type: ignore[arg-type]
    assert caught.value.argument == name
    assert caught.value.expected


def test_sizes_that_overflow_are_refused() -> None:
    window = Window2d((1, 1), (1, 1), ((2**39, 2**39), (2**39, 2**39)))
    x, weight = np.zeros((1, 1, 1, 1), np.float32), np.zeros((1, 1, 1, 1), np.float32)
    with pytest.raises(ArgumentError, match="fits in memory"):
        native.conv2d(x, weight, None, window)
