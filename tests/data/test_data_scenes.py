"""Scenes: exact truth, pure function of (seed, split, index), no item in two splits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cnncore.data import SPLITS, Items, Scenes, SceneSettings, scenes as module
from cnncore.errors import ArgumentError


def own_items(count=12, side=6, classes=3):
    """Solid discs: easy to recognise, every one with ink."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    disc = (np.hypot(y, x) <= side / 2).astype(np.float32)
    images = np.repeat(disc[None], count, 0)
    labels = np.arange(count) % classes
    return Items(images, labels, tuple("abc"[:classes]), np.arange(count))


SMALL = SceneSettings(image_size=(48, 64), item_side=(10, 16), objects=(1, 5))


def equal(a, b):
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in vars(a))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**40),
    st.sampled_from(SPLITS),
    st.integers(0, 10**9 - 1),
    st.sampled_from([0.0, 1.0]),
)
def test_the_truth_of_a_scene_hangs_together(seed, split, index, texture):
    chosen = SceneSettings((48, 64), (1, 5), 0.2, (10, 16), texture=texture)
    sample = Scenes(split, 10**9, seed, own_items(), chosen)[index]
    count = len(sample.labels)
    assert sample.image.shape == (3, 48, 64)
    assert sample.image.dtype == np.float32
    assert sample.image.min() >= 0
    assert sample.image.max() <= 1
    assert sample.boxes.shape == (count, 4)
    assert sample.boxes.dtype == np.float32
    assert sample.labels.dtype == sample.semantic.dtype == np.int64
    assert sample.masks.shape == (count, 48, 64)
    assert sample.masks.dtype == np.bool_
    assert count <= 5
    assert sample.masks.sum(0).max(initial=0) <= 1  # no pixel belongs to two objects
    semantic = np.zeros((48, 64), np.int64)
    for box, label, mask in zip(sample.boxes, sample.labels, sample.masks, strict=True):
        ys, xs = np.nonzero(mask)
        assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        semantic[mask] = label + 1
    np.testing.assert_array_equal(sample.semantic, semantic)


def test_a_scene_is_a_pure_function():
    items = own_items()
    first = Scenes("train", 50, 7, items, SMALL)
    backwards = [first[i] for i in range(49, -1, -1)][::-1]
    again = Scenes("train", 1000, 7, items, SMALL)  # another length, other scenes asked before
    assert all(equal(again[i], backwards[i]) for i in range(50))
    assert equal(first[-1], backwards[49])
    others = [
        Scenes("train", 50, 8, items, SMALL)[3],
        Scenes("test", 50, 7, items, SMALL)[3],
        first[4],
    ]
    assert not any(equal(other, backwards[3]) for other in others)
    backwards[0].image[:] = 0  # a sample is the caller's own
    assert first[0].image.any()
    with pytest.raises(IndexError):
        first[50]


def test_shares_of_empty_scenes_and_of_counts():
    items = own_items()
    # 600 scenes, 8 % empty: 48 ± 6.6; the bounds are 4 sigma.
    roomy = SceneSettings((64, 64), (1, 5), 0.08, (8, 10), texture=0.0)
    counts = np.bincount(
        [len(s.labels) for s in map(Scenes("train", 600, 1, items, roomy).__getitem__, range(600))],
        minlength=6,
    )
    assert 21 <= counts[0] <= 75
    assert (np.abs(counts[1:6] - 552 / 5) < 42).all()
    full = SceneSettings((48, 64), (2, 2), 0.0, (10, 16))
    assert {len(Scenes("train", 40, 1, items, full)[i].labels) for i in range(40)} == {2}
    none = SceneSettings((48, 64), empty=1.0, item_side=(10, 16))
    sample = Scenes("train", 1, 1, items, none)[0]
    assert sample.masks.shape == (0, 48, 64)
    assert sample.boxes.shape == (0, 4)
    assert not sample.semantic.any()


@pytest.mark.parametrize("max_hidden", [0.0, 0.25])
def test_overlap_stays_within_the_limit(max_hidden):
    # Discs of one size: what is missing from a full disc is hidden.
    crowd = SceneSettings((40, 40), (5, 5), 0.0, (14, 14), max_hidden, texture=0.0)
    scenes = Scenes("train", 80, 2, own_items(), crowd)
    areas = [area for i in range(80) for area in scenes[i].masks.sum((1, 2)).tolist()]
    whole = max(areas)
    assert min(areas) >= (1 - max_hidden) * whole
    assert (min(areas) < whole) == (max_hidden > 0)  # with room to overlap, some do


def test_objects_stand_out_from_the_plain_background():
    plain = SceneSettings((48, 64), (1, 1), 0.0, (16, 16), contrast=0.3, texture=0.0)
    scenes = Scenes("train", 60, 5, own_items(), plain)
    for i in range(60):
        sample = scenes[i]
        x1, y1, x2, y2 = sample.boxes[0].astype(int).tolist()
        object_color = sample.image[:, (y1 + y2) // 2, (x1 + x2) // 2]
        ground = sample.image[:, -1 if y1 > 0 else 0, -1 if x1 > 0 else 0]
        weights = np.array([0.299, 0.587, 0.114])
        assert abs(weights @ object_color - weights @ ground) >= 0.3 - 1e-5


def test_the_mask_is_where_ink_is_above_its_level():
    # One source pixel of full ink, scaled 8 times, is Keys' kernel; it falls below 0.45 where
    # 1.5 d³ − 2.5 d² + 1 = 0.45, at d = 0.5626 source pixels, or 4.5 pixels of the image.
    image = np.zeros((1, 5, 5), np.float32)
    image[0, 2, 2] = 1
    items = Items(image, np.zeros(1, np.int64), ("dot",), np.zeros(1, np.int64))
    chosen = SceneSettings((64, 64), (1, 1), 0.0, (40, 40), texture=0.0)
    sample = Scenes("train", 1, 0, items, chosen)[0]
    kernel = np.array([1.5 * d**3 - 2.5 * d**2 + 1 for d in (np.arange(8) + 0.5) / 8])
    line = np.concatenate([kernel[::-1], kernel])
    expected = np.outer(line, line) > 0.45
    x1, y1, x2, y2 = sample.boxes[0].astype(int).tolist()
    inked = np.flatnonzero(expected.any(0))
    assert x2 - x1 == y2 - y1 == len(inked)
    cut = expected[inked[0] : inked[-1] + 1, inked[0] : inked[-1] + 1]
    np.testing.assert_array_equal(sample.masks[0, y1:y2, x1:x2], cut)


@pytest.mark.parametrize(("length", "side"), [(8, 20), (8, 33), (8, 40), (28, 20), (28, 40)])
def test_bicubic_matrix(length, side):
    matrix = module._bicubic(length, side).astype(np.float64)
    margin = -(-side // length)
    assert matrix.shape == (side + 2 * margin, length)
    # Far from the edge, Keys' weights sum to one and reproduce a parabola.
    centre = (np.arange(-margin, side + margin) + 0.5) * length / side - 0.5
    inner = (centre > 1) & (centre < length - 2)
    np.testing.assert_allclose(matrix[inner].sum(1), 1, atol=1e-6)
    parabola = (np.arange(length) - 3.0) ** 2
    np.testing.assert_allclose(matrix[inner] @ parabola, (centre[inner] - 3) ** 2, atol=1e-4)
    outside = (centre < -2) | (centre > length + 1)
    assert not matrix[outside].any()


def test_digits_of_one_split_never_show_in_another():
    pytest.importorskip("sklearn")
    sources = [set(Scenes(split, 1).items.source.tolist()) for split in SPLITS]
    assert not (sources[0] & sources[1])
    assert not (sources[0] & sources[2])
    assert not (sources[1] & sources[2])
    scenes = Scenes("validation", 30, 1)
    assert scenes.class_names == tuple("0123456789")
    assert scenes[0].image.shape == (3, 128, 128)
    labels = np.concatenate([scenes[i].labels for i in range(30)])
    assert set(labels.tolist()) <= set(range(10))
    assert len(set(labels.tolist())) > 5
    sides = np.concatenate([scenes[i].boxes[:, 3] - scenes[i].boxes[:, 1] for i in range(30)])
    assert sides.max() <= 45  # 8 rows at five times, and half a row of blur at both ends


def test_faint_items_and_crowds_are_left_out_not_looped_over():
    faint = Items(
        np.full((1, 6, 6), 0.2, np.float32), np.zeros(1, np.int64), ("f",), np.zeros(1, np.int64)
    )
    assert len(Scenes("train", 1, 0, faint, SMALL)[0].labels) == 0
    crowd = SceneSettings((24, 24), (50, 50), 0.0, (14, 14), 0.0)
    assert 1 <= len(Scenes("train", 1, 0, own_items(), crowd)[0].labels) < 6


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"image_size": (0, 5)}, "image_size"),
        ({"objects": (3, 2)}, "objects"),
        ({"objects": (1, 300)}, "objects"),
        ({"item_side": (9, 8)}, "item_side"),
        ({"empty": 1.5}, "empty"),
        ({"max_hidden": -0.1}, "max_hidden"),
        ({"contrast": 0.9}, "contrast"),
        ({"ink": 0.1}, "ink"),
        ({"texture": float("nan")}, "texture"),
    ],
)
def test_settings_are_checked(arguments, named):
    with pytest.raises(ArgumentError, match=named):
        SceneSettings(**arguments)


def test_scenes_refuse():
    items = own_items()
    with pytest.raises(ArgumentError, match="fit into the image"):
        Scenes("train", 1, 0, items, SceneSettings((30, 64)))
    with pytest.raises(ArgumentError, match="items"):
        Scenes("train", 1, 0, "letters")
    with pytest.raises(ArgumentError, match="split"):
        Scenes("dev", 1, 0, items)
    empty = Items(items.images[:0], items.labels[:0], (), items.source[:0])
    with pytest.raises(ArgumentError, match="items"):
        Scenes("train", 1, 0, empty, SMALL)
    assert len(Scenes("train", 0, 0, items, SMALL)) == 0
