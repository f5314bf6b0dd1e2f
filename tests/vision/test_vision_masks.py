"""Masks between image and RoI grids, overlaps and run lengths, against slow definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slow_vision as slow
from hypothesis import given, settings, strategies as st
from strategies_vision import boxes

from cnncore import vision
from cnncore.errors import ArgumentError, DTypeError, ShapeError


@st.composite
def mask_stacks(draw, max_count: int = 4, size: tuple[int, int] | None = None) -> np.ndarray:
    height, width = size or (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    count = draw(st.integers(0, max_count))
    bits = draw(st.lists(st.booleans(), min_size=count * height * width, max_size=None))
    return np.array(bits[: count * height * width], bool).reshape(count, height, width)


@given(mask_stacks())
def test_boxes_of_masks(masks):
    found = vision.boxes_of_masks(masks)
    assert found.shape == (len(masks), 4)
    for box, mask in zip(found.tolist(), masks, strict=True):
        pixels = [(y, x) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if mask[y, x]]
        if not pixels:
            assert box == [0, 0, 0, 0]
            continue
        ys, xs = zip(*pixels, strict=True)
        assert box == [min(xs), min(ys), max(xs) + 1, max(ys) + 1]


@settings(max_examples=50)
@given(mask_stacks(), st.integers(1, 5), st.data())
def test_crop_is_the_mean_of_samples(masks, size, data):
    regions = data.draw(boxes(max_count=3, reach=24)) if len(masks) else np.zeros((0, 4))
    index = np.array([i % max(len(masks), 1) for i in range(len(regions))], int)
    targets = vision.crop_masks(masks, regions, index, size)
    assert targets.shape == (len(regions), size, size)
    for r, (x1, y1, x2, y2) in enumerate(regions.tolist()):
        plane = masks[index[r]].astype(float).tolist()
        ny, nx = math.ceil((y2 - y1) / size), math.ceil((x2 - x1) / size)
        for i in range(size):
            for j in range(size):
                samples = [
                    slow.roi_sample(
                        plane,
                        y1 + (i + (u + 0.5) / ny) * (y2 - y1) / size,
                        x1 + (j + (v + 0.5) / nx) * (x2 - x1) / size,
                    )
                    for u in range(ny)
                    for v in range(nx)
                ]
                mean = sum(samples) / max(len(samples), 1)
                assert targets[r, i, j] == pytest.approx(mean, abs=1e-6)


def test_crop_by_hand():
    mask = np.zeros((1, 4, 4), bool)
    mask[0, 1:3, 2] = True
    # The box covers rows 1-2, columns 2-3: a cell a pixel, then one cell for all four pixels.
    assert vision.crop_masks(mask, [[2, 1, 4, 3]], [0], 2).tolist() == [[[1, 0], [1, 0]]]
    assert vision.crop_masks(mask, [[2, 1, 4, 3]], [0], 1).tolist() == [[[0.5]]]
    # Half a pixel to the left: every sample lies midway between two columns.
    assert vision.crop_masks(mask, [[1.5, 1, 3.5, 3]], [0], 2).tolist() == [[[0.5, 0.5]] * 2]


@settings(max_examples=50)
@given(
    st.integers(1, 5),
    st.integers(1, 12),
    st.integers(1, 12),
    boxes(max_count=3, reach=24),
    st.data(),
)
def test_paste_is_a_threshold_of_bilinear_samples(size, height, width, regions, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    grids = rng.random((len(regions), size, size))
    pasted = vision.paste_masks(grids, regions, (height, width))
    assert pasted.shape == (len(regions), height, width)
    for r, (x1, y1, x2, y2) in enumerate(regions.tolist()):
        for y in range(height):
            for x in range(width):
                inside = x1 <= x + 0.5 < x2 and y1 <= y + 0.5 < y2
                value = -1.0
                if inside:
                    value = slow.bilinear(
                        grids[r].tolist(),
                        (y + 0.5 - y1) / (y2 - y1) * size,
                        (x + 0.5 - x1) / (x2 - x1) * size,
                    )
                if abs(value - 0.5) > 1e-9:
                    assert pasted[r, y, x] == (value >= 0.5)


@given(mask_stacks(max_count=3))
def test_paste_inverts_crop_at_full_resolution(masks):
    # A box of S by S whole pixels: crop copies its pixels, paste puts them back.
    side = min(masks.shape[1:])
    regions = np.tile(np.array([[0.0, 0, side, side]]), (len(masks), 1))
    crops = vision.crop_masks(masks, regions, np.arange(len(masks)), side)
    pasted = vision.paste_masks(crops, regions, masks.shape[1:])
    np.testing.assert_array_equal(pasted[:, :side, :side], masks[:, :side, :side])
    assert not pasted[:, side:].any()
    assert not pasted[:, :, side:].any()


@given(st.data())
def test_mask_iou(data):
    a, b = data.draw(mask_stacks(size=(3, 4))), data.draw(mask_stacks(size=(3, 4)))
    found = vision.mask_iou(a, b)
    assert found.shape == (len(a), len(b))
    for i in range(len(a)):
        for j in range(len(b)):
            union = int((a[i] | b[j]).sum())
            expected = int((a[i] & b[j]).sum()) / union if union else 0.0
            assert found[i, j] == expected


@given(mask_stacks())
def test_run_lengths_there_and_back(masks):
    pytest.importorskip("pycocotools")
    rles = vision.encode_rle(masks)
    assert len(rles) == len(masks)
    np.testing.assert_array_equal(vision.decode_rle(rles, masks.shape[1:]), masks)


def test_run_lengths_by_hand():
    coco = pytest.importorskip("pycocotools.mask")
    # Runs go down the columns, the first counts zeros: column 0 is 0 1, column 1 is 1 0.
    (rle,) = vision.encode_rle(np.array([[[0, 1], [1, 0]]]))
    assert rle["size"] == [2, 2]
    expected = coco.frPyObjects({"size": [2, 2], "counts": [1, 2, 1]}, 2, 2)
    assert rle["counts"] == expected["counts"]


def test_masks_of_nothing_and_refusals():
    none = np.zeros((0, 4, 5), bool)
    assert vision.boxes_of_masks(none).shape == (0, 4)
    assert vision.crop_masks(none, [], [], 7).shape == (0, 7, 7)
    assert vision.paste_masks([], [], (4, 5)).shape == (0, 4, 5)
    assert vision.mask_iou(none, np.ones((2, 4, 5), bool)).shape == (0, 2)
    assert vision.encode_rle(none) == []
    one = np.ones((1, 4, 5), bool)
    with pytest.raises(ArgumentError, match="index"):
        vision.crop_masks(one, [[0, 0, 1, 1]], [1], 7)
    with pytest.raises(DTypeError, match="masks"):
        vision.crop_masks(one * 0.5, [[0, 0, 1, 1]], [0], 7)
    with pytest.raises(DTypeError, match="masks"):
        vision.boxes_of_masks(one * 2)
    with pytest.raises(ShapeError, match="masks"):
        vision.paste_masks(np.ones((2, 3, 3)), [[0, 0, 1, 1]], (4, 5))
    with pytest.raises(ArgumentError, match=r"NaN at \[0, 0, 0\]"):
        vision.paste_masks(np.full((1, 3, 3), math.nan), [[0, 0, 1, 1]], (4, 5))
    with pytest.raises(ShapeError, match="b"):
        vision.mask_iou(one, np.ones((1, 4, 4), bool))
    with pytest.raises(ArgumentError, match="image_size"):
        vision.decode_rle([])
