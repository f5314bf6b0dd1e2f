"""What a detector is trained towards, checked once and with the place of a fault named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, ShapeError
from cnncore.vision.boxes import BoolArray, FloatArray, IntArray, Size, as_boxes, as_labels
from cnncore.vision.keypoints import as_keypoints
from cnncore.vision.masks import as_masks


@dataclass(frozen=True)
class Truth:
    """The objects of one image; ``R = 0`` is legal."""

    boxes: FloatArray  # (R, 4), with width and height
    labels: IntArray  # (R,), 0 for the first real class
    masks: BoolArray  # (R, H, W); (0, H, W) where the network has no use for them
    keypoints: FloatArray  # (R, J, 3): x, y, visibility; J = 0 likewise


def checked_truth(
    targets: Sequence[Any],
    image_sizes: Sequence[Size],
    num_classes: int,
    with_masks: bool = True,
    joints: int = 0,
) -> list[Truth]:
    """Targets with ``boxes``, ``labels``, ``masks`` (``data.Sample``, say) and ``keypoints``.

    The last two only if asked for; a fault is named with the image and the box.
    """
    if len(targets) != len(image_sizes):
        raise ArgumentError("targets", f"one an image, {len(image_sizes)}", len(targets))
    checked = []
    for image, (target, size) in enumerate(zip(targets, image_sizes, strict=True)):
        name = f"targets[{image}]"
        boxes = as_boxes(target.boxes, f"{name}.boxes", positive=True)
        labels = as_labels(target.labels, len(boxes), f"{name}.labels")
        if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
            hint = "labels that start at 0 for the first real class"
            raise ArgumentError(f"{name}.labels", f"0..{num_classes - 1}", labels.tolist(), hint)
        masks = np.zeros((0, *size), np.bool_)
        if with_masks:
            masks = as_masks(target.masks, f"{name}.masks")
            if masks.shape != (len(boxes), *size):
                raise ShapeError(f"{name}.masks", f"shape {(len(boxes), *size)}", masks.shape)
        points = np.zeros((len(boxes), 0, 3), np.float32)
        if joints:
            points = as_keypoints(target.keypoints, len(boxes), joints, f"{name}.keypoints")
        checked.append(Truth(boxes.astype(np.float32, copy=False), labels, masks, points))
    return checked
