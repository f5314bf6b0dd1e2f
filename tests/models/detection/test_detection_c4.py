"""Faster R-CNN on one map: the published anchors and counts, joint and alternating training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnncore import Tensor
from cnncore.models import outline
from cnncore.models.backbones import ResNetSettings
from cnncore.models.detection import FasterRcnnC4, alternating_steps
from cnncore.models.detection.faster_rcnn_c4 import C4Settings
from cnncore.models.shapes import blank, shapes_of
from cnncore.nn import init
from cnncore.optim import AdamW
from cnncore.vision import AnchorSettings, LevelRule, Objects, ProposalSettings, make_anchors

# As the published code lists them: first and last pixel of each, in a cell at the origin.
PUBLISHED = [
    (-84, -40, 99, 55), (-176, -88, 191, 103), (-360, -184, 375, 199),
    (-56, -56, 71, 71), (-120, -120, 135, 135), (-248, -248, 263, 263),
    (-36, -80, 51, 95), (-80, -168, 95, 183), (-168, -344, 183, 359),
]  # fmt: skip


def test_anchors_are_the_published_nine() -> None:
    settings = C4Settings().rpn.anchors
    (anchors,) = make_anchors(settings, [(38, 63)], [16])
    edges = [(x1, y1, x2 + 1, y2 + 1) for x1, y1, x2, y2 in PUBLISHED]  # pixels have width
    assert anchors[:9].tolist() == [list(map(float, e)) for e in edges]
    assert len(anchors) == 21_546
    inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2:] <= (1000, 600)).all(1)
    assert inside.sum() == 8_151


def test_anchors_without_a_base_are_exact() -> None:
    sizes = AnchorSettings(sizes=((128.0,),), ratios=(0.5,), rounded=False)
    (one,) = make_anchors(sizes, [(1, 1)], [16])
    side = one[0, 2:] - one[0, :2]
    np.testing.assert_allclose(side, [128 * 2**0.5, 128 / 2**0.5], rtol=1e-6)


def test_counts_and_shapes() -> None:
    model = outline("fasterrcnn_vgg16", num_classes=20)
    # The published network has two logits an anchor: 9 · 513 parameters more.
    assert model.num_parameters() + 9 * 513 == 137_078_239
    assert model.rpn.num_parameters() + 9 * 513 == 2_387_510
    coco = outline("fasterrcnn_vgg16", num_classes=80, rpn=replace(
        C4Settings().rpn, anchors=AnchorSettings(((64.0, 128.0, 256.0, 512.0),), base=16)
    ))  # fmt: skip
    assert coco.num_parameters() + 12 * 513 == 138_316_573
    with shapes_of(model):
        outputs = model(blank(model, (1, 3, 608, 1008)))
    assert outputs.features[0].shape == (1, 512, 38, 63)
    assert outputs.rpn.objectness.shape == (1, 21_546)
    heads = model.roi_heads
    assert heads.box_head.fc6.weight.shape == (4096, 25_088)
    assert heads.box_predictor.bbox_pred.weight.shape == (84, 4096)


FEW = ProposalSettings(pre_nms=60, post_nms=20)
TINY = C4Settings(
    body=ResNetSettings(8, 3, (8, 8, 8, 8), (1, 1, 1, 1), "basic", "group"),
    rpn=replace(
        C4Settings().rpn,
        channels=8,
        lowest_level=3,
        anchors=AnchorSettings(sizes=((16.0, 24.0, 32.0),), offset=0.5, rounded=False),
        train=FEW,
        test=FEW,
    ),
    roi=replace(C4Settings().roi, levels=LevelRule(3, 3), box_size=3, box_channels=16, dropout=0.0),
    resize=None,
)


def objects(*rows: tuple[float, ...]) -> Objects:
    """``(x1, y1, x2, y2, label)`` each."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Objects(table[:, :4], table[:, 4].astype(np.int64))


def batch(seed: int) -> tuple[np.ndarray, list[Objects]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.1, (2, 3, 64, 64)).astype(np.float32)
    y1, x1 = rng.integers(4, 36, 2)
    x[0, 1, y1 : y1 + 20, x1 : x1 + 20] += 2
    return x, [objects((x1, y1, x1 + 20, y1 + 20, 1)), objects()]


def total(terms: dict[str, Tensor]) -> Tensor:
    return sum(terms.values(), start=Tensor(np.zeros((), np.float32)))


@pytest.fixture
def model() -> FasterRcnnC4:
    init.seed(0)
    return FasterRcnnC4(2, TINY)


def test_joint_training_has_four_terms_and_reaches_every_parameter_of_the_map(
    model: FasterRcnnC4,
) -> None:
    x, targets = batch(0)
    outputs = model(x)
    terms = model.loss(outputs, targets, np.random.default_rng(0))
    assert list(terms) == ["objectness", "rpn_box", "class", "box"]
    total(terms).backward()
    for name, parameter in model.named_parameters():
        if "layer3" in name or "layer4" in name:
            assert parameter.grad is None, name  # behind the map that is used
        else:
            assert parameter.grad is not None, name
            assert np.isfinite(parameter.grad.data).all(), name
    found = model.decode(outputs, score_threshold=0.0)
    assert len(found) == 2
    assert len(model.decode(model(x[:0]))) == 0


def test_four_steps_train_what_they_should(model: FasterRcnnC4) -> None:
    terms_of = [("objectness", "rpn_box"), ("class", "box")] * 2
    trained = [("backbone", "rpn"), ("backbone", "roi_heads"), ("rpn",), ("roi_heads",)]
    start = {part: getattr(model, part).state_dict() for part in ("backbone", "rpn", "roi_heads")}
    before = start
    for number, step in enumerate(alternating_steps(model)):
        if number == 1:  # a body of its own, from the same start
            for key, value in model.backbone.state_dict().items():
                np.testing.assert_array_equal(value, start["backbone"][key])
            assert step.proposer is not model
        before = {part: getattr(model, part).state_dict() for part in start}
        optimizer = AdamW(list(step.parameters()), lr=0.01)
        for seed in range(3):
            x, targets = batch(seed)
            terms = step.loss(x, targets, np.random.default_rng(seed))
            assert tuple(terms) == terms_of[number]
            optimizer.zero_grad()
            total(terms).backward()
            optimizer.step()
        for part, state in before.items():
            now = getattr(model, part).state_dict()
            changed = any((now[key] != state[key]).any() for key in state)
            assert changed == (part in trained[number]), (step.name, part)
    assert number == 3


@pytest.mark.slow
def test_alternating_training_finds_a_square(model: FasterRcnnC4) -> None:
    for step in alternating_steps(model):
        optimizer = AdamW(list(step.parameters()), lr=0.005)
        for seed in range(90):
            x, targets = batch(seed)
            loss = total(step.loss(x, targets, np.random.default_rng(seed)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    hits = 0
    for seed in range(900, 910):
        x, targets = batch(seed)
        found = model.decode(model(x))[0]
        if len(found.boxes) and found.labels[0] == 1:
            a, b = found.boxes[0], targets[0].boxes[0]
            near = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
            hits += near.clip(0).prod() > 0.5 * 400
    assert hits >= 8
