"""Mask R-CNN: wiring, targets, legal extremes; mostly with dummy parts, in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from cnncore import Tensor, models, nn, no_grad
from cnncore.autograd import observe
from cnncore.errors import ArgumentError
from cnncore.models.backbones import FeaturePyramid, ResNetBody, ResNetSettings
from cnncore.models.detection import SMALL, MaskRcnn, maskrcnn_small
from cnncore.models.detection.roi_heads import RegionPool, Regions, RoiHeads, RoiSettings
from cnncore.models.detection.rpn import RegionProposalNetwork, RpnOutputs, RpnSettings
from cnncore.models.detection.truth import Truth
from cnncore.nn import init
from cnncore.optim import AdamW
from cnncore.vision import (
    AnchorSettings,
    BalancedSampler,
    IouMatcher,
    LevelRule,
    ProposalSettings,
    box_iou,
)


@dataclass
class Target:
    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


def target(*objects: tuple[int, int, int, int, int], size: int = 64) -> Target:
    """Rectangles ``(x1, y1, x2, y2, label)`` whose mask is the whole box."""
    masks = np.zeros((len(objects), size, size), bool)
    for mask, (x1, y1, x2, y2, _) in zip(masks, objects, strict=True):
        mask[y1:y2, x1:x2] = True
    table = np.array(objects, np.float32).reshape(-1, 5)
    return Target(table[:, :4], table[:, 4].astype(np.int64), masks)


BATCH = [target((8, 8, 28, 36, 0), (36, 30, 54, 58, 2)), target(), target((20, 10, 40, 44, 1))]


def images(count: int = 3, size: int = 64) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(count, 3, size, size)).astype(np.float32) * 0.2
    for picture, truth in zip(x, BATCH, strict=False):
        for mask, label in zip(truth.masks, truth.labels, strict=True):
            picture[label % 3, mask] += 1.5
    return x


@pytest.fixture(scope="module")
def small() -> MaskRcnn:
    init.seed(0)
    return maskrcnn_small(3)


# --- the whole network ----------------------------------------------------------------------------


def test_parameters_of_the_small_network_exactly() -> None:
    # stem 464, stages 14,528 + 57,728 + 230,144 + 312,064, pyramid 48,640, RPN 9,743,
    # box head 200,832 + 16,512 + 1,419 + 5,676, mask head 37,120 + 4,128 + 363
    model = models.create("maskrcnn_small", num_classes=10)
    assert model.num_parameters() == 939_361
    parts = {
        "backbone.body": 464 + 14_528 + 57_728 + 230_144 + 312_064,
        "backbone.fpn": 48_640,
        "rpn": 9_743,
        "roi_heads.box_head": 200_832 + 16_512,
        "roi_heads.box_predictor": 1_419 + 5_676,
        "roi_heads.mask_head": 37_120,
        "roi_heads.mask_predictor": 4_128 + 363,
    }
    for part, expected in parts.items():
        found = sum(p.size for name, p in model.named_parameters() if name.startswith(part + "."))
        assert found == expected, part


def test_the_full_size_network_has_the_published_names_and_shapes() -> None:
    """The defaults are Mask R-CNN with ResNet-50-FPN: keys and counts of the published file."""
    model = MaskRcnn(90)
    assert model.num_parameters() == 44_401_393
    state = model.state_dict()
    assert len(state) == 307  # batch norm frozen: no num_batches_tracked
    expected = {
        "backbone.body.conv1.weight": (64, 3, 7, 7),
        "backbone.body.layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "backbone.body.layer4.2.conv3.weight": (2048, 512, 1, 1),
        "backbone.fpn.inner_blocks.3.0.weight": (256, 2048, 1, 1),
        "backbone.fpn.layer_blocks.0.0.bias": (256,),
        "rpn.head.conv.0.0.weight": (256, 256, 3, 3),
        "rpn.head.cls_logits.weight": (3, 256, 1, 1),
        "rpn.head.bbox_pred.bias": (12,),
        "roi_heads.box_head.fc6.weight": (1024, 12544),
        "roi_heads.box_predictor.bbox_pred.weight": (364, 1024),
        "roi_heads.mask_head.3.0.bias": (256,),
        "roi_heads.mask_predictor.conv5_mask.weight": (256, 256, 2, 2),
        "roi_heads.mask_predictor.mask_fcn_logits.weight": (91, 256, 1, 1),
    }
    for name, shape in expected.items():
        assert state[name].shape == shape, name


def test_raw_outputs_have_their_shapes(small: MaskRcnn) -> None:
    outputs = small(images())
    assert [f.shape for f in outputs.features] == [
        (3, 32, 16, 16),
        (3, 32, 8, 8),
        (3, 32, 4, 4),
        (3, 32, 2, 2),
    ]
    count = 3 * (256 + 64 + 16 + 4)
    assert outputs.rpn.objectness.shape == (3, count)
    assert outputs.rpn.deltas.shape == (3, count, 4)
    assert outputs.rpn.all_anchors.shape == (count, 4)
    assert outputs.image_sizes == [(64, 64)] * 3


def test_sizes_that_no_stride_divides(small: MaskRcnn) -> None:
    x = np.zeros((1, 3, 61, 45), np.float32)
    with no_grad():
        outputs = small(x)
        assert outputs.rpn.objectness.shape[1] == len(outputs.rpn.all_anchors)
        (found,) = small.decode(outputs, score_threshold=0.0)
    assert found.masks.shape[1:] == (61, 45)
    assert (found.boxes[:, 2] <= 45).all()
    assert (found.boxes[:, 3] <= 61).all()


def total(terms: dict[str, Tensor]) -> Tensor:
    return sum(terms.values(), start=Tensor(np.zeros((), np.float32)))


def test_every_parameter_learns_from_a_batch(small: MaskRcnn) -> None:
    small.zero_grad()
    terms = small.loss(small(images()), BATCH, np.random.default_rng(0))
    assert list(terms) == ["objectness", "rpn_box", "class", "box", "mask"]
    assert all(term.shape == () and np.isfinite(term.item()) for term in terms.values())
    total(terms).backward()
    for name, parameter in small.named_parameters():
        assert parameter.grad is not None, name
        assert np.isfinite(parameter.grad.data).all(), name
        assert parameter.grad.data.any(), name


def test_the_same_generator_state_gives_the_same_loss(small: MaskRcnn) -> None:
    outputs = small(images())
    values = [
        [t.item() for t in small.loss(outputs, BATCH, np.random.default_rng(seed)).values()]
        for seed in (1, 1, 2)
    ]
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_training_and_evaluation_mode_say_the_same(small: MaskRcnn) -> None:
    x = images()
    results = []
    for mode in (True, False):
        small.train(mode)
        outputs = small(x)
        losses = [t.item() for t in small.loss(outputs, BATCH, np.random.default_rng(0)).values()]
        found = small.decode(outputs, score_threshold=0.2)
        results.append((losses, [o.scores.tolist() for o in found]))
    small.train()
    assert results[0] == results[1]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_images_without_objects_are_legal(small: MaskRcnn, count: int) -> None:
    small.zero_grad()
    outputs = small(images(count))
    terms = small.loss(outputs, [target()] * count, np.random.default_rng(0))
    assert {k: t.item() for k, t in terms.items() if k in ("rpn_box", "box", "mask")} == {
        "rpn_box": 0.0,
        "box": 0.0,
        "mask": 0.0,
    }
    total(terms).backward()
    found = small.decode(outputs, score_threshold=1.0)
    assert [len(o.boxes) for o in found] == [0] * count
    assert all(o.masks.shape == (0, 64, 64) for o in found)


def test_the_loss_of_one_batch_falls_by_a_third_in_twenty_steps() -> None:
    init.seed(1)
    model = maskrcnn_small(3)
    optimizer = AdamW(model.parameters(), lr=0.002)
    x, values = images(), []
    for step in range(20):
        loss = total(model.loss(model(x), BATCH, np.random.default_rng(step)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert np.mean(values[-3:]) < values[0] * 2 / 3


def test_observers_see_anchors_matches_and_proposals(small: MaskRcnn) -> None:
    seen = []
    with observe(lambda event: seen.append(event) if event.kind == "note" else None):
        small.loss(small(images()), BATCH, np.random.default_rng(0))
    names = [event.subject for event in seen]
    assert names.count("anchors") == names.count("proposals") == 1
    assert names.count("anchor_matches") == names.count("proposal_matches") == 3
    proposals = next(event for event in seen if event.subject == "proposals")
    assert len(proposals.outputs) == 3
    assert all(len(p.boxes) <= 48 for p in proposals.outputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 3])}, r"targets\[0\].labels"),
        ({"boxes": np.array([[8, 8, 8, 36], [1, 1, 2, 2.0]])}, r"targets\[0\].boxes.*box 0"),
        ({"boxes": np.array([[8, 8, np.nan, 36], [1, 1, 2, 2]])}, r"targets\[0\].boxes.*box 0"),
        ({"masks": np.zeros((2, 32, 64), bool)}, r"targets\[0\].masks"),
    ],
)
def test_a_bad_target_is_named(small: MaskRcnn, change, message) -> None:
    bad = replace(BATCH[0], **change)
    with pytest.raises(ArgumentError, match=message):
        small.loss(small(images()), [bad, *BATCH[1:]], np.random.default_rng(0))


def test_wrong_counts_and_shapes_are_named(small: MaskRcnn) -> None:
    with pytest.raises(ArgumentError, match="targets"):
        small.loss(small(images()), BATCH[:2], np.random.default_rng(0))
    with pytest.raises(ArgumentError, match="images"):
        small(np.zeros((3, 64, 64), np.float32))
    with pytest.raises(ArgumentError, match="image_sizes"):
        small(images(), image_sizes=[(64, 64)])


# --- the RPN with a dummy head --------------------------------------------------------------------

TINY_RPN = RpnSettings(
    channels=4,
    anchors=AnchorSettings(sizes=((8.0,), (16.0,)), ratios=(1.0,), offset=0.5, rounded=False),
    sampler=BalancedSampler(8, 0.5),
    train=ProposalSettings(pre_nms=50, post_nms=4),
)


def rpn_outputs(rpn: RegionProposalNetwork, size: int = 32, count: int = 1) -> RpnOutputs:
    """Outputs that say nothing: logits and deltas 0."""
    features = [Tensor(np.zeros((count, 2, size // s, size // s), np.float32)) for s in (4, 8)]
    anchors = rpn(features).anchors
    every = sum(len(a) for a in anchors)
    return RpnOutputs(
        Tensor(np.zeros((count, every), np.float32), requires_grad=True),
        Tensor(np.zeros((count, every, 4), np.float32), requires_grad=True),
        anchors,
    )


def test_head_outputs_are_in_the_order_of_the_anchors() -> None:
    """A head that writes its own position into its outputs must agree with the anchors."""
    init.seed(0)
    settings = replace(TINY_RPN, anchors=replace(TINY_RPN.anchors, ratios=(1.0, 4.0)))
    rpn = RegionProposalNetwork(1, settings)
    grid = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    rpn.head.conv = nn.Identity()
    for conv in (rpn.head.cls_logits, rpn.head.bbox_pred):
        conv.weight = nn.Parameter(np.ones((conv.weight.shape[0], 1, 1, 1), np.float32))
    rpn.head.bbox_pred.bias.data[:] = 1000 * np.arange(8)
    rpn.head.cls_logits.bias.data[:] = [0, 1000]
    outputs = rpn([Tensor(grid), Tensor(np.zeros((1, 1, 1, 1), np.float32))])
    anchors = outputs.anchors[0]
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    cell = (centres[:, 1] // 4) * 4 + centres[:, 0] // 4  # row · columns + column, stride 4
    tall = (anchors[:, 3] - anchors[:, 1]) > (anchors[:, 2] - anchors[:, 0])
    first = len(anchors)
    np.testing.assert_array_equal(outputs.objectness.numpy()[0, :first], cell + 1000 * tall)
    expected = cell[:, None] + 1000 * (4 * tall[:, None] + np.arange(4))
    np.testing.assert_array_equal(outputs.deltas.numpy()[0, :first], expected)


def test_rpn_loss_by_hand() -> None:
    rpn = RegionProposalNetwork(2, TINY_RPN)
    outputs = rpn_outputs(rpn)
    anchors = outputs.all_anchors
    truth = anchors[[20]] + np.float32([0, 0, 1, 0])  # 9 wide on an anchor of 8: dx 1/16, dw ln 9/8
    terms = rpn.loss(outputs, [truth], np.random.default_rng(0))
    # Logits 0: every sampled anchor costs ln 2, whatever was sampled.
    assert terms["objectness"].item() == pytest.approx(np.log(2), rel=1e-6)
    # One positive of 8 (no other anchor reaches 0.7); beta 1/9: dx quadratic, dw linear.
    dx, dw = 1 / 16, np.log(9 / 8)
    expected = (dx**2 / (2 / 9) + (dw - 1 / 18)) / 8
    assert terms["rpn_box"].item() == pytest.approx(expected, rel=1e-5)
    terms["objectness"].backward()
    gradient = outputs.objectness.grad.numpy()[0]
    assert gradient[20] == pytest.approx(-0.5 / 8)
    assert (gradient == np.float32(0.5 / 8)).sum() == 7


def test_indices_of_later_images_do_not_fall_on_the_first() -> None:
    rpn = RegionProposalNetwork(2, TINY_RPN)
    outputs = rpn_outputs(rpn, count=3)
    anchors = outputs.all_anchors
    nothing = np.zeros((0, 4), np.float32)
    terms = rpn.loss(outputs, [nothing, nothing, anchors[[7]] * 1.01], np.random.default_rng(0))
    total(terms).backward()
    moved = np.flatnonzero(outputs.deltas.grad.numpy().any(2).reshape(-1))
    assert moved.tolist() == [2 * len(anchors) + 7]
    assert [np.count_nonzero(g) for g in outputs.objectness.grad.numpy()] == [8, 8, 8]


def test_proposals_of_silent_outputs_are_anchors_inside_the_image() -> None:
    rpn = RegionProposalNetwork(2, TINY_RPN)
    outputs = rpn_outputs(rpn, count=2)
    outputs.objectness.data[1, 9] = 5.0
    first, second = rpn.propose(outputs, [(32, 32), (20, 24)], TINY_RPN.train)
    assert len(first.boxes) == len(second.boxes) == 4
    np.testing.assert_array_equal(second.boxes[0], outputs.all_anchors[9].clip(0, 24))
    assert (second.boxes[:, 3] <= 20).all()


# --- the heads with dummy features ----------------------------------------------------------------

TINY_ROI = RoiSettings(
    levels=LevelRule(lowest=2, highest=3, canonical_size=16, canonical_level=3),
    aligned=True,
    box_size=2,
    box_channels=4,
    mask_size=4,
    mask_channels=2,
    mask_layers=1,
    sampler=BalancedSampler(6, 0.5),
)


def constant_features(*values: float) -> list[Tensor]:
    """Level l is everywhere ``values[l]`` plus 10 for every image before."""
    return [
        Tensor(np.full((2, 1, 16 // 2**level, 16 // 2**level), value, np.float32)
               + np.float32([0, 10])[:, None, None, None])
        for level, value in enumerate(values)
    ]  # fmt: skip


def test_regions_are_pooled_from_their_own_image_and_level() -> None:
    small, large = np.float32([[0, 0, 8, 8]]), np.float32([[0, 0, 40, 40], [0, 0, 9, 9]])
    regions, order = Regions.group([large, small], TINY_ROI.levels)
    assert order.tolist() == [1, 2, 0]
    pooled = RegionPool(2, TINY_ROI)(constant_features(1, 2), regions).numpy()
    assert pooled.shape == (3, 1, 2, 2)
    np.testing.assert_allclose(pooled[:, 0, 0, 0], [1, 11, 2])
    empty, _ = Regions.group([small[:0], small[:0]], TINY_ROI.levels)
    assert RegionPool(2, TINY_ROI)(constant_features(1, 2), empty).shape == (0, 1, 2, 2)


def test_a_region_sees_its_place_at_the_right_scale() -> None:
    ramp = np.tile(np.arange(16, dtype=np.float32) * 4 + 2, (16, 1))  # x in image pixels, stride 4
    features = [Tensor(ramp[None, None]), Tensor(ramp[None, None, ::2, ::2] * 0)]
    regions, _ = Regions.group([np.float32([[8, 8, 16, 16]])], TINY_ROI.levels)
    pooled = RegionPool(2, TINY_ROI)(features, regions).numpy()[0, 0]
    np.testing.assert_allclose(pooled, [[10, 14], [10, 14]])


def truth_of(t: Target) -> Truth:
    return Truth(t.boxes, t.labels, t.masks, np.zeros((len(t.boxes), 0, 3), np.float32))


def test_sampled_regions_have_the_label_and_deltas_of_their_best_box() -> None:
    heads = RoiHeads(1, 3, TINY_ROI)
    truths = [truth_of(target((0, 0, 10, 10, 2))), truth_of(target((8, 8, 48, 40, 0)))]
    proposals = [
        np.float32([[1, 0, 11, 10], [30, 30, 40, 40], [50, 50, 60, 60]]),
        np.float32([[8, 8, 40, 40], [50, 0, 60, 9]]),
    ]
    sample = heads.sample(proposals, truths, np.random.default_rng(0))
    assert (np.diff(sample.regions.level) >= 0).all()
    for row, label in enumerate(sample.labels):
        truth = truths[sample.regions.image[row]]
        overlap = box_iou(truth.boxes, sample.regions.boxes[[row]])[0, 0]
        assert label == (truth.labels[0] + 1 if overlap >= 0.5 else 0)
    assert sample.positive.tolist() == np.flatnonzero(sample.labels > 0).tolist()
    assert len(sample.positive) == 4  # one proposal and the true box in each image
    rebuilt = TINY_ROI.detections.coder.decode(sample.deltas, sample.regions.boxes[sample.positive])
    wanted = [truths[i].boxes[0] for i in sample.regions.image[sample.positive]]
    np.testing.assert_allclose(rebuilt, wanted, atol=1e-4)
    assert sample.truth.tolist() == [0] * 4


def test_head_losses_of_silent_predictors_by_hand() -> None:
    init.seed(0)
    heads = RoiHeads(1, 3, TINY_ROI)
    silent = (heads.box_predictor, heads.mask_predictor.mask_fcn_logits)
    for parameter in [p for part in silent for p in part.parameters()]:
        init.constant_(parameter, 0.0)
    truths = [truth_of(target((0, 0, 10, 10, 2))), truth_of(target())]
    proposals = [np.float32([[30, 30, 40, 40]]), np.float32([[5, 5, 20, 20]])]
    terms = heads.loss(constant_features(1, 2), proposals, truths, np.random.default_rng(0))
    assert terms["class"].item() == pytest.approx(np.log(4), rel=1e-6)  # 1 + 3 classes
    assert terms["box"].item() == 0  # the only positive is the true box itself
    assert terms["mask"].item() == pytest.approx(np.log(2), rel=1e-6)


def test_the_mask_of_the_true_class_alone_is_trained_towards_the_true_mask() -> None:
    init.seed(0)
    heads = RoiHeads(1, 3, TINY_ROI)
    init.constant_(heads.mask_predictor.mask_fcn_logits.weight, 0.0)
    half = target((0, 0, 16, 16, 1))
    half.masks[0, :, 8:] = False  # the left half of the box
    heads.loss(
        constant_features(1, 2),
        [np.zeros((0, 4), np.float32)] * 2,
        [truth_of(half), truth_of(target())],
        np.random.default_rng(0),
    )["mask"].backward()
    gradient = heads.mask_predictor.mask_fcn_logits.bias.grad.numpy()
    assert gradient[[0, 1, 3]].tolist() == [0, 0, 0]
    # Logits 0 against a mask that fills half the grid: half the pixels pull up, half down.
    assert gradient[2] == pytest.approx(0, abs=0.02)
    full = target((0, 0, 16, 16, 1))
    heads.zero_grad()
    heads.loss(
        constant_features(1, 2),
        [np.zeros((0, 4), np.float32)] * 2,
        [truth_of(full), truth_of(target())],
        np.random.default_rng(0),
    )["mask"].backward()
    assert heads.mask_predictor.mask_fcn_logits.bias.grad.numpy()[2] == pytest.approx(-0.5, abs=0.1)


class Oracle(nn.Module):
    """Stands in for a predictor: says what it was told for each row."""

    def __init__(self, *answers: np.ndarray) -> None:
        self.answers = [Tensor(np.float32(a)) for a in answers]

    def forward(self, x: Tensor):
        rows = slice(0, x.shape[0])
        answers = tuple(answer[rows] for answer in self.answers)
        return answers if len(answers) > 1 else answers[0]


def test_detections_are_decoded_by_class_and_masks_are_pasted_in_place() -> None:
    heads = RoiHeads(1, 2, TINY_ROI)
    # The first image's region is large, so that it comes after those of the second, by level.
    boxes = [np.float32([[4, 4, 44, 44]]), np.float32([[20, 20, 28, 28], [40, 40, 48, 48]])]
    logits = np.log([[0.2, 0.1, 0.7], [0.98, 0.01, 0.01], [0.1, 0.8, 0.1]])
    deltas = np.zeros((3, 3, 4))
    deltas[0, 2, 0] = 10 * 0.5  # class 1 of the second region: half its width to the right
    deltas[0, 1, 0] = 77  # of a class that is not chosen
    heads.box_predictor = Oracle(logits, deltas)
    masks = np.full((2, 3, 8, 8), -9.0)
    masks[1, 1, :, :4] = 9  # left half for class 0 of the first image's detection
    masks[0, 2, :4, :] = 9  # upper half for class 1 of the second's
    heads.mask_predictor = Oracle(masks)
    settings = replace(TINY_ROI.detections, score_threshold=0.5)
    first, second = heads.detect(constant_features(1, 2), boxes, [(64, 64)] * 2, settings)
    np.testing.assert_allclose(first.boxes, [[4, 4, 44, 44]], atol=1e-4)
    np.testing.assert_allclose(second.boxes, [[24, 20, 32, 28]], atol=1e-4)
    assert (first.labels.tolist(), second.labels.tolist()) == ([0], [1])
    assert [float(o.scores[0]) for o in (first, second)] == pytest.approx([0.8, 0.7], rel=1e-5)
    expected = np.zeros((64, 64), bool)
    expected[4:44, 4:24] = True
    np.testing.assert_array_equal(first.masks[0], expected)
    expected[:] = False
    expected[20:24, 24:32] = True
    np.testing.assert_array_equal(second.masks[0], expected)


def test_class_agnostic_suppression_leaves_one_box_on_an_object() -> None:
    heads = RoiHeads(1, 2, TINY_ROI)
    boxes = [np.float32([[4, 4, 12, 12], [4, 4, 12, 13]]), np.zeros((0, 4), np.float32)]
    heads.box_predictor = Oracle(np.log([[0.1, 0.8, 0.1], [0.1, 0.2, 0.7]]), np.zeros((2, 3, 4)))
    settings = replace(TINY_ROI.detections, score_threshold=0.5)
    for agnostic, count in ((False, 2), (True, 1)):
        settings = replace(settings, class_agnostic=agnostic)
        found, none = heads.detect(constant_features(1, 2), boxes, [(64, 64)] * 2, settings)
        assert len(found.boxes) == count
        assert len(none.boxes) == 0


# --- parts of the backbone ------------------------------------------------------------------------

TINY_BODY = ResNetSettings(
    stem_channels=2,
    stem_kernel=3,
    widths=(2, 2, 4, 4),
    depths=(1, 1, 1, 1),
    block="basic",
    norm="group",
)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_stages_halve_the_plane(block: str) -> None:
    settings = replace(TINY_BODY, block=block)
    features = ResNetBody(settings)(np.zeros((1, 3, 64, 48), np.float32))
    assert [f.shape for f in features] == [
        (1, c, 64 // s, -(-48 // s)) for c, s in zip(settings.channels, (4, 8, 16, 32), strict=True)
    ]
    with pytest.raises(ArgumentError, match="block"):
        replace(TINY_BODY, block="wide")


def test_deep_knowledge_reaches_every_level_and_fine_does_not_reach_deep() -> None:
    init.seed(0)
    pyramid = FeaturePyramid([1, 1, 1], 2)
    planes = [np.zeros((1, 1, size, size), np.float32) for size in (7, 4, 2)]
    silent = [p.numpy() for p in pyramid([Tensor(p) for p in planes])]
    for changed, reached in ((2, [True, True, True]), (0, [True, False, False])):
        lit = [Tensor(p + (level == changed)) for level, p in enumerate(planes)]
        differs = [bool((p.numpy() != s).any()) for p, s in zip(pyramid(lit), silent, strict=True)]
        assert differs == reached
    with pytest.raises(ArgumentError, match="3 levels"):
        pyramid([Tensor(planes[0])])


def test_the_extra_level_is_every_second_pixel() -> None:
    pyramid = FeaturePyramid([1], 1, extra_level=True)
    x = np.random.default_rng(0).normal(size=(1, 1, 5, 4)).astype(np.float32)
    fine, extra = pyramid([Tensor(x)])
    np.testing.assert_array_equal(extra.numpy(), fine.numpy()[:, :, ::2, ::2])


def test_gradients_of_a_residual_block_and_pyramid(gradcheck) -> None:
    """In float64, by finite differences: ops of a whole block chained, kinks allowed by name."""
    init.seed(3)
    body = ResNetBody(TINY_BODY).to(np.float64)
    pyramid = FeaturePyramid(TINY_BODY.channels, 2, "group").to(np.float64)
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32))
    gradcheck(lambda x: tuple(pyramid(body(x))), [x], full_jacobian=False, rtol=1e-5)


def test_settings_are_values() -> None:
    assert SMALL.rpn.matcher == IouMatcher(0.6, 0.3, low_quality=True)
    changed = maskrcnn_small(2, fpn_channels=16)
    assert changed.roi_heads.box_head.fc6.weight.shape == (128, 16 * 49)
    assert SMALL.fpn_channels == 32
