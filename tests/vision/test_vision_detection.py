"""Anchors, proposals and detections: their order, their steps one by one, empty images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slow_vision as slow
from hypothesis import given, strategies as st
from strategies_vision import boxes, vectors

from cnncore import vision
from cnncore.errors import ArgumentError, ShapeError

# --- anchors --------------------------------------------------------------------------------------


def test_the_published_anchors():
    # The nine anchors of Faster R-CNN around the origin, sizes 32, ratios 1/2, 1, 2, rounded.
    settings = vision.AnchorSettings(sizes=((32.0,),))
    assert vision.cell_anchors(settings, 0).tolist() == [
        [-23, -11, 23, 11],
        [-16, -16, 16, 16],
        [-11, -23, 11, 23],
    ]


def test_order_row_column_ratio_size():
    settings = vision.AnchorSettings(((8.0, 24.0), (32.0, 64.0)), (1.0, 4.0), 0.5, False)
    assert settings.per_cell(0) == 4
    first, second = vision.make_anchors(settings, [(2, 3), (1, 1)], [4, (8, 16)])
    assert first.shape == (24, 4)
    assert second.shape == (4, 4)
    position = 0
    for y in range(2):
        for x in range(3):
            for ratio in (1.0, 4.0):
                for size in (8.0, 24.0):
                    cx, cy = 4 * (x + 0.5), 4 * (y + 0.5)
                    w, h = size / math.sqrt(ratio), size * math.sqrt(ratio)
                    expected = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
                    assert first[position].tolist() == expected
                    position += 1
    assert second[0].tolist() == [8 - 16, 4 - 16, 8 + 16, 4 + 16]  # strides are (h, w)


@given(st.floats(4, 500), st.floats(0.2, 5))
def test_anchor_area_and_shape(size, ratio):
    settings = vision.AnchorSettings(((size,),), (ratio,), rounded=False)
    x1, y1, x2, y2 = vision.cell_anchors(settings, 0)[0].tolist()
    assert (x2 - x1) * (y2 - y1) == pytest.approx(size * size, rel=1e-5)
    assert (y2 - y1) / (x2 - x1) == pytest.approx(ratio, rel=1e-5)
    assert x1 == -x2
    assert y1 == -y2


def test_anchors_refuse_and_empty():
    settings = vision.AnchorSettings(sizes=((8.0,),))
    assert vision.make_anchors(settings, [(0, 4)], [8])[0].shape == (0, 4)
    with pytest.raises(ArgumentError, match="shapes"):
        vision.make_anchors(settings, [(1, 1), (2, 2)], [8])
    with pytest.raises(ArgumentError, match="strides"):
        vision.make_anchors(settings, [(1, 1)], [0])
    with pytest.raises(ArgumentError, match="ratios"):
        vision.AnchorSettings(ratios=(0.0,))
    with pytest.raises(ArgumentError, match="sizes"):
        vision.AnchorSettings(sizes=((8.0,), ()))
    shared = vision.make_anchors(settings, [(2, 2)], [8])[0]
    with pytest.raises(ValueError, match="read-only"):
        shared[0] = 0


# --- proposals ------------------------------------------------------------------------------------


def slow_proposals(scores, deltas, anchors, size, settings):
    pool = []  # (level, position within the level's ranking, box, score)
    for level in range(len(scores)):
        order = sorted(range(len(scores[level])), key=lambda i, s=scores[level]: (-s[i], i))
        for i in order[: settings.pre_nms]:
            x1, y1, x2, y2 = slow.decode(deltas[level][i], anchors[level][i], (1, 1, 1, 1))
            x1, x2 = (min(max(v, 0), size[1]) for v in (x1, x2))
            y1, y2 = (min(max(v, 0), size[0]) for v in (y1, y2))
            if min(x2 - x1, y2 - y1) >= settings.min_size:
                pool.append((level, (x1, y1, x2, y2), scores[level][i]))
    kept = []
    for level in range(len(scores)):
        members = [k for k, entry in enumerate(pool) if entry[0] == level]
        chosen = slow.nms(
            [pool[k][1] for k in members], [pool[k][2] for k in members], settings.nms_threshold
        )
        kept += [members[c] for c in chosen]
    kept.sort(key=lambda k: (-pool[k][2], k))
    return [pool[k] for k in kept[: settings.post_nms]]


@given(st.data())
def test_proposals_from_the_definition(data):
    levels = data.draw(st.integers(1, 3))
    anchors = [data.draw(boxes(max_count=8, positive=True)) for _ in range(levels)]
    scores = [data.draw(vectors(len(a))) for a in anchors]
    deltas = [data.draw(vectors(4 * len(a), -1, 1)).reshape(-1, 4) for a in anchors]
    settings = vision.ProposalSettings(pre_nms=5, post_nms=6, nms_threshold=0.5, min_size=1.0)
    found = vision.select_proposals(scores, deltas, anchors, (32, 24), settings)
    expected = slow_proposals(scores, deltas, anchors, (32, 24), settings)
    assert found.scores.tolist() == [entry[2] for entry in expected]
    np.testing.assert_allclose(
        found.boxes, np.array([entry[1] for entry in expected]).reshape(-1, 4), atol=1e-9
    )


def test_proposals_by_hand():
    anchors = [[[0, 0, 8, 8], [0, 0, 8, 9], [20, 20, 28, 28]], [[0, 0, 8, 8]]]
    scores = [[1.0, 2.0, 0.0], [3.0]]
    zero = [np.zeros((3, 4)), np.zeros((1, 4))]
    found = vision.select_proposals(scores, zero, anchors, (16, 16))
    # Box 0 falls to box 1; the third is outside; the other level does not suppress this one.
    assert found.boxes.tolist() == [[0, 0, 8, 8], [0, 0, 8, 9]]
    assert found.scores.tolist() == [3, 2]


def test_proposals_of_nothing_and_refusals():
    none = np.zeros((0, 4), np.float32)
    found = vision.select_proposals([np.zeros(0)], [none], [none], (8, 8))
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)
    one = np.array([[0.0, 0, 4, 4]])
    with pytest.raises(ArgumentError, match="one entry a level"):
        vision.select_proposals([], [], [], (8, 8))
    with pytest.raises(ArgumentError, match=r"scores\[0\]: .*NaN at index 0"):
        vision.select_proposals([[math.nan]], [np.zeros((1, 4))], [one], (8, 8))
    with pytest.raises(ArgumentError, match="deltas"):
        vision.select_proposals([[1.0]], [np.full((1, 4), math.nan)], [one], (8, 8))
    with pytest.raises(ShapeError, match=r"deltas\[0\]"):
        vision.select_proposals([[1.0]], [np.zeros((2, 4))], [one], (8, 8))


# --- detections -----------------------------------------------------------------------------------


def test_detections_by_hand():
    proposals = np.array([[0, 0, 8, 8], [0, 0, 8, 9], [10, 10, 16, 16]], np.float32)
    probabilities = np.array(
        [[0.1, 0.6, 0.3], [0.0, 0.7, 0.3], [0.96, 0.04, 0.0]], np.float32
    )  # background, class 0, class 1
    deltas = np.zeros((3, 2, 4), np.float32)
    deltas[1, 1, 0] = 10  # class 1 of proposal 1 moves right by one width (weights 10)
    settings = vision.DetectionSettings(nms_threshold=0.5)
    found = vision.select_detections(probabilities, deltas, proposals, (20, 20), settings)
    assert found.labels.tolist() == [0, 1, 1]
    assert found.proposal.tolist() == [1, 0, 1]
    np.testing.assert_allclose(found.scores, [0.7, 0.3, 0.3])
    np.testing.assert_allclose(found.boxes, [[0, 0, 8, 9], [0, 0, 8, 8], [8, 0, 16, 9]], atol=1e-5)
    agnostic = vision.DetectionSettings(class_agnostic=True)
    found = vision.select_detections(probabilities, deltas, proposals, (20, 20), agnostic)
    assert found.proposal.tolist() == [1, 1]
    assert found.labels.tolist() == [0, 1]
    few = vision.DetectionSettings(max_detections=1)
    assert (
        vision.select_detections(probabilities, deltas, proposals, (20, 20), few).labels.size == 1
    )


def test_detections_of_nothing_and_refusals():
    none = np.zeros((0, 4), np.float32)
    found = vision.select_detections(np.zeros((0, 4)), np.zeros((0, 3, 4)), none, (8, 8))
    assert found.boxes.shape == (0, 4)
    assert found.labels.shape == found.scores.shape == found.proposal.shape == (0,)
    one = np.array([[0.0, 0, 4, 4]])
    # All below the threshold.
    sure = np.array([[1.0, 0.0]])
    assert len(vision.select_detections(sure, np.zeros((1, 1, 4)), one, (8, 8)).boxes) == 0
    with pytest.raises(ShapeError, match="background"):
        vision.select_detections(np.ones((1, 3)), np.zeros((1, 3, 4)), one, (8, 8))
    with pytest.raises(ArgumentError, match=r"NaN at \[0, 1\]"):
        vision.select_detections([[0.5, math.nan]], np.zeros((1, 1, 4)), one, (8, 8))
