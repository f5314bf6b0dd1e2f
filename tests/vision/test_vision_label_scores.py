"""Scores of label maps that the confusion matrix gives, and boundaries, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cnncore import vision
from cnncore.errors import ArgumentError, ShapeError

RNG = np.random.default_rng(4)
TRUTH, FOUND = RNG.integers(0, 4, (2, 3, 9, 11))
TRUTH[TRUTH == 2] = 0  # class 2 only ever predicted, class 4 nowhere


def test_class_scores_by_counting():
    confusion = vision.confusion_matrix(TRUTH, FOUND, 5)
    pairs = list(zip(TRUTH.ravel().tolist(), FOUND.ravel().tolist(), strict=True))
    accuracy, dice, weighted = [], [], 0.0
    for k in range(5):
        hits = pairs.count((k, k))
        true, found = sum(t == k for t, _ in pairs), sum(f == k for _, f in pairs)
        accuracy.append(hits / true if true else vision.NOTHING)
        dice.append(2 * hits / (true + found) if true + found else vision.NOTHING)
        if true:
            weighted += true / len(pairs) * hits / (true + found - hits)
    np.testing.assert_allclose(vision.class_accuracy(confusion), accuracy)
    np.testing.assert_allclose(vision.class_dice(confusion), dice)
    assert vision.mean_accuracy(confusion) == pytest.approx(
        np.mean([accuracy[k] for k in (0, 1, 3)])
    )
    assert vision.mean_dice(confusion) == pytest.approx(np.mean(dice[:4]))
    assert vision.frequency_weighted_iou(confusion) == pytest.approx(weighted)


def test_nothing_to_score():
    empty = np.zeros((3, 3), int)
    for score in ("mean_accuracy", "mean_dice", "frequency_weighted_iou", "mean_iou"):
        assert getattr(vision, score)(empty) == vision.NOTHING


def edge_pixels(labels, k):
    found = []
    for r, c in np.argwhere(labels == k):
        around = [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
        inside = all(
            0 <= i < labels.shape[0] and 0 <= j < labels.shape[1] and labels[i, j] == k
            for i, j in around
        )
        if not inside:
            found.append((r, c))
    return found


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 1.5])
def test_boundary_f1_by_definition(tolerance):
    blocks = RNG.integers(0, 3, (2, 2, 4, 5)).repeat(3, 2).repeat(3, 3)
    truth, found = blocks
    wanted = []
    for k in range(4):
        each = []
        for a, b in zip(truth, found, strict=True):
            true, seen = edge_pixels(a, k), edge_pixels(b, k)
            if not true and not seen:
                continue

            def near(p, others):
                return any(math.dist(p, q) <= tolerance for q in others)

            recall = np.mean([near(p, seen) for p in true]) if true and seen else 0.0
            precision = np.mean([near(p, true) for p in seen]) if true and seen else 0.0
            both = precision + recall
            each.append(2 * precision * recall / both if both else 0.0)
        wanted.append(np.mean(each) if each else vision.NOTHING)
    np.testing.assert_allclose(vision.boundary_f1(list(truth), list(found), 4, tolerance), wanted)


def test_boundary_f1_refuses_what_does_not_fit():
    with pytest.raises(ArgumentError, match="prediction"):
        vision.boundary_f1([TRUTH[0]], [], 4)
    with pytest.raises(ShapeError, match=r"prediction\[0\]"):
        vision.boundary_f1([TRUTH[0]], [TRUTH[0][1:]], 4)
    with pytest.raises(ArgumentError, match="tolerance"):
        vision.boundary_f1([], [], 4, -1.0)


def test_median_frequency_weights_by_hand():
    maps = [np.array([[0, 0, 0, 1]]), np.array([[0, 0, 2, 2]]), np.array([[0, 255, 0, 0]])]
    # class 0: 8 of 12 pixels; 1: 1 of 4; 2: 2 of 4; 3: nowhere.  The median is 1/2.
    weights = vision.median_frequency_weights(maps, 4)
    np.testing.assert_allclose(weights, [0.5 / (8 / 12), 0.5 / 0.25, 1.0, 0.0])
