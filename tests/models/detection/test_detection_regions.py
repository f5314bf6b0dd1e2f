"""R-CNN, SPP-net, Fast R-CNN: crops, windows, pyramids, lines, ridges, whole small systems."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from cnncore import Tensor, explain
from cnncore.errors import ArgumentError
from cnncore.models import outline
from cnncore.models.backbones import ClassifierBody, ResNetSettings
from cnncore.models.detection import region_stage
from cnncore.models.detection.fast_rcnn import FastRcnn, FastRcnnSettings, truncated_svd
from cnncore.models.detection.rcnn import CropSettings, Rcnn, split_classifier
from cnncore.models.detection.region_stage import (
    ImageRegions,
    StageSettings,
    fit_boxes,
    fit_stage,
    fit_svm,
    ridge,
    train_svm,
)
from cnncore.models.detection.spp_net import (
    SpatialPyramidPool,
    SppNet,
    SppSettings,
    map_windows,
    nearest_scale,
    pool_windows,
)
from cnncore.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential, init
from cnncore.optim import AdamW
from cnncore.vision import IouMatcher, LevelRule, Objects
from cnncore.vision.crops import warp_crops


def objects(*rows: tuple[float, ...]) -> Objects:
    """``(x1, y1, x2, y2, label)`` each."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Objects(table[:, :4], table[:, 4].astype(np.int64))


def total(terms: dict[str, Tensor]) -> Tensor:
    return sum(terms.values(), start=Tensor(np.zeros((), np.float32)))


def classifier(side: int = 12, width: int = 6) -> Sequential:
    """Modules in a row for crops of ``side``."""
    return Sequential(
        Conv2d(3, width, 3, padding=1), ReLU(), MaxPool2d(2, 2), Flatten(),
        Linear(width * (side // 2) ** 2, 10), ReLU(), Linear(10, 4),
    )  # fmt: skip


def scene(rng: np.random.Generator) -> tuple[np.ndarray, Objects, np.ndarray]:
    """A red and a blue square on grey noise, and boxes around: near them, and anywhere."""
    x = rng.normal(0, 0.1, (3, 48, 48)).astype(np.float32)
    rows, near = [], []
    for label, channel, corner in ((0, 0, 2), (1, 2, 26)):
        y1, x1 = rng.integers(0, 6, 2) + corner
        x[channel, y1 : y1 + 14, x1 : x1 + 14] += 1.5
        rows.append((x1, y1, x1 + 14, y1 + 14, label))
        for _ in range(6):
            near.append(np.array(rows[-1][:4]) + rng.integers(-2, 3, 4))
    corners = rng.integers(0, 36, (12, 2))
    anywhere = np.concatenate([corners, corners + rng.integers(8, 12, (12, 2))], 1)
    return x, objects(*rows), np.concatenate([near, anywhere]).astype(np.float32)


def batch(seed: int, count: int) -> tuple[np.ndarray, list[Objects], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    images, truth, boxes = zip(*(scene(rng) for _ in range(count)), strict=True)
    return np.stack(images), list(truth), list(boxes)


# --- crops ----------------------------------------------------------------------------------------


def slow_crop(
    image: np.ndarray, box: np.ndarray, size: int, context: int, fill: float
) -> np.ndarray:
    C, H, W = image.shape
    out = np.full((C, size, size), fill)
    for i in range(size):
        for j in range(size):
            y = box[1] + (i + 0.5 - context) / (size - 2 * context) * (box[3] - box[1])
            x = box[0] + (j + 0.5 - context) / (size - 2 * context) * (box[2] - box[0])
            if not (0 <= y <= H and 0 <= x <= W):
                continue
            y, x = (min(max(v - 0.5, 0), n - 1) for v, n in ((y, H), (x, W)))
            y0, x0 = math.floor(y), math.floor(x)
            corners = [(y0 + dy, x0 + dx) for dy in (0, 1) for dx in (0, 1)]
            shares = [max(0, 1 - abs(y - r)) * max(0, 1 - abs(x - c)) for r, c in corners]
            out[:, i, j] = sum(
                share * image[:, r, c]
                for share, (r, c) in zip(shares, corners, strict=True)
                if share > 0
            )
    return out


@pytest.mark.parametrize(("size", "context"), [(7, 0), (9, 2), (1, 0)])
def test_crops_against_loops(size: int, context: int) -> None:
    rng = np.random.default_rng(size)
    image = rng.normal(size=(2, 9, 13))
    corners = rng.uniform(-3, 9, (12, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.3, 8, (12, 2))], 1)
    found = warp_crops(image, boxes, size, context, fill=0.0)
    for crop, box in zip(found, boxes, strict=True):
        np.testing.assert_allclose(crop, slow_crop(image, box, size, context, 0.0), atol=1e-12)


def test_a_crop_of_the_whole_image_is_the_image_and_beyond_it_is_filled() -> None:
    image = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    (same,) = warp_crops(image, [[0, 0, 8, 8]], 8, 0)
    np.testing.assert_allclose(same, image, rtol=1e-6)
    (wide,) = warp_crops(image, [[0, 0, 8, 8]], 12, 2, fill=7.0)
    np.testing.assert_allclose(wide[:, 2:-2, 2:-2], image, rtol=1e-6)
    wide[:, 2:-2, 2:-2] = 7
    assert (wide == 7).all()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: warp_crops(np.zeros((3, 4, 4)), [[0, 0, 2, 2]], 8, 4), "context"),
        (lambda: warp_crops(np.zeros((3, 4, 4)), [[0, 0, 0, 2]], 8, 1), "boxes"),
        (lambda: warp_crops(np.zeros((4, 4)), [[0, 0, 1, 2]], 8, 1), "image"),
    ],
)
def test_bad_crops_are_named(call, name: str) -> None:
    with pytest.raises(ArgumentError, match=name):
        call()


# --- support vector machines ----------------------------------------------------------------------


def objective(w: np.ndarray, b: float, x: np.ndarray, y: np.ndarray, s: StageSettings) -> float:
    cost = np.where(y > 0, s.positive_weight, 1.0)
    loss = np.maximum(0, 1 - y * (x @ w + b))
    return 0.5 * w @ w + 0.5 * (b / s.bias) ** 2 + s.c * (cost * loss).sum()


def test_a_trained_line_has_the_least_objective() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    settings = StageSettings(c=0.1)
    positive, negative = rng.normal(0.7, 1, (15, 3)), rng.normal(-0.7, 1, (60, 3))
    w, b = train_svm(positive, negative, settings)
    x, y = np.concatenate([positive, negative]), np.repeat((1, -1), (15, 60))
    least = objective(w, b, x, y, settings)
    for scale in (1e-3, 1e-2, 0.1, 1):
        for _ in range(100):
            other = objective(
                w + scale * rng.normal(size=3), b + scale * rng.normal(), x, y, settings
            )
            assert other > least - 1e-4


def regions(rng: np.random.Generator, images: int, count: int) -> list[ImageRegions]:
    """Features of noise, with the label added to the first numbers of true boxes."""
    made = []
    for _ in range(images):
        labels = rng.integers(0, 2, 2)
        hidden = rng.normal(size=(count, 6)).astype(np.float32)
        hidden[np.arange(2), labels] += 3
        corners = rng.uniform(0, 60, (count, 2))
        boxes = np.concatenate([corners, corners + 12], 1).astype(np.float32)
        made.append(ImageRegions(hidden, hidden, boxes, labels))
    return made


def test_mined_negatives_give_the_line_of_all_negatives() -> None:
    pytest.importorskip("sklearn")
    images = regions(np.random.default_rng(1), 12, 60)
    settings = StageSettings(c=0.05, retrain_every=100)
    mined = fit_svm(images, 0, 1.0, settings)
    whole = fit_svm(images, 0, 1.0, replace(settings, retrain_every=10**9))
    np.testing.assert_allclose(mined[0], whole[0], atol=0.03)
    assert mined[1] == pytest.approx(whole[1], abs=0.05)
    assert np.abs(whole[0]).max() > 0.3


def test_retraining_sees_hard_negatives_only(monkeypatch) -> None:
    images = regions(np.random.default_rng(2), 8, 50)
    seen = []

    def note(positive, negative, settings):
        seen.append(negative)
        return np.array([1.0, 0, 0, 0, 0, 0]), -1.0

    monkeypatch.setattr(region_stage, "train_svm", note)
    fit_svm(images, 0, 1.0, StageSettings(retrain_every=30))
    # The same line whatever it is trained on: margin x[0] − 1.
    cache, since, wanted = [], 0, []
    for image in images:
        truth = [b for b, k in zip(image.boxes, image.labels, strict=False) if k == 0]
        for x, box in zip(image.hidden, image.boxes, strict=True):
            far = all(slow_iou(box, t) < 0.3 for t in truth)
            if far and (not wanted or float(x[0]) - 1 > -1.0001):
                cache.append(x)
                since += 1
        if since >= 30:
            wanted.append(np.array(cache))
            cache, since = [x for x in cache if float(x[0]) - 1 >= -1.2], 0
    if since:
        wanted.append(np.array(cache))
    assert len(seen) == len(wanted) > 2
    for found, expected in zip(seen, wanted, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_negatives_overlap_no_object_of_the_class(monkeypatch) -> None:
    boxes = np.array(
        [[0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 20], [0, 6, 10, 26], [20, 0, 30, 11]]
    )
    hidden = np.arange(5, dtype=np.float32)[:, None]
    image = ImageRegions(hidden, hidden, boxes.astype(np.float32), np.array([0, 1]))
    seen = []
    monkeypatch.setattr(
        region_stage, "train_svm", lambda p, n, s: (seen.append((p, n)), (np.zeros(1), 0.0))[1]
    )
    fit_svm([image], 0, 1.0, StageSettings())
    positive, negative = seen[0]
    assert positive.reshape(-1).tolist() == [0]  # true boxes only
    assert negative.reshape(-1).tolist() == [1, 3, 4]  # IoU 0, 4/26, 0; row 2 has 1/2


def test_classes_without_objects_and_without_negatives() -> None:
    pytest.importorskip("sklearn")
    image = ImageRegions(
        np.ones((1, 3)), np.ones((1, 3)), np.array([[0, 0, 9, 9.0]]), np.array([1])
    )
    stage = fit_stage([image], 3)
    assert stage.scores(np.ones((2, 3))).shape == (2, 3)
    assert (stage.scores(np.ones((2, 3)))[:, [0, 2]] == -1).all()
    assert stage.deltas(np.ones((2, 3)))[:, 0].tolist() == [[0, 0, 0, 0]] * 2
    with pytest.raises(ArgumentError, match="images"):
        fit_stage(
            [ImageRegions(np.ones((1, 3)), np.ones((1, 3)), np.ones((0, 4)), np.array([], int))], 3
        )


# --- ridge regression -----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [3, 20])
def test_ridge_solves_the_augmented_least_squares(rows: int) -> None:
    rng = np.random.default_rng(rows)
    x, y = rng.normal(size=(rows, 6)), rng.normal(size=(rows, 2))
    wide = np.concatenate([x, math.sqrt(2.5) * np.eye(6)])
    wanted = np.linalg.lstsq(wide, np.concatenate([y, np.zeros((6, 2))]), rcond=None)[0]
    np.testing.assert_allclose(ridge(x, y, 2.5), wanted, atol=1e-10)


def test_boxes_that_features_tell_are_found() -> None:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(40):
        true = np.array([[20, 20, 60, 50.0]])
        near = true + rng.uniform(-4, 4, (10, 4))
        boxes = np.concatenate([true, near]).astype(np.float32)
        deltas = StageSettings().coder.encode(np.repeat(true, 11, 0), boxes)
        features = np.concatenate([deltas @ rng_matrix, np.zeros((11, 1))], 1)
        images.append(ImageRegions(features, features, boxes, np.array([0])))
    weight = fit_boxes(images, 0, StageSettings(ridge=1e-6))
    last = images[0]
    found = region_stage.with_one(last.pooled) @ weight
    better = StageSettings().coder.decode(found, last.boxes)
    np.testing.assert_allclose(better, np.repeat(last.boxes[:1], 11, 0), atol=0.05)
    strong = fit_boxes(images, 0, StageSettings(ridge=1e12))
    assert np.abs(strong[:-1]).max() < 1e-3  # only the mean is left


rng_matrix = np.random.default_rng(5).normal(size=(4, 4))


# --- R-CNN ----------------------------------------------------------------------------------------

CROPS = CropSettings(crop=12, context=2, chunk=8, resize=None)


@pytest.fixture(scope="module")
def tuned() -> Rcnn:
    pytest.importorskip("sklearn")
    init.seed(0)
    model = Rcnn(2, CROPS, classifier())
    optimizer = AdamW(model.parameters(), lr=0.01)
    for step in range(40):
        images, truth, boxes = batch(step, 2)
        loss = total(model.loss(model(images, boxes), truth, np.random.default_rng(step)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batches = []
    for seed in range(100, 108):
        images, truth, boxes = batch(seed, 2)
        batches.append((model(images, boxes), truth))
    model.fit_stage(batches, StageSettings(c=0.01, ridge=1.0, negative_iou=0.3))
    return model


def test_rcnn_finds_squares(tuned: Rcnn) -> None:
    images, truth, boxes = batch(1000, 6)
    found = tuned.decode(tuned(images, boxes), score_threshold=0.0)
    right = 0
    for f, t in zip(found, truth, strict=True):
        assert (np.diff(f.scores) <= 0).all()
        for box, label in zip(t.boxes, t.labels, strict=True):
            same = f.boxes[f.labels == label]
            right += len(same) > 0 and slow_iou(same[0], box) > 0.5
    assert right >= 11  # of 12


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_rcnn_without_images_objects_and_proposals(tuned: Rcnn) -> None:
    empty = np.zeros((0, 4), np.float32)
    assert tuned.decode(tuned(np.zeros((0, 3, 48, 48), np.float32), [])) == []
    outputs = tuned(np.zeros((1, 3, 48, 48), np.float32), [empty])
    assert [len(o.boxes) for o in tuned.decode(outputs)] == [0]
    assert tuned.loss(outputs, [objects()], np.random.default_rng(0))["class"].item() == 0


def test_a_stage_is_needed_and_proposals_are_checked() -> None:
    model = Rcnn(2, CROPS, classifier())
    outputs = model(np.zeros((1, 3, 48, 48), np.float32), [[[0, 0, 5, 5]]])
    with pytest.raises(ArgumentError, match=r"model\.stage"):
        model.decode(outputs)
    with pytest.raises(ArgumentError, match="proposals"):
        model(np.zeros((1, 3, 48, 48), np.float32), [])
    with pytest.raises(ArgumentError, match=r"proposals\[0\].*box 0"):
        model(np.zeros((1, 3, 48, 48), np.float32), [[[0, 0, 0, 5]]])
    with pytest.raises(ArgumentError, match="classifier"):
        split_classifier(outline("resnet18"))


def test_regions_do_not_depend_on_the_chunk(tuned: Rcnn) -> None:
    images, _, boxes = batch(7, 1)
    outputs = tuned(images, boxes)
    one = tuned.regions(outputs, 0, boxes[0])
    settings = tuned.settings
    tuned.settings = replace(settings, chunk=100)
    two = tuned.regions(outputs, 0, boxes[0])
    tuned.settings = settings
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert one[0].shape == (24, 10)
    assert one[1].shape == (24, 6 * 36)


# --- SPP-net --------------------------------------------------------------------------------------


def slow_pyramid(x: np.ndarray, window: tuple[int, int, int, int], levels: tuple[int, ...]) -> list:
    """Bins as floor and ceil say, for one map ``(C, H, W)``."""
    x1, y1, x2, y2 = window
    h, w = y2 - y1 + 1, x2 - x1 + 1
    numbers = []
    for n in levels:
        for c in range(len(x)):
            for i in range(n):
                for j in range(n):
                    rows = range(y1 + i * h // n, y1 + -(-(i + 1) * h // n))
                    columns = range(x1 + j * w // n, x1 + -(-(j + 1) * w // n))
                    numbers.append(max(x[c, r, k] for r in rows for k in columns))
    return numbers


def test_windows_of_a_map_against_loops() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 11, 14))
    windows = np.array([[0, 0, 13, 10], [2, 3, 2, 3], [1, 4, 7, 6]])
    found = pool_windows(Tensor(x), 1, windows, (6, 3, 2, 1))
    assert found.shape == (3, 150)
    for row, window in zip(found.numpy(), windows.tolist(), strict=True):
        np.testing.assert_allclose(row, slow_pyramid(x[1], window, (6, 3, 2, 1)), rtol=1e-6)
    whole = SpatialPyramidPool()(x)
    np.testing.assert_allclose(whole.numpy()[1], found.numpy()[0], rtol=1e-6)


def test_windows_hold_the_cells_whose_centres_lie_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        x1, y1 = rng.integers(0, 150, 2)
        w, h = rng.integers(20, 90, 2)
        found = map_windows(np.array([[x1, y1, x1 + w, y1 + h]]), 16, (40, 40))[0]
        for axis, (first, length) in enumerate(((x1, w), (y1, h))):
            # strictly between the first pixel and the last, as floor + 1 and ceil - 1 are
            cells = [i for i in range(40) if first < 16 * i < first + length - 1]
            if cells:
                assert [found[axis], found[axis + 2]] == [cells[0], cells[-1]]
            else:
                assert found[axis] == found[axis + 2]
    assert map_windows(np.array([[0, 0, 999, 999.0]]), 16, (5, 7)).tolist() == [[1, 1, 6, 4]]


def test_a_region_is_looked_up_where_it_is_about_224_pixels() -> None:
    boxes = np.array([[0, 0, 224, 224], [0, 0, 112, 112], [0, 0, 20, 20], [0, 0, 500, 500.0]])
    factors = [(0.5, 0.5), (1.0, 1.0), (2.0, 2.0)]
    assert nearest_scale(boxes, factors, 224.0).tolist() == [1, 2, 2, 0]


SPP = SppSettings(
    hidden=16, dropout=0.0, stride=2, scales=(48, 64), best_side=16.0, resize=None, pyramid=(2, 1)
)


def test_sppnet_finds_squares() -> None:
    pytest.importorskip("sklearn")
    init.seed(1)
    features = Sequential(Conv2d(3, 8, 3, padding=1), ReLU(), MaxPool2d(2, 2))
    model = SppNet(2, SPP, features, 8)
    optimizer = AdamW(model.parameters(), lr=0.01)
    for step in range(30):
        images, truth, boxes = batch(step, 2)
        loss = total(model.loss(model(images, boxes), truth, np.random.default_rng(step)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.grad is None for p in features.parameters())  # the map is not tuned
    images, truth, boxes = batch(100, 12)
    model.fit_stage([(model(images, boxes), truth)], StageSettings(c=0.01, ridge=1.0))
    images, truth, boxes = batch(200, 6)
    found = model.decode(model(images, boxes), score_threshold=0.0)
    right = sum(
        len(f.boxes[f.labels == label]) > 0 and slow_iou(f.boxes[f.labels == label][0], box) > 0.5
        for f, t in zip(found, truth, strict=True)
        for box, label in zip(t.boxes, t.labels, strict=True)
    )
    assert right >= 10  # of 12


def test_regions_come_in_the_order_of_their_boxes() -> None:
    init.seed(1)
    features = Sequential(Conv2d(3, 4, 3, padding=1), ReLU(), MaxPool2d(2, 2))
    model = SppNet(2, SPP, features, 4)
    images, _, boxes = batch(3, 2)
    outputs = model(images, boxes)
    together = model.pooled(outputs, 1, boxes[1]).numpy()
    for row, box in zip(together, boxes[1], strict=True):
        np.testing.assert_array_equal(row, model.pooled(outputs, 1, box[None]).numpy()[0])
    assert model.pooled(outputs, 0, boxes[0][:0]).shape == (0, 20)
    terms = model.loss(model(images[:0], []), [], np.random.default_rng(0))
    assert terms["class"].item() == 0


# --- Fast R-CNN -----------------------------------------------------------------------------------

FAST = FastRcnnSettings(
    body=ResNetSettings(8, 3, (8, 8, 8, 8), (1, 1, 1, 1), "basic", "group"),
    level=2,
    roi=replace(
        FastRcnnSettings().roi,
        levels=LevelRule(2, 2),
        box_channels=24,
        dropout=0.0,
        box_size=3,
    ),
    resize=None,
)


def test_fast_rcnn_learns_squares_and_an_empty_image_is_legal() -> None:
    init.seed(0)
    model = FastRcnn(2, FAST)
    optimizer = AdamW(model.parameters(), lr=0.005)
    values = []
    for step in range(25):
        images, truth, boxes = batch(step, 2)
        truth[1] = objects() if step == 3 else truth[1]
        terms = model.loss(model(images, boxes), truth, np.random.default_rng(step))
        assert list(terms) == ["class", "box"]
        optimizer.zero_grad()
        total(terms).backward()
        optimizer.step()
        values.append(terms["class"].item())
    assert np.mean(values[-5:]) < 0.7 * np.mean(values[:3])
    images, _, boxes = batch(90, 2)
    found = model.decode(model(images, [boxes[0], boxes[0][:0]]), score_threshold=0.0)
    assert len(found[0].boxes) > 0
    assert len(found[1].boxes) == 0


def test_compression_at_full_rank_changes_nothing_and_below_it_little() -> None:
    init.seed(0)
    model = FastRcnn(2, FAST).eval()
    images, _, boxes = batch(5, 1)
    before = model.decode(model(images, boxes), score_threshold=0.0)
    layer = model.roi_heads.box_head.fc6
    model.compress(24, 24)
    after = model.decode(model(images, boxes), score_threshold=0.0)
    np.testing.assert_allclose(after[0].boxes, before[0].boxes, atol=1e-4)
    np.testing.assert_allclose(after[0].scores, before[0].scores, atol=1e-6)
    with pytest.raises(ArgumentError, match="compressed"):
        model.compress(2, 2)
    with pytest.raises(ArgumentError, match="rank"):
        truncated_svd(layer, 25)


def test_the_truncated_product_is_the_best_of_its_rank() -> None:
    """Eckart and Young: what is lost are the smaller singular values."""
    init.seed(0)
    layer = Linear(9, 7)
    values = np.sqrt(
        np.maximum(np.linalg.eigvalsh(layer.weight.numpy() @ layer.weight.numpy().T), 0)
    )
    x = np.eye(9, dtype=np.float32)
    for rank in range(1, 8):
        first, second = truncated_svd(layer, rank)
        assert first.bias is None
        np.testing.assert_array_equal(second.bias.numpy(), layer.bias.numpy())
        lost = layer(x).numpy() - second(first(x)).numpy()
        wanted = math.sqrt((np.sort(values)[: 7 - rank] ** 2).sum())
        assert np.linalg.norm(lost) == pytest.approx(wanted, abs=2e-5)


def test_fast_rcnn_leaves_out_regions_that_overlap_an_object_by_less_than_a_tenth() -> None:
    matcher = FastRcnnSettings().roi.matcher
    truth = [[0, 0, 10, 10]]
    candidates = [[0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 21], [0, 0, 10, 99], [0, 0, 10, 101],
                  [50, 50, 60, 60]]  # fmt: skip
    assert matcher.match(truth, candidates).tolist() == [0, 0, -1, -1, -2, -2]
    assert matcher.match(np.zeros((0, 4)), candidates).tolist() == [-1] * 6
    with pytest.raises(ArgumentError, match="least"):
        IouMatcher(0.5, 0.3, least=0.4)


def test_levels_of_map_and_regions_must_agree() -> None:
    with pytest.raises(ArgumentError, match="level"):
        FastRcnnSettings(level=3)


# --- counts of the published networks -------------------------------------------------------------


def test_counts() -> None:
    assert outline("rcnn_alexnet", num_classes=20).num_parameters() == 56_954_261
    fast = outline("fastrcnn_vgg16", num_classes=20)
    assert fast.num_parameters() == 134_690_729
    spp = outline("sppnet_zf5", num_classes=20)
    assert spp.hidden.num_parameters() + spp.predictor.num_parameters() == 69_300_245
    assert spp.features.num_parameters() + 69_300_245 - 21 * 4097 + 1000 * 4097 == 77_037_672

    # Low-rank layers: section 4.4's ranks.
    def two(u: int, v: int, t: int) -> int:
        return t * (u + v) + v

    head = fast.roi_heads.box_head
    saved = head.num_parameters() - two(25088, 4096, 1024) - two(4096, 4096, 256)
    assert 134_690_729 - saved == 47_134_633


def test_bodies_of_fast_rcnn() -> None:
    body = replace(FAST, body=ClassifierBody("mobilenet_v1", (("width", 0.125),)), level=3,
                   roi=replace(FAST.roi, levels=LevelRule(3, 3)))  # fmt: skip
    model = FastRcnn(2, body)
    images, truth, boxes = batch(0, 2)
    outputs = model(images, boxes)
    assert outputs.features[0].shape == (2, 32, 6, 6)
    assert np.isfinite(total(model.loss(outputs, truth, np.random.default_rng(0))).item())


def adds(model, shape: tuple[int, int, int]) -> int:
    return explain.cost(model, shape, 1, backward=False).total("multiply_adds")


def test_multiply_adds() -> None:
    model = outline("rcnn_alexnet", num_classes=20)
    crop = Sequential(model.features, model.hidden, model.predictor)
    assert adds(crop, (3, 227, 227)) / 1e9 == pytest.approx(0.7204, abs=5e-5)
    spp = adds(outline("sppnet_zf5").features, (3, 224, 224)) + 12_800 * 4096 + 4096 * 5096
    assert spp / 1e9 == pytest.approx(1.1827, abs=5e-5)
    # Figures for 600×1000 and 2,000 regions of a VGG whose poolings round up: conv5 has 38×63
    # cells; here, as in torchvision's weights, 37×62.
    more = 3 * 9 * 512 * 512 * (38 * 63 - 37 * 62)
    body = adds(outline("fastrcnn_vgg16").backbone, (3, 600, 1000)) + more
    last, (first, second) = 4096 * 105, (25_088 * 4096, 4096 * 4096)
    assert (body + 2000 * (first + second + last)) / 1e9 == pytest.approx(423.8, abs=0.05)
    thin = 1024 * (25_088 + 4096) + 256 * (4096 + 4096)
    assert (body + 2000 * (thin + last)) / 1e9 == pytest.approx(248.7, abs=0.05)
    proposals = (38 * 63 - 37 * 62) * (9 * 512 * 512 + 9 * 5 * 512) + 38 * 63 * 9 * 512
    faster = adds(outline("fasterrcnn_vgg16"), (3, 600, 1000)) + more + proposals
    assert (faster + 300 * (first + second + last)) / 1e9 == pytest.approx(225.6, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        (CropSettings(), (375, 500)),  # the longer side is 500
        (SppSettings(), (687, 917)),  # 480 times the float32 number 688 / 480
        (FastRcnnSettings(), (608, 800)),  # 600×800, padded to whole cells
    ],
)
def test_pictures_come_in_the_size_that_each_paper_takes(settings, size) -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    assert settings.resize([picture]).images.shape == (1, 3, *size)
