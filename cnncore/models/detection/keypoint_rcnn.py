"""Keypoint R-CNN: Faster R-CNN with a head that says where each joint of a person is.

    images ─ backbone (ResNet-FPN) ─ P2 … P6 ─┬─ RPN ── proposals
                                              └─ RoI Align ─┬─ box head ─────── class, box
                                                            └─ keypoint head ── J heat maps

A heat map is a softmax over all 56×56 places: one of them is the joint.

Source: He et al., "Mask R-CNN", 2017, section 5.  Defaults and keys are torchvision's
``keypointrcnn_resnet50_fpn``.  Difference: there, training draws the shorter side from 640 to 800
pixels; here it is the setting ``resize``.
"""

from __future__ import annotations

from typing import Any

from cnncore.models.detection.faster_rcnn import FasterRcnn, RcnnSettings
from cnncore.models.detection.keypoint_head import KeypointSettings
from cnncore.models.detection.roi_heads import RoiSettings

HEADS = RoiSettings(masks=False, keypoints=KeypointSettings())


def keypointrcnn_resnet50_fpn(num_classes: int = 1, **changes: Any) -> FasterRcnn:
    """Keypoint R-CNN with ResNet-50-FPN, 59.1 M parameters for one class of 17 joints.

    Targets have ``keypoints (R, 17, 3)``, too, and detections as well: see ``vision.keypoints``.
    ``changes`` replace fields of ``RcnnSettings``.
    """
    return FasterRcnn(num_classes, RcnnSettings(**({"roi": HEADS} | changes)))
