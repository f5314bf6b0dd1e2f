"""What happens inside: observers and pictures.  Nothing below imports this package."""

from cnncore.explain.cost import CostTable, LayerCost, cost, record_cost
from cnncore.explain.detection import DetectionRecord, record_detection
from cnncore.explain.matrix import (
    ConvolutionMatrix,
    conv_map,
    convolution_matrix,
    draw_matrix_pair,
)
from cnncore.explain.overlap import overlap_count, unevenness
from cnncore.explain.regions import FollowedRegion, draw_region, follow_region
from cnncore.explain.why import Choice, why

__all__ = [
    "Choice",
    "ConvolutionMatrix",
    "CostTable",
    "DetectionRecord",
    "FollowedRegion",
    "LayerCost",
    "conv_map",
    "convolution_matrix",
    "cost",
    "draw_matrix_pair",
    "draw_region",
    "follow_region",
    "overlap_count",
    "record_cost",
    "record_detection",
    "unevenness",
    "why",
]
