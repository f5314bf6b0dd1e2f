"""Scores of label maps over a data set, and their pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cnncore import vision
from cnncore.data import IGNORE, Scenes
from cnncore.data.augment import Augmented, Crop
from cnncore.errors import ArgumentError, ShapeError
from cnncore.evaluate import MapScores, evaluate_maps
from cnncore.evaluate.plots import draw_confusion
from cnncore.train.tasks import batches_of_one_size

NAMES = ("background", "cat", "dog", "bird")


@given(seed=st.integers(0, 2**32 - 1))
def test_maps_added_one_by_one_score_as_all_at_once(seed):
    rng = np.random.default_rng(seed)
    shapes = [(9, 7), (12, 5), (9, 7)]
    truth = [rng.choice([0, 1, 2, IGNORE], s) for s in shapes]
    found = [rng.integers(0, 3, s) for s in shapes]
    scores = MapScores(NAMES, IGNORE)
    for t, p in zip(truth, found, strict=True):
        scores.add(t, p)
    flat = [np.concatenate([m.ravel() for m in maps]) for maps in (truth, found)]
    confusion = np.zeros((4, 4), int)
    for t, p in zip(*flat, strict=True):
        if t != IGNORE:
            confusion[t, p] += 1
    np.testing.assert_array_equal(scores.confusion, confusion)
    wanted = vision.boundary_f1(truth, found, 4, ignore_index=IGNORE)
    np.testing.assert_allclose(scores.boundary, wanted)
    record = json.loads(json.dumps(scores.record()))
    assert record["classes"][3]["IoU"] is None
    assert record["images"] == 3
    assert [c["true pixels"] for c in record["classes"]] == confusion.sum(1).tolist()


def test_the_table():
    scores = MapScores(NAMES)
    truth = np.zeros((100, 100), int)
    truth[10:30, 10:30] = 1
    found = np.zeros((100, 100), int)
    found[10:30, 10:20] = 1
    scores.add(truth, found)
    lines = scores.lines()
    assert lines[0].split()[:4] == ["class", "IoU", "Dice", "boundary"]
    cat = next(line for line in lines if line.startswith("cat"))
    assert cat.split()[1:] == ["0.500", "0.667", cat.split()[3], "400", "200"]
    assert next(line for line in lines if line.startswith("bird")).split()[1:4] == ["–"] * 3
    mean = next(line for line in lines if line.startswith("mean IoU"))
    assert float(mean.split()[-1]) == pytest.approx((0.5 + 9600 / 9800) / 2, abs=1e-3)


def test_boundaries_near_unknown_pixels_do_not_count():
    truth = np.zeros((20, 20), int)
    truth[:, 10:] = 1
    wrong = np.zeros((20, 20), int)
    wrong[:, 15:] = 1
    assert vision.boundary_f1([truth], [wrong], 2)[1] < 0.8
    truth[:, 8:17] = IGNORE  # whoever knows nothing about columns 8..16 cannot blame either
    scores = vision.boundary_f1([truth], [wrong], 2, ignore_index=IGNORE)
    assert scores[1] == 1.0  # what is left: the edge of the image, where both have it
    truth[:] = IGNORE
    assert vision.boundary_f1([truth], [wrong], 2, ignore_index=IGNORE).tolist() == [-1, -1]


def test_pictures_of_several_sizes_are_predicted_in_runs_of_one_size():
    scenes = Augmented(
        Scenes("train", 3), lambda s, r: Crop(96 if s.labels.sum() % 2 else 64)(s, r), 9
    )
    seen = []

    def predict(batch):
        assert len({s.image.shape for s in batch}) == 1
        seen.append(len(batch))
        return [s.semantic for s in batch]

    watched = []
    scores = MapScores(("background", *scenes.dataset.class_names))
    evaluate_maps(predict, scenes, scores, lambda i, s, p: watched.append(i))
    assert watched == list(range(9))
    assert sum(seen) == scores.images == 9
    assert scores.means()["mean IoU"] == 1.0
    starts = [first for first, _ in batches_of_one_size(scenes, 2)]
    assert starts[0] == 0
    assert max(b - a for a, b in zip(starts, [*starts[1:], 9], strict=True)) <= 2


def test_overlays_and_legends():
    image = np.full((3, 6, 8), 0.5, np.float32)
    labels = np.zeros((6, 8), int)
    labels[2, 3], labels[0, 0] = 2, IGNORE
    drawn = vision.overlay_labels(image, labels, 4, 1.0, IGNORE)
    colors = vision.label_colors(4)
    assert drawn[2, 3].tolist() == colors[2].tolist()
    assert drawn[0, 0].tolist() == [255, 255, 255]
    assert drawn[5, 5].tolist() == [128, 128, 128]
    half = vision.overlay_labels(image, labels, 4, 0.5, IGNORE)
    assert half[2, 3].tolist() == np.rint(64 + colors[2] / 2).tolist()
    whole = vision.legend(NAMES)
    part = vision.legend(NAMES, [2], unknown=True)
    assert whole.shape[0] == 4 * 20 + 4
    assert part.shape[0] == 2 * 20 + 4
    assert (part == colors[2]).all(-1).any()
    assert not (part == colors[1]).all(-1).any()
    sheet = vision.compare_labels(image, [("truth", labels), ("found", labels)], NAMES, IGNORE, 3)
    assert sheet.shape[0] >= 18 + 3 * 6
    assert sheet.shape[1] > 3 * 3 * 8
    with pytest.raises(ArgumentError, match="labels"):
        vision.overlay_labels(image, labels, 4)
    with pytest.raises(ShapeError, match="labels"):
        vision.overlay_labels(image, labels[1:], 4)


def test_the_confusion_matrix_is_drawn():
    figure = draw_confusion(np.array([[3, 1], [0, 0]]), ("a", "b"))
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts == ["75", "25"]
