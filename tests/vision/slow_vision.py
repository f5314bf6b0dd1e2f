"""Definitions from first principles, slow and in plain Python, against which vision is tested."""

from __future__ import annotations

import math
from collections.abc import Sequence

Box = Sequence[float]


def iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = width * height if width > 0 and height > 0 else 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def nms(boxes: Sequence[Box], scores: Sequence[float], threshold: float) -> list[int]:
    """Keep the best of the rest, drop what overlaps it more than the threshold, repeat."""
    rest = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept = []
    while rest:
        best = rest.pop(0)
        kept.append(best)
        rest = [i for i in rest if iou(boxes[best], boxes[i]) <= threshold]
    return kept


def decode(delta: Sequence[float], anchor: Box, weights: Sequence[float]) -> list[float]:
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    cx = anchor[0] + width / 2 + delta[0] / weights[0] * width
    cy = anchor[1] + height / 2 + delta[1] / weights[1] * height
    limit = math.log(1000 / 16)
    w = width * math.exp(min(delta[2] / weights[2], limit))
    h = height * math.exp(min(delta[3] / weights[3], limit))
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


def roi_sample(plane: Sequence[Sequence[float]], y: float, x: float) -> float:
    """What RoI Align samples: zero further than a pixel outside the outermost pixel centres."""
    if not (-0.5 <= y <= len(plane) + 0.5 and -0.5 <= x <= len(plane[0]) + 0.5):
        return 0.0
    return bilinear(plane, y, x)


def bilinear(plane: Sequence[Sequence[float]], y: float, x: float) -> float:
    """The value at a point in pixel-edge coordinates; beyond the edge pixels' centres, theirs."""
    height, width = len(plane), len(plane[0])
    y = min(max(y - 0.5, 0.0), height - 1.0)
    x = min(max(x - 0.5, 0.0), width - 1.0)
    y0, x0 = min(int(y), max(height - 2, 0)), min(int(x), max(width - 2, 0))
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    fy, fx = y - y0, x - x0
    return (
        plane[y0][x0] * (1 - fy) * (1 - fx)
        + plane[y0][x1] * (1 - fy) * fx
        + plane[y1][x0] * fy * (1 - fx)
        + plane[y1][x1] * fy * fx
    )
