"""Every variant's size, keys and shapes against the published ones, without computing a number."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from layouts import PUBLIC, differences, fingerprint, public_layout

from cnncore import models
from cnncore.autograd import Tensor, observe
from cnncore.models.classification import VARIANTS
from cnncore.models.classification.resnet_v2 import keras_name
from cnncore.models.shapes import shapes_of
from cnncore.nn.shapes import hollow

NAMES = [
    *("lenet5", "alexnet", "alexnet_two_tower", "zfnet", "googlenet"),
    *("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnet50_v2", "resnet101_v2", "se_resnet50"),
    *("bn_inception", "inception_v3", "inception_v4", "inception_resnet_v2", "xception"),
    *("mobilenet_v1", "mobilenet_v2", "nasnet_mobile"),
    *(f"efficientnet_b{number}" for number in range(8)),
    "efficientnet_lite0",
]

# Trainable parameters, elements of running means and variances, billions of multiply-adds of
# convolutions and dense layers at the variant's input size, the map that the last pooling or
# flattening sees.  Counted on the implementation that ``Variant.layout`` names; without one on the
# paper's figures: LeNet-5's 60,000 is in the paper, AlexNet's numbers follow from Caffe's
# bvlc_alexnet, ZFNet's are pytorchcv's.  None: not counted elsewhere.
TABLE = {
    "lenet5": (60_000, 0, None, (120, 1, 1)),
    "alexnet": (61_100_840, 0, 0.714188, (256, 6, 6)),
    "alexnet_two_tower": (60_965_224, 0, 0.724406816, (256, 6, 6)),
    "zfnet": (62_357_608, 0, 1.168032896, (256, 6, 6)),
    "googlenet": (13_004_888, 15_072, 1.498376, (1024, 7, 7)),
    "vgg11": (132_863_336, 0, 7.60909, (512, 7, 7)),
    "vgg11_bn": (132_868_840, 5_504, 7.60909, (512, 7, 7)),
    "vgg13": (133_047_848, 0, 11.308466, (512, 7, 7)),
    "vgg13_bn": (133_053_736, 5_888, 11.308466, (512, 7, 7)),
    "vgg16": (138_357_544, 0, 15.470264, (512, 7, 7)),
    "vgg16_bn": (138_365_992, 8_448, 15.470264, (512, 7, 7)),
    "vgg19": (143_667_240, 0, 19.632062, (512, 7, 7)),
    "vgg19_bn": (143_678_248, 11_008, 19.632062, (512, 7, 7)),
    "resnet18": (11_689_512, 9_600, 1.814073, (512, 7, 7)),
    "resnet34": (21_797_672, 17_024, 3.663761, (512, 7, 7)),
    "resnet50": (25_557_032, 53_120, 4.089184, (2048, 7, 7)),
    "resnet101": (44_549_160, 105_344, 7.801405, (2048, 7, 7)),
    "resnet152": (60_192_808, 151_424, 11.513627, (2048, 7, 7)),
    "resnet50_v2": (25_568_360, 45_440, 3.48225536, (2048, 7, 7)),
    "resnet101_v2": (44_577_896, 97_664, 7.194476544, (2048, 7, 7)),
    "bn_inception": (11_295_240, 20_032, 2.032600064, (1024, 7, 7)),
    "inception_v3": (27_161_264, 36_224, 5.713216, (2048, 8, 8)),
    "inception_v4": (42_679_816, 63_168, 12.253974624, (1536, 8, 8)),
    "inception_resnet_v2": (55_843_464, 60_544, 13.155794016, (1536, 8, 8)),
    "xception": (22_855_952, 54_528, 8.357403496, (2048, 10, 10)),
    "mobilenet_v1": (4_231_976, 21_888, 0.568740352, (1024, 7, 7)),
    "mobilenet_v2": (3_504_872, 34_112, 0.300774, (1280, 7, 7)),
    "nasnet_mobile": (5_289_978, 36_738, 0.563638816, (1056, 7, 7)),
    "se_resnet50": (28_088_024, 53_120, 3.860488, (2048, 7, 7)),
    "efficientnet_b0": (5_288_548, 42_016, 0.385815, (1280, 7, 7)),
    "efficientnet_b1": (7_794_184, 62_048, 0.686803, (1280, 8, 8)),
    "efficientnet_b2": (9_109_994, 67_568, 0.99356, (1408, 9, 9)),
    "efficientnet_b3": (12_233_232, 87_296, 1.827141, (1536, 10, 10)),
    "efficientnet_b4": (19_341_616, 125_200, 4.393771, (1792, 12, 12)),
    "efficientnet_b5": (30_389_784, 172_736, 10.266385, (2048, 15, 15)),
    "efficientnet_b6": (43_040_704, 224_432, 19.067594, (2304, 17, 17)),
    "efficientnet_b7": (66_347_960, 310_720, 37.745884, (2560, 19, 19)),
    "efficientnet_lite0": (4_652_008, 42_016, None, (1280, 7, 7)),
}

# Other settings that papers and implementations have: (settings, parameters).
SETTINGS = [
    ("lenet5", {"num_classes": 10, "variant": "modern"}, 61_706),
    ("alexnet_two_tower", {"towers": 1}, 62_378_344),
    ("zfnet", {"widths": (512, 1024, 512)}, 107_627_624),
    ("googlenet", {"auxiliary": False}, 6_624_904),
    ("googlenet", {"auxiliary": False, "batch_norm": False}, 6_998_552),
    ("googlenet", {"batch_norm": False}, 13_378_280),
    ("bn_inception", {"paper": True}, 11_194_984),
    ("inception_v3", {"auxiliary": False}, 23_834_568),
]


def test_the_registered_names():
    assert set(NAMES) == set(VARIANTS) == set(TABLE)
    assert set(NAMES) <= set(models.list_models())


def statistics(model):
    return sum(
        buffer.size for name, buffer in model.named_buffers() if name.endswith(("_mean", "_var"))
    )


def run(model, input_shape):
    """Multiply-adds, and the map that the last module before the dense layers reads."""
    total, last_map = 0, None

    def note(event):
        nonlocal total, last_map
        if event.kind == "after_forward":
            y = math.prod(event.outputs[0].shape)
            if event.subject.name == "Conv2d":
                total += y * math.prod(event.inputs[1].shape[1:])
            elif event.subject.name == "MatMul":
                total += y * event.inputs[0].shape[-1]
        elif event.kind == "enter_module":
            x = event.inputs[0]
            if type(event.subject).__name__ in ("AdaptiveAvgPool2d", "Flatten") and (
                last_map is None or x.shape[2:] != (1, 1)
            ):
                last_map = x.shape[1:]

    with shapes_of(model), observe(note):
        assert model(Tensor(hollow((2, *input_shape)))).shape == (2, 1000)
    return total / 2, last_map


@pytest.mark.parametrize("name", NAMES)
def test_counts_and_shapes(name):
    parameters, running, gigamacs, last_map = TABLE[name]
    model = models.outline(name)
    assert model.num_parameters() == parameters
    assert statistics(model) == running
    macs, seen = run(model, VARIANTS[name].input_shape)
    assert seen == last_map
    if gigamacs is not None:
        # as precise as the table is
        assert macs / 1e9 == pytest.approx(gigamacs, abs=0.5e-5 if gigamacs == 0.99356 else 1e-6)


@pytest.mark.parametrize(("name", "settings", "parameters"), SETTINGS)
def test_other_settings(name, settings, parameters):
    assert models.outline(name, **settings).num_parameters() == parameters


def as_published(name, shapes):
    """Our state's shapes in the words of the public file, where these differ."""
    if not VARIANTS[name].layout.startswith("Keras"):
        return shapes
    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    return {
        keras_name(key): [shape[axis] for axis in axes[len(shape)]]
        for key, shape in shapes.items()
        if not key.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize("name", [n for n in NAMES if VARIANTS[n].layout != "none published"])
def test_keys_and_shapes_are_those_of_the_public_file(name):
    public = json.loads(PUBLIC.read_text(encoding="utf-8"))[name]
    ours = as_published(name, models.state_shapes(models.outline(name)))
    if fingerprint(ours) != (public["entries"], public["sha256"]):
        theirs = public_layout(name, VARIANTS[name].layout)
        lines = ["set CNNCORE_LAYOUTS (see layouts.py) to see which"]
        lines = lines if theirs is None else differences(ours, theirs)
        pytest.fail(
            "\n".join([f"{name}: keys or shapes are not those of {public['source']}", *lines])
        )


def test_a_fingerprint_sees_every_key_and_every_size():
    layout = {"a.weight": (2, 3), "a.bias": (2,)}
    prints = {
        fingerprint(other)
        for other in (
            layout,
            {"a.weight": (3, 2), "a.bias": (2,)},
            {"b.weight": (2, 3), "a.bias": (2,)},
            {"a.weight": (2, 3)},
        )
    }
    assert len(prints) == 4
    assert fingerprint(dict(reversed(layout.items()))) == fingerprint(layout)
    assert differences(layout, {"a.weight": [2, 4], "c": []}) == [
        "missing    c []", "unexpected a.bias [2]", "shape      a.weight [2, 3], there [2, 4]"
    ]  # fmt: skip


# Maps inside the networks, from the papers' tables and figures (and torchvision where it differs).
INSIDE = {
    "alexnet_two_tower": {"conv1": (96, 55, 55), "pool1": (96, 27, 27), "conv2": (256, 27, 27),
                          "pool2": (256, 13, 13), "conv4": (384, 13, 13), "pool5": (256, 6, 6)},
    "zfnet": {"conv1": (96, 110, 110), "pool1": (96, 55, 55), "conv2": (256, 26, 26),
              "pool2": (256, 13, 13), "conv5": (256, 13, 13), "pool5": (256, 6, 6)},
    "googlenet": {"conv3": (192, 56, 56), "inception3a": (256, 28, 28),
                  "inception3b": (480, 28, 28),
                  "inception4a": (512, 14, 14), "inception4d": (528, 14, 14),
                  "inception4e": (832, 14, 14), "maxpool4": (832, 7, 7),
                  "inception5b": (1024, 7, 7)},
    "inception_v3": {"Conv2d_1a_3x3": (32, 149, 149), "Conv2d_2b_3x3": (64, 147, 147),
                     "Conv2d_4a_3x3": (192, 71, 71), "Mixed_5b": (256, 35, 35),
                     "Mixed_5d": (288, 35, 35), "Mixed_6e": (768, 17, 17),
                     "Mixed_7a": (1280, 8, 8)},
    "inception_v4": {"features.3": (160, 73, 73), "features.4": (192, 71, 71),
                     "features.5": (384, 35, 35), "features.10": (1024, 17, 17),
                     "features.18": (1536, 8, 8)},
    "inception_resnet_v2": {"mixed_5b": (320, 35, 35), "mixed_6a": (1088, 17, 17),
                            "mixed_7a": (2080, 8, 8), "block8": (2080, 8, 8)},
    "xception": {"block1": (128, 74, 74), "block2": (256, 37, 37), "block3": (728, 19, 19),
                 "block11": (728, 19, 19), "block12": (1024, 10, 10)},
    "nasnet_mobile": {"conv0": (32, 111, 111), "cell_stem_0": (44, 56, 56),
                      "cell_stem_1": (88, 28, 28), "cell_3": (264, 28, 28),
                      "reduction_cell_0": (352, 14, 14), "cell_9": (528, 14, 14),
                      "reduction_cell_1": (704, 7, 7), "cell_15": (1056, 7, 7)},
    "resnet50_v2": {"conv1_conv": (64, 112, 112), "conv2_block3": (256, 28, 28),
                    "conv3_block4": (512, 14, 14), "conv4_block6": (1024, 7, 7)},
    "mobilenet_v1": {"blocks.0": (64, 112, 112), "blocks.1": (128, 56, 56),
                     "blocks.2": (256, 28, 28), "blocks.3": (512, 14, 14),
                     "blocks.4": (1024, 7, 7)},
    "efficientnet_b0": {"features.1": (16, 112, 112), "features.2": (24, 56, 56),
                        "features.3": (40, 28, 28), "features.4": (80, 14, 14),
                        "features.5": (112, 14, 14), "features.6": (192, 7, 7)},
}  # fmt: skip


@pytest.mark.parametrize("name", INSIDE)
def test_maps_inside(name):
    shapes = models.output_shapes(models.outline(name), (1, *VARIANTS[name].input_shape))
    assert {part: shapes[part][1:] for part in INSIDE[name]} == INSIDE[name]


def test_layers_of_alexnet_and_lenet_have_the_papers_parameters():
    def counts(model):
        return {
            name: sum(p.size for p in module.parameters())
            for name, module in model.children().items()
            if any(True for _ in module.parameters())
        }

    assert list(counts(models.outline("alexnet_two_tower")).values()) == [
        34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000,
    ]  # fmt: skip
    assert counts(models.outline("lenet5")) == {
        "c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164
    }  # fmt: skip


def test_a_network_is_imported_when_it_is_asked_for():
    # Segmentation networks and detectors are made of these.
    shared = {"blocks", "vgg", "resnet", "alexnet", "zfnet"}
    code = (
        "import sys, cnncore.models as m; begin = 'cnncore.models.classification.'; "
        "print(*(n.removeprefix(begin) for n in sys.modules if n.startswith(begin))); "
        "m.outline('nasnet_mobile'); print(begin + 'nasnet' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    before, after = result.stdout.splitlines()
    assert set(before.split()) <= shared
    assert after == "True"
