"""The claims of semantic segmentation, in the order of the field."""

from __future__ import annotations

from cnncore.study.experiment import Experiment
from cnncore.study.segmentation.skips import FCN_SKIPS, UNET_BRIDGES
from cnncore.study.segmentation.unpooling import UNPOOLING

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment for experiment in (FCN_SKIPS, UNPOOLING, UNET_BRIDGES)
}
