"""Detectors of about a million parameters for images of about 128×128: minutes on two cores.

Each is its paper's with a body of one basic block a stage, group norm, and anchors for objects of
18 to 64 pixels that are higher than wide; see ``SMALL`` of ``mask_rcnn.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cnncore.models.backbones import ResNetSettings
from cnncore.models.detection.fast_rcnn import FastRcnn, FastRcnnSettings
from cnncore.models.detection.faster_rcnn import FasterRcnn, RcnnSettings
from cnncore.models.detection.mask_rcnn import SMALL
from cnncore.models.detection.rcnn import CropSettings, Rcnn
from cnncore.models.detection.retinanet import RetinaNet, RetinaNetSettings
from cnncore.models.detection.rfcn import Rfcn, RfcnSettings
from cnncore.models.detection.spp_net import SppNet, SppSettings
from cnncore.models.detection.ssd import Extra, Ssd, SsdSettings
from cnncore.models.detection.yolo import POOL, Yolo, YoloSettings
from cnncore.nn import Conv2d, Flatten, GroupNorm, Linear, MaxPool2d, Module, ReLU, Sequential
from cnncore.vision import (
    AnchorSettings,
    BalancedSampler,
    DefaultBoxes,
    DeltaCoder,
    DetectionSettings,
    IouMatcher,
    LevelRule,
    ProposalSettings,
)

BODY = ResNetSettings(
    stem_channels=16,
    stem_kernel=3,
    widths=(32, 64, 128, 128),
    depths=(1, 1, 1, 1),
    block="basic",
    norm="group",
)
RATIOS = (1.2, 1.7, 2.6)  # of digits, height over width
FEW = ProposalSettings(pre_nms=160, post_nms=48)

SMALL_FASTER = RcnnSettings(
    body=BODY,
    fpn_channels=32,
    fpn_norm="group",
    extra_level=False,
    resize=None,
    rpn=SMALL.rpn,
    roi=replace(SMALL.roi, masks=False),
)

SMALL_RFCN = RfcnSettings(
    body=replace(BODY, stride=8),
    resize=None,
    rpn=replace(
        RfcnSettings().rpn,
        channels=64,
        lowest_level=3,
        anchors=AnchorSettings(
            sizes=((18.0, 28.0, 40.0),), ratios=RATIOS, offset=0.5, rounded=False
        ),
        matcher=IouMatcher(0.6, 0.3, low_quality=True),
        sampler=BalancedSampler(64, 0.5),
        train=FEW,
        test=FEW,
    ),
    roi=replace(
        RfcnSettings().roi,
        levels=LevelRule(lowest=3, highest=3),
        detections=DetectionSettings(max_detections=20),
    ),
    channels=128,
    bins=3,
    aligned_bins=True,
    hardest=32,
)

SMALL_SSD = SsdSettings(
    body=BODY,
    levels=(3, 4, 5),
    extras=(Extra(32, 64, 3, 2, 1),),
    boxes=DefaultBoxes(
        scales=(0.14, 0.24, 0.36, 0.52, 0.7),
        ratios=((2,), (2,), (2,), (2,)),
        steps=(8, 16, 32, 64),
    ),
    detections=DetectionSettings(
        score_threshold=0.02, nms_threshold=0.45, max_detections=20, min_size=0.0, candidates=100
    ),
    resize=None,
)

SMALL_RETINA = RetinaNetSettings(
    body=BODY,
    fpn_channels=32,
    fpn_norm="group",
    layers=2,
    anchors=AnchorSettings(
        sizes=((18.0, 25.0), (32.0, 42.0), (56.0, 64.0), (80.0, 96.0), (112.0, 128.0)),
        ratios=RATIOS,
        offset=0.5,
        rounded=False,
    ),
    detections=DetectionSettings(max_detections=20, candidates=200, coder=DeltaCoder()),
    resize=None,
)

SMALL_YOLO = YoloSettings(
    layers=(
        (3, 16, 2), (3, 32), POOL, (3, 64), POOL, (3, 128), POOL, (3, 128), (3, 128),
    ),
    norm="batch",
    hidden=0,
    shared=True,
    grid=8,
    resize=None,
    detections=DetectionSettings(
        score_threshold=0.02, max_detections=20, min_size=0.0, coder=DeltaCoder()
    ),
)  # fmt: skip


def fasterrcnn_small(num_classes: int, **changes: Any) -> FasterRcnn:
    """Faster R-CNN on a small pyramid; ``changes`` replace fields of ``SMALL_FASTER``."""
    return FasterRcnn(num_classes, replace(SMALL_FASTER, **changes))


def rfcn_small(num_classes: int, **changes: Any) -> Rfcn:
    """R-FCN with 3×3 bins on maps of stride 8; ``changes`` replace fields of ``SMALL_RFCN``."""
    return Rfcn(num_classes, replace(SMALL_RFCN, **changes))


def ssd_small(num_classes: int, **changes: Any) -> Ssd:
    """SSD on maps of strides 8 to 64; ``changes`` replace fields of ``SMALL_SSD``."""
    return Ssd(num_classes, replace(SMALL_SSD, **changes))


def retinanet_small(num_classes: int, **changes: Any) -> RetinaNet:
    """RetinaNet on levels 3 to 7; ``changes`` replace fields of ``SMALL_RETINA``."""
    return RetinaNet(num_classes, replace(SMALL_RETINA, **changes))


def yolo_small(num_classes: int, **changes: Any) -> Yolo:
    """YOLO v1 with 8×8 cells for 128×128 pixels; ``changes`` replace fields of ``SMALL_YOLO``.

    Its last layer is a 1×1 convolution instead of a connected one (``shared``): grid, answers and
    loss are the paper's.  With connected layers each of the 64 cells must itself see enough digits
    of every class: such a network learnt four scenes by heart, and found next to nothing in others.
    """
    return Yolo(num_classes, replace(SMALL_YOLO, **changes))


# On proposals of selective search; the last two stages of the body are next to nothing.
SMALL_FAST = FastRcnnSettings(
    body=replace(BODY, widths=(32, 64, 8, 8), depths=(1, 2, 1, 1)),
    level=3,
    roi=replace(
        FastRcnnSettings().roi,
        pooling="align",
        aligned=True,
        levels=LevelRule(lowest=3, highest=3),
        box_size=7,
        box_channels=128,
        dropout=0.0,
        sampler=BalancedSampler(32, 10 / 32),
        detections=DetectionSettings(max_detections=20),
    ),
    resize=None,
)


def fastrcnn_small(num_classes: int, **changes: Any) -> FastRcnn:
    """Fast R-CNN on a map of stride 8; ``changes`` replace fields of ``SMALL_FAST``.

    RoI Align instead of pooling: objects of 20 to 40 pixels are three to five cells.
    """
    return FastRcnn(num_classes, replace(SMALL_FAST, **changes))


SMALL_CROPS = CropSettings(
    crop=36,
    context=4,
    sampler=BalancedSampler(32, 10 / 32),
    detections=replace(CropSettings().detections, max_detections=20),
    resize=None,
)


CROP_CHANNELS = 64


def crop_convolutions() -> list[Module]:
    """Three convolutions, each with a pooling after it, for crops of 36×36."""
    layers: list[Module] = []
    for channels, out in ((3, 16), (16, 32), (32, CROP_CHANNELS)):
        layers += [Conv2d(channels, out, 3, padding=1), GroupNorm(8, out), ReLU(), MaxPool2d(2, 2)]
    return layers


def crop_classifier() -> Sequential:
    """Those convolutions and two dense layers."""
    dense = Flatten(), Linear(CROP_CHANNELS * 4 * 4, 128), ReLU(), Linear(128, 1)
    return Sequential(*crop_convolutions(), *dense)


def rcnn_small(num_classes: int, **changes: Any) -> Rcnn:
    """R-CNN on crops of 36×36; ``changes`` replace fields of ``SMALL_CROPS``."""
    return Rcnn(num_classes, replace(SMALL_CROPS, **changes), crop_classifier())


SMALL_SPP = SppSettings(
    hidden=128,
    dropout=0.0,
    stride=4,
    offset=1.5,
    scales=(),
    sampler=BalancedSampler(32, 10 / 32),
    detections=replace(SppSettings().detections, max_detections=20),
    resize=None,
)


def sppnet_small(num_classes: int, **changes: Any) -> SppNet:
    """SPP-net on the convolutions of ``rcnn_small``; ``changes`` replace fields of ``SMALL_SPP``.

    The pyramid takes the place of the last pooling.  The convolutions are not trained with it:
    ``model.features.load_state_dict`` takes those of a trained ``rcnn_small``, whose keys they
    have.
    """
    features = Sequential(*crop_convolutions()[:-1])
    return SppNet(num_classes, replace(SMALL_SPP, **changes), features, CROP_CHANNELS)
