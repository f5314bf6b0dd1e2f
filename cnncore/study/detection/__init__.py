"""The claims of object detection, in the order of the field."""

from __future__ import annotations

from cnncore.study.detection.anchors import ANCHORS
from cnncore.study.detection.masks import MASK_BRANCH, ROI_POOLING
from cnncore.study.detection.windows import DETECTION_WINDOWS
from cnncore.study.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        DETECTION_WINDOWS,
        ANCHORS,
        ROI_POOLING,
        MASK_BRANCH,
    )
}
