"""Do skips help?  FCN-32s, -16s and -8s; U-Net with and without its bridges."""

from __future__ import annotations

from cnncore.models.segmentation import FCN, UNet
from cnncore.nn import init
from cnncore.study.experiment import Expectation, Experiment, Measures, Settings
from cnncore.study.segmentation.training import TRAINING, train_and_score

MEASURES = {"mean IoU": ".3f", "boundary F1": ".3f", "parameters": ",.0f"}


def _fcn(settings: Settings, seed: int) -> Measures:
    init.seed(seed)
    model = FCN(
        settings["digits"] + 1,
        stride=settings["stride"],
        widths=(4, 8, 16, 32, 32),
        dense=64,
        fc6=3,
        padding=28,  # three by three scores for 96 pixels
        batch_norm=True,
    )
    return train_and_score(model, settings, seed)


FCN_SKIPS = Experiment(
    name="fcn_skips",
    title="Skips recover resolution: FCN-8s over FCN-16s over FCN-32s",
    claim="Adding the scores of finer layers to the coarse ones sharpens the segmentation; each "
    "finer skip improves it.",
    source="Long, Shelhamer & Darrell, 2015, section 4.2, table 2 and figure 4",
    method="FCN on a VGG-16 of widths 4 to 32 with batch norm, from scratch, each by itself. The "
    "three differ in nothing but the skips. Zeros of 48 to 64 pixels in 96×96: at stride 32 "
    "smaller ones are hardly a place of the score map, and several classes it does not learn at "
    "all in so few steps.",
    measures=MEASURES,
    plotted=("mean IoU", "boundary F1"),
    run=_fcn,
    settings={
        **TRAINING,
        "size": 96,
        "digit_pixels": (48, 64),
        "digits": 1,
        "steps": 300,
        "learning_rate": 0.005,
    },
    conditions={f"FCN-{stride}s": {"stride": stride} for stride in (32, 16, 8)},
    expected=[
        Expectation(measure, f"FCN-{fine}s", f"FCN-{coarse}s")
        for measure in ("mean IoU", "boundary F1")
        for fine, coarse in ((16, 32), (8, 16))
    ],
)


def _unet(settings: Settings, seed: int) -> Measures:
    init.seed(seed)
    model = UNet(
        settings["digits"] + 1,
        base=settings["base"],
        depth=3,
        norm="batch",
        bridges=settings["bridges"],
    )
    return train_and_score(model, settings, seed)


UNET_BRIDGES = Experiment(
    name="unet_bridges",
    title="Skip connections help: U-Net with and without bridges",
    claim="Features handed across at full resolution let the way up localise: U-Net beats the "
    "same network without them.",
    source="Ronneberger, Fischer & Brox, 2015, section 2; Drozdzal et al., 2016, section 4",
    method="U-Net of depth 3 with batch norm. Without bridges the convolutions that read them are "
    "narrower, so a second network without bridges has at least as many parameters.",
    measures=MEASURES,
    plotted=("mean IoU", "boundary F1"),
    run=_unet,
    settings={**TRAINING, "steps": 350},
    conditions={
        "with bridges": {"bridges": True, "base": 8},
        "without": {"bridges": False, "base": 8},
        "without, wider": {"bridges": False, "base": 9},
    },
    expected=[
        Expectation(measure, "with bridges", worse)
        for measure in ("mean IoU", "boundary F1")
        for worse in ("without", "without, wider")
    ],
)
