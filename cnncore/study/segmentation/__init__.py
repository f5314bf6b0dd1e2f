"""The claims of semantic segmentation, in the order of the field."""

from __future__ import annotations

from cnncore.study.experiment import Experiment
from cnncore.study.segmentation.checkerboard import CHECKERBOARD
from cnncore.study.segmentation.imagenet import IMAGENET_ENCODER, present
from cnncore.study.segmentation.losses import RARE_FOREGROUND
from cnncore.study.segmentation.pretrained import PRETRAINED
from cnncore.study.segmentation.skips import FCN_SKIPS, UNET_BRIDGES
from cnncore.study.segmentation.sliding import SLIDING_WINDOW, WINDOW_PADDING
from cnncore.study.segmentation.unpooling import UNPOOLING

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        SLIDING_WINDOW,
        WINDOW_PADDING,
        FCN_SKIPS,
        UNPOOLING,
        UNET_BRIDGES,
        RARE_FOREGROUND,
        PRETRAINED,
        *([IMAGENET_ENCODER] if present() else []),
        CHECKERBOARD,
    )
}
