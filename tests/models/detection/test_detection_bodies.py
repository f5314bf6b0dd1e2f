"""Any classifier as the body of any detector: shapes, values, keys, one step of each pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnncore import Tensor, models
from cnncore.autograd import no_grad
from cnncore.errors import ArgumentError
from cnncore.models import outline
from cnncore.models.backbones import ClassifierBody, FeatureLevels
from cnncore.models.detection import (
    FasterRcnn,
    Rfcn,
    Ssd,
    Yolo,
    small,
)
from cnncore.models.detection.detector import Detector
from cnncore.models.detection.retinanet import RetinaNet
from cnncore.models.shapes import blank, shapes_of, state_shapes
from cnncore.nn import init, shapes_only
from cnncore.vision import Objects

CHANNELS = {
    "vgg16": (256, 512, 512, 512),
    "vgg11_bn": (256, 512, 512, 512),
    "resnet18": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
    "se_resnet50": (256, 512, 1024, 2048),
    "googlenet": (192, 480, 832, 1024),
    "bn_inception": (192, 320, 608, 1024),
    "inception_v3": (192, 288, 768, 2048),
    "inception_v4": (192, 384, 1024, 1536),
    "inception_resnet_v2": (192, 320, 1088, 1536),
    "xception": (128, 256, 728, 2048),
    "mobilenet_v1": (128, 256, 512, 1024),
    "mobilenet_v2": (24, 32, 96, 1280),
    "efficientnet_b0": (24, 40, 112, 1280),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_maps_of_a_classifier_tile_any_image(name: str) -> None:
    body = FeatureLevels(outline(name, num_classes=1))
    assert body.channels == CHANNELS[name]
    with shapes_of(body):
        maps = body(blank(body, (2, 3, 100, 161)))
    for level, (x, channels) in enumerate(zip(maps, CHANNELS[name], strict=True), 2):
        step = 2**level
        if name.startswith("vgg"):  # whose poolings of even windows drop a last odd row
            assert x.shape == (2, channels, 100 // step, 161 // step)
        else:
            assert x.shape == (2, channels, -(-100 // step), -(-161 // step))


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "mobilenet_v2", "inception_v3"])
def test_keys_and_shapes_stay_those_of_the_classifier(name: str) -> None:
    every = state_shapes(outline(name, num_classes=1))
    kept = state_shapes(FeatureLevels(outline(name, num_classes=1)))
    assert kept.items() < every.items()
    heads = {"vgg16": "classifier", "mobilenet_v2": "classifier"}
    left = {key.split(".")[0] for key in set(every) - set(kept)}
    assert left == {heads.get(name, "fc")} | ({"AuxLogits"} if name == "inception_v3" else set())


def test_values_are_those_inside_the_classifier() -> None:
    init.seed(0)
    model = models.create("mobilenet_v2", num_classes=3, width=0.35).eval()
    x = Tensor(np.random.default_rng(0).normal(size=(1, 3, 64, 96)).astype(np.float32))
    wanted, y = [], x
    with no_grad():
        for number, block in enumerate(model.features):
            y = block(y)
            if number in (3, 6, 13, 18):  # table 2: the last rows of strides 4, 8, 16, 32
                wanted.append(y.numpy())
        found = FeatureLevels(model)(x)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.numpy(), other)


def test_levels_after_the_last_wanted_are_left_off() -> None:
    body = FeatureLevels(outline("resnet50", num_classes=1), levels=(4,))
    assert body.channels == (1024,)
    assert body.num_parameters() == 8_543_296  # 23,508,032 without fc, less layer4's 14,964,736
    with shapes_of(body):
        assert [m.shape for m in body(blank(body, (1, 3, 64, 64)))] == [(1, 1024, 4, 4)]


@pytest.mark.parametrize(("name", "levels"), [("resnet18", (1, 7)), ("resnet18", (3, 2))])
def test_levels_that_do_not_exist_are_named(name: str, levels: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="levels"):
        FeatureLevels(outline(name, num_classes=1), levels)


@pytest.mark.parametrize("name", ["resnet50_v2", "nasnet_mobile"])
def test_a_classifier_that_is_no_chain_is_named(name: str) -> None:
    with pytest.raises(ArgumentError, match="one after the other"):
        FeatureLevels(outline(name, num_classes=1))


BODIES = {
    "mobilenet": ClassifierBody("mobilenet_v1", (("width", 0.125),)),
    "resnet": ClassifierBody("resnet18"),
    "inception": ClassifierBody("bn_inception"),
    "vgg": ClassifierBody("vgg11"),
    "inception_v3": ClassifierBody("inception_v3"),
}


def detector(kind: str, body: ClassifierBody) -> Detector:
    if kind == "faster":
        return FasterRcnn(2, replace(small.SMALL_FASTER, body=body))
    if kind == "retina":
        return RetinaNet(2, replace(small.SMALL_RETINA, body=body))
    if kind == "yolo":  # 4×4 cells of stride 32
        return Yolo(2, replace(small.SMALL_YOLO, body=body, layers=((3, 16),), grid=4))
    if kind == "ssd":
        return Ssd(2, replace(small.SMALL_SSD, body=body))
    roi = replace(small.SMALL_RFCN.roi, levels=replace(
        small.SMALL_RFCN.roi.levels, lowest=4, highest=4))  # fmt: skip
    rpn = replace(small.SMALL_RFCN.rpn, lowest_level=4)
    return Rfcn(2, replace(small.SMALL_RFCN, body=body, roi=roi, rpn=rpn))


KINDS = ["faster", "retina", "ssd", "rfcn", "yolo"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", BODIES)
def test_every_head_fits_on_every_body(kind: str, body: str) -> None:
    if body != "mobilenet":  # full width: shapes only
        with shapes_only():
            model = detector(kind, BODIES[body])
        with shapes_of(model):
            outputs = model(blank(model, (1, 3, 128, 128)))
        assert outputs is not None
        return
    init.seed(0)
    model = detector(kind, BODIES[body]).train()
    x = np.random.default_rng(0).normal(size=(2, 3, 128, 128)).astype(np.float32)
    boxes = np.array([[10, 10, 34, 44], [60, 30, 84, 70]], np.float32)
    targets = [Objects(boxes, np.array([0, 1])), Objects(boxes[:0], np.array([], np.int64))]
    rng = [np.random.default_rng(0)] if kind in ("faster", "rfcn") else []
    terms = model.loss(model(x), targets, *rng)
    sum(terms.values(), start=Tensor(np.zeros((), np.float32))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert np.isfinite(parameter.grad.data).all(), name
    assert len(model.decode(model(x))) == 2


def test_freezing_stages_of_another_body_is_refused() -> None:
    with pytest.raises(ArgumentError, match="frozen_stages"):
        FasterRcnn(2, replace(small.SMALL_FASTER, body=BODIES["mobilenet"], frozen_stages=2))


@pytest.mark.parametrize(
    "name", ["fasterrcnn_small", "rfcn_small", "ssd_small", "retinanet_small", "yolo_small"]
)
def test_a_step_of_each_small_detector(name: str) -> None:
    init.seed(0)
    model = models.create(name, num_classes=10)
    assert model.num_parameters() < 3_000_000
    x = np.random.default_rng(0).normal(size=(2, 3, 128, 128)).astype(np.float32)
    boxes = np.array([[10, 10, 34, 44], [60, 30, 84, 70]], np.float32)
    targets = [Objects(boxes, np.array([0, 9])), Objects(boxes[:0], np.array([], np.int64))]
    rng = [np.random.default_rng(0)] if name in ("fasterrcnn_small", "rfcn_small") else []
    terms = model.loss(model(x), targets, *rng)
    total = sum(terms.values(), start=Tensor(np.zeros((), np.float32)))
    total.backward()
    assert np.isfinite(total.item())
    learning = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.data.any()]
    assert len(learning) > 0.8 * len(list(model.named_parameters()))
    assert [o.masks for o in model.decode(model(x))] == [None, None]
