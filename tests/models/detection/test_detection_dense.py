"""Detectors without proposals: heads, losses by hand, what is kept, at sizes of milliseconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnncore import Tensor
from cnncore.autograd import observe
from cnncore.errors import ArgumentError
from cnncore.models.backbones import ResNetSettings
from cnncore.models.detection import RetinaNet, RetinaNetSettings, Ssd, SsdSettings
from cnncore.models.detection.detector import DenseOutputs, by_anchor
from cnncore.models.detection.ssd import Extra
from cnncore.nn import init
from cnncore.vision import (
    BestMatcher,
    DefaultBoxes,
    DeltaCoder,
    DetectionSettings,
    HardNegatives,
    Objects,
    select_dense_detections,
    select_detections,
)

BODY = ResNetSettings(
    stem_channels=8, widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), norm="frozen_exact"
)
TINY = RetinaNetSettings(body=BODY, fpn_channels=8, layers=2, resize=None)


@pytest.fixture(scope="module")
def retina() -> RetinaNet:
    init.seed(0)
    return RetinaNet(2, TINY)


def objects(*rows: tuple[float, ...]) -> Objects:
    """``(x1, y1, x2, y2, label)`` each."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Objects(table[:, :4], table[:, 4].astype(np.int64))


def total(terms: dict[str, Tensor]) -> Tensor:
    return sum(terms.values(), start=Tensor(np.zeros((), np.float32)))


def test_the_anchor_axis_is_last_but_values() -> None:
    """Channel a · values + v of the head at (row, column) is number v of that cell's anchor a."""
    x = np.arange(2 * 6 * 2 * 3).reshape(2, 6, 2, 3).astype(np.float32)
    y = by_anchor(Tensor(x), 2).numpy()
    assert y.shape == (2, 2 * 3 * 3, 2)
    for row, column, anchor, value in np.ndindex(2, 3, 3, 2):
        index = (row * 3 + column) * 3 + anchor
        assert y[1, index, value] == x[1, anchor * 2 + value, row, column]


def test_a_step_with_an_image_without_objects(retina: RetinaNet) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    outputs = retina(x, [(64, 96), (50, 60)])
    every = 9 * (8 * 12 + 4 * 6 + 2 * 3 + 1 * 2 + 1)
    assert outputs.logits.shape == (2, every, 3)
    assert outputs.deltas.shape == (2, every, 4)
    assert len(outputs.all_anchors) == every
    retina.zero_grad()
    targets = [objects((5, 5, 40, 40, 1), (30, 10, 90, 60, 0)), objects()]
    terms = retina.loss(outputs, targets)
    assert list(terms) == ["class", "box"]
    total(terms).backward()
    for name, parameter in retina.named_parameters():
        assert parameter.grad is not None, name
        assert np.isfinite(parameter.grad.data).all(), name
    found = retina.decode(outputs, score_threshold=0.0, max_detections=7)
    assert [len(o.boxes) for o in found] == [7, 7]
    assert (found[1].boxes <= [60, 50, 60, 50]).all()
    assert set(np.concatenate([o.labels for o in found])) <= {0, 1}


def test_training_begins_with_few_objects(retina: RetinaNet) -> None:
    """The bias gives every anchor a probability of 0.01."""
    logits = retina(np.zeros((1, 3, 32, 32), np.float32)).logits.numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), 0.01, rtol=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_no_image_and_no_object(retina: RetinaNet, count: int) -> None:
    outputs = retina(np.zeros((count, 3, 32, 32), np.float32))
    terms = retina.loss(outputs, [objects()] * count)
    assert terms["box"].item() == 0
    assert (terms["class"].item() > 0) == bool(count)
    total(terms).backward()
    assert [len(o.boxes) for o in retina.decode(outputs)] == [0] * count


ANCHORS = np.float32([[0, 0, 10, 10], [20, 20, 30, 30], [1, 0, 11, 4.5]])


def silent(images: int, classes: int = 2) -> DenseOutputs:
    """Logits and deltas 0 for three anchors."""
    return DenseOutputs(
        Tensor(np.zeros((images, 3, 1 + classes), np.float32), requires_grad=True),
        Tensor(np.zeros((images, 3, 4), np.float32), requires_grad=True),
        [ANCHORS[:2], ANCHORS[2:]],
        [(32, 32)] * images,
    )


def test_the_focal_loss_by_hand(retina: RetinaNet) -> None:
    """One anchor matches (IoU 9/11), one is background, one between (IoU 0.45) does not count."""
    outputs = silent(2)
    terms = retina.loss(outputs, [objects(), objects((1, 0, 11, 10, 1))])
    # At p = 1/2: (1 − p)² ln 2 / 4 = ln 2 / 16 for an object, three times that for none.
    unit = np.log(2) / 16
    empty, one = 9 * 3 * unit, (1 + 2 * 3 + 3 * 3) * unit
    assert terms["class"].item() == pytest.approx((empty + one) / 2, rel=1e-6)
    assert terms["box"].item() == pytest.approx(0.1 / 2, rel=1e-5)  # dx = 1/10
    total(terms).backward()
    gradient = outputs.logits.grad.numpy()
    assert not gradient[1, 2].any()
    assert (gradient[1, 0] < 0).tolist() == [False, False, True]  # 1 + label
    assert outputs.deltas.grad.numpy().any(2).tolist() == [[False] * 3, [True, False, False]]


def test_the_loss_of_an_image_is_divided_by_its_own_objects(retina: RetinaNet) -> None:
    two = [objects((0, 0, 10, 10, 0), (20, 20, 30, 30, 0))]
    one = [objects((0, 0, 10, 10, 0))]
    alone = [retina.loss(silent(1), targets)["class"].item() for targets in (two, one)]
    both = retina.loss(silent(2), two + one)["class"].item()
    assert both == pytest.approx(sum(alone) / 2, rel=1e-6)
    # Anchor 2 lies 9 · 4.5 of (100 + 45 − 40.5) in the first box, 0.39: background, 3 · 3 units.
    assert alone[0] == pytest.approx((7 + 7 + 9) / 2 * np.log(2) / 16, rel=1e-6)


def test_an_observer_sees_what_anchors_answer_for(retina: RetinaNet) -> None:
    seen = []
    with observe(lambda event: seen.append(event) if event.kind == "note" else None):
        retina.loss(silent(1), [objects((1, 0, 11, 10, 1))])
    (event,) = (e for e in seen if e.subject == "anchor_matches")
    matches, positive, negative = event.outputs
    assert matches.tolist() == [0, -1, -2]
    assert (positive.tolist(), negative.tolist()) == ([0], [1])


def test_a_bad_target_is_named(retina: RetinaNet) -> None:
    with pytest.raises(ArgumentError, match=r"targets\[1\]\.boxes.*box 0"):
        retina.loss(silent(2), [objects(), objects((5, 5, 5, 9, 0))])


# --- few of many ----------------------------------------------------------------------------------

SETTINGS = DetectionSettings(score_threshold=0.1, coder=DeltaCoder())


def select(chances: list, **changes) -> tuple[list, list]:
    """Which anchors and classes of ``ANCHORS`` on two levels are kept."""
    scores = [np.float32(chances[:2]), np.float32(chances[2:])]
    deltas = [np.zeros((2, 4), np.float32), np.zeros((1, 4), np.float32)]
    found = select_dense_detections(
        scores, deltas, [ANCHORS[:2], ANCHORS[2:]], (32, 32), replace(SETTINGS, **changes)
    )
    np.testing.assert_array_equal(found.boxes, ANCHORS[found.proposal])
    return found.proposal.tolist(), found.labels.tolist()


def test_dense_detections_by_hand() -> None:
    chances = [[0.9, 0.2], [0.1, 0.3], [0.8, 0.0]]
    assert select(chances) == ([0, 2, 1, 0], [0, 0, 1, 1])  # 0.1 is not above the threshold
    assert select(chances, candidates=1) == ([0, 2], [0, 0])  # of each level
    assert select(chances, max_detections=2) == ([0, 2], [0, 0])
    assert select(chances, nms_threshold=0.3) == ([0, 1, 0], [0, 1, 1])  # IoU 0.39, class 0 only
    assert select(chances, nms_threshold=0.3, class_agnostic=True) == ([0, 1], [0, 1])
    assert select(chances, score_threshold=1.0) == ([], [])


def test_dense_detections_refuse() -> None:
    with pytest.raises(ArgumentError, match=r"probabilities\[1\].*NaN"):
        select([[0.9, 0.2], [0.1, 0.3], [np.nan, 0.0]])
    with pytest.raises(ArgumentError, match=r"deltas\[0\]"):
        select_dense_detections(
            [np.zeros((2, 1))], [np.zeros((1, 4))], [ANCHORS[:2]], (9, 9), SETTINGS
        )
    with pytest.raises(ArgumentError, match="one entry a level"):
        select_dense_detections([], [], [], (9, 9), SETTINGS)


def test_files_with_the_old_names_load(retina: RetinaNet) -> None:
    state = retina.state_dict()
    old = {}
    for key, value in state.items():
        parts = key.split(".")
        if "conv" in parts and parts[0] == "head":  # head.x_head.conv.i.0.kind
            key = ".".join([*parts[:3], str(2 * int(parts[3])), parts[5]])
        old[key] = value + 1
    assert "head.regression_head.conv.2.bias" in old
    other = RetinaNet(2, TINY)
    other.load_state_dict(old)
    for key, value in other.state_dict().items():
        np.testing.assert_array_equal(value, state[key] + 1, err_msg=key)


# --- SSD ------------------------------------------------------------------------------------------

SSD = SsdSettings(
    widths=(4, 4, 8, 8, 8),
    fc=8,
    extras=(Extra(4, 8, 3, 2, 1),),
    boxes=DefaultBoxes((0.1, 0.3, 0.6, 0.9), ((2,), (2, 3), (2,)), (8, 16, 32), cut=False),
    resize=None,
)


@pytest.fixture(scope="module")
def ssd() -> Ssd:
    init.seed(0)
    return Ssd(2, SSD)


def test_a_step_of_ssd_with_an_image_without_objects(ssd: Ssd) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 68, 68)).astype(np.float32)
    outputs = ssd(x)
    every = 9 * 9 * 4 + 4 * 4 * 6 + 2 * 2 * 4  # 68 / 8 = 8.5: rounded up at the third pooling
    assert outputs.logits.shape == (2, every, 3)
    assert outputs.deltas.shape == (2, every, 4)
    assert len(outputs.all_anchors) == every
    ssd.zero_grad()
    terms = ssd.loss(outputs, [objects((5, 5, 40, 40, 1), (30, 10, 60, 60, 0)), objects()])
    assert list(terms) == ["class", "box"]
    total(terms).backward()
    for name, parameter in ssd.named_parameters():
        assert parameter.grad is not None, name
        assert np.isfinite(parameter.grad.data).all(), name
    found = ssd.decode(outputs, score_threshold=0.0, max_detections=5)
    assert [len(o.boxes) for o in found] == [5, 5]
    assert all(set(o.labels) <= {0, 1} for o in found)


@pytest.mark.parametrize("count", [0, 2])
def test_images_without_objects_have_no_say(ssd: Ssd, count: int) -> None:
    """A black image, too: the norm of a pixel whose channels are all 0 has a gradient."""
    ssd.zero_grad()
    outputs = ssd(np.zeros((count, 3, 64, 64), np.float32))
    terms = ssd.loss(outputs, [objects()] * count)
    assert [t.item() for t in terms.values()] == [0, 0]
    total(terms).backward()
    assert all(np.isfinite(p.grad.data).all() for p in ssd.parameters() if p.grad is not None)
    assert [len(o.boxes) for o in ssd.decode(outputs, score_threshold=1.0)] == [0] * count


def test_the_first_map_has_one_length_everywhere(ssd: Ssd) -> None:
    x = np.random.default_rng(1).normal(size=(1, 3, 32, 32)).astype(np.float32)
    first = ssd.backbone(Tensor(x))[0].numpy()
    length = np.sqrt((first**2).sum(1))
    np.testing.assert_allclose(length[length > 0], 20, rtol=1e-5)


def test_the_loss_of_ssd_by_hand(ssd: Ssd) -> None:
    """Seven boxes, one matches; of the six others three count, the most like objects."""
    anchors = np.float32([[20 * i, 0, 20 * i + 10, 10] for i in range(7)])
    logits = np.zeros((2, 7, 3), np.float32)
    logits[0, :, 0] = [0, 5, -1, 4, -2, 3, -3]  # of background
    outputs = DenseOutputs(
        Tensor(logits, requires_grad=True),
        Tensor(np.zeros((2, 7, 4), np.float32), requires_grad=True),
        [anchors],
        [(64, 160)] * 2,
    )
    terms = ssd.loss(outputs, [objects((1, 0, 11, 10, 1)), objects()])
    hard = [np.log(1 + 2 * np.exp(-v)) for v in (-1, -2, -3)]
    assert terms["class"].item() == pytest.approx(np.log(3) + sum(hard), rel=1e-5)
    assert terms["box"].item() == pytest.approx((10 * 0.1) - 0.5, rel=1e-5)  # weight 10: dx = 1
    total(terms).backward()
    seen = np.abs(outputs.logits.grad.numpy()).sum(2) > 0
    assert seen.tolist() == [[True, False, True, False, True, False, True], [False] * 7]
    wanted = (outputs.logits.grad.numpy()[0, [0, 2]] < 0).tolist()
    assert wanted == [[False, False, True], [True, False, False]]  # 1 + label; background


def test_every_true_box_claims_its_best_candidate() -> None:
    """Two true boxes; the small one overlaps a default box by 0.16 only, and gets it."""
    candidates = [[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 6]]
    truth = [[0, 0, 10, 10], [20, 20, 24, 24], [50, 50, 60, 60]]
    assert BestMatcher().match(truth, candidates).tolist() == [0, 1, 0]
    assert BestMatcher().match(truth[2:], candidates).tolist() == [-1] * 3
    assert BestMatcher().match(np.zeros((0, 4)), candidates).tolist() == [-1] * 3
    assert BestMatcher().match(truth, np.zeros((0, 4))).tolist() == []
    with pytest.raises(ArgumentError, match="threshold"):
        BestMatcher(1.5)


def test_hard_negatives_are_those_of_the_highest_loss() -> None:
    positive = [False, True, False, False, True, False]
    losses = [0.1, 9.0, 0.5, 0.5, 0.0, 0.4]
    assert [x.tolist() for x in HardNegatives(1)(positive, losses)] == [[1, 4], [2, 3]]
    assert [x.tolist() for x in HardNegatives(3)(positive, losses)] == [[1, 4], [0, 2, 3, 5]]
    assert [x.tolist() for x in HardNegatives(3)([False] * 6, losses)] == [[], []]
    with pytest.raises(ArgumentError, match="ratio"):
        HardNegatives(-1)


def test_candidates_of_each_class() -> None:
    chances = np.float32([[0, 0.9, 0.2], [0, 0.3, 0.4], [0, 0.8, 0.3]])
    deltas = np.zeros((3, 2, 4), np.float32)
    found = select_detections(chances, deltas, ANCHORS, (32, 32), replace(SETTINGS, candidates=1))
    assert (found.proposal.tolist(), found.labels.tolist()) == ([0, 1], [0, 1])


def test_default_boxes_refuse_and_are_empty() -> None:
    boxes = DefaultBoxes((0.1, 0.2), ((),), (8,))
    assert boxes.per_cell(0) == 2
    assert boxes([(0, 3)], (8, 8))[0].shape == (0, 4)
    with pytest.raises(ArgumentError, match="one scale more"):
        DefaultBoxes((0.1,), ((),), (8,))
    with pytest.raises(ArgumentError, match="shapes"):
        boxes([(1, 1)] * 2, (8, 8))
