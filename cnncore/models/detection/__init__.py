"""Object detectors and the parts they are assembled from."""

from __future__ import annotations

from cnncore.models.detection.centerface import CenterFace, Faces
from cnncore.models.detection.mask_rcnn import (
    SMALL,
    MaskRcnn,
    MaskRcnnSettings,
    Outputs,
    maskrcnn_small,
)
from cnncore.models.detection.roi_heads import RoiHeads, RoiSettings
from cnncore.models.detection.rpn import RegionProposalNetwork, RpnOutputs, RpnSettings
from cnncore.models.detection.to_onnx import detector_to_proto, export_detector

__all__ = [
    "SMALL",
    "CenterFace",
    "Faces",
    "MaskRcnn",
    "MaskRcnnSettings",
    "Outputs",
    "RegionProposalNetwork",
    "RoiHeads",
    "RoiSettings",
    "RpnOutputs",
    "RpnSettings",
    "detector_to_proto",
    "export_detector",
    "maskrcnn_small",
]
