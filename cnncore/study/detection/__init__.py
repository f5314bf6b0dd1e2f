"""The claims of object detection, in the order of the field."""

from __future__ import annotations

from cnncore.study.detection.anchors import ANCHORS
from cnncore.study.detection.masks import MASK_BRANCH, ROI_POOLING
from cnncore.study.detection.regions import REGION_DETECTORS, REGION_TIME
from cnncore.study.detection.tradeoff import DETECTOR_TIME, SPEED_ACCURACY
from cnncore.study.detection.windows import DETECTION_WINDOWS
from cnncore.study.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        DETECTION_WINDOWS,
        REGION_DETECTORS,
        REGION_TIME,
        ANCHORS,
        ROI_POOLING,
        MASK_BRANCH,
        SPEED_ACCURACY,
        DETECTOR_TIME,
    )
}
