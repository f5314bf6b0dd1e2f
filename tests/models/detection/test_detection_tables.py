"""Every full-size detector's size, keys, shapes and boxes, without computing a number."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from cnncore import explain, models
from cnncore.models import outline
from cnncore.models.detection import DETECTORS
from cnncore.models.detection.ssd import VOC_BOXES
from cnncore.models.shapes import blank, shapes_of, state_shapes
from cnncore.vision import AnchorSettings, DeltaCoder, cell_anchors

RCNN = ["fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn"]

CLASSES = {"keypointrcnn_resnet50_fpn": 1}  # real ones; others 90

# name, parameters with 90 real classes, those trained if the stem and the first stage are not.
# Counted on torchvision's networks as their public weights have them: batch norm frozen.
PARAMETERS = [
    ("fasterrcnn_resnet50_fpn", 41_755_286, 41_532_886),
    ("maskrcnn_resnet50_fpn", 44_401_393, 44_178_993),
    ("keypointrcnn_resnet50_fpn", 59_137_258, 58_914_858),
    ("retinanet_resnet50_fpn", 34_014_999, 33_792_599),
]


@pytest.mark.parametrize(("name", "every", "trained"), PARAMETERS)
def test_parameters(name, every, trained):
    classes = CLASSES.get(name, 90)
    assert outline(name, num_classes=classes).num_parameters() == every
    model = outline(name, num_classes=classes, frozen_stages=2)
    assert sum(p.size for p in model.parameters() if p.requires_grad) == trained


def test_parameters_by_branch():
    model = outline("maskrcnn_resnet50_fpn", num_classes=90)
    heads = model.roi_heads
    branches = {
        model.backbone.body: 23_454_912,
        model.backbone.fpn: 3_344_384,
        model.rpn: 593_935,
        heads.box_head.fc6: 12_846_080,
        heads.box_head.fc7: 1_049_600,
        heads.box_predictor.cls_score: 93_275,
        heads.box_predictor.bbox_pred: 373_100,
        heads.mask_head: 4 * 590_080,
        heads.mask_predictor: 262_400 + 23_387,
    }
    assert {type(m).__name__: m.num_parameters() for m in branches} == {
        type(m).__name__: count for m, count in branches.items()
    }


# The number of entries and the SHA-256 of the lines "key [shape]\n", sorted, of the state dicts of
# torchvision's networks as in the public files.
LAYOUTS = {
    "fasterrcnn_resnet50_fpn": (
        295,
        "754999df1c59381f27b0791e728b88c2fc0b4c22a28eaf1293f51590c2017edb",
    ),
    "maskrcnn_resnet50_fpn": (
        307,
        "b1f65dde78deeb6c9c1746893d0cf56f3c52b99cad88ea44a04ba769ba20ec72",
    ),
    "keypointrcnn_resnet50_fpn": (
        313,
        "52da467fcb1eaf4f7877b90715f45dc8edc6f6b608314903dad6e3b3e599ef4a",
    ),
    "ssd300_vgg16": (71, "d6a1cb7366e3ec2fe2db1837792f8d33c5fcf7f7cf4bb5dc66e0ed5d0c0e18fa"),
    "retinanet_resnet50_fpn": (
        301,
        "d3acaf9efd71ce4a814c25fe80107480f260b2218a5a23983c7a3e6903ca8029",
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_keys_and_shapes_are_the_public_ones(name):
    shapes = state_shapes(outline(name, num_classes=CLASSES.get(name, 90)))
    lines = sorted(f"{key} {list(shape)}\n" for key, shape in shapes.items())
    found = len(lines), hashlib.sha256("".join(lines).encode()).hexdigest()
    assert found == LAYOUTS[name]


@pytest.mark.parametrize("name", RCNN)
def test_multiply_adds_with_a_thousand_proposals(name):
    """torchvision states 134.38 billion, for 800×800 pixels and the box head."""
    model = outline(name, num_classes=90)
    dense = explain.cost(model, (3, 800, 800), 1, backward=False).total("multiply_adds")
    head = 12544 * 1024 + 1024 * 1024 + 1024 * (91 + 4 * 91)
    assert (dense + 1000 * head) / 1e9 == pytest.approx(134.38, abs=5e-3)


def test_levels_and_anchors_of_a_photograph():
    model = outline("fasterrcnn_resnet50_fpn", num_classes=90)
    with shapes_of(model):
        outputs = model(blank(model, (1, 3, 800, 1344)))
    sizes = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]
    assert [x.shape for x in outputs.features] == [(1, 256, *size) for size in sizes]
    counts = [201_600, 50_400, 12_600, 3_150, 819]
    assert [len(a) for a in outputs.rpn.anchors] == counts
    assert outputs.rpn.objectness.shape == (1, sum(counts))
    assert outputs.rpn.deltas.shape == (1, 268_569, 4)
    # The coarsest level: 800 // 13 = 61 rows a cell, 1344 // 21 = 64 columns.
    last = outputs.rpn.anchors[-1].reshape(13, 21, 3, 4)
    centres = (last[..., :2] + last[..., 2:]) / 2
    assert centres[1, 0].tolist() == [[0, 61]] * 3
    assert centres[12, 20].tolist() == [[1280, 732]] * 3
    third = outputs.rpn.anchors[3].reshape(25, 42, 3, 4)
    assert ((third[24, 41, :, :2] + third[24, 41, :, 2:]) / 2).tolist() == [[1312, 768]] * 3


def test_multiply_adds_with_a_person():
    """torchvision states 137.42 billion: a thousand proposals and the keypoints of one."""
    model = outline("keypointrcnn_resnet50_fpn", num_classes=1)
    dense = explain.cost(model, (3, 800, 800), 1, backward=False).total("multiply_adds")
    box = 12544 * 1024 + 1024 * 1024 + 1024 * (2 + 4 * 2)
    heads = model.roi_heads
    parts = [(heads.keypoint_head, 256), (heads.keypoint_predictor, 512)]
    points = sum(
        explain.cost(part, (channels, 14, 14), 1, backward=False).total("multiply_adds")
        for part, channels in parts
    )
    assert (dense + 1000 * box + points) / 1e9 == pytest.approx(137.42, abs=5e-3)


DENSE = [  # as torchvision states them; SSD for VOC counted on its network with 21 outputs
    ("retinanet_resnet50_fpn", 90, (3, 800, 800), 34_014_999, 151.54),
    ("ssd300_vgg16", 90, (3, 300, 300), 35_641_826, 34.858),
    ("ssd300_vgg16", 20, (3, 300, 300), 26_285_486, 31.3735),
    # Arithmetic from the paper's figure 3; the author's file of the tiny network.
    ("yolo_v1", 20, (3, 448, 448), 271_703_550, 20.28515),
    ("yolo_v1_tiny", 20, (3, 448, 448), 27_095_374, 1.60802),
]


@pytest.mark.parametrize(("name", "classes", "shape", "parameters", "gmacs"), DENSE)
def test_multiply_adds_of_dense_detectors(name, classes, shape, parameters, gmacs):
    model = outline(name, num_classes=classes)
    assert model.num_parameters() == parameters
    adds = explain.cost(model, shape, 1, backward=False).total("multiply_adds")
    assert adds / 1e9 == pytest.approx(gmacs, abs=5e-3)


@pytest.mark.parametrize(("name", "convolutions"), [("yolo_v1", 24), ("yolo_v1_tiny", 8)])
def test_the_grid_of_yolo(name, convolutions):
    model = outline(name, num_classes=20)
    with shapes_of(model):
        outputs = model(blank(model, (2, 3, 448, 448)))
    assert outputs.classes.shape == (2, 7, 7, 20)
    assert outputs.confidence.shape == (2, 7, 7, 2)  # 98 boxes an image
    assert outputs.boxes.shape == (2, 7, 7, 2, 4)
    keys = [key for key in state_shapes(model) if key.endswith("conv.weight")]
    assert len(keys) == convolutions


# Counted on the authors' network definitions, without the proposal network; they count batch norm's
# scale and shift (twice 26,560 and 52,672), which are constants here, and the stem's bias.
@pytest.mark.parametrize(
    ("name", "counted", "norm"),
    [("rfcn_resnet50", 27_062_797 - 64, 53_120), ("rfcn_resnet101", 46_054_861, 105_344)],
)
def test_parameters_and_maps_of_rfcn(name, counted, norm):
    model = outline(name, num_classes=20)
    assert model.num_parameters() - model.rpn.num_parameters() == counted - norm
    with shapes_of(model):
        outputs = model(blank(model, (1, 3, 600, 1000)))
    assert [x.shape[1:] for x in outputs.features] == [(1029, 38, 63), (392, 38, 63)]
    assert outputs.rpn.deltas.shape == (1, 21_546, 4)  # 9 anchors in each of 38·63 cells
    body = explain.cost(model.body, (3, 600, 1000), 1, backward=False).total("multiply_adds")
    every = explain.cost(model, (3, 600, 1000), 1, backward=False).total("multiply_adds")
    maps = 2048 * 1024 + 1024 * (1029 + 392)
    rpn = 9 * 1024 * 512 + 512 * 9 * 5
    assert every - body == 38 * 63 * (maps + rpn)


def maps_of(model, size):
    with shapes_of(model):
        maps = model.backbone(blank(model, (1, 3, size, size)))
        outputs = model(blank(model, (1, 3, size, size)))
    return [m.shape[1:] for m in maps], [len(a) for a in outputs.anchors], outputs


def test_maps_and_boxes_of_ssd300():
    model = outline("ssd300_vgg16", num_classes=90)
    maps, counts, outputs = maps_of(model, 300)
    channels = [512, 1024, 512, 256, 256, 256]
    assert maps == [(c, s, s) for c, s in zip(channels, [38, 19, 10, 5, 3, 1], strict=True)]
    assert counts == [5776, 2166, 600, 150, 36, 4]
    assert outputs.logits.shape == (1, 8732, 91)
    assert outputs.deltas.shape == (1, 8732, 4)
    assert model.head.num_parameters() == 12_697_890
    # The last map: one cell of 300 pixels, sides 0.87 and √(0.87 · 1.05) of the image; the box
    # twice as wide as high is cut at the image's width.
    wide, high = 300, 300 * 0.87 / np.sqrt(2)
    between = 300 * np.sqrt(0.87 * 1.05)
    sides = [[261, 261], [between, between], [wide, high], [high, wide]]
    boxes = outputs.anchors[-1]
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], sides, rtol=1e-6)
    np.testing.assert_allclose((boxes[:, 2:] + boxes[:, :2]) / 2, 150, rtol=1e-6)


def test_maps_and_boxes_of_ssd512():
    maps, counts, outputs = maps_of(outline("ssd512_vgg16", num_classes=90), 512)
    channels = [512, 1024, 512, 256, 256, 256, 256]
    assert maps == [(c, s, s) for c, s in zip(channels, [64, 32, 16, 8, 4, 2, 1], strict=True)]
    assert counts == [16_384, 6_144, 1_536, 384, 96, 16, 4]
    assert outputs.logits.shape == (1, 24_564, 91)


def test_the_first_default_boxes_for_voc():
    first = VOC_BOXES([(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)], (300, 300))
    np.testing.assert_allclose(
        first[0][:3],
        [[-11, -11, 19, 19], [-17.213] * 2 + [25.213] * 2, [-17.213, -6.607, 25.213, 14.607]],
        atol=1e-3,
    )
    np.testing.assert_allclose(first[0][4 * 38], [-11, -3, 19, 27])  # row 1
    np.testing.assert_allclose(first[4][0], [50 - 106.5] * 2 + [50 + 106.5] * 2)
    assert first[5][2, 2] - first[5][2, 0] > 300  # not cut


def test_levels_and_anchors_of_retinanet():
    model = outline("retinanet_resnet50_fpn", num_classes=90)
    with shapes_of(model):
        outputs = model(blank(model, (1, 3, 800, 1344)))
    sizes = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
    assert [len(a) for a in outputs.anchors] == [9 * h * w for h, w in sizes]
    every = 9 * (16_800 + 4_200 + 1_050 + 273 + 77)
    assert outputs.logits.shape == (1, every, 91)
    assert outputs.deltas.shape == (1, every, 4)
    first = outputs.anchors[0][:9]  # ratio is the slow index
    assert first[3:6].tolist() == [[-16, -16, 16, 16], [-20, -20, 20, 20], [-25, -25, 25, 25]]
    assert first[0].tolist() == [-23, -11, 23, 11]
    assert model.settings.anchors.sizes[1:] == (
        (64, 80, 101),
        (128, 161, 203),
        (256, 322, 406),
        (512, 645, 812),
    )
    last = outputs.anchors[-1].reshape(7, 11, 9, 4)[6, 10, 4]  # 800 // 7 = 114, 1344 // 11 = 122
    assert ((last[:2] + last[2:]) / 2).tolist() == [1220, 684]


def test_cell_anchors_of_the_public_weights():
    half = {32: (23, 11), 64: (45, 23), 128: (91, 45), 256: (181, 91), 512: (362, 181)}
    for level, (size, (long, short)) in enumerate(half.items()):
        assert cell_anchors(AnchorSettings(), level).tolist() == [
            [-long, -short, long, short],
            [-size / 2, -size / 2, size / 2, size / 2],
            [-short, -long, short, long],
        ]


def test_box_deltas_by_hand():
    """A box 100×200 whose centre is (60, 120), seen from one 100×100 at (50, 50)."""
    truth, proposal = [[10, 20, 110, 220]], [[0, 0, 100, 100]]
    plain = [[0.1, 0.7, 0.0, np.log(2)]]
    np.testing.assert_allclose(DeltaCoder().encode(truth, proposal), plain, rtol=1e-6)
    for settings in (outline(name, num_classes=2).settings for name in RCNN):
        assert settings.rpn.coder == DeltaCoder()
        coder = settings.roi.detections.coder
        np.testing.assert_allclose(
            coder.encode(truth, proposal), [[1, 7, 0, 5 * np.log(2)]], rtol=1e-6
        )
        np.testing.assert_allclose(coder.decode([[1, 7, 0, 5 * np.log(2)]], proposal), truth)


def test_the_first_level_of_a_region():
    rule = outline("fasterrcnn_resnet50_fpn", num_classes=2).settings.roi.levels
    sides = np.array([32, 64, 112, 224, 448, 896, 223.99, 224 * (1 - 1e-7)])
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], 1)
    assert (rule.assign(boxes) + rule.lowest).tolist() == [2, 2, 3, 4, 5, 5, 3, 4]


def test_every_name_is_registered():
    assert set(DETECTORS) <= set(models.list_models())
