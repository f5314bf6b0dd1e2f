"""Every segmentation network's size, keys and shapes, without computing a number."""

from __future__ import annotations

import hashlib

import pytest

from cnncore import explain, models
from cnncore.models import outline, output_shapes
from cnncore.models.segmentation import SEGMENTERS
from cnncore.models.shapes import blank, shapes_of, state_shapes

UNET = {"in_channels": 1, "norm": None, "padding": 0}

# name, settings, classes, input, parameters (fixed upsamplings included), billions of
# multiply-adds.  Counted on the authors' network definitions (Caffe's FCN, DeconvNet, SegNet), on
# torchvision's and ternausnet's implementations, and on the U-Net paper's figure 1.
TABLE = [
    ("fcn32s", {}, 21, (3, 500, 500), 136_152_917, 181.3659),
    ("fcn16s", {}, 21, (3, 500, 500), 134_815_994, 181.4481),
    ("fcn8s", {}, 21, (3, 500, 500), 134_489_759, 181.5290),
    ("fcn_alexnet", {}, 21, (3, 500, 500), 58_704_590, 21.4245),
    ("fcn_resnet50", {}, 21, (3, 520, 520), 35_322_218, 152.7165),
    ("fcn_resnet50", {"auxiliary": False}, 21, (3, 520, 520), 32_957_013, None),
    ("fcn_resnet101", {}, 21, (3, 520, 520), 54_314_346, 232.738),
    ("deeplabv3_resnet50", {}, 21, (3, 520, 520), 42_004_074, 178.722),
    ("deeplabv3_resnet50", {"auxiliary": False}, 21, (3, 520, 520), 39_638_869, None),
    ("deeplabv3_resnet101", {}, 21, (3, 520, 520), 60_996_202, 258.743),
    ("deconvnet", {}, 21, (3, 224, 224), 251_805_653, 32.7460),
    ("segnet", {}, 11, (3, 360, 480), 29_449_355, 106.7124),
    ("segnet", {}, 21, (3, 360, 480), 29_455_125, None),
    ("segnet_basic", {}, 11, (3, 360, 480), 1_416_587, 59.1888),
    ("unet", UNET, 2, (1, 572, 572), 31_030_658, 150.4284),
    ("unet", {"norm": None}, 1, (3, 256, 256), 31_031_745, 48.1674),
    ("ternausnet11", {}, 1, (3, 256, 256), 22_927_393, 25.7090),
    ("ternausnet16", {}, 1, (3, 256, 256), 29_306_465, 85.5785),
    ("ternausnet16", {"kernel": 4}, 1, (3, 256, 256), 32_202_337, 39.9612),
]


@pytest.mark.parametrize(("name", "settings", "classes", "shape", "parameters", "gmacs"), TABLE)
def test_parameters_and_multiply_adds(name, settings, classes, shape, parameters, gmacs):
    model = outline(name, num_classes=classes, **settings)
    assert model.num_parameters() == parameters
    if gmacs is not None:
        table = explain.cost(model, shape, 1, backward=False)
        assert table.total("multiply_adds") / 1e9 == pytest.approx(gmacs, abs=6e-4)


# The number of entries and the SHA-256 of the lines "key [shape]\n", sorted, of the state dicts of
# torchvision's networks with their auxiliary heads, as in the published files.
LAYOUTS = {
    "fcn_resnet50": (334, "d0d3c4bef14c5dde91c83304138ac58dad9548f327d41266cb4cbcbdbdf51af6"),
    "fcn_resnet101": (640, "a9f7a96fae458f3b558a2fdd50e606e5018e42d921ca531ba8b4029168c4648a"),
    "deeplabv3_resnet50": (
        370,
        "bc777fd6fc8b3bd5d734205c385c44e6e76b442ffc20eb2cd48b85094c3dcbee",
    ),
    "deeplabv3_resnet101": (
        676,
        "946faaee5fee9449904dddf9093f6b16f42b3c946ed87780bb5091197d116a91",
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_keys_and_shapes_are_the_public_ones(name):
    shapes = state_shapes(outline(name, num_classes=21))
    lines = sorted(f"{key} {list(shape)}\n" for key, shape in shapes.items())
    found = len(lines), hashlib.sha256("".join(lines).encode()).hexdigest()
    assert found == LAYOUTS[name]


KEYS = {  # entries, and one key with its shape
    "fcn32s": (33, "upscore.weight", (21, 21, 64, 64)),
    "fcn16s": (36, "upscore16.weight", (21, 21, 32, 32)),
    "fcn8s": (39, "upscore_pool4.weight", (21, 21, 4, 4)),
    "ternausnet11": (56, "center.block.1.weight", (512, 256, 3, 3)),
    "ternausnet16": (76, "conv5.4.bias", (512,)),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_the_common_implementation(name):
    classes = 1 if name.startswith("ternaus") else 21
    shapes = state_shapes(outline(name, num_classes=classes))
    entries, key, shape = KEYS[name]
    assert len(shapes) == entries
    assert shapes[key] == shape


FEATURES = [  # name, settings, input, module -> its result
    ("fcn8s", {}, (3, 500, 500), {
        "conv1_1": (64, 698, 698), "conv4_1": (512, 88, 88), "fc6": (4096, 16, 16),
        "upscore2": (21, 34, 34), "score_pool4": (21, 44, 44), "upscore_pool4": (21, 70, 70),
        "score_pool3": (21, 88, 88), "upscore8": (21, 568, 568), "": (21, 500, 500)}),
    ("fcn32s", {}, (3, 500, 500), {"upscore": (21, 544, 544), "": (21, 500, 500)}),
    ("fcn_alexnet", {}, (3, 500, 500), {"conv1": (96, 173, 173), "upscore": (21, 543, 543)}),
    ("segnet", {}, (3, 360, 480), {
        "conv5_3": (512, 23, 30), "upsample5": (512, 23, 30), "upsample4": (512, 45, 60),
        "upsample3": (256, 90, 120), "upsample1": (64, 360, 480)}),
    ("deconvnet", {}, (3, 224, 224), {
        "fc7": (4096, 1, 1), "fc6_deconv": (512, 7, 7), "unpool5": (512, 14, 14),
        "deconv4_3": (256, 28, 28), "deconv2_2": (64, 112, 112)}),
    ("unet", UNET, (1, 572, 572), {
        "inc": (64, 568, 568), "down1": (128, 280, 280), "down4": (1024, 28, 28),
        "up1": (512, 52, 52), "up3": (128, 196, 196), "": (21, 388, 388)}),
    ("ternausnet11", {}, (3, 256, 256), {"encoder.18": (512, 16, 16), "center": (256, 16, 16)}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "shape", "wanted"), FEATURES)
def test_shapes_inside(name, settings, shape, wanted):
    found = output_shapes(outline(name, num_classes=21, **settings), (1, *shape))
    assert {key: found[key][1:] for key in wanted} == wanted


def test_crops_of_the_released_networks():
    assert outline("fcn32s", num_classes=21).crops == {"score": 19}
    assert outline("fcn16s", num_classes=21).crops == {"pool4": 5, "score": 27}
    assert outline("fcn8s", num_classes=21).crops == {"pool4": 5, "pool3": 9, "score": 31}
    assert outline("fcn_alexnet", num_classes=21).crop == 18


@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_resnet50"])
def test_dilated_stages_keep_stride_eight(name):
    model = outline(name, num_classes=21)
    with shapes_of(model):
        features = model.backbone(blank(model, (1, 3, 520, 520)))
        outputs = model(blank(model, (1, 3, 520, 520)))
    assert [x.shape[1:] for x in features[2:]] == [(1024, 65, 65), (2048, 65, 65)]
    assert {k: v.shape for k, v in outputs.items()} == {
        "out": (1, 21, 520, 520),
        "aux": (1, 21, 520, 520),
    }


def test_every_name_is_registered():
    assert set(SEGMENTERS) <= set(models.list_models())
