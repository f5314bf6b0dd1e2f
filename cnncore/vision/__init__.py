"""Layer 5: boxes, anchors, coders, matchers, proposals, masks, metrics and drawing, on arrays.

Conventions: boxes are ``xyxy`` floats (pixel edges), labels 0 for the first real class, masks
``(R, H, W)`` booleans, sizes and shapes ``(h, w)``.  Zero boxes are legal in every function.
"""

from __future__ import annotations

from cnncore.vision.anchors import AnchorSettings, cell_anchors, make_anchors
from cnncore.vision.boxes import (
    as_boxes,
    box_area,
    box_convert,
    box_iou,
    clip_boxes,
    generalized_box_iou,
    remove_small_boxes,
)
from cnncore.vision.coders import DeltaCoder
from cnncore.vision.draw import (
    DrawSettings,
    color_labels,
    distinct_colors,
    draw_objects,
    tile,
    to_picture,
)
from cnncore.vision.images import PHOTOGRAPHS, ImageError, find_images, photograph, read_image
from cnncore.vision.levels import LevelRule
from cnncore.vision.masks import (
    boxes_of_masks,
    crop_masks,
    decode_rle,
    encode_rle,
    mask_iou,
    paste_masks,
)
from cnncore.vision.matchers import BACKGROUND, BETWEEN, IouMatcher
from cnncore.vision.metrics import (
    COCO_NAMES,
    NOTHING,
    Objects,
    class_iou,
    coco_class_ap,
    coco_metrics,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)
from cnncore.vision.nms import batched_nms, nms, top_k
from cnncore.vision.proposals import (
    Detections,
    DetectionSettings,
    Proposals,
    ProposalSettings,
    select_detections,
    select_proposals,
)
from cnncore.vision.samplers import BalancedSampler

__all__ = [
    "BACKGROUND",
    "BETWEEN",
    "COCO_NAMES",
    "NOTHING",
    "PHOTOGRAPHS",
    "AnchorSettings",
    "BalancedSampler",
    "DeltaCoder",
    "DetectionSettings",
    "Detections",
    "DrawSettings",
    "ImageError",
    "IouMatcher",
    "LevelRule",
    "Objects",
    "ProposalSettings",
    "Proposals",
    "as_boxes",
    "batched_nms",
    "box_area",
    "box_convert",
    "box_iou",
    "boxes_of_masks",
    "cell_anchors",
    "class_iou",
    "clip_boxes",
    "coco_class_ap",
    "coco_metrics",
    "color_labels",
    "confusion_matrix",
    "crop_masks",
    "decode_rle",
    "distinct_colors",
    "draw_objects",
    "encode_rle",
    "find_images",
    "generalized_box_iou",
    "make_anchors",
    "mask_iou",
    "mean_iou",
    "nms",
    "paste_masks",
    "photograph",
    "pixel_accuracy",
    "read_image",
    "remove_small_boxes",
    "select_detections",
    "select_proposals",
    "tile",
    "to_picture",
    "top_k",
]
