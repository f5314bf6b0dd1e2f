"""Layer 5: boxes, anchors, coders, matchers, proposals, masks, metrics and drawing, on arrays.

Conventions: boxes are ``xyxy`` floats (pixel edges), labels 0 for the first real class, masks
``(R, H, W)`` booleans, sizes and shapes ``(h, w)``.  Zero boxes are legal in every function.
"""

from __future__ import annotations

from cnncore.vision.anchors import AnchorSettings, cell_anchors, level_strides, make_anchors
from cnncore.vision.borders import border_weights
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
from cnncore.vision.crops import warp_crops
from cnncore.vision.default_boxes import DefaultBoxes
from cnncore.vision.draw import (
    DrawSettings,
    color_labels,
    distinct_colors,
    draw_objects,
    tile,
    titled,
    to_picture,
)
from cnncore.vision.edge_boxes import EdgeBoxes
from cnncore.vision.error_analysis import (
    draw_errors,
    error_counts,
    error_gains,
    image_errors,
)
from cnncore.vision.images import PHOTOGRAPHS, ImageError, find_images, photograph, read_image
from cnncore.vision.keypoints import as_keypoints, keypoint_cells, place_keypoints
from cnncore.vision.label_pictures import (
    above,
    beside,
    compare_labels,
    label_colors,
    legend,
    overlay_labels,
)
from cnncore.vision.levels import LevelRule
from cnncore.vision.masks import (
    boxes_of_masks,
    crop_masks,
    decode_rle,
    encode_rle,
    mask_iou,
    paste_masks,
)
from cnncore.vision.matchers import BACKGROUND, BETWEEN, BestMatcher, IouMatcher
from cnncore.vision.metrics import (
    COCO_NAMES,
    COCO_SIGMAS,
    KEYPOINT_NAMES,
    NOTHING,
    Objects,
    coco_class_ap,
    coco_keypoint_metrics,
    coco_metrics,
)
from cnncore.vision.nms import batched_nms, nms, top_k
from cnncore.vision.proposal_recall import (
    best_overlaps,
    draw_proposal_recall,
    proposal_recall,
)
from cnncore.vision.proposals import (
    Detections,
    DetectionSettings,
    Proposals,
    ProposalSettings,
    select_dense_detections,
    select_detections,
    select_proposals,
)
from cnncore.vision.regions import RegionTree, merge_regions
from cnncore.vision.samplers import BalancedSampler, HardNegatives
from cnncore.vision.segmentation_metrics import (
    boundary_f1,
    class_accuracy,
    class_dice,
    class_iou,
    confusion_matrix,
    frequency_weighted_iou,
    mean_accuracy,
    mean_dice,
    mean_iou,
    median_frequency_weights,
    pixel_accuracy,
)
from cnncore.vision.selective_search import SelectiveSearch, selective_search
from cnncore.vision.tiles import predict_tiled
from cnncore.vision.voc_metrics import (
    PrecisionRecall,
    draw_precision_recall,
    precision_recall,
    voc_class_ap,
    voc_metrics,
)

__all__ = [
    "BACKGROUND",
    "BETWEEN",
    "COCO_NAMES",
    "COCO_SIGMAS",
    "KEYPOINT_NAMES",
    "NOTHING",
    "PHOTOGRAPHS",
    "AnchorSettings",
    "BalancedSampler",
    "BestMatcher",
    "DefaultBoxes",
    "DeltaCoder",
    "DetectionSettings",
    "Detections",
    "DrawSettings",
    "EdgeBoxes",
    "HardNegatives",
    "ImageError",
    "IouMatcher",
    "LevelRule",
    "Objects",
    "PrecisionRecall",
    "ProposalSettings",
    "Proposals",
    "RegionTree",
    "SelectiveSearch",
    "above",
    "as_boxes",
    "as_keypoints",
    "batched_nms",
    "beside",
    "best_overlaps",
    "border_weights",
    "boundary_f1",
    "box_area",
    "box_convert",
    "box_iou",
    "boxes_of_masks",
    "cell_anchors",
    "class_accuracy",
    "class_dice",
    "class_iou",
    "clip_boxes",
    "coco_class_ap",
    "coco_keypoint_metrics",
    "coco_metrics",
    "color_labels",
    "compare_labels",
    "confusion_matrix",
    "crop_masks",
    "decode_rle",
    "distinct_colors",
    "draw_errors",
    "draw_objects",
    "draw_precision_recall",
    "draw_proposal_recall",
    "encode_rle",
    "error_counts",
    "error_gains",
    "find_images",
    "frequency_weighted_iou",
    "generalized_box_iou",
    "image_errors",
    "keypoint_cells",
    "label_colors",
    "legend",
    "level_strides",
    "make_anchors",
    "mask_iou",
    "mean_accuracy",
    "mean_dice",
    "mean_iou",
    "median_frequency_weights",
    "merge_regions",
    "nms",
    "overlay_labels",
    "paste_masks",
    "photograph",
    "pixel_accuracy",
    "place_keypoints",
    "precision_recall",
    "predict_tiled",
    "proposal_recall",
    "read_image",
    "remove_small_boxes",
    "select_dense_detections",
    "select_detections",
    "select_proposals",
    "selective_search",
    "tile",
    "titled",
    "to_picture",
    "top_k",
    "voc_class_ap",
    "voc_metrics",
    "warp_crops",
]
