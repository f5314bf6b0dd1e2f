"""R-FCN at a size of milliseconds: votes of bins, the hardest regions, whole steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnncore import Tensor
from cnncore.models.backbones import ResNetSettings
from cnncore.models.detection import Rfcn, RfcnSettings
from cnncore.models.detection.roi_heads import Regions
from cnncore.models.detection.truth import Truth
from cnncore.nn import init
from cnncore.vision import AnchorSettings, LevelRule, Objects, ProposalSettings

FEW = ProposalSettings(pre_nms=60, post_nms=20)
DEFAULT = RfcnSettings()
TINY = RfcnSettings(
    body=ResNetSettings(
        stem_channels=8, widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), norm="frozen", stride=16
    ),
    rpn=replace(
        DEFAULT.rpn,
        channels=8,
        anchors=AnchorSettings(sizes=((16.0, 32.0),), offset=0.5, rounded=False),
        train=FEW,
        test=FEW,
    ),
    channels=8,
    bins=3,
    hardest=4,
    resize=None,
)


@pytest.fixture(scope="module")
def rfcn() -> Rfcn:
    init.seed(0)
    return Rfcn(2, TINY)


def objects(*rows: tuple[float, ...]) -> Objects:
    """``(x1, y1, x2, y2, label)`` each."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Objects(table[:, :4], table[:, 4].astype(np.int64))


def total(terms: dict[str, Tensor]) -> Tensor:
    return sum(terms.values(), start=Tensor(np.zeros((), np.float32)))


def test_a_step_with_an_image_without_objects(rfcn: Rfcn) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    outputs = rfcn(x)
    assert [f.shape for f in outputs.features] == [(2, 27, 4, 6), (2, 72, 4, 6)]
    rfcn.zero_grad()
    targets = [objects((4, 4, 40, 40, 1), (50, 10, 90, 60, 0)), objects()]
    terms = rfcn.loss(outputs, targets, np.random.default_rng(0))
    assert list(terms) == ["objectness", "rpn_box", "class", "box"]
    total(terms).backward()
    for name, parameter in rfcn.named_parameters():
        assert parameter.grad is not None, name
        assert np.isfinite(parameter.grad.data).all(), name
    found = rfcn.decode(outputs, score_threshold=0.0, max_detections=5)
    assert [len(o.boxes) for o in found] == [5, 5]
    assert all(set(o.labels) <= {0, 1} for o in found)


@pytest.mark.parametrize("count", [0, 1])
def test_no_image_and_no_object(rfcn: Rfcn, count: int) -> None:
    outputs = rfcn(np.zeros((count, 3, 64, 64), np.float32))
    terms = rfcn.loss(outputs, [objects()] * count, np.random.default_rng(0))
    assert terms["rpn_box"].item() == terms["box"].item() == 0
    total(terms).backward()
    assert [len(o.boxes) for o in rfcn.decode(outputs, score_threshold=1.0)] == [0] * count


def test_every_bin_votes_from_its_own_map(rfcn: Rfcn) -> None:
    """Maps that are constant: the score of a class is the mean of its nine maps, wherever."""
    scores = np.arange(27, dtype=np.float32)[:, None, None] * np.ones((2, 27, 6, 6), np.float32)
    boxes = np.arange(72, dtype=np.float32)[:, None, None] * np.ones((2, 72, 6, 6), np.float32)
    regions, _ = Regions.group(
        [np.float32([[0, 0, 48, 48]]), np.float32([[16, 16, 96, 64]])], LevelRule(4, 4)
    )
    logits, deltas = rfcn.roi_heads.boxes([Tensor(scores), Tensor(boxes)], regions)
    np.testing.assert_allclose(logits.numpy(), [[4, 13, 22]] * 2)
    objects_ = [40, 49, 58, 67]  # the means of maps 36..44, …
    np.testing.assert_allclose(deltas.numpy(), [[[4, 13, 22, 31], objects_, objects_]] * 2)


def test_a_bin_reads_its_own_place(rfcn: Rfcn) -> None:
    """Class 1's map of bin (row 0, column 2) says 9 in one cell: only a region whose top right
    bin lies there hears it, as one vote of nine."""
    scores = np.zeros((1, 27, 6, 6), np.float32)
    scores[0, 9 + 2, 1, 4] = 9.0
    boxes = Tensor(np.zeros((1, 72, 6, 6), np.float32))
    places = np.float32([[32, 16, 80, 64], [16, 16, 64, 64], [32, 0, 80, 48]])
    regions, _ = Regions.group([places], LevelRule(4, 4))
    logits, _ = rfcn.roi_heads.boxes([Tensor(scores), boxes], regions)
    np.testing.assert_allclose(logits.numpy()[:, 1], [1, 0, 0])


def test_only_the_hardest_regions_of_an_image_learn(rfcn: Rfcn) -> None:
    """Six regions of background: those where an object is believed in most enter the loss."""
    scores = np.zeros((1, 27, 6, 6), np.float32)
    scores[0, 9:18] = np.arange(6)  # class 1, by column
    features = [Tensor(scores, requires_grad=True), Tensor(np.zeros((1, 72, 6, 6), np.float32))]
    proposals = np.float32([[16 * i, 0, 16 * i + 16, 96] for i in range(6)])
    nothing = objects()
    truth = Truth(
        nothing.boxes, nothing.labels, np.zeros((0, 96, 96), bool), np.zeros((0, 0, 3), np.float32)
    )
    terms = rfcn.roi_heads.loss(features, [proposals], [truth], np.random.default_rng(0))
    hard = [np.log(2 + np.exp(v)) for v in (2, 3, 4, 5)]
    assert terms["class"].item() == pytest.approx(np.mean(hard), rel=1e-5)
    assert terms["box"].item() == 0
    total(terms).backward()
    learning = features[0].grad.numpy()[0].any((0, 1))
    assert learning.tolist() == [False, False, True, True, True, True]


def test_a_bad_box_makes_a_region_hard(rfcn: Rfcn) -> None:
    """Five regions at equal scores; the only object's is the third, and far from its box."""
    features = [Tensor(np.zeros((1, c, 6, 6), np.float32), requires_grad=True) for c in (27, 72)]
    proposals = np.float32([[16 * i, 0, 16 * i + 16, 96] for i in range(5)])
    target = objects((32, 0, 56, 96, 1))  # IoU 2/3 with [32, 0, 48, 96]
    truth = Truth(
        target.boxes, target.labels, np.zeros((0, 96, 96), bool), np.zeros((1, 0, 3), np.float32)
    )
    heads = rfcn.roi_heads
    before, heads.hardest = heads.hardest, 1
    terms = heads.loss(features, [proposals], [truth], np.random.default_rng(0))
    heads.hardest = before
    assert terms["class"].item() == pytest.approx(np.log(3), rel=1e-5)
    # Weights 10 and 5: dx = 10 · 4 / 16, dw = 5 ln 1.5, both beyond beta 1.
    assert terms["box"].item() == pytest.approx(2.5 - 0.5 + 5 * np.log(1.5) - 0.5, rel=1e-5)


def test_bins_may_be_fractions_of_cells(rfcn: Rfcn) -> None:
    """Maps that grow by one a column: a vote is the mean place of its bin, moved by half a cell."""
    init.seed(0)
    model = Rfcn(2, replace(TINY, aligned_bins=True))
    scores = np.arange(6, dtype=np.float32) * np.ones((1, 27, 6, 6), np.float32)
    boxes = Tensor(np.zeros((1, 72, 6, 6), np.float32))
    regions, _ = Regions.group([np.float32([[20, 16, 68, 64], [28, 16, 76, 64]])], LevelRule(4, 4))
    aligned, _ = model.roi_heads.boxes([Tensor(scores), boxes], regions)
    centres = (np.float32([44, 52]) / 16 - 0.5)[:, None]
    np.testing.assert_allclose(aligned.numpy(), np.repeat(centres, 3, 1), rtol=1e-6)
    whole, _ = rfcn.roi_heads.boxes([Tensor(scores), boxes], regions)
    assert np.abs(whole.numpy() - aligned.numpy()).max() > 0.1
