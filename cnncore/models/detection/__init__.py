"""Object detectors and the parts they are assembled from."""

from __future__ import annotations

from collections.abc import Callable

from cnncore.models.detection.centerface import CenterFace, Faces
from cnncore.models.detection.detector import DenseOutputs, Detector
from cnncore.models.detection.fast_rcnn import (
    FastRcnn,
    FastRcnnSettings,
    fastrcnn_vgg16,
    truncated_svd,
)
from cnncore.models.detection.faster_rcnn import (
    FasterRcnn,
    Outputs,
    RcnnSettings,
    fasterrcnn_resnet50_fpn,
)
from cnncore.models.detection.faster_rcnn_c4 import (
    C4Settings,
    FasterRcnnC4,
    alternating_steps,
    fasterrcnn_vgg16,
)
from cnncore.models.detection.keypoint_head import KeypointSettings
from cnncore.models.detection.keypoint_rcnn import keypointrcnn_resnet50_fpn
from cnncore.models.detection.localization import (
    Localizer,
    LocalizerSettings,
    localization_iou,
    localization_scores,
)
from cnncore.models.detection.mask_rcnn import (
    SMALL,
    MaskRcnn,
    MaskRcnnSettings,
    maskrcnn_resnet50_fpn,
    maskrcnn_small,
)
from cnncore.models.detection.rcnn import CropSettings, Rcnn, rcnn_alexnet
from cnncore.models.detection.region_stage import RegionStage, StageSettings
from cnncore.models.detection.resize import Batch, Resize
from cnncore.models.detection.retinanet import (
    RetinaNet,
    RetinaNetSettings,
    retinanet_resnet50_fpn,
)
from cnncore.models.detection.rfcn import Rfcn, RfcnSettings, rfcn_resnet50, rfcn_resnet101
from cnncore.models.detection.roi_heads import RoiHeads, RoiSettings
from cnncore.models.detection.rpn import RegionProposalNetwork, RpnOutputs, RpnSettings
from cnncore.models.detection.sliding_window import SlidingWindow, WindowSettings
from cnncore.models.detection.small import (
    fasterrcnn_small,
    fastrcnn_small,
    rcnn_small,
    retinanet_small,
    rfcn_small,
    sppnet_small,
    ssd_small,
    yolo_small,
)
from cnncore.models.detection.spp_net import (
    SpatialPyramidPool,
    SppNet,
    SppSettings,
    sppnet_zf5,
)
from cnncore.models.detection.ssd import Ssd, SsdSettings, ssd300_vgg16, ssd512_vgg16
from cnncore.models.detection.to_onnx import detector_to_proto, export_detector
from cnncore.models.detection.yolo import Yolo, YoloOutputs, YoloSettings, yolo_v1, yolo_v1_tiny
from cnncore.nn import Module

# name -> constructor(num_classes, **changes of the settings)
DETECTORS: dict[str, Callable[..., Module]] = {
    "fastrcnn_small": fastrcnn_small,
    "fastrcnn_vgg16": fastrcnn_vgg16,
    "fasterrcnn_resnet50_fpn": fasterrcnn_resnet50_fpn,
    "fasterrcnn_small": fasterrcnn_small,
    "fasterrcnn_vgg16": fasterrcnn_vgg16,
    "keypointrcnn_resnet50_fpn": keypointrcnn_resnet50_fpn,
    "maskrcnn_resnet50_fpn": maskrcnn_resnet50_fpn,
    "maskrcnn_small": maskrcnn_small,
    "rcnn_alexnet": rcnn_alexnet,
    "rcnn_small": rcnn_small,
    "retinanet_resnet50_fpn": retinanet_resnet50_fpn,
    "retinanet_small": retinanet_small,
    "rfcn_resnet50": rfcn_resnet50,
    "rfcn_resnet101": rfcn_resnet101,
    "rfcn_small": rfcn_small,
    "sppnet_small": sppnet_small,
    "sppnet_zf5": sppnet_zf5,
    "ssd300_vgg16": ssd300_vgg16,
    "ssd512_vgg16": ssd512_vgg16,
    "ssd_small": ssd_small,
    "yolo_v1": yolo_v1,
    "yolo_v1_tiny": yolo_v1_tiny,
    "yolo_small": yolo_small,
}

__all__ = [
    "DETECTORS",
    "SMALL",
    "Batch",
    "C4Settings",
    "CenterFace",
    "CropSettings",
    "DenseOutputs",
    "Detector",
    "Faces",
    "FastRcnn",
    "FastRcnnSettings",
    "FasterRcnn",
    "FasterRcnnC4",
    "KeypointSettings",
    "Localizer",
    "LocalizerSettings",
    "MaskRcnn",
    "MaskRcnnSettings",
    "Outputs",
    "Rcnn",
    "RcnnSettings",
    "RegionProposalNetwork",
    "RegionStage",
    "Resize",
    "RetinaNet",
    "RetinaNetSettings",
    "Rfcn",
    "RfcnSettings",
    "RoiHeads",
    "RoiSettings",
    "RpnOutputs",
    "RpnSettings",
    "SlidingWindow",
    "SpatialPyramidPool",
    "SppNet",
    "SppSettings",
    "Ssd",
    "SsdSettings",
    "StageSettings",
    "WindowSettings",
    "Yolo",
    "YoloOutputs",
    "YoloSettings",
    "alternating_steps",
    "detector_to_proto",
    "export_detector",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_small",
    "fasterrcnn_vgg16",
    "fastrcnn_small",
    "fastrcnn_vgg16",
    "keypointrcnn_resnet50_fpn",
    "localization_iou",
    "localization_scores",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_small",
    "rcnn_alexnet",
    "rcnn_small",
    "retinanet_resnet50_fpn",
    "retinanet_small",
    "rfcn_resnet50",
    "rfcn_resnet101",
    "rfcn_small",
    "sppnet_small",
    "sppnet_zf5",
    "ssd300_vgg16",
    "ssd512_vgg16",
    "ssd_small",
    "truncated_svd",
    "yolo_small",
    "yolo_v1",
    "yolo_v1_tiny",
]
