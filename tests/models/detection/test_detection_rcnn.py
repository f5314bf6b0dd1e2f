"""Faster R-CNN as published, at a size that computes in milliseconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnncore import Tensor
from cnncore.errors import ArgumentError
from cnncore.models.backbones import ResNetSettings
from cnncore.models.detection import (
    FasterRcnn,
    KeypointSettings,
    MaskRcnn,
    MaskRcnnSettings,
    RcnnSettings,
    Resize,
    RoiSettings,
    RpnSettings,
)
from cnncore.nn import init
from cnncore.vision import (
    BalancedSampler,
    Objects,
    ProposalSettings,
    keypoint_cells,
    place_keypoints,
)

FEW = ProposalSettings(pre_nms=60, post_nms=20)
PARTS = {
    "body": ResNetSettings(
        stem_channels=8, widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), norm="frozen_exact"
    ),
    "fpn_channels": 8,
    "rpn": RpnSettings(channels=8, train=FEW, test=FEW),
    "resize": Resize(min_size=64, max_size=100),
}
ROI = RoiSettings(box_channels=16, mask_channels=8, sampler=BalancedSampler(16, 0.25))
PICTURES = [np.full((40, 60, 3), 90, np.uint8), np.full((50, 40, 3), 160, np.uint8)]


def target(*boxes: tuple[float, ...], size: tuple[int, int]) -> Objects:
    """Boxes of class 0, whose masks are the whole box."""
    array = np.float32(boxes).reshape(-1, 4)
    masks = np.zeros((len(array), *size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, array.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    return Objects(array, np.zeros(len(array), np.int64), masks)


TARGETS = [target((5, 5, 35, 30), (30, 10, 58, 38), size=(40, 60)), target(size=(50, 40))]


@pytest.fixture(scope="module")
def faster() -> FasterRcnn:
    init.seed(0)
    return FasterRcnn(3, RcnnSettings(**PARTS, roi=replace(ROI, masks=False)))


def total(terms: dict[str, Tensor]) -> Tensor:
    return sum(terms.values(), start=Tensor(np.zeros((), np.float32)))


def test_a_step_with_an_image_without_objects(faster: FasterRcnn) -> None:
    batch = faster.prepare(PICTURES)
    assert batch.images.shape == (2, 3, 96, 96)
    assert batch.image_sizes == [(64, 96), (80, 64)]
    outputs = faster(batch.images, batch.image_sizes)
    faster.zero_grad()
    terms = faster.loss(outputs, batch.scale(TARGETS), np.random.default_rng(0))
    assert list(terms) == ["objectness", "rpn_box", "class", "box"]
    total(terms).backward()
    for name, parameter in faster.named_parameters():
        assert parameter.grad is not None, name
        assert np.isfinite(parameter.grad.data).all(), name
    found = faster.decode(outputs, score_threshold=0.0)
    assert all(o.masks is None and len(o.boxes) for o in found)
    for objects, picture in zip(batch.restore(found), PICTURES, strict=True):
        assert (objects.boxes[:, 2:].max(0) <= np.array(picture.shape[1::-1]) + 1e-3).all()


def test_masks_are_not_needed_without_a_mask_head(faster: FasterRcnn) -> None:
    outputs = faster(faster.prepare(PICTURES[:1]).images)
    bare = Objects(TARGETS[0].boxes, TARGETS[0].labels)
    terms = faster.loss(outputs, [bare], np.random.default_rng(0))
    assert np.isfinite(total(terms).item())


@pytest.mark.parametrize("mode", [True, False])
def test_no_image_and_no_object(faster: FasterRcnn, mode: bool) -> None:
    faster.train(mode)
    none = faster(np.zeros((0, 3, 64, 64), np.float32))
    assert faster.decode(none) == []
    assert all(t.item() == 0 for t in faster.loss(none, [], np.random.default_rng(0)).values())
    one = faster(np.zeros((1, 3, 64, 64), np.float32))
    terms = faster.loss(one, [target(size=(64, 64))], np.random.default_rng(0))
    assert terms["rpn_box"].item() == terms["box"].item() == 0


def test_strides_of_a_padded_batch_are_whole(faster: FasterRcnn) -> None:
    """160 rows give 3 on P6: strides of 53, not 64; 32 columns give 1."""
    anchors = faster(np.zeros((1, 3, 160, 32), np.float32)).rpn.anchors
    rows = [np.unique((a[:, 1] + a[:, 3]) / 2).tolist() for a in anchors]
    assert rows[4] == [0, 53, 106]
    assert rows[3] == [0, 32, 64, 96, 128]


def old_names(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As in the files of torchvision before 0.13."""
    renamed = {}
    for key, value in state.items():
        if "fpn" in key or "rpn.head.conv" in key:
            key = key.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
            key = key.replace("rpn.head.conv.0.", "rpn.head.conv.")
        if "mask_head" in key:
            _, _, layer, _, kind = key.split(".")
            key = f"roi_heads.mask_head.mask_fcn{int(layer) + 1}.{kind}"
        renamed[key] = value
    return renamed


def test_files_with_the_old_names_load() -> None:
    model = MaskRcnn(3, MaskRcnnSettings(**PARTS, roi=ROI))
    state = model.state_dict()
    old = old_names({key: value + 1 for key, value in state.items()})
    assert {
        "rpn.head.conv.weight",
        "backbone.fpn.inner_blocks.3.bias",
        "backbone.fpn.layer_blocks.0.weight",
        "roi_heads.mask_head.mask_fcn4.weight",
    } <= set(old)
    assert not set(old) & {"rpn.head.conv.0.0.weight", "roi_heads.mask_head.3.0.weight"}
    model.load_state_dict(old)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[key] + 1, err_msg=key)
    with pytest.raises(ArgumentError, match=r"missing: .*rpn\.head\.cls_logits\.bias"):
        model.load_state_dict({k: v for k, v in old.items() if k != "rpn.head.cls_logits.bias"})


def test_batch_norm_is_frozen_and_has_no_eps(faster: FasterRcnn) -> None:
    norm = faster.backbone.body.bn1
    assert norm.eps == 0
    assert not list(norm.parameters())
    norm.running_var.data[...] = 4e-6
    y = norm(np.ones((1, 8, 1, 1), np.float32))
    norm.running_var.data[...] = 1
    np.testing.assert_allclose(y.numpy(), 500, rtol=1e-6)


# --- keypoints ------------------------------------------------------------------------------------

POINTS = KeypointSettings(joints=3, size=4, channels=8, layers=2)


@pytest.fixture(scope="module")
def pointing() -> FasterRcnn:
    init.seed(0)
    return FasterRcnn(1, RcnnSettings(**PARTS, roi=replace(ROI, masks=False, keypoints=POINTS)))


def with_points(objects: Objects, visibility: float = 2) -> Objects:
    """Three joints an object: a corner, the centre and the opposite corner."""
    near, far = objects.boxes[:, :2], objects.boxes[:, 2:]
    points = np.stack([near, (near + far) / 2, far], 1)
    seen = np.full((*points.shape[:2], 1), visibility, np.float32)
    return replace(objects, masks=None, keypoints=np.concatenate([points, seen], 2))


def test_a_step_with_keypoints(pointing: FasterRcnn) -> None:
    batch = pointing.prepare(PICTURES)
    outputs = pointing(batch.images, batch.image_sizes)
    targets = batch.scale([with_points(t) for t in TARGETS])
    np.testing.assert_allclose(targets[0].keypoints[:, 0, :2], targets[0].boxes[:, :2])
    np.testing.assert_allclose(targets[0].keypoints[:, 2, :2], targets[0].boxes[:, 2:])
    pointing.zero_grad()
    terms = pointing.loss(outputs, targets, np.random.default_rng(0))
    assert list(terms) == ["objectness", "rpn_box", "class", "box", "keypoint"]
    total(terms).backward()
    for name, parameter in pointing.named_parameters():
        assert parameter.grad is not None, name
        assert np.isfinite(parameter.grad.data).all(), name
    found = pointing.decode(outputs, score_threshold=0.0)
    for objects in found:
        assert objects.keypoints.shape == (len(objects.boxes), 3, 3)
        points, boxes = objects.keypoints[..., :2], objects.boxes[:, None]
        assert (points >= boxes[..., :2]).all()
        assert (points <= np.maximum(boxes[..., 2:], boxes[..., :2] + 1)).all()
    nothing = pointing.decode(outputs, score_threshold=1.0)
    assert [o.keypoints.shape for o in nothing] == [(0, 3, 3)] * 2


def test_joints_without_a_label_do_not_count(pointing: FasterRcnn) -> None:
    """Neither do images without persons; at first all places are equally probable."""
    silent = pointing.roi_heads.keypoint_predictor.kps_score_lowres
    weight = silent.weight.data.copy()
    silent.weight.data[...] = 0
    outputs = pointing(pointing.prepare(PICTURES[:1]).images)
    for target_, expected in (
        (with_points(TARGETS[0]), np.log(16 * 16)),
        (with_points(TARGETS[0], 0), 0.0),
        (with_points(target(size=(40, 60))), 0.0),
    ):
        terms = pointing.loss(outputs, [target_], np.random.default_rng(0))
        assert terms["keypoint"].item() == pytest.approx(expected, rel=1e-5)
    silent.weight.data[...] = weight


def test_bad_keypoints_are_named(pointing: FasterRcnn) -> None:
    outputs = pointing(pointing.prepare(PICTURES[:1]).images)
    bad = with_points(TARGETS[0])
    bad.keypoints[1, 2, 0] = np.nan
    with pytest.raises(ArgumentError, match=r"targets\[0\]\.keypoints.*\[1, 2, 0\]"):
        pointing.loss(outputs, [bad], np.random.default_rng(0))


def test_cells_of_keypoints_by_hand() -> None:
    box = [[10, 20, 18, 36]]  # 8 wide, 16 high: cells of a 4×4 grid are 2×4
    points = [[[10, 20, 2], [13.9, 28, 1], [18, 36, 2], [9.9, 20, 2], [14, 24, 0]]]
    cells, counted = keypoint_cells(points, box, 4)
    assert cells.tolist() == [[0, 2 * 4 + 1, 15, 0, 0]]
    assert counted.tolist() == [[True, True, True, False, False]]


def test_places_of_keypoints_by_hand() -> None:
    heat = np.zeros((2, 2, 4, 4), np.float32)
    heat[0, 0, 1, 2] = heat[0, 1, 3, 0] = heat[1, :, :, :2] = 5.0
    boxes = np.float32([[10, 20, 14, 24], [0, 0, 1.5, 0.25]])
    found = place_keypoints(heat, boxes)
    # A box of four pixels shows the map as it is: the centre of pixel (row 1, column 2), …
    np.testing.assert_allclose(found[0], [[12.5, 21.5, 5], [10.5, 23.5, 5]], rtol=1e-6)
    # 1.5 wide: two pixels of 0.75; lower than a pixel: one pixel of height 1.
    np.testing.assert_allclose(found[1, :, :2], [[0.375, 0.5]] * 2)
    assert place_keypoints(heat[:0], boxes[:0]).shape == (0, 2, 3)


# --- pictures to batches and back -----------------------------------------------------------------


def test_pictures_are_scaled_and_padded() -> None:
    resize = Resize(min_size=4, max_size=6, divisor=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 1.0))
    ramp = np.linspace(0, 1, 4, dtype=np.float32)
    picture = np.broadcast_to(ramp, (3, 2, 4))  # sides 2 and 4: times min(4/2, 6/4) = 3 and 6
    batch = resize([picture, np.full((8, 4, 3), 255, np.uint8)])
    assert batch.image_sizes == [(3, 6), (6, 3)]
    assert batch.images.shape == (2, 3, 8, 8)
    x = batch.images.numpy()
    # Half-pixel centres: columns (i + ½)·4/6 − ½ = −1/6 (cut to 0), ½, 7/6, 11/6, 5/2, 19/6.
    columns = np.array([0, 1 / 2, 7 / 6, 11 / 6, 5 / 2, 3]) / 3
    for channel, std in enumerate((0.5, 0.25, 1.0)):
        row = (columns - 0.5) / std
        np.testing.assert_allclose(x[0, channel, :3, :6], [row] * 3, atol=1e-6)
    assert not x[0, :, 3:].any()
    assert not x[0, :, :, 6:].any()
    np.testing.assert_allclose(x[1, :, :6, :3].mean((1, 2)), [1, 2, 0.5])


def test_targets_go_there_and_detections_come_back() -> None:
    batch = Resize(min_size=20, max_size=100, divisor=4)([np.zeros((10, 15, 3), np.uint8)])
    (there,) = batch.scale([target((1, 2, 7, 6), size=(10, 15))])
    assert there.boxes.tolist() == [[2, 4, 14, 12]]
    assert np.argwhere(there.masks[0]).min(0).tolist() == [4, 2]
    assert np.argwhere(there.masks[0]).max(0).tolist() == [11, 13]
    (back,) = batch.restore([there])
    assert back.boxes.tolist() == [[1, 2, 7, 6]]
    assert back.masks.sum() == 24


@pytest.mark.parametrize(
    "picture",
    [np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_a_bad_picture_is_named(picture: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match=r"pictures\[1\]"):
        Resize()([PICTURES[0], picture])


def test_settings_that_do_not_fit_are_refused(faster: FasterRcnn) -> None:
    with pytest.raises(ArgumentError, match="mask head"):
        MaskRcnn(3, faster.settings)
    plain = FasterRcnn(1, replace(faster.settings, resize=None))
    with pytest.raises(ArgumentError, match=r"settings\.resize"):
        plain.prepare(PICTURES)
