"""Regions of interest against direct definitions: pixel by pixel, sample by sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings

from cnncore.autograd import tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.ops.roi import crop_and_resize, ps_roi_align, ps_roi_pool, roi_align, roi_pool
from cnncore.testing import adjoint_check, gradcheck, gradgradcheck
from cnncore.testing.strategies import roi_cases, spaced_values

RNG = np.random.default_rng(5)
OPS = [roi_pool, roi_align, ps_roi_pool, ps_roi_align, crop_and_resize]
RAMP = np.arange(25.0).reshape(1, 1, 5, 5)


def c_round(value: float) -> int:
    return math.floor(value + 0.5) if value >= 0 else math.ceil(value - 0.5)


def bilinear(plane, y, x):
    """One sample; zero more than a pixel outside, the edge pixel's value up to there."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    fy, fx = y - top, x - left
    return (
        plane[top, left] * (1 - fy) * (1 - fx)
        + plane[top, right] * (1 - fy) * fx
        + plane[bottom, left] * fy * (1 - fx)
        + plane[bottom, right] * fy * fx
    )


def over_bins(x, boxes, output_size, sensitive, bin_value):
    """``bin_value(plane, box, p, q)`` for every region, channel and bin."""
    ph, pw = output_size
    channels = x.shape[1] // (ph * pw) if sensitive else x.shape[1]
    y = np.zeros((len(boxes), channels, ph, pw))
    for k, c, p, q in np.ndindex(y.shape):
        source = (c * ph + p) * pw + q if sensitive else c
        y[k, c, p, q] = bin_value(x[int(boxes[k, 0]), source], boxes[k, 1:], p, q)
    return y


def slow_align(
    x, boxes, output_size, spatial_scale=1.0, sampling_ratio=-1, aligned=False, sensitive=False
):
    def value(plane, box, p, q):
        x1, y1, x2, y2 = box * spatial_scale - (0.5 if aligned else 0.0)
        h, w = y2 - y1, x2 - x1
        if not aligned:
            h, w = max(h, 1.0), max(w, 1.0)
        h, w = h / output_size[0], w / output_size[1]
        rows = sampling_ratio if sampling_ratio > 0 else math.ceil(h)
        cols = sampling_ratio if sampling_ratio > 0 else math.ceil(w)
        total = sum(
            bilinear(plane, y1 + (p + (i + 0.5) / rows) * h, x1 + (q + (j + 0.5) / cols) * w)
            for i in range(rows)
            for j in range(cols)
        )
        return total / max(rows * cols, 1)

    return over_bins(x, boxes, output_size, sensitive, value)


def slow_pool(x, boxes, output_size, spatial_scale=1.0, sensitive=False):
    """Maxima, the last pixel of a region included; or position-sensitive means, without it."""

    def value(plane, box, p, q):
        ranges = []
        for axis, index in ((0, p), (1, q)):
            start, end = (
                c_round(box[1 - axis] * spatial_scale),
                c_round(box[3 - axis] * spatial_scale),
            )
            n, bins = max(end - start + (not sensitive), 1), output_size[axis]
            first, last = index * n // bins, -(-(index + 1) * n // bins)
            ranges.append(
                [start + i for i in range(first, last) if 0 <= start + i < plane.shape[axis]]
            )
        block = plane[np.ix_(*ranges)]
        return (block.mean() if sensitive else block.max()) if block.size else 0.0

    return over_bins(x, boxes, output_size, sensitive, value)


def slow_crop(x, boxes, output_size, spatial_scale=1.0):
    def value(plane, box, p, q):
        position = []
        for axis, index in ((0, p), (1, q)):
            low, high = box[1 - axis] * spatial_scale, box[3 - axis] * spatial_scale
            bins = output_size[axis]
            at = low + index * (high - low) / (bins - 1) if bins > 1 else (low + high) / 2
            if not 0 <= at <= plane.shape[axis] - 1:
                return 0.0
            position.append(at)
        return bilinear(plane, *position)

    return over_bins(x, boxes, output_size, False, value)


def score_maps(case):
    """As many channels as position-sensitive ops read."""
    ph, pw = case.options["output_size"]
    images, channels, height, width = case.x.shape
    return spaced_values(RNG, (images, channels * ph * pw, height, width))


@given(roi_cases())
def test_align_against_the_definition(case):
    got = roi_align(case.x, case.boxes, **case.options).numpy()
    np.testing.assert_allclose(got, slow_align(case.x, case.boxes, **case.options), atol=1e-12)
    x, options = score_maps(case), {**case.options, "aligned": True}
    expected = slow_align(x, case.boxes, **options, sensitive=True)
    del options["aligned"]
    np.testing.assert_allclose(ps_roi_align(x, case.boxes, **options).numpy(), expected, atol=1e-12)


@given(roi_cases(align=False))
def test_pool_against_the_definition(case):
    np.testing.assert_array_equal(
        roi_pool(case.x, case.boxes, **case.options).numpy(),
        slow_pool(case.x, case.boxes, **case.options),
    )
    x = score_maps(case)
    expected = slow_pool(x, case.boxes, **case.options, sensitive=True)
    np.testing.assert_allclose(
        ps_roi_pool(x, case.boxes, **case.options).numpy(), expected, atol=1e-12
    )


@given(roi_cases(align=False))
def test_crop_against_the_definition(case):
    got = crop_and_resize(case.x, case.boxes, **case.options).numpy()
    np.testing.assert_allclose(got, slow_crop(case.x, case.boxes, **case.options), atol=1e-12)


@settings(max_examples=15)
@given(roi_cases(min_boxes=1, max_size=5))
def test_align_is_linear_and_differentiable(case):
    def align(x):
        return roi_align(x, case.boxes, **case.options)

    adjoint_check(align, case.x.shape)
    gradcheck(align, case.x)
    gradgradcheck(align, case.x)


@settings(max_examples=15)
@given(roi_cases(min_boxes=1, max_size=5, align=False))
def test_gradients_of_pool(case):
    gradcheck(lambda x: roi_pool(x, case.boxes, **case.options), case.x)
    gradgradcheck(lambda x: roi_pool(x, case.boxes, **case.options), case.x)


@settings(max_examples=15)
@given(roi_cases(min_boxes=1, max_size=4, align=False))
def test_the_other_three_are_linear(case):
    maps = score_maps(case)
    adjoint_check(lambda x: ps_roi_pool(x, case.boxes, **case.options), maps.shape)
    adjoint_check(lambda x: ps_roi_align(x, case.boxes, **case.options), maps.shape)
    adjoint_check(lambda x: crop_and_resize(x, case.boxes, **case.options), case.x.shape)
    gradgradcheck(lambda x: crop_and_resize(x, case.boxes, **case.options), case.x)


# --- by hand --------------------------------------------------------------------------------------


def test_align_on_a_ramp():
    """The ramp 5 y + x is linear, so a mean of samples is the ramp at the middle of the bin.

    ::

         0  1  2  3  4      box x 1..3, y 1..3: four bins of half a pixel, whose middles lie
         5  6  7  8  9      at 1.25, 1.75, 2.25, 2.75 (not aligned), so the first value is
        10 11 12 13 14      5 · 1.25 + 1.25 = 7.5.  Aligned, half a pixel less along both axes:
        15 16 17 18 19      5 · 0.75 + 0.75 = 4.5.
        20 21 22 23 24
    """
    box = np.array([[0, 1.0, 1.0, 3.0, 3.0]])
    expected = np.array(
        [
            [4.5, 5.0, 5.5, 6.0],
            [7.0, 7.5, 8.0, 8.5],
            [9.5, 10.0, 10.5, 11.0],
            [12.0, 12.5, 13.0, 13.5],
        ]
    )
    for ratio in (-1, 1, 2, 3):
        aligned = roi_align(RAMP, box, 4, 1.0, ratio, aligned=True).numpy()[0, 0]
        np.testing.assert_allclose(aligned, expected, atol=1e-12)
        default = roi_align(RAMP, box, 4, 1.0, ratio).numpy()[0, 0]
        np.testing.assert_allclose(default, expected + 3.0, atol=1e-12)


def test_aligned_boxes_of_half_the_resolution_give_the_mean_of_their_pixels():
    """The box 0, 0, 4, 4 at scale ½ covers exactly the four pixels in the corner."""
    got = roi_align(RAMP, [[0, 0, 0, 4, 4]], 1, 0.5, 2, aligned=True).item()
    assert got == RAMP[0, 0, :2, :2].mean()


def test_pool_on_a_ramp():
    """Rows 1..3 in two bins are 1..2 and 2..3: bins share a row where they do not divide."""
    got = roi_pool(RAMP, [[0, 1, 1, 3, 3]], 2).numpy()[0, 0]
    assert got.tolist() == [[12, 13], [17, 18]]
    # beyond the plane: bins without a pixel are 0, and take no gradient
    x = tensor(RAMP - 100, requires_grad=True)
    y = roi_pool(x, [[0, 3, 3, 8, 4]], (1, 3))
    assert y.numpy().ravel().tolist() == [-76, 0, 0]
    y.backward(np.array([[[[1.0, 5.0, 7.0]]]]))
    assert x.grad.numpy().sum() == 1
    assert x.grad.numpy()[0, 0, 4, 4] == 1


def test_position_sensitive_pooling_reaches_the_last_row_and_column():
    maps = np.zeros((1, 4, 3, 3))
    maps[0, 3, 2, 2] = 1.0  # bin (1, 1) of box 1..3 is this pixel alone
    got = ps_roi_pool(maps, [[0, 1, 1, 3, 3]], 2).numpy()[0, 0]
    assert got.tolist() == [[0, 0], [0, 1]]


def test_crop_of_the_whole_plane_is_the_plane():
    np.testing.assert_array_equal(crop_and_resize(RAMP, [[0, 0, 0, 4, 4]], 5).numpy(), RAMP)
    corners = crop_and_resize(RAMP, [[0, 0, 0, 4, 4]], 2).numpy()[0, 0]
    assert corners.tolist() == [[0, 4], [20, 24]]
    half_outside = crop_and_resize(RAMP, [[0, -2, 0, 2, 0]], (1, 3)).numpy().ravel()
    assert half_outside.tolist() == [0, 0, 2]


def test_a_nan_reaches_only_the_bins_that_read_it():
    x = np.where(RAMP == 24, np.nan, RAMP)
    y = roi_align(x, [[0, 0, 0, 2, 2], [0, 10, 10, 12, 12], [0, 4, 4, 5, 5]], 1).numpy().ravel()
    assert np.isnan(y).tolist() == [False, False, True]
    assert y[1] == 0


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
def test_forms_of_boxes(op):
    x = RNG.normal(size=(3, 4, 6, 6)).astype(np.float32)
    rows = np.array([[0, 0, 0, 3, 3], [2, 1, 1, 5, 4], [2, 0, 2, 4, 4]])
    expected = op(x, rows, 2).numpy()
    assert expected.dtype == np.float32
    per_image = [rows[:1, 1:], np.zeros((0, 4)), tensor(rows[1:, 1:].astype(np.float32))]
    for boxes in (rows.tolist(), rows.astype(np.float64), tensor(rows * 1.0), per_image):
        np.testing.assert_array_equal(op(x, boxes, (2, 2)).numpy(), expected)
    np.testing.assert_array_equal(
        op(x, [rows[:1, 1:].tolist(), [], rows[1:, 1:].tolist()], 2).numpy(), expected
    )


@pytest.mark.parametrize("op", OPS)
def test_no_boxes_and_no_images(op):
    channels = 4 // (4 if op in (ps_roi_pool, ps_roi_align) else 1)
    for images in (0, 2):
        for boxes in (np.zeros((0, 5)), [np.zeros((0, 4))] * images):
            x = tensor(np.ones((images, 4, 6, 6)), requires_grad=True)
            y = op(x, boxes, 2)
            assert y.shape == (0, channels, 2, 2)
            y.backward(np.zeros(y.shape))
            assert not x.grad.numpy().any()
            assert x.grad.shape == x.shape


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("box", "rule"),
    [
        ([0, 0, math.nan, 3, 3], "only finite numbers"),
        ([1, 4, 0, 3, 3], "x2 >= x1"),
        ([1, 0, 4, 3, 3], "y2 >= y1"),
        ([2, 0, 0, 3, 3], r"image index in 0\.\.1"),
        ([-1, 0, 0, 3, 3], r"image index in 0\.\.1"),
    ],
)
def test_a_bad_box_is_named(op, box, rule):
    with pytest.raises(ArgumentError, match=rf"boxes\[1\] \(image {box[0]}\): .*{rule}.*got \["):
        op(np.zeros((2, 4, 6, 6)), [[0, 0, 0, 1, 1], box], 2)


@pytest.mark.parametrize("op", OPS)
def test_bad_arguments(op):
    x, box = np.zeros((2, 4, 6, 6)), [[0, 0, 0, 1, 1]]
    for boxes, message in (
        (np.zeros((2, 4)), r"boxes: expected shape \(K, 5\)"),
        ([np.zeros((2, 4))], "boxes: .* 2 images, got a list of 1"),
        ([np.zeros((2, 4)), np.zeros((2, 3))], r"boxes\[1\]: expected shape \(L, 4\)"),
    ):
        with pytest.raises(ShapeError, match=message):
            op(x, boxes, 2)
    with pytest.raises(ArgumentError, match="output_size: expected an integer >= 1"):
        op(x, box, 0)
    with pytest.raises(ArgumentError, match="spatial_scale: expected a positive number"):
        op(x, box, 2, 0.0)
    with pytest.raises(ShapeError, match="x: expected a plane of at least one pixel"):
        op(np.zeros((1, 4, 0, 6)), box, 2)
    with pytest.raises(ArgumentError, match="at most 2\\*\\*59 elements"):
        op(x, box, 2**31)


@pytest.mark.parametrize("op", [ps_roi_pool, ps_roi_align])
def test_channels_of_position_sensitive_ops(op):
    with pytest.raises(ShapeError, match="x: expected a multiple of 9 channels"):
        op(np.zeros((1, 4, 6, 6)), [[0, 0, 0, 1, 1]], 3)


def test_pool_keeps_only_its_switches():
    x = tensor(RNG.normal(size=(1, 3, 8, 8)), requires_grad=True)
    y = roi_pool(x, [[0, 0, 0, 7, 7]], 2)
    (kept,) = y.node.kept_arrays()
    assert kept.dtype == np.int64
    assert kept.shape == y.shape
