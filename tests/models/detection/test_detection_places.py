"""Localisation of one object, and a classifier asked everywhere."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from cnncore import Tensor, ops
from cnncore.errors import ArgumentError, ShapeError
from cnncore.models import outline
from cnncore.models.detection import SlidingWindow, WindowSettings
from cnncore.models.detection.localization import (
    Localizer,
    LocalizerOutputs,
    LocalizerSettings,
    localization_iou,
    localization_scores,
)
from cnncore.nn import Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential, init
from cnncore.optim import AdamW
from cnncore.vision import NOTHING, Objects


def net(side: int, classes: int, padding: int = 0) -> Sequential:
    """A convolution, a pooling, two dense layers."""
    half = (side - 2 + 2 * padding) // 2
    return Sequential(
        Conv2d(3, 6, 3, padding=padding), ReLU(), MaxPool2d(2, 2), Flatten(),
        Linear(6 * half * half, 16), ReLU(), Linear(16, classes),
    )  # fmt: skip


def one(box: tuple[float, ...], label: int) -> Objects:
    return Objects(np.array([box], np.float32), np.array([label]))


def localizer(per_class: bool = True) -> Localizer:
    init.seed(0)
    settings = LocalizerSettings(per_class=per_class, resize=None, guesses=2, box_weight=3.0)
    return Localizer(3, settings, net(16, 1))


@pytest.mark.parametrize("per_class", [True, False])
def test_both_terms_by_hand(per_class: bool) -> None:
    model = localizer(per_class)
    logits = np.array([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]])
    boxes = np.random.default_rng(0).random((2, 3 if per_class else 1, 4))
    outputs = LocalizerOutputs(Tensor(logits), Tensor(boxes), [(16, 16), (8, 16)])
    truth = [one((2, 4, 10, 8), 2), one((0, 0, 8, 8), 0)]
    terms = model.loss(outputs, truth)
    entropy = sum(
        math.log(sum(math.exp(v) for v in row)) - row[label]
        for row, label in zip(logits.tolist(), (2, 0), strict=True)
    )
    assert terms["class"].item() == pytest.approx(entropy / 2)
    wanted = [[6 / 16, 6 / 16, 8 / 16, 4 / 16], [4 / 16, 4 / 8, 8 / 16, 8 / 8]]
    rows = [boxes[0, 2 if per_class else 0], boxes[1, 0]]
    away = sum(
        (a - b) ** 2 for row, w in zip(rows, wanted, strict=True)
        for a, b in zip(row.tolist(), w, strict=True)
    )  # fmt: skip
    assert terms["box"].item() == pytest.approx(3 * away / 2)


@pytest.mark.parametrize("per_class", [True, False])
def test_decoding_gives_the_best_classes_with_their_boxes(per_class: bool) -> None:
    model = localizer(per_class)
    logits = np.log(np.array([[0.2, 0.7, 0.1]]))
    boxes = np.array([[[0.5, 0.5, 1, 1], [0.5, 0.25, 0.5, 0.5], [0.1, 0.1, -1, 0.1]]])
    boxes = boxes if per_class else boxes[:, :1]
    (found,) = model.decode(LocalizerOutputs(Tensor(logits), Tensor(boxes), [(20, 40)]))
    assert found.labels.tolist() == [1, 0]
    np.testing.assert_allclose(found.scores, [0.7, 0.2])
    first = [10, 0, 30, 10] if per_class else [0, 0, 40, 20]
    np.testing.assert_allclose(found.boxes, [first, [0, 0, 40, 20]])
    (all_three,) = model.decode(LocalizerOutputs(Tensor(logits), Tensor(boxes), [(20, 40)]), 9)
    assert all_three.labels.tolist() == [1, 0, 2]


def test_a_square_is_classified_and_found() -> None:
    init.seed(0)
    model = Localizer(2, LocalizerSettings(resize=None, guesses=1), net(16, 1))
    optimizer = AdamW(model.parameters(), lr=0.01)
    rng = np.random.default_rng(0)

    def squares(count: int) -> tuple[np.ndarray, list[Objects]]:
        x, truth = rng.normal(0, 0.05, (count, 3, 16, 16)).astype(np.float32), []
        for image in x:
            label, (y1, x1) = int(rng.integers(0, 2)), rng.integers(0, 8, 2)
            image[2 * label, y1 : y1 + 8, x1 : x1 + 8] = 1
            truth.append(one((x1, y1, x1 + 8, y1 + 8), label))
        return x, truth

    for _ in range(150):
        x, truth = squares(16)
        terms = model.loss(model(x), truth)
        optimizer.zero_grad()
        (terms["class"] + terms["box"]).backward()
        optimizer.step()
    x, truth = squares(60)
    scores = localization_scores(model.decode(model(x)), truth)
    assert scores["accuracy"] > 0.95
    assert scores["mean IoU"] > 0.6
    assert scores["top 1"] == scores["top k"] > 0.8


def test_scores_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 6.0]])
    found = [
        Objects(boxes, np.array([0, 1]), None, np.array([0.6, 0.4])),
        Objects(boxes, np.array([2, 1]), None, np.array([0.6, 0.4])),
    ]
    truth = [one((0, 0, 10, 5), 1), one((0, 0, 10, 2), 2)]
    np.testing.assert_allclose(localization_iou(found, truth), [0.5, 0.2])
    assert localization_scores(found, truth) == {
        "mean IoU": pytest.approx(0.35), "accuracy": 0.5, "top 1": 0.0, "top k": 0.5,
    }  # fmt: skip
    assert set(localization_scores([], []).values()) == {NOTHING}
    with pytest.raises(ArgumentError, match="predictions"):
        localization_scores(found, truth[:1])
    with pytest.raises(ArgumentError, match=r"truth\[0\]"):
        localization_scores(found[:1], [Objects(boxes, np.array([0, 1]))])


def test_a_picture_with_two_objects_is_refused() -> None:
    model = localizer()
    two = Objects(np.array([[0, 0, 4, 4], [4, 4, 8, 8.0]]), np.array([0, 1]))
    with pytest.raises(ArgumentError, match=r"targets\[0\]\.boxes"):
        model.loss(model(np.zeros((1, 3, 16, 16), np.float32)), [two])
    assert model.decode(model(np.zeros((0, 3, 16, 16), np.float32))) == []


def test_heads_of_vgg() -> None:
    from cnncore.nn import shapes_only

    with shapes_only():
        per_class, shared = (
            Localizer(1000, replace(LocalizerSettings(), per_class=flag)) for flag in (True, False)
        )
    body = outline("vgg16", num_classes=1000).num_parameters()
    assert per_class.num_parameters() == body + 4000 * 4097
    assert shared.num_parameters() == body + 4 * 4097


# --- sliding window -------------------------------------------------------------------------------


def window_model(shared: bool = True, **changes: float) -> SlidingWindow:
    init.seed(3)
    settings = WindowSettings(window=(12, 10), step=1.5, shared=shared, resize=None, **changes)
    dense = Sequential(
        Conv2d(3, 4, 3), ReLU(), MaxPool2d(2, 2), Flatten(), Linear(4 * 5 * 4, 8), ReLU(),
        Linear(8, 3),
    )  # fmt: skip
    return SlidingWindow(dense, 2, settings)


def test_shared_convolutions_say_what_every_window_says() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 31, 22)).astype(np.float32)
    one_run, each = window_model(True)(x), window_model(False)(x)
    assert len(one_run.logits) == len(each.logits) == 3  # 31×22, 21×15, 14×10
    for a, b, c, d in zip(one_run.logits, each.logits, one_run.boxes, each.boxes, strict=True):
        rows, columns = b.shape[2:]
        np.testing.assert_allclose(a.numpy()[:, :, :rows, :columns], b.numpy(), atol=1e-5)
        assert (a.shape, c.tolist()) == (b.shape, d.tolist())


def test_boxes_are_windows_at_multiples_of_the_stride() -> None:
    model = window_model()
    assert model.stride == (2, 2)
    assert model.scales((31, 22)) == [(31, 22), (21, 15), (14, 10)]
    outputs = model(np.zeros((1, 3, 31, 22), np.float32))
    boxes = outputs.boxes[0].reshape(outputs.logits[0].shape[2], -1, 4)
    for i in range(boxes.shape[0]):
        for j in range(boxes.shape[1]):
            assert boxes[i, j].tolist() == [2 * j, 2 * i, 2 * j + 10, 2 * i + 12]
    np.testing.assert_allclose(outputs.boxes[1][0], [0, 0, 10 * 22 / 15, 12 * 31 / 21], rtol=1e-6)


class Bright(Module):
    """Three logits that say which of two channels is bright all over the window."""

    def __init__(self) -> None:
        self.body = Sequential(Flatten(), Linear(3 * 8 * 8, 3))
        weight = np.zeros((3, 3, 64), np.float32)
        weight[1, 0], weight[2, 2] = 1 / 64, 1 / 64
        self.body[1].weight.data = 20 * weight.reshape(3, -1)
        self.body[1].bias.data = np.array([15, 0, 0], np.float32)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, 8, 8) -> (N, 3)``"""
        y: Tensor = self.body(x)
        return y


def test_bright_squares_are_found_at_their_size() -> None:
    model = SlidingWindow(Bright(), 2, WindowSettings(window=(8, 8), step=2.0, resize=None))
    x = np.zeros((1, 3, 40, 48), np.float32)
    x[0, 0, 3:11, 5:13] = 1
    x[0, 2, 18:34, 20:36] = 1
    (found,) = model.decode(model(x))
    pairs = dict(zip(found.labels.tolist(), found.boxes.tolist(), strict=True))
    assert pairs[0] == [5, 3, 13, 11]
    best = found.boxes[found.labels == 1][0]
    assert 18 <= best[1] <= best[3] <= 34  # one inside the large square
    assert (best[2] - best[0]) in (8, 16)


def test_small_images_have_no_windows_and_wrong_classes_are_named() -> None:
    model = window_model()
    (found,) = model.decode(model(np.zeros((1, 3, 11, 22), np.float32)))
    assert found.boxes.shape == (0, 4)
    with pytest.raises(ShapeError, match="classifier"):
        SlidingWindow(model.classifier, 5, model.settings)(np.zeros((1, 3, 31, 22), np.float32))
    with pytest.raises(ArgumentError, match="step"):
        WindowSettings(step=1.0)
    assert ops.softmax(model(np.zeros((0, 3, 31, 22), np.float32)).logits[0], 1).shape[0] == 0
