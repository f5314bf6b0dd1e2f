"""Augmentation: image, masks, boxes and points stay together, whatever is done to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cnncore.data import Scenes, augment
from cnncore.data.augment import Affine, Colour, Compose, Crop, Elastic, Flip, Noise
from cnncore.errors import ArgumentError

SCENES = Scenes("train", 50, seed=3)


def scene(index):
    """A scene whose objects have two points: their boxes' upper left and lower right corner."""
    sample = SCENES[index]
    return replace(sample, points=sample.boxes.reshape(-1, 2, 2))


def full(size, inside):
    """A sample of one object on a plain image, bright where it is."""
    mask = np.zeros(size, bool)
    mask[inside] = True
    image = np.repeat(mask[None].astype(np.float32), 3, 0)
    rows, columns = np.nonzero(mask)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    sample = SCENES[0]
    return replace(
        sample,
        image=image,
        masks=mask[None],
        semantic=mask.astype(np.int64),
        boxes=np.array([box], np.float32),
        labels=np.array([0]),
        points=np.array([[box[:2], box[2:]]], np.float32),
    )


ALL = {
    "flip": Flip(1.0),
    "crop": Crop((100, 90)),
    "larger": Crop((150, 140), fill=0.5),
    "affine": Affine((0.7, 1.4), (-30, 30), 0.1),
    "elastic": Elastic(6.0),
    "colour": Colour(),
    "noise": Noise(),
    "all": Compose((Flip(), Affine((0.8, 1.2)), Elastic(4.0), Crop(96), Colour(), Noise())),
}


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=8, deadline=None)
@given(index=st.integers(0, 49), seed=st.integers(0, 1000))
def test_the_truth_stays_consistent(name, index, seed):
    before = scene(index)
    after = ALL[name](before, np.random.default_rng(seed))
    size = after.image.shape[1:]
    assert after.image.dtype == np.float32
    assert after.image.min() >= 0
    assert after.image.max() <= 1
    assert after.semantic.shape == size
    R = len(after.labels)
    assert after.masks.shape == (R, *size)
    assert after.boxes.shape == (R, 4)
    assert after.points.shape == (R, 2, 2)
    for mask, box, label in zip(after.masks, after.boxes, after.labels, strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        # Label map and masks were moved by the same nearest pixels.
        assert (after.semantic[mask] == label + 1).all()
    assert (after.masks.sum(0) <= 1).all()


@pytest.mark.parametrize("name", ["flip", "crop", "affine", "elastic"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_image_goes_where_the_mask_goes(name, seed):
    before = full((128, 128), np.s_[40:80, 50:75])
    after = ALL[name](before, np.random.default_rng(seed))
    if len(after.labels) == 0:
        return
    sure = np.abs(after.image[0] - 0.5) > 0.45  # away from interpolated edges
    np.testing.assert_array_equal(after.image[0][sure] > 0.5, after.masks[0][sure])
    assert sure.mean() > 0.9


@settings(max_examples=30, deadline=None)
@given(
    box=st.tuples(st.integers(20, 60), st.integers(20, 60), st.integers(8, 40), st.integers(8, 40)),
    scale=st.floats(0.6, 1.5),
    seed=st.integers(0, 100),
)
def test_a_mask_moved_then_measured_is_the_box_moved(box, scale, seed):
    top, left, h, w = box
    before = full((128, 128), np.s_[top : top + h, left : left + w])
    change = Compose((Flip(), Affine((scale, scale), shift=0.05)))
    after = change(before, np.random.default_rng(seed))
    if len(after.labels) == 0:
        return
    moved = after.points[0]  # the corners of the box, moved exactly; a flip exchanges them
    corners = np.concatenate([moved.min(0), moved.max(0)]).clip(0, 128)
    assert np.abs(after.boxes[0] - corners).max() <= 1.0


def test_elastic_points_follow_the_pixels():
    warp = Elastic(8.0).warp((100, 120), np.random.default_rng(1))
    places = np.random.default_rng(2).uniform(10, 90, (40, 2))
    np.testing.assert_allclose(warp.source(warp.target(places)), places, atol=1e-3)


def test_flipping_twice_changes_nothing():
    before = scene(3)
    rng = np.random.default_rng(0)
    after = Flip(1.0)(Flip(1.0)(before, rng), rng)
    np.testing.assert_allclose(after.image, before.image, atol=1e-6)
    np.testing.assert_array_equal(after.masks, before.masks)
    np.testing.assert_array_equal(after.boxes, before.boxes)
    np.testing.assert_allclose(after.points, before.points)


def test_same_generator_same_result():
    a, b = (ALL["all"](scene(5), np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.boxes, b.boxes)
    c = ALL["all"](scene(5), np.random.default_rng(10))
    assert not np.array_equal(a.image, c.image)


def test_what_leaves_the_image_is_dropped():
    before = full((64, 64), np.s_[4:20, 4:20])
    away = augment.affine([[1, 0, -19], [0, 1, 0]], (64, 64))
    assert len(augment.apply_warp(before, away).labels) == 0
    partly = augment.affine([[1, 0, -10], [0, 1, 0]], (64, 64))
    assert augment.apply_warp(before, partly).boxes.tolist() == [[0, 4, 10, 20]]


def test_empty_scenes_and_bad_settings():
    empty = replace(
        full((32, 32), np.s_[1:3, 1:3]),
        masks=np.zeros((0, 32, 32), bool),
        boxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        points=None,
    )
    assert ALL["affine"](empty, np.random.default_rng(0)).boxes.shape == (0, 4)
    for make in (
        lambda: Affine(scale=(0.0, 1.0)),
        lambda: Affine(rotation=(5.0, -5.0)),
        lambda: Elastic(points=1),
    ):
        with pytest.raises(ArgumentError):
            make()


def test_a_crop_is_the_window_of_the_same_pixels():
    """Cut by slicing, equal to the warp of the same shift, filled up where there is nothing."""
    before = scene(4)
    for seed, size in enumerate([(60, 70), (128, 128), (150, 90), (200, 160)]):
        after = Crop(size, fill=0.25, beyond=255)(before, np.random.default_rng(seed))
        h, w = size
        rng = np.random.default_rng(seed)
        top = int(rng.integers(min(0, 128 - h), max(0, 128 - h) + 1))
        left = int(rng.integers(min(0, 128 - w), max(0, 128 - w) + 1))
        warp = augment.affine([[1, 0, -left], [0, 1, -top]], size)
        wanted = augment.apply_warp(before, warp, 0.25, 255)
        np.testing.assert_allclose(after.image, wanted.image, atol=1e-6)
        for name in ("boxes", "labels", "masks", "semantic", "points"):
            np.testing.assert_array_equal(getattr(after, name), getattr(wanted, name), name)
        outside = np.prod(size) - min(h, 128) * min(w, 128)
        assert (after.semantic == 255).sum() == outside


@pytest.mark.parametrize(
    "change", [Affine((0.5, 0.5), beyond=255), Elastic(20.0, beyond=255)], ids=["affine", "elastic"]
)
def test_what_lies_beyond_the_image_gets_its_own_label(change):
    before = replace(scene(2), image=np.ones((3, 128, 128), np.float32))
    after = change(before, np.random.default_rng(1))
    np.testing.assert_array_equal(after.semantic == 255, after.image[0] == 0)
    assert (after.semantic == 255).any()


def test_flags_stay_with_their_objects():
    before = scene(7)
    flags = np.arange(len(before.labels)) % 2 == 0
    before = replace(before, ignored=flags, labels=flags.astype(np.int64))
    after = ALL["all"](before, np.random.default_rng(3))
    np.testing.assert_array_equal(after.ignored, after.labels == 1)
    assert len(after.labels)


def test_augmented_samples_do_not_depend_on_the_order_of_asking():
    data = augment.Augmented(Scenes("train", 3, seed=1), ALL["all"], 10, seed=4)
    assert len(data) == 10
    late, early = data[7], data[1]
    again = augment.Augmented(Scenes("train", 3, seed=1), ALL["all"], 10, seed=4)
    np.testing.assert_array_equal(again[1].image, early.image)
    np.testing.assert_array_equal(again[7].image, late.image)
    assert not np.array_equal(late.image, early.image)
    with pytest.raises(IndexError):
        data[10]
    with pytest.raises(ArgumentError, match="dataset"):
        augment.Augmented([], ALL["all"], 3)
