"""Coordinate rules against slow definitions: one position, one sample, one pixel at a time."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cnncore import taps
from cnncore.errors import ArgumentError, ShapeError
from cnncore.roi_grid import RoiGrid, round_half_away, sampling

sizes = st.integers(1, 12)


def sample(size: int, position: float) -> np.ndarray:
    """The row of one linear sample inside the plane, from its definition: a hat at each pixel."""
    position = min(max(position, 0.0), size - 1.0)
    return np.maximum(0.0, 1.0 - abs(np.arange(size) - position))


def check_form(found: taps.Taps) -> None:
    """What kernels rely on."""
    groups, length, depth = found.index.shape
    assert found.weight.shape == found.index.shape
    assert found.count.shape == (groups, length)
    assert found.index.dtype == found.count.dtype == np.int64
    assert found.weight.dtype == np.float64
    assert (found.count >= 0).all()
    assert (found.count <= depth).all()
    assert (found.index >= 0).all()
    assert (found.index < found.size).all()


# --- windows and adaptive bins --------------------------------------------------------------------


@given(sizes, st.integers(1, 4), st.integers(1, 3), st.data())
def test_window_means(size, kernel, stride, data):
    before, after = (data.draw(st.integers(0, kernel // 2)) for _ in "ab")
    if size + before + after < kernel:
        return
    # One window more than fits: ceil mode; it must begin before the end of the plane.
    length = (size + before + after - kernel) // stride + 1
    length += (length * stride - before < size) * data.draw(st.integers(0, 1))
    include, divisor = data.draw(st.booleans()), data.draw(st.sampled_from([None, 3.0]))
    found = taps.window_means(size, length, kernel, stride, (before, after), include, divisor)
    check_form(found)
    for p in range(length):
        window = range(p * stride - before, p * stride - before + kernel)
        real = [i for i in window if 0 <= i < size]
        counted = [i for i in window if i < size + after] if include else real
        expected = np.zeros(size)
        expected[real] = 1 / (divisor or len(counted))
        np.testing.assert_allclose(found.dense()[0, p], expected, rtol=1e-15)


@given(st.integers(1, 40), st.integers(1, 40))
def test_adaptive_bins_are_exact(size, length):
    bins = taps.adaptive_bins(size, length)
    for p in range(length):
        assert bins.start[0, p] == math.floor(Fraction(p * size, length))
        assert bins.end[0, p] == math.ceil(Fraction((p + 1) * size, length))
    assert bins.start[0, 0] == 0
    assert bins.end[0, -1] == size


def test_empty_interval_gives_an_empty_row():
    found = taps.interval_means(taps.Bins(4, np.array([[1, 3, 4]]), np.array([[3, 3, 4]])))
    check_form(found)
    assert found.count.tolist() == [[2, 0, 0]]
    np.testing.assert_array_equal(found.dense()[0], [[0, 0.5, 0.5, 0], [0] * 4, [0] * 4])


# --- single pixels --------------------------------------------------------------------------------


@given(sizes, st.integers(1, 5))
def test_repeat_and_nails(size, step):
    repeated, nailed = taps.repeat(size, step), taps.nails(size, step)
    check_form(repeated)
    check_form(nailed)
    np.testing.assert_array_equal(repeated.dense()[0], np.repeat(np.eye(size), step, axis=0))
    expected = np.zeros((size * step, size))
    expected[::step] = np.eye(size)
    np.testing.assert_array_equal(nailed.dense()[0], expected)
    assert nailed.count.sum() == size  # the zeros between nails read nothing


@given(st.integers(1, 30), st.integers(1, 60))
def test_nearest_by_size_is_the_pixel_below(size, length):
    chosen = taps.nearest(size, length).index[0, :, 0]
    for p in range(length):
        exact = Fraction(p * size, length)
        # On a pixel's very edge the float32 ratio decides; see the next test.
        allowed = {exact, exact - 1} if exact.denominator == 1 else {math.floor(exact)}
        assert chosen[p] in allowed


def test_nearest_rounds_the_ratio_as_pytorch_does():
    """41 · 2/82 is exactly 1, but 41 · float32(2/82) is just below: PyTorch takes pixel 0."""
    assert taps.nearest(2, 82).index.ravel().tolist() == [0] * 42 + [1] * 40


def test_nearest_by_scale_uses_the_scale_not_the_sizes():
    # 10 pixels times 0.33 are 3; the ratio is 1/0.33 = 3.03.., not 10/3, so pixel 6, not 6.67 -> 6.
    assert taps.nearest(10, 3, 0.33).index.ravel().tolist() == [0, 3, 6]
    # 5 pixels times 1.5 are 7: 0, .67, 1.33, 2, 2.67, 3.33, 4 against 0, .71, 1.43, 2.14, 2.86, ..
    assert taps.nearest(5, 7, 1.5).index.ravel().tolist() == [0, 0, 1, 2, 2, 3, 4]
    assert taps.nearest(5, 7).index.ravel().tolist() == [0, 0, 1, 2, 2, 3, 4]
    # Equal and doubled lengths copy and repeat, whatever the factor says (PyTorch's rule).
    assert taps.nearest(2, 2, 1.1).index.ravel().tolist() == [0, 1]
    assert taps.nearest(2, 4, 2.3).index.ravel().tolist() == [0, 0, 1, 1]
    assert taps.nearest(3, 2, exact=True).index.ravel().tolist() == [0, 2]
    assert taps.nearest(3, 2).index.ravel().tolist() == [0, 1]


# --- between pixels -------------------------------------------------------------------------------


@given(sizes, sizes, st.booleans(), st.sampled_from([None, 0.7, 1.3, 2.5]))
def test_linear(size, length, align_corners, scale):
    found = taps.linear(size, length, align_corners, scale)
    check_form(found)
    for p in range(length):
        if size == length:  # copied, whatever the factor says (PyTorch's rule)
            position = p
        elif align_corners:
            position = p * (size - 1) / (length - 1) if length > 1 else 0.0
        else:
            position = (p + 0.5) * (1 / scale if scale else size / length) - 0.5
        np.testing.assert_allclose(found.dense()[0, p], sample(size, position), atol=1e-12)


def keys(d: float, a: float = -0.75) -> float:
    d = abs(d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


@given(sizes, sizes, st.booleans(), st.sampled_from([None, 0.7, 1.3, 2.5]))
def test_cubic(size, length, align_corners, scale):
    found = taps.cubic(size, length, align_corners, scale)
    check_form(found)
    positions = taps.source_positions(size, length, align_corners, scale)
    for p, position in enumerate(positions):
        expected = np.zeros(size)
        for i in range(math.floor(position) - 2, math.floor(position) + 4):
            expected[min(max(i, 0), size - 1)] += keys(position - i)
        np.testing.assert_allclose(found.dense()[0, p], expected, atol=1e-12)


@given(st.integers(3, 12), st.integers(2, 20))
def test_linear_interpolation_reproduces_a_ramp_between_aligned_corners(size, length):
    ramp = np.arange(size, dtype=float)
    found = taps.linear(size, length, align_corners=True).dense()[0] @ ramp
    np.testing.assert_allclose(found, np.linspace(0, size - 1, length), atol=1e-12)


def test_samples_share_taps():
    """Three samples within pixels 1 and 2 need two taps, not six."""
    position = np.array([[[1.25, 1.5, 1.75]]])
    found = taps.linear_samples(5, position, np.ones((1, 1, 3), bool), np.full((1, 1, 1), 1 / 3))
    assert found.index.tolist() == [[[1, 2]]]
    np.testing.assert_allclose(found.weight, [[[0.5, 0.5]]])


# --- regions --------------------------------------------------------------------------------------


@st.composite
def regions(draw):
    """Boxes that hang over the plane, halves and whole numbers among them, or are points."""
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    count = draw(st.integers(0, 4))
    corner = st.integers(-8, 24).map(lambda n: n / 2) | st.floats(-4, 12)
    boxes = np.zeros((count, 5))
    for k in range(count):
        boxes[k, 0] = draw(st.integers(0, 2))
        boxes[k, 1::2] = sorted(draw(st.lists(corner, min_size=2, max_size=2)))
        boxes[k, 2::2] = sorted(draw(st.lists(corner, min_size=2, max_size=2)))
    scale = draw(st.sampled_from([1.0, 0.5, 0.25, 1 / 3]))
    output = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return size, boxes, scale, output


def c_round(value: float) -> int:
    return int(math.copysign(math.floor(abs(Fraction(value)) + Fraction(1, 2)), value))


@given(regions())
def test_bins_of_roi_pooling(case):
    size, boxes, scale, output = case
    grid = RoiGrid.make(boxes, output, scale, 3)
    found = grid.pool(size)
    assert grid.image.tolist() == boxes[:, 0].tolist()
    for axis in (0, 1):
        assert found[axis].start.shape == (len(boxes), output[axis])
        for k, box in enumerate(boxes):
            first, last = (c_round(box[c - axis] * scale) for c in (2, 4))
            rows = max(last - first + 1, 1)
            for p in range(output[axis]):
                start = first + math.floor(Fraction(p * rows, output[axis]))
                end = first + math.ceil(Fraction((p + 1) * rows, output[axis]))
                assert found[axis].start[k, p] == min(max(start, 0), size[axis])
                assert found[axis].end[k, p] == min(max(end, 0), size[axis])


@given(regions())
def test_means_of_position_sensitive_pooling(case):
    size, boxes, scale, output = case
    found = RoiGrid.make(boxes, output, scale, 3).mean(size)
    for axis in (0, 1):
        check_form(found[axis])
        dense = found[axis].dense()
        for k, box in enumerate(boxes):
            first, last = (c_round(box[c - axis] * scale) for c in (2, 4))
            rows = max(last - first, 1)
            for p in range(output[axis]):
                start = first + math.floor(Fraction(p * rows, output[axis]))
                end = first + math.ceil(Fraction((p + 1) * rows, output[axis]))
                real = [i for i in range(start, end) if 0 <= i < size[axis]]
                expected = np.zeros(size[axis])
                expected[real] = 1 / max(len(real), 1)
                np.testing.assert_allclose(dense[k, p], expected, rtol=1e-15)


@given(regions(), st.sampled_from([-1, 0, 1, 2, 3]), st.booleans())
def test_samples_of_roi_align(case, ratio, aligned):
    size, boxes, scale, output = case
    found = RoiGrid.make(boxes, output, scale, 3).align(size, ratio, aligned)
    for axis in (0, 1):
        check_form(found[axis])
        dense = found[axis].dense()
        for k, box in enumerate(boxes):
            low, high = (box[c - axis] * scale - (0.5 if aligned else 0.0) for c in (2, 4))
            # the extent before the half pixel is subtracted: the same number, less rounding
            extent = box[4 - axis] * scale - box[2 - axis] * scale
            extent = extent if aligned else max(extent, 1.0)
            count = ratio if ratio > 0 else math.ceil(extent / output[axis])
            assert abs(high - low - extent) < 1e-12 or not aligned
            for p in range(output[axis]):
                expected = np.zeros(size[axis])
                for s in range(count):
                    position = low + (p + (s + 0.5) / count) * extent / output[axis]
                    if abs(position + 1) < 1e-9 or abs(position - size[axis]) < 1e-9:
                        break  # at the very edge rounding decides
                    if -1 <= position <= size[axis]:
                        expected += sample(size[axis], position) / count
                else:
                    np.testing.assert_allclose(dense[k, p], expected, atol=1e-12)


@given(regions())
def test_samples_of_crop_and_resize(case):
    size, boxes, scale, output = case
    found = RoiGrid.make(boxes, output, scale, 3).crop(size)
    for axis in (0, 1):
        check_form(found[axis])
        for k, box in enumerate(boxes):
            low, high = box[2 - axis] * scale, box[4 - axis] * scale
            for p, position in enumerate(np.linspace(low, high, output[axis])):
                position = position if output[axis] > 1 else (low + high) / 2
                inside = 0 <= position <= size[axis] - 1
                if min(abs(position), abs(position - (size[axis] - 1))) > 1e-9:
                    expected = sample(size[axis], position) if inside else np.zeros(size[axis])
                    np.testing.assert_allclose(found[axis].dense()[k, p], expected, atol=1e-12)


def test_a_region_outside_the_plane_reads_nothing():
    grid = RoiGrid.make([[0, 50, 50, 60, 60], [0, -9, -9, -5, -5]], 2, 1.0, 1)
    for found in (*grid.align((8, 8)), *grid.crop((8, 8)), *grid.mean((8, 8))):
        assert (found.count == 0).all()


def test_adaptive_sampling_shares_taps_between_samples():
    """A bin 20 pixels high has 20 samples on pixels 0 … 20: 21 taps, not 40."""
    rows, _ = RoiGrid.make([[0, 0, 0, 40, 40]], 2, 1.0, 1).align((64, 64))
    assert rows.count.tolist() == [[21, 21]]


def test_halves_are_rounded_away_from_zero():
    values = np.array([0.5, 1.5, -0.5, -1.5, 0.49999999999999994, -2.4, 2**52 + 1.0])
    expected = [1, 2, -1, -2, 0, -2, 2**52 + 1]
    assert round_half_away(values).tolist() == expected
    # box 1..6 at scale 1/4 is .25 .. 1.5, so rows 0 .. 2
    rows, _ = RoiGrid.make([[0, 1, 1, 6, 6]], 1, 0.25, 1).pool((8, 8))
    assert (rows.start.item(), rows.end.item()) == (0, 3)


@pytest.mark.parametrize(
    ("box", "image", "rule"),
    [
        ([0, 1, 1, math.nan, 3], "image 0", "finite"),
        ([0, 1, 1, math.inf, 3], "image 0", "finite"),
        ([math.nan, 1, 1, 2, 3], "image nan", "finite"),
        ([1, 3, 1, 2, 3], "image 1", "x2 >= x1"),
        ([1, 1, 4, 2, 3], "image 1", "y2 >= y1"),
        ([2, 1, 1, 2, 3], "image 2", r"image index in 0\.\.1"),
        ([-1, 1, 1, 2, 3], "image -1", r"image index in 0\.\.1"),
        ([0.5, 1, 1, 2, 3], r"image 0\.5", "whole number"),
        ([0, 1, 1, 1e300, 3], "image 0", "2\\*\\*31"),
    ],
)
def test_a_bad_box_is_named(box, image, rule):
    good = [0, 0, 0, 1, 1]
    with pytest.raises(
        ArgumentError, match=rf"boxes\[2\] \({image}\): expected .*{rule}"
    ) as caught:
        RoiGrid.make([good, good, box, good], 2, 1.0, 2)
    assert str([float(v) for v in box]) in str(caught.value)


def test_bad_arguments_of_regions():
    with pytest.raises(ShapeError, match=r"boxes: expected shape \(K, 5\).*got \(1, 4\)"):
        RoiGrid.make(np.zeros((1, 4)), 2, 1.0, 1)
    with pytest.raises(ArgumentError, match="boxes: expected numbers"):
        RoiGrid.make(np.zeros((1, 5), complex), 2, 1.0, 1)
    for scale in (0, -1.0, math.nan, math.inf, "wide", None):
        with pytest.raises(ArgumentError, match="spatial_scale"):
            RoiGrid.make(np.zeros((0, 5)), 2, scale, 1)
    with pytest.raises(ArgumentError, match="output_size"):
        RoiGrid.make(np.zeros((0, 5)), 0, 1.0, 1)
    with pytest.raises(ArgumentError, match="no box, since there is no image"):
        RoiGrid.make(np.zeros((1, 5)), 1, 1.0, 0)
    with pytest.raises(ArgumentError, match="sampling_ratio"):
        sampling(2.5)
    huge = RoiGrid.make([[0, 0, 0, 1, 1], [0, 0, 0, 2e9, 1]], 1, 1.0, 1)
    with pytest.raises(ArgumentError, match=r"boxes\[1\]: .*try: sampling_ratio=2"):
        huge.align((8, 8))


def test_no_boxes():
    grid = RoiGrid.make(np.zeros((0, 5)), (2, 3), 1.0, 0)
    for pair in (grid.align((4, 4)), grid.mean((4, 4)), grid.crop((4, 4))):
        assert [found.index.shape[:2] for found in pair] == [(0, 2), (0, 3)]
        check_form(pair[0])
    assert grid.pool((4, 4))[1].start.shape == (0, 3)
