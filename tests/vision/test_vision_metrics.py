"""COCO's average precision on cases counted by hand, and label maps against slow counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cnncore import vision
from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.vision import Objects

NONE = Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
NONE_FOUND = Objects(NONE.boxes, NONE.labels, np.zeros((0, 40, 40), bool), np.zeros(0))


def objects(boxes, labels, scores=None, size=(40, 40)):
    """Objects whose masks fill their boxes."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    masks = np.zeros((len(array), *size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, array.astype(int).tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    found = None if scores is None else np.array(scores, np.float64)
    return Objects(array, np.array(labels, np.int64), masks, found)


TRUTH = [objects([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 1]), objects([[5, 5, 15, 15]], [0])]


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_perfect_predictions(kind, capfd):
    pytest.importorskip("pycocotools")
    found = [objects(t.boxes, t.labels, np.linspace(0.9, 0.5, len(t.labels))) for t in TRUTH]
    scores = vision.coco_metrics(found, TRUTH, kind)
    assert tuple(scores) == vision.COCO_NAMES
    for name in ("AP", "AP50", "AP75", "AP_small", "AR_1", "AR_100", "AR_small"):
        assert scores[name] == pytest.approx(1.0)
    assert scores["AP_large"] == scores["AR_medium"] == vision.NOTHING
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_iou_of_0_8_counts_up_to_its_threshold(kind):
    pytest.importorskip("pycocotools")
    truth = [objects([[20, 10, 30, 20]], [0])]
    found = [objects([[20, 10, 30, 18]], [0], [0.9])]  # IoU 0.8: right at 0.50 … 0.80, 7 of 10
    scores = vision.coco_metrics(found, truth, kind)
    assert scores["AP"] == pytest.approx(0.7)
    assert scores["AP50"] == scores["AP75"] == pytest.approx(1.0)


def test_precision_by_hand():
    pytest.importorskip("pycocotools")
    truth = [objects([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 0])]
    # Right, wrong, right: precision 1 up to recall 1/2, then 2/3; 51 and 50 of 101 recall points.
    boxes = [[0, 0, 10, 10], [0, 20, 10, 30], [20, 20, 30, 30]]
    found = [objects(boxes, [0, 0, 0], [0.9, 0.8, 0.7])]
    scores = vision.coco_metrics(found, truth)
    assert scores["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert scores["AR_1"] == pytest.approx(0.5)
    assert scores["AR_10"] == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_what_is_small_and_large_can_be_said(kind):
    pytest.importorskip("pycocotools")
    boxes = [[0, 0, 4, 4], [10, 10, 20, 20], [20, 20, 40, 40]]  # 16, 100 and 400 pixels
    truth = [objects(boxes, [0, 0, 0])]
    found = [objects(boxes[1:2], [0], [0.9])]  # the one in the middle
    scores = vision.coco_metrics(found, truth, kind, (50, 200))
    sizes = [scores[f"AP_{size}"] for size in ("small", "medium", "large")]
    assert sizes == [0, pytest.approx(1), 0]
    usual = vision.coco_metrics(found, truth, kind)
    assert usual["AP_medium"] == usual["AP_large"] == vision.NOTHING
    assert usual["AP"] == scores["AP"]
    for areas in ((0, 5), (5, 4), (1, np.inf), (1, np.nan)):
        with pytest.raises(ArgumentError, match="areas"):
            vision.coco_metrics(found, truth, kind, areas)


def test_a_false_alarm_on_an_empty_image_costs():
    pytest.importorskip("pycocotools")
    truth = [objects([[0, 0, 10, 10]], [0]), NONE]
    right = objects([[0, 0, 10, 10]], [0], [0.5])
    wrong = objects([[0, 0, 10, 10]], [0], [0.9])
    assert vision.coco_metrics([right, NONE_FOUND], truth)["AP50"] == pytest.approx(1.0)
    assert vision.coco_metrics([right, wrong], truth)["AP50"] == pytest.approx(0.5)


def test_labels_count_and_classes_are_apart():
    pytest.importorskip("pycocotools")
    found = [objects(TRUTH[0].boxes, [0, 2], [0.9, 0.9]), objects([[5, 5, 15, 15]], [0], [0.9])]
    # Class 0 perfect, class 1 missed; class 2 has no truth and does not enter the mean.
    assert vision.coco_metrics(found, TRUTH)["AP50"] == pytest.approx(0.5)
    by_class = vision.coco_class_ap(found, TRUTH, 3)
    np.testing.assert_allclose(by_class, [1, 0, vision.NOTHING], atol=1e-12)
    np.testing.assert_allclose(vision.coco_class_ap(found, TRUTH, 3, iou=0.75), by_class)
    with pytest.raises(ArgumentError, match="iou"):
        vision.coco_class_ap(found, TRUTH, 3, iou=0.51)
    with pytest.raises(ArgumentError, match="num_classes"):
        vision.coco_class_ap(found, TRUTH, 1)


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_nothing_found_and_nothing_true(kind):
    pytest.importorskip("pycocotools")
    scores = vision.coco_metrics([NONE_FOUND, NONE_FOUND], TRUTH, kind)
    assert scores["AP"] == scores["AR_100"] == 0
    empty = [objects([], [])]
    for found in (NONE_FOUND, objects([[0, 0, 1, 1]], [0], [0.5])):
        assert set(vision.coco_metrics([found], empty, kind).values()) == {vision.NOTHING}
    assert set(vision.coco_metrics([], [], kind).values()) == {vision.NOTHING}
    assert vision.coco_class_ap([], [], 2).tolist() == [vision.NOTHING] * 2


def test_metrics_refuse():
    pytest.importorskip("pycocotools")
    with pytest.raises(ArgumentError, match="predictions"):
        vision.coco_metrics([], TRUTH)
    with pytest.raises(ArgumentError, match="kind"):
        vision.coco_metrics([], [], "polygons")
    with pytest.raises(ArgumentError, match=r"predictions\[0\]\.scores"):
        vision.coco_metrics(TRUTH, TRUTH)
    bare = Objects(TRUTH[1].boxes, TRUTH[1].labels)
    with pytest.raises(ArgumentError, match=r"truth\[0\]\.masks"):
        vision.coco_metrics([NONE_FOUND], [bare], "masks")
    other = objects([[0, 0, 1, 1]], [0], [0.5], size=(20, 40))
    with pytest.raises(ShapeError, match=r"predictions\[0\]\.masks"):
        vision.coco_metrics([other], TRUTH[1:], "masks")
    with pytest.raises(ArgumentError, match=r"truth\[0\]\.labels"):
        vision.coco_metrics([NONE_FOUND], [objects([[0, 0, 1, 1]], [-1])])


# --- label maps -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_label_map_scores(pairs):
    truth = np.array([t for t, _ in pairs], np.int64)
    found = np.array([f for _, f in pairs], np.int64)
    confusion = vision.confusion_matrix(truth, found, 4)
    assert confusion.dtype == np.int64
    for i in range(4):
        for j in range(4):
            assert confusion[i, j] == pairs.count((i, j))
    expected = []
    for k in range(4):
        either = [p for p in pairs if k in p]
        expected.append(pairs.count((k, k)) / len(either) if either else vision.NOTHING)
    np.testing.assert_allclose(vision.class_iou(confusion), expected)
    occurring = [value for value in expected if value >= 0]
    mean = sum(occurring) / len(occurring) if occurring else vision.NOTHING
    assert vision.mean_iou(confusion) == pytest.approx(mean)
    accuracy = sum(t == f for t, f in pairs) / len(pairs) if pairs else vision.NOTHING
    assert vision.pixel_accuracy(confusion) == pytest.approx(accuracy)


def test_ignored_pixels_and_refusals():
    truth = np.array([[0, 255], [1, 1]], np.uint8)
    found = np.array([[0, 9], [0, 1]], np.uint8)
    assert vision.confusion_matrix(truth, found, 2, 255).tolist() == [[1, 0], [1, 1]]
    with pytest.raises(ArgumentError, match=r"truth: expected classes 0..1, got 0..255"):
        vision.confusion_matrix(truth, found, 2)
    with pytest.raises(ShapeError, match="prediction"):
        vision.confusion_matrix(truth, found[0], 2)
    with pytest.raises(DTypeError, match="prediction"):
        vision.confusion_matrix(truth, found * 0.5, 2, 255)
    with pytest.raises(ShapeError, match="confusion"):
        vision.mean_iou([[1, 2]])
    # 2**17 pixels of class 300 do not overflow a byte's arithmetic.
    many = np.full(2**17, 300, np.uint16)
    assert vision.confusion_matrix(many, many, 301)[300, 300] == 2**17
