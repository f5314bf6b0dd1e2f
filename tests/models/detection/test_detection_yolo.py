"""YOLO at a size of milliseconds: the grid, who is responsible, the loss by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnncore import Tensor
from cnncore.autograd import observe
from cnncore.errors import ArgumentError
from cnncore.models.detection import Yolo, YoloOutputs, YoloSettings
from cnncore.models.detection.yolo import POOL
from cnncore.nn import init
from cnncore.vision import Objects

SMALL = YoloSettings(
    layers=((3, 8, 2), POOL, (3, 8), POOL), hidden=16, dropout=0.0, grid=4, resize=None
)


@pytest.fixture(scope="module")
def yolo() -> Yolo:
    init.seed(0)
    return Yolo(3, SMALL)


def test_cells_may_share_the_last_layers() -> None:
    """A picture moved by a cell's side moves what is said by a cell; connected layers do not."""
    rng = np.random.default_rng(1)
    x = rng.random((1, 3, 64, 64)).astype(np.float32)
    moved = np.roll(x, (8, 16), (2, 3))
    for shared in (True, False):
        init.seed(0)
        model = Yolo(3, replace(SMALL, grid=8, shared=shared))
        here, there = model(x), model(moved)
        same = [
            np.allclose(a.numpy()[0, 3:5, 3:5], b.numpy()[0, 4:6, 5:7], atol=1e-5)
            for a, b in (
                (here.classes, there.classes),
                (here.confidence, there.confidence),
                (here.boxes, there.boxes),
            )
        ]
        assert all(same) if shared else not any(same)
        assert here.boxes.shape == (1, 8, 8, 2, 4)
        width = 8 if shared else 8 * 64
        values = 13 if shared else 13 * 64
        shapes = [p.shape for name, p in model.named_parameters() if "connected" in name]
        assert shapes == [(16, width), (16,), (values, 16), (values,)]


def objects(*rows: tuple[float, ...]) -> Objects:
    """``(x1, y1, x2, y2, label)`` each."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Objects(table[:, :4], table[:, 4].astype(np.int64))


def total(terms: dict[str, Tensor]) -> Tensor:
    return sum(terms.values(), start=Tensor(np.zeros((), np.float32)))


def test_a_step_with_an_image_without_objects(yolo: Yolo) -> None:
    x = np.random.default_rng(0).random((2, 3, 32, 32)).astype(np.float32)
    outputs = yolo(x)
    yolo.zero_grad()
    terms = yolo.loss(outputs, [objects((2, 2, 20, 12, 1), (14, 20, 30, 30, 2)), objects()])
    assert list(terms) == ["box", "object", "background", "class"]
    total(terms).backward()
    for name, parameter in yolo.named_parameters():
        assert parameter.grad is not None, name
        assert np.isfinite(parameter.grad.data).all(), name
        assert parameter.grad.data.any(), name
    found = yolo.decode(outputs, score_threshold=-1e9, max_detections=6)
    assert [len(o.boxes) for o in found] == [6, 6]
    assert all(((o.boxes >= 0) & (o.boxes <= 32)).all() for o in found)


@pytest.mark.parametrize("count", [0, 1])
def test_no_image_and_no_object(yolo: Yolo, count: int) -> None:
    outputs = yolo(np.zeros((count, 3, 32, 32), np.float32))
    terms = yolo.loss(outputs, [objects()] * count)
    assert terms["box"].item() == terms["object"].item() == terms["class"].item() == 0
    total(terms).backward()
    assert [len(o.boxes) for o in yolo.decode(outputs, score_threshold=1e9)] == [0] * count


def said(images: int = 1, size: tuple[int, int] = (40, 80)) -> YoloOutputs:
    """Two cells a side over 40 rows and 80 columns, two boxes each, all numbers 0."""
    shapes = (images, 2, 2, 3), (images, 2, 2, 2), (images, 2, 2, 2, 4)
    arrays = (Tensor(np.zeros(shape, np.float32), requires_grad=True) for shape in shapes)
    return YoloOutputs(*arrays, [size] * images, size)


@pytest.fixture(scope="module")
def two() -> Yolo:
    """A network whose loss takes ``said``; it is never run."""
    return Yolo(3, YoloSettings(layers=((3, 1),), hidden=0, grid=2, resize=None))


def test_boxes_of_the_grid_in_pixels() -> None:
    outputs = said()
    outputs.boxes.data[0, 1, 0, 1] = [0.5, 0.25, 0.5, 1.0]  # centre of column 0, high in row 1
    # x: 0.5 / 2 · 80 = 20, y: 1.25 / 2 · 40 = 25; w: 0.25 · 80 = 20, h: 40.
    np.testing.assert_allclose(outputs.pixels()[0, 1, 0, 1], [10, 5, 30, 45])
    np.testing.assert_allclose(outputs.pixels()[0, 0, 1, 0], [40, 0, 40, 0])  # of no size


def test_the_loss_by_hand(two: Yolo) -> None:
    """One object, whose centre (60, 10) is in row 0, column 1; box 1 lies on its left half."""
    outputs = said(2)
    box = objects((50, 0, 70, 20, 2))
    outputs.boxes.data[0, 0, 1, 1] = [(55 - 40) / 40, 10 / 20, np.sqrt(10 / 80), np.sqrt(20 / 40)]
    outputs.confidence.data[...] = 0.2
    outputs.classes.data[0, 0, 1] = [0.1, 0.2, 0.7]
    np.testing.assert_allclose(outputs.pixels()[0, 0, 1, 1], [50, 0, 60, 20], atol=1e-5)
    terms = {k: v.item() for k, v in two.loss(outputs, [box, objects()]).items()}
    shift = (60 - 55) / 40, np.sqrt(20 / 80) - np.sqrt(10 / 80)
    assert terms["box"] == pytest.approx(5 * (shift[0] ** 2 + shift[1] ** 2) / 2, rel=1e-5)
    assert terms["object"] == pytest.approx((0.5 - 0.2) ** 2 / 2, rel=1e-5)  # IoU 1/2
    assert terms["background"] == pytest.approx(0.5 * 15 * 0.2**2 / 2, rel=1e-5)
    assert terms["class"] == pytest.approx((0.1**2 + 0.2**2 + 0.3**2) / 2, rel=1e-5)


def test_where_nothing_overlaps_the_nearest_box_answers(two: Yolo) -> None:
    outputs = said()
    outputs.boxes.data[0, 0, 0] = [[0.9, 0.9, 0.01, 0.01], [0.1, 0.1, 0.01, 0.01]]
    total(two.loss(outputs, [objects((0, 6, 6, 10, 0))])).backward()
    learning = outputs.boxes.grad.numpy()[0].any(-1)
    assert np.argwhere(learning).tolist() == [[0, 0, 1]]


def test_a_cell_learns_one_object_and_the_border_belongs_to_the_last_cell(two: Yolo) -> None:
    outputs = said()
    seen = []
    truth = [objects((10, 2, 20, 12, 0), (12, 4, 18, 10, 1), (79, 39, 81, 41, 2))]
    with observe(lambda event: seen.append(event) if event.kind == "note" else None):
        terms = two.loss(outputs, truth)
    matches, positive, negative = seen[0].outputs
    assert matches[positive].tolist() == [0, 2]
    assert (positive // 2).tolist() == [0, 3]
    assert len(negative) == 6
    assert terms["class"].item() == 2


def test_scores_are_class_times_confidence(two: Yolo) -> None:
    outputs = said()
    outputs.boxes.data[..., 2:] = 0.5
    outputs.classes.data[0, 1, 1] = [0.5, 0.0, 0.8]
    outputs.confidence.data[0, 1, 1] = [0.5, 0.9]
    outputs.boxes.data[0, 1, 1, :, :2] = 0.5
    (found,) = two.decode(outputs)
    np.testing.assert_allclose(found.scores, [0.72, 0.45], rtol=1e-6)  # the same box twice
    assert found.labels.tolist() == [2, 0]
    np.testing.assert_allclose(found.boxes[0], [50, 25, 70, 35])


def test_bad_input_is_named(yolo: Yolo) -> None:
    with pytest.raises(ArgumentError, match="4×4 cells"):
        yolo(np.zeros((1, 3, 64, 64), np.float32))
    outputs = yolo(np.zeros((1, 3, 32, 32), np.float32))
    with pytest.raises(ArgumentError, match=r"targets\[0\]\.labels"):
        yolo.loss(outputs, [objects((1, 1, 4, 4, 3))])
