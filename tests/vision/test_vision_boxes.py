"""Boxes, coders, matchers, samplers, NMS and levels against slow definitions and hand counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import slow_vision as slow
from hypothesis import given, strategies as st
from strategies_vision import boxes, vectors

from cnncore import vision
from cnncore.errors import ArgumentError, DTypeError, ShapeError

NONE = np.zeros((0, 4), np.float32)


# --- what a legal box is --------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [[], np.zeros((0, 4)), np.zeros((0, 4), np.int64)])
def test_no_boxes_in_any_spelling(empty):
    assert vision.as_boxes(empty).shape == (0, 4)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ([0, 0, math.nan, 1], "box 2 = "),
        ([0, 0, math.inf, 1], "box 2 = "),
        ([3, 0, 2, 1], "box 2 = [3.0, 0.0, 2.0, 1.0]"),
        ([0, 3, 1, 2], "box 2 = [0.0, 3.0, 1.0, 2.0]"),
    ],
)
def test_the_bad_box_is_named(bad, named):
    with pytest.raises(ArgumentError) as caught:
        vision.as_boxes([[0, 0, 1, 1], [0, 0, 0, 0], bad, bad], "truth")
    assert str(caught.value).startswith("truth: ")
    assert named in str(caught.value)


def test_boxes_without_extent_are_refused_only_where_they_make_no_sense():
    flat = [[0, 0, 1, 1], [2, 2, 2, 5]]
    assert len(vision.as_boxes(flat)) == 2
    with pytest.raises(ArgumentError, match="box 1"):
        vision.as_boxes(flat, positive=True)


@pytest.mark.parametrize("shape", [(4,), (2, 5), (1, 2, 4), (3, 0)])
def test_wrong_shapes(shape):
    with pytest.raises(ShapeError, match=r"\(R, 4\)"):
        vision.as_boxes(np.zeros(shape))


@pytest.mark.parametrize("kind", [np.bool_, np.complex128, np.str_])
def test_wrong_types(kind):
    with pytest.raises(DTypeError, match="boxes"):
        vision.as_boxes(np.zeros((2, 4), kind))


def test_foreign_byte_order_strides_and_read_only_are_served():
    wide = np.arange(16, dtype=">f8").reshape(2, 8)[:, ::2]
    wide.flags.writeable = False
    checked = vision.as_boxes(wide)
    assert checked.dtype == np.float64
    assert checked.dtype.isnative
    assert checked.tolist() == [[0, 2, 4, 6], [8, 10, 12, 14]]


# --- geometry -------------------------------------------------------------------------------------


@given(boxes(), boxes())
def test_iou_and_generalized_iou(a, b):
    iou, generalized = vision.box_iou(a, b), vision.generalized_box_iou(a, b)
    assert iou.shape == generalized.shape == (len(a), len(b))
    for i, left in enumerate(a):
        for j, right in enumerate(b):
            expected = slow.iou(left, right)
            assert iou[i, j] == pytest.approx(expected, abs=1e-12)
            hull = [*np.minimum(left, right)[:2], *np.maximum(left, right)[2:]]
            area = (hull[2] - hull[0]) * (hull[3] - hull[1])
            areas = [(k[2] - k[0]) * (k[3] - k[1]) for k in (left, right)]
            union = sum(areas) / (1 + expected)  # iou = (sum − union) / union
            expected = expected - (area - union) / area if area > 0 else 0.0
            assert generalized[i, j] == pytest.approx(expected, abs=1e-9)


@given(boxes(), st.integers(1, 30), st.integers(1, 30))
def test_clip_area_small(a, height, width):
    clipped = vision.clip_boxes(a, (height, width))
    for box, cut in zip(a, clipped, strict=True):
        assert cut.tolist() == [
            min(max(value, 0), limit)
            for value, limit in zip(box, (width, height, width, height), strict=True)
        ]
    expected = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in clipped.tolist()]
    assert vision.box_area(clipped).tolist() == expected
    large = [i for i, (x1, y1, x2, y2) in enumerate(clipped) if min(x2 - x1, y2 - y1) >= 2]
    assert vision.remove_small_boxes(clipped, 2).tolist() == large


@given(boxes(), st.sampled_from(["xyxy", "xywh", "cxcywh"]), st.sampled_from(["xyxy", "xywh"]))
def test_convert_there_and_back(a, form, other):
    there = vision.box_convert(vision.box_convert(a, "xyxy", form), form, other)
    np.testing.assert_array_equal(vision.box_convert(there, other, "xyxy"), a)


def test_convert_by_hand_and_errors():
    box = [[1, 2, 4, 8]]
    assert vision.box_convert(box, "xyxy", "xywh").tolist() == [[1, 2, 3, 6]]
    assert vision.box_convert(box, "xywh", "xyxy").tolist() == [[1, 2, 5, 10]]
    assert vision.box_convert(box, "cxcywh", "xyxy").tolist() == [[-1, -2, 3, 6]]
    assert vision.box_convert([], "xywh", "xyxy").shape == (0, 4)
    with pytest.raises(ArgumentError, match="out_fmt"):
        vision.box_convert(box, "xyxy", "yxyx")
    with pytest.raises(ArgumentError, match="box 0"):
        vision.box_convert([[0, 0, -1, 1]], "xywh", "xyxy")


# --- coder ----------------------------------------------------------------------------------------


@given(st.data())
def test_decode_inverts_encode(data):
    target = data.draw(boxes(positive=True))
    reference = data.draw(boxes(len(target), len(target), positive=True))
    coder = vision.DeltaCoder((10.0, 9.0, 5.0, 4.0))
    deltas = coder.encode(target, reference)
    assert deltas.shape == target.shape
    np.testing.assert_allclose(coder.decode(deltas, reference), target, atol=1e-9)


@given(st.data())
def test_decode_from_the_definition_with_clamp(data):
    reference = data.draw(boxes())
    count = len(reference)
    deltas = data.draw(vectors(count * 8, -8, 8)).reshape(count, 2, 4)
    weights = (2.0, 1.0, 0.5, 1.0)
    decoded = vision.DeltaCoder(weights).decode(deltas, reference)
    assert decoded.shape == (count, 2, 4)
    for r in range(count):
        for k in range(2):
            expected = slow.decode(deltas[r, k], reference[r], weights)
            np.testing.assert_allclose(decoded[r, k], expected, rtol=1e-9, atol=1e-9)


def test_coder_by_hand():
    coder = vision.DeltaCoder((10.0, 10.0, 5.0, 5.0))
    # Centre (2, 2) side 4 -> centre (4, 3), sides 8 and 2: shifts 1/2 and 1/4, logs ±ln 2.
    deltas = coder.encode([[0, 2, 8, 4]], [[0, 0, 4, 4]])
    np.testing.assert_allclose(deltas, [[5, 2.5, 5 * math.log(2), -5 * math.log(2)]], rtol=1e-6)
    huge = coder.decode([[0, 0, 1e4, 0]], [[0, 0, 16, 16]])
    np.testing.assert_allclose(huge, [[8 - 500, 0, 8 + 500, 16]], rtol=1e-5)


def test_coder_refuses():
    coder = vision.DeltaCoder()
    assert coder.encode(NONE, NONE).shape == (0, 4)
    assert coder.decode(NONE, NONE).shape == (0, 4)
    assert coder.decode(np.zeros((0, 7, 4)), NONE).shape == (0, 7, 4)
    with pytest.raises(ArgumentError, match=r"references: .*box 0"):
        coder.encode([[0, 0, 1, 1]], [[0, 0, 0, 1]])
    with pytest.raises(ShapeError, match="boxes"):
        coder.encode([[0, 0, 1, 1]], NONE)
    with pytest.raises(ShapeError, match="deltas"):
        coder.decode(np.zeros((2, 4)), [[0, 0, 1, 1]])
    with pytest.raises(ArgumentError, match=r"nan at \[0, 2\]"):
        coder.decode([[0, 0, math.nan, 0]], [[0, 0, 1, 1]])
    with pytest.raises(ArgumentError, match="weights"):
        vision.DeltaCoder((1.0, 1.0, 0.0, 1.0))


# --- matcher, sampler -----------------------------------------------------------------------------


@given(boxes(max_count=5), boxes(), st.booleans())
def test_matcher_from_the_definition(truth, candidates, low_quality):
    matcher = vision.IouMatcher(0.6, 0.3, low_quality)
    overlap = vision.box_iou(truth, candidates)  # shared: ties must be the same ties
    expected = []
    for a in range(len(candidates)):
        column = [float(overlap[g, a]) for g in range(len(truth))]
        best = max(range(len(truth)), key=lambda g, c=column: (c[g], -g), default=-1)
        value = column[best] if truth.size else 0.0
        claimed = any(
            overlap[g, a] == max(overlap[g]) and overlap[g, a] > 0 for g in range(len(truth))
        )
        if value >= 0.6 or (low_quality and claimed):
            expected.append(best)
        else:
            expected.append(vision.BACKGROUND if value < 0.3 else vision.BETWEEN)
    matches = matcher.match(truth, candidates)
    assert matches.dtype == np.int64
    assert matches.tolist() == expected


def test_matcher_by_hand():
    iou = np.array([[0.7, 0.5, 0.1, 0.0], [0.0, 0.6, 0.25, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert vision.IouMatcher(0.7, 0.3)(iou).tolist() == [0, -2, -1, -1]
    assert vision.IouMatcher(0.7, 0.3)([[0.3]]).tolist() == [-2]  # only below 0.3 is background
    # Truth 1 rescues candidate 1; truth 2 overlaps nothing and rescues nothing.
    assert vision.IouMatcher(0.7, 0.3, True)(iou).tolist() == [0, 1, -1, -1]
    assert vision.IouMatcher()(np.zeros((0, 3))).tolist() == [-1, -1, -1]
    assert vision.IouMatcher(low_quality=True)(np.zeros((3, 0))).shape == (0,)
    with pytest.raises(ArgumentError, match="low"):
        vision.IouMatcher(0.3, 0.6)
    with pytest.raises(ArgumentError, match="iou"):
        vision.IouMatcher()([[math.nan]])


@given(
    st.lists(st.integers(-1, 3), max_size=60), st.integers(1, 40), st.sampled_from([0.0, 0.25, 1.0])
)
def test_sampler_counts(labels, count, fraction):
    values = np.array(labels, np.int64)
    sampler = vision.BalancedSampler(count, fraction)
    positive, negative = sampler(values, np.random.default_rng(1))
    available = sum(v > 0 for v in labels)
    assert len(positive) == min(available, int(count * fraction))
    assert len(negative) == min(sum(v == 0 for v in labels), count - len(positive))
    assert all(labels[i] > 0 for i in positive)
    assert all(labels[i] == 0 for i in negative)
    for chosen in (positive.tolist(), negative.tolist()):
        assert chosen == sorted(set(chosen))


def test_sampler_is_seeded_and_fair():
    labels = np.zeros(10, np.int64)
    sampler = vision.BalancedSampler(5, 0.5)
    first = sampler(labels, np.random.default_rng(3))[1]
    assert first.tolist() == sampler(labels, np.random.default_rng(3))[1].tolist()
    rng = np.random.default_rng(0)
    counts = np.zeros(10)
    for _ in range(2000):
        counts[sampler(labels, rng)[1]] += 1
    # Each index is drawn with probability 1/2: 1000 ± 22, so 5.5 sigma either way.
    assert np.abs(counts - 1000).max() < 120
    assert vision.BalancedSampler(100, 0.29).max_positive == 29  # though 0.29 · 100 < 29
    with pytest.raises(ArgumentError, match="count"):
        vision.BalancedSampler(0)
    with pytest.raises(ArgumentError, match="labels"):
        sampler(np.zeros(3), rng)


# --- suppression ----------------------------------------------------------------------------------


@given(st.data(), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_nms_from_the_definition(data, threshold):
    regions = data.draw(boxes(size=16, reach=48))
    scores = data.draw(vectors(len(regions)))
    expected = slow.nms(regions.tolist(), scores.tolist(), threshold)
    assert vision.nms(regions, scores, threshold).tolist() == expected


@given(st.data())
def test_batched_nms_is_nms_of_each_group(data):
    regions = data.draw(boxes(size=16, reach=48))
    count = len(regions)
    scores = data.draw(vectors(count))
    groups = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=count, max_size=count)), int)
    kept = []
    for group in set(groups.tolist()):
        members = [i for i in range(count) if groups[i] == group]
        kept += [
            members[i] for i in slow.nms(regions[members].tolist(), scores[members].tolist(), 0.4)
        ]
    expected = sorted(kept, key=lambda i: (-scores[i], i))
    assert vision.batched_nms(regions, scores, groups, 0.4).tolist() == expected
    assert vision.batched_nms(regions, scores, groups, 0.4, 3).tolist() == expected[:3]


def test_nms_of_nothing_and_refusals():
    none = np.zeros(0)
    assert vision.nms(NONE, none, 0.5).tolist() == []
    assert vision.batched_nms([], [], [], 0.5).tolist() == []
    one = [[0, 0, 1, 1]]
    with pytest.raises(ArgumentError, match=r"scores: .*NaN at index 0"):
        vision.nms(one, [math.nan], 0.5)
    with pytest.raises(ShapeError, match="scores"):
        vision.nms(one, [0.5, 0.6], 0.5)
    with pytest.raises(ArgumentError, match="iou_threshold"):
        vision.nms(one, [0.5], 1.5)
    with pytest.raises(DTypeError, match="groups"):
        vision.batched_nms(one, [0.5], [0.5], 0.5)


def test_float64_scores_of_float32_boxes_do_not_become_ties():
    same = np.array([[0, 0, 4, 4], [0, 0, 4, 4]], np.float32)
    scores = np.array([0.5, 0.5 + 1e-12])
    assert vision.nms(same, scores, 0.5).tolist() == [1]
    assert vision.batched_nms(same, scores, [0, 1], 0.5).tolist() == [1, 0]


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(0, 35))
def test_top_k(values, k):
    scores = np.array(values, np.float64)
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    assert vision.top_k(scores, k).tolist() == expected


# --- levels ---------------------------------------------------------------------------------------


def test_levels_by_hand():
    rule = vision.LevelRule(2, 5, 224, 4)
    sides = [0, 1, 111, 112, 223, 224, 447, 448, 5000]
    regions = [[0, 0, side, side] for side in sides]
    assert rule.assign(regions).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert rule.assign([[0, 0, 112, 448]]).tolist() == [2]  # the geometric mean counts
    assert rule.assign([]).shape == (0,)
    small = vision.LevelRule(2, 5, 28, 3)
    assert small.assign([[0, 0, 13.9, 13.9], [0, 0, 14, 14], [0, 0, 28, 28]]).tolist() == [0, 0, 1]


def test_levels_survive_rounding():
    # √(49.7 · 49.7) / 49.7 can round below 1; the 1e-6 keeps such a box on its level.
    rng = np.random.default_rng(0)
    for side in rng.uniform(5, 300, 200):
        box = np.array([[side, side, 2 * side, 2 * side]], np.float32)
        exact = float(box[0, 2] - box[0, 0])
        assert vision.LevelRule(2, 5, exact, 4).assign(box).tolist() == [2]


def test_level_rule_refuses():
    with pytest.raises(ArgumentError, match="lowest"):
        vision.LevelRule(5, 2)
    with pytest.raises(ArgumentError, match="canonical_size"):
        vision.LevelRule(canonical_size=0)
