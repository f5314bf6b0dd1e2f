"""Pictures: what is drawn lands where it should, with nothing to draw as well."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore import vision
from cnncore.errors import ArgumentError, ShapeError

pytest.importorskip("PIL")
GREY = np.full((3, 40, 60), 0.5, np.float32)


def test_a_box_is_drawn_on_its_edge_only():
    plain = vision.DrawSettings(line_width=1)
    picture = vision.draw_objects(GREY, [[10, 20, 30, 35]], settings=plain)
    assert picture.shape == (40, 60, 3)
    changed = (picture != 128).any(2)
    expected = np.zeros((40, 60), bool)
    expected[20:35, 10:30] = True
    expected[21:34, 11:29] = False
    np.testing.assert_array_equal(changed, expected)


def test_masks_tint_exactly_their_pixels():
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 5:9, 7:20] = True
    hidden = vision.DrawSettings(line_width=1, mask_opacity=1.0)
    picture = vision.draw_objects(GREY, [[50, 36, 54, 39]], masks=mask, settings=hidden)
    changed = (picture != 128).any(2)
    changed[36:39, 50:54] = False  # the box
    np.testing.assert_array_equal(changed, mask[0])
    assert (picture[6, 10] == vision.distinct_colors(1)[0]).all()


def test_scale_labels_scores_and_names():
    names = ("zero", "one")
    big = vision.DrawSettings(scale=3, class_names=names)
    picture = vision.draw_objects(GREY, [[1, 1, 9, 9]], [1], None, [0.75], big)
    assert picture.shape == (120, 180, 3)
    unnamed = vision.draw_objects(GREY, [[1, 1, 9, 9]], [1], None, [0.75], vision.DrawSettings(3))
    assert (picture != unnamed).any()
    # A box at the right edge: its words stay inside the picture.
    edge = vision.draw_objects(GREY, [[55, 0, 60, 5]], [1], None, [0.75], big)
    assert (edge[:20, 90:165] != 128).any()


def test_keypoints_are_discs_where_their_third_number_is_positive():
    points = [[[20, 12, 2], [44, 30, 0], [5, 30, -1.5]], [[30, 8, 0.5], [0, 0, 0], [59, 39, 1]]]
    thin = vision.DrawSettings(line_width=0)
    bare = vision.draw_objects(GREY, [[0, 0, 9, 9], [9, 9, 20, 20]], [3, 1], settings=thin)
    picture = vision.draw_objects(
        GREY, [[0, 0, 9, 9], [9, 9, 20, 20]], [3, 1], settings=thin, keypoints=points
    )
    changed = np.argwhere((picture != bare).any(2))
    near = [np.abs(changed - (y, x)).max(1) <= 1 for x, y in ((20, 12), (30, 8), (59, 39))]
    assert all(rows.any() for rows in near)
    assert np.any(near, axis=0).all()  # and nothing else
    colors = vision.distinct_colors(4)
    assert (picture[12, 20] == colors[3]).all()
    assert (picture[8, 30] == colors[1]).all()
    large = vision.DrawSettings(scale=3)
    picture = vision.draw_objects(GREY, [[0, 0, 9, 9]], settings=large, keypoints=[[[50, 30, 1]]])
    assert (picture[90, 150] == vision.distinct_colors(1)[0]).all()


@pytest.mark.parametrize(
    "keypoints", [[[1, 2, 1]], np.zeros((2, 4, 3)), np.full((1, 1, 3), np.nan)]
)
def test_keypoints_that_do_not_fit_are_refused(keypoints):
    with pytest.raises(ArgumentError, match="keypoints"):
        vision.draw_objects(GREY, [[0, 0, 9, 9]], keypoints=keypoints)


def test_nothing_to_draw():
    picture = vision.draw_objects(GREY, [], [], np.zeros((0, 40, 60), bool), [])
    assert (picture == 128).all()
    image = np.zeros((4, 5, 3), np.uint8)
    picture = vision.draw_objects(image, [[0, 0, 4, 4]])
    assert picture.any()
    assert not image.any()  # the argument is not written on


def test_pictures_of_arrays():
    image = np.zeros((1, 2, 2), np.float64)
    image[0, 1, 0] = 1.5
    assert vision.to_picture(image)[1, 0].tolist() == [255, 255, 255]
    with pytest.raises(ShapeError, match="image"):
        vision.to_picture(np.zeros((2, 4, 4)))
    with pytest.raises(ArgumentError, match="finite"):
        vision.to_picture(np.full((3, 1, 1), np.nan))
    with pytest.raises(ShapeError, match="masks"):
        vision.draw_objects(GREY, [[0, 0, 1, 1]], masks=np.zeros((1, 3, 3), bool))


def test_colors_are_distinct():
    colors = vision.distinct_colors(12).astype(int)
    gaps = np.abs(colors[:, None] - colors[None]).sum(2) + 1000 * np.eye(12, dtype=int)
    assert gaps.min() > 40
    assert vision.distinct_colors(0).shape == (0, 3)
    labels = vision.color_labels(np.array([[0, 1], [2, 0]]), 2)
    assert labels[0, 0].tolist() == [0, 0, 0]
    assert (labels[0, 1] == vision.distinct_colors(2)[0]).all()
    with pytest.raises(ArgumentError, match="semantic"):
        vision.color_labels(np.array([[3]]), 2)


def test_tiles():
    pictures = [np.full((2, 3, 3), i, np.uint8) for i in range(3)]
    sheet = vision.tile(pictures, 2, gap=1)
    assert sheet.shape == (2 * 3 + 1, 2 * 4 + 1, 3)
    assert sheet[:, :, 0].tolist() == [
        [255] * 9,
        [255, 0, 0, 0, 255, 1, 1, 1, 255],
        [255, 0, 0, 0, 255, 1, 1, 1, 255],
        [255] * 9,
        [255, 2, 2, 2, 255, 255, 255, 255, 255],
        [255, 2, 2, 2, 255, 255, 255, 255, 255],
        [255] * 9,
    ]
    with pytest.raises(ArgumentError, match="pictures"):
        vision.tile([], 2)
