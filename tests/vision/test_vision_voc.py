"""VOC's average precision against loops, kinds of errors by hand, COCO's keypoint numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from slow_vision import iou as slow_iou

from cnncore import vision
from cnncore.errors import ArgumentError, ShapeError
from cnncore.vision import Objects
from cnncore.vision.error_analysis import (
    ERRORS,
    draw_errors,
    error_counts,
    error_gains,
    image_errors,
)
from cnncore.vision.voc_metrics import (
    draw_precision_recall,
    precision_recall,
    voc_class_ap,
    voc_metrics,
)


def some(rows, scored: bool = True) -> Objects:
    """``(x1, y1, x2, y2, label, score or ignored)`` each."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    last = table[:, 5]
    return Objects(
        table[:, :4],
        table[:, 4].astype(np.int64),
        None,
        last if scored else None,
        None,
        None if scored else last.astype(bool),
    )


@st.composite
def scenes(draw, ignored: bool = True) -> tuple[list[Objects], list[Objects]]:
    """A few images with boxes on a coarse grid and few different scores: ties and duplicates."""
    found, truth = [], []
    for _ in range(draw(st.integers(1, 3))):
        for objects, most, scored in ((found, 8, True), (truth, 4, False)):
            rows = []
            for _ in range(draw(st.integers(0, most))):
                x, y = draw(st.integers(0, 4)), draw(st.integers(0, 2))
                w, h = draw(st.integers(2, 5)), draw(st.integers(2, 4))
                last = draw(st.integers(1, 5)) / 5 if scored else ignored and draw(st.booleans())
                rows.append([x, y, x + w, y + h, draw(st.integers(0, 1)), last])
            objects.append(some(rows, scored))
    return found, truth


def slow_curve(found: list[Objects], truth: list[Objects], label: int, threshold: float):
    """Fates of detections one by one in the order of scores, as the development kit says."""
    rows = [
        (-float(s), image, n)
        for image, f in enumerate(found)
        for n, (s, k) in enumerate(zip(f.scores, f.labels, strict=True))
        if k == label
    ]
    count = sum(
        1 for t in truth for k, i in zip(t.labels, t.ignored, strict=True) if k == label and not i
    )
    used, right, wrong, curve = set(), 0, 0, []
    for _, image, n in sorted(rows):
        best, which = -1.0, None
        for g, box in enumerate(truth[image].boxes):
            if truth[image].labels[g] == label:
                value = slow_iou(found[image].boxes[n], box)
                if value > best:
                    best, which = value, g
        if best >= threshold:
            if truth[image].ignored[which]:
                continue
            if (image, which) not in used:
                used.add((image, which))
                right += 1
            else:
                wrong += 1
        else:
            wrong += 1
        curve.append((right / max(count, 1), right / (right + wrong)))
    return count, curve


def slow_average(count: int, curve: list[tuple[float, float]], eleven: bool) -> float:
    if not count:
        return -1.0
    if eleven:
        points = []
        for tenth in range(11):
            reached = [p for r, p in curve if round(r * count) * 10 >= tenth * count]
            points.append(max(reached, default=0.0))
        return sum(points) / 11
    area, before = 0.0, 0.0
    for i, (r, _) in enumerate(curve):
        area += (r - before) * max(p for _, p in curve[i:])
        before = r
    return area


@settings(max_examples=150, deadline=None)
@given(scenes(), st.sampled_from([0.3, 0.5, 0.75]))
def test_average_precision_against_loops(case, threshold: float) -> None:
    found, truth = case
    for label in (0, 1):
        count, curve = slow_curve(found, truth, label, threshold)
        fast = precision_recall(found, truth, label, threshold)
        assert fast.objects == count
        np.testing.assert_allclose(fast.recall, [r for r, _ in curve], atol=1e-12)
        np.testing.assert_allclose(fast.precision, [p for _, p in curve], atol=1e-12)
        for eleven in (True, False):
            each = voc_class_ap(found, truth, 2, eleven, threshold)
            assert each[label] == pytest.approx(slow_average(count, curve, eleven), abs=1e-12)


def test_by_hand() -> None:
    truth = [some([(0, 0, 10, 10, 0, 0), (20, 0, 30, 10, 0, 0)], False)]
    # right, wrong, right: precision 1, 1/2, 2/3
    found = [some([(0, 0, 10, 10, 0, 0.9), (0, 20, 10, 30, 0, 0.8), (20, 0, 30, 10, 0, 0.7)])]
    scores = voc_metrics(found, truth, 1)
    assert scores["mAP 2010"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["mAP 2007"] == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert voc_metrics([], [], 3) == {"mAP 2007": -1.0, "mAP 2010": -1.0}
    perfect = [Objects(t.boxes, t.labels, None, np.ones(len(t.boxes))) for t in truth]
    assert set(voc_metrics(perfect, truth, 1).values()) == {1.0}


def test_three_of_ten_reach_a_recall_of_three_tenths() -> None:
    boxes = [(20 * i, 0, 20 * i + 10, 10, 0, 0) for i in range(10)]
    found = [some([(*b[:5], 0.9 - 0.1 * n) for n, b in enumerate(boxes[:3])])]
    assert precision_recall(found, [some(boxes, False)], 0).average(True) == pytest.approx(4 / 11)


def test_bad_predictions_are_named() -> None:
    one = some([(0, 0, 9, 9, 0, 0.5)])
    with pytest.raises(ArgumentError, match="predictions"):
        voc_metrics([one], [], 1)
    with pytest.raises(ArgumentError, match=r"predictions\[0\]\.scores"):
        voc_metrics([some([(0, 0, 9, 9, 0, 0)], False)], [one], 1)
    with pytest.raises(ArgumentError, match="iou"):
        voc_metrics([one], [one], 1, iou=0.0)
    bad = Objects(one.boxes, one.labels, ignored=np.zeros(3, bool))
    with pytest.raises(ShapeError, match=r"truth\[0\]\.ignored"):
        voc_metrics([one], [bad], 1)


def test_curves_are_drawn() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    found, truth = [some([(0, 0, 9, 9, 0, 0.5)])], [some([(0, 0, 9, 9, 0, 0)], False)]
    none = precision_recall([], [], 0)
    figure = draw_precision_recall({"a": precision_recall(found, truth, 0), "b": none})
    assert [line.get_label() for line in figure.axes[0].lines] == ["a  1.000"]
    counts = error_counts(found, truth)
    assert len(draw_errors(counts).axes[0].patches) == len(ERRORS)


# --- errors ---------------------------------------------------------------------------------------

TRUTH = some([(0, 0, 10, 10, 0, 0), (50, 0, 60, 10, 1, 0), (0, 50, 10, 60, 1, 0)], False)
KINDS = {
    (0, 0, 10, 10, 0, 0.9): "right",
    (0, 0, 10, 9, 0, 0.8): "duplicate",
    (0, 0, 10, 9, 1, 0.8): "classification",
    (0, 0, 10, 40, 0, 0.8): "localisation",  # IoU 1/4
    (0, 0, 10, 40, 1, 0.8): "both",
    (0, 0, 10, 99, 0, 0.8): "localisation",  # 0.10101…
    (90, 90, 99, 99, 0, 0.8): "background",
}


def test_each_kind_by_hand() -> None:
    for row, kind in KINDS.items():
        first = [] if kind == "right" else [(0, 0, 10, 10, 0, 0.9)]
        errors = image_errors(some([*first, row]), TRUTH)
        assert errors.kinds[-1] == kind, row
    tall = some([(0, 0, 10, 101, 0, 0.8)])
    alone = some([(0, 0, 10, 10, 0, 0)], False)
    assert image_errors(tall, alone).kinds == ["background"]  # 0.099


def test_a_right_detection_takes_the_box_it_overlaps_most() -> None:
    truth = some([(0, 0, 10, 10, 0, 0), (2, 0, 12, 10, 0, 0)], False)
    found = some([(2, 0, 12, 10, 0, 0.9), (2, 0, 12, 10, 0, 0.8)])
    errors = image_errors(found, truth)
    assert errors.kinds == ["right", "right"]
    assert errors.partner.tolist() == [1, 0]
    assert errors.missed.tolist() == []


def test_missed_objects_are_those_that_no_mended_error_would_find() -> None:
    found = some([(50, 0, 60, 9, 0, 0.9)])  # on the second, wrong class
    counts = error_counts([found], [TRUTH])
    assert counts == {
        "right": 0, "classification": 1, "localisation": 0, "both": 0, "duplicate": 0,
        "background": 0, "missed": 2,
    }  # fmt: skip
    assert error_counts([found], [TRUTH], score_threshold=0.95)["missed"] == 3


def test_ignored_objects_excuse() -> None:
    truth = some([(0, 0, 10, 10, 0, 1)], False)
    errors = image_errors(some([(0, 0, 10, 10, 0, 0.9)]), truth)
    assert errors.kinds == ["ignored"]
    assert errors.missed.tolist() == []


@settings(max_examples=100, deadline=None)
@given(scenes(ignored=False))
def test_kinds_against_their_definitions(case) -> None:
    found, truth = case
    for f, t in zip(found, truth, strict=True):
        errors = image_errors(f, t)
        used = [p for p, k in zip(errors.partner, errors.kinds, strict=True) if k == "right"]
        assert len(set(used)) == len(used)
        for n, kind in enumerate(errors.kinds):
            values = [slow_iou(f.boxes[n], b) for b in t.boxes]
            same = max(
                (v for v, k in zip(values, t.labels, strict=True) if k == f.labels[n]), default=0
            )
            other = max(
                (v for v, k in zip(values, t.labels, strict=True) if k != f.labels[n]), default=0
            )
            if kind == "right":
                assert values[errors.partner[n]] >= 0.5
                continue
            names = [
                ("duplicate", same >= 0.5),
                ("classification", other >= 0.5),
                ("localisation", same >= 0.1),
                ("both", other >= 0.1),
                ("background", True),
            ]
            assert kind == next(name for name, holds in names if holds)
    counts = error_counts(found, truth)
    assert sum(counts.values()) - counts["missed"] == sum(len(f.boxes) for f in found)


@settings(max_examples=60, deadline=None)
@given(scenes(ignored=False))
def test_taking_away_what_is_on_nothing_never_makes_it_worse(case) -> None:
    gains = error_gains(*case, num_classes=2)
    assert set(gains) == set(ERRORS)
    assert gains["background"] >= -1e-9
    assert gains["both"] >= -1e-9


def test_gains_by_hand() -> None:
    truth = [some([(0, 0, 10, 10, 0, 0), (50, 0, 60, 10, 1, 0)], False)]
    found = [some([(0, 0, 10, 10, 0, 0.5), (80, 80, 90, 90, 0, 0.9), (50, 0, 60, 10, 0, 0.4)])]
    # class 0: wrong, right, wrong: 1/2; class 1: 0
    gains = error_gains(found, truth, 2)
    assert gains["background"] == pytest.approx((1 + 0) / 2 - 1 / 4)
    assert gains["classification"] == pytest.approx((1 / 2 + 1) / 2 - 1 / 4)
    assert gains["missed"] == gains["duplicate"] == gains["localisation"] == 0


# --- keypoints ------------------------------------------------------------------------------------


def person(points, scale: float = 50.0, score: float | None = None) -> Objects:
    array = np.array(points, np.float64)[None]
    scores = None if score is None else np.array([score])
    boxes = np.array([[0, 0, scale, scale]])
    return Objects(boxes, np.array([0]), None, scores, array)


def test_keypoint_numbers_follow_the_similarity() -> None:
    pytest.importorskip("pycocotools")
    sigmas = (0.05, 0.1)
    truth = [person([(10, 10, 2), (30, 30, 1)])]
    exact = vision.coco_keypoint_metrics(
        [person([(10, 10, 1), (30, 30, 1)], score=0.9)], truth, sigmas
    )
    assert tuple(exact) == vision.KEYPOINT_NAMES
    assert [exact[n] for n in ("AP", "AR", "AP_medium")] == pytest.approx([1, 1, 1])
    assert exact["AP_large"] == vision.NOTHING
    # One joint off by d: the mean of 1 and exp(-d² / (2 s² (2σ)²)); between two thresholds.
    d = 4.0
    similarity = (1 + math.exp(-(d**2) / (2 * 2500 * (2 * 0.05) ** 2))) / 2
    steps = [t for t in np.arange(0.5, 1.0, 0.05) if similarity >= t]
    assert 0 < len(steps) < 10
    off = vision.coco_keypoint_metrics(
        [person([(10 + d, 10, 1), (30, 30, 1)], score=0.9)], truth, sigmas
    )
    assert off["AP"] == pytest.approx(len(steps) / 10)


def test_joints_that_are_not_labelled_do_not_count() -> None:
    pytest.importorskip("pycocotools")
    truth = [person([(10, 10, 2), (0, 0, 0)])]
    found = [person([(10, 10, 1), (44, 44, 1)], score=0.9)]
    assert vision.coco_keypoint_metrics(found, truth, (0.05, 0.1))["AP"] == pytest.approx(1)
    nobody = Objects(np.zeros((0, 4)), np.zeros(0, np.int64), keypoints=np.zeros((0, 2, 3)))
    scores = vision.coco_keypoint_metrics(found, [nobody], (0.05, 0.1))
    assert set(scores.values()) == {vision.NOTHING}


def test_bad_keypoints_are_named() -> None:
    pytest.importorskip("pycocotools")
    truth = [person([(10, 10, 2), (0, 0, 0)])]
    with pytest.raises(ShapeError, match=r"truth\[0\]\.keypoints"):
        vision.coco_keypoint_metrics(truth, truth)
    with pytest.raises(ArgumentError, match="sigmas"):
        vision.coco_keypoint_metrics(truth, truth, (0.1, -1.0))
    plain = Objects(truth[0].boxes, truth[0].labels)
    with pytest.raises(ArgumentError, match=r"truth\[0\]\.keypoints"):
        vision.coco_keypoint_metrics([plain], [plain], (0.1,))
    assert len(vision.COCO_SIGMAS) == 17
