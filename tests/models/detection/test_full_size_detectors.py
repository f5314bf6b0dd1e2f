"""Every full-size detector does one step on an image of the reference's size: up to a minute each.

Counts and shapes without computing are in ``test_detection_tables.py``; here numbers go through.
"""

from __future__ import annotations

import numpy as np
import pytest

from cnncore import models
from cnncore.nn import init
from cnncore.train.loop import total_loss
from cnncore.vision import Objects

pytestmark = pytest.mark.training

# name, real classes, image, whether the loss draws regions, whether regions are given
NETWORKS = [
    ("rcnn_alexnet", 20, (375, 500), True, True),
    ("sppnet_zf5", 20, (480, 640), True, True),
    ("fastrcnn_vgg16", 20, (600, 1000), True, True),
    ("fasterrcnn_vgg16", 20, (600, 1000), True, False),
    ("fasterrcnn_resnet50_fpn", 90, (800, 800), True, False),
    ("maskrcnn_resnet50_fpn", 90, (800, 800), True, False),
    ("keypointrcnn_resnet50_fpn", 1, (800, 800), True, False),
    ("rfcn_resnet50", 20, (600, 1000), True, False),
    ("retinanet_resnet50_fpn", 90, (800, 800), False, False),
    ("ssd300_vgg16", 90, (300, 300), False, False),
    ("ssd512_vgg16", 90, (512, 512), False, False),
    ("yolo_v1", 20, (448, 448), False, False),
    ("yolo_v1_tiny", 20, (448, 448), False, False),
]


@pytest.mark.parametrize(("name", "classes", "size", "draws", "given"), NETWORKS)
def test_a_step_of_the_full_size(
    name: str, classes: int, size: tuple[int, int], draws: bool, given: bool
) -> None:
    init.seed(0)
    model = models.create(name, num_classes=classes)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, 3, *size)).astype(np.float32)
    boxes = np.array([[40, 30, 240, 230], [100, 120, 180, 290]], np.float32)
    masks = np.zeros((2, *size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    points = np.tile(np.float32([110, 130, 2]), (2, 17, 1))
    target = Objects(boxes, np.array([0, classes - 1]), masks, None, points)
    corners = rng.uniform(0, 150, (500, 2))
    regions = np.concatenate([corners, corners + rng.uniform(30, 140, (500, 2))], 1)
    outputs = model(images, [regions]) if given else model(images)
    terms = model.loss(outputs, [target], *([rng] if draws else []))
    assert all(np.isfinite(term.item()) for term in terms.values())
    total_loss(terms).backward()
    learning = 0
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert np.isfinite(parameter.grad.numpy()).all(), key
            learning += parameter.size
    # SPP-net tunes its dense layers only.
    least = 0.9 * sum(p.size for p in model.parameters() if p.requires_grad)
    assert learning > least
