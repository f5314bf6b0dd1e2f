"""Training steps of Mask R-CNN: the demo's, and the full one beside torchvision's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.gpu.clock import Device, Torch
from benchmarks.gpu.record import Record
from cnncore import models, optim, tensor
from cnncore.models.detection.mask_rcnn import MaskRcnn
from cnncore.vision import Objects

BOXES = 8  # objects an image


def scene(rng: np.random.Generator, side: int, classes: int) -> Objects:
    """Objects at random places of an image, each mask the ellipse in its box."""
    corner = rng.uniform(0, 0.6 * side, (BOXES, 2))
    extent = rng.uniform(0.1 * side, 0.35 * side, (BOXES, 2))
    boxes = np.concatenate([corner, corner + extent], 1).astype(np.float32)
    row, col = np.mgrid[:side, :side]
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    x = (col[None] - middle[:, 0, None, None]) / half[:, 0, None, None]
    y = (row[None] - middle[:, 1, None, None]) / half[:, 1, None, None]
    return Objects(boxes, rng.integers(0, classes, BOXES), x * x + y * y <= 1)


def median_step(
    step: Callable[[], Any], wait: Callable[[], None], most: int, until: float
) -> float:
    """Seconds of one step on the clock of the host, after two that are not counted."""
    times: list[float] = []
    for number in range(most + 2):
        wait()
        start = time.perf_counter()
        step()
        wait()
        if number >= 2:
            times.append(time.perf_counter() - start)
        if times and time.perf_counter() > until:
            break
    return statistics.median(times)


def our_step(model: Any, images: Any, targets: list[Objects]) -> Callable[[], None]:
    optimizer = optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    rng = np.random.default_rng(0)

    def step() -> None:
        optimizer.zero_grad()
        terms = list(model.loss(model(images), targets, rng).values())
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        total.backward()
        optimizer.step()

    return step


def their_step(torch: Any, vision: Any, images: Any, targets: list[Objects]) -> Callable[[], None]:
    side = images.shape[-1]
    model = vision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=91, min_size=side, max_size=side
    )
    model = model.cuda().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    truth = [
        {
            "boxes": torch.from_numpy(t.boxes).cuda(),
            "labels": torch.from_numpy(t.labels + 1).cuda(),
            "masks": torch.from_numpy(t.masks.astype(np.uint8)).cuda(),
        }
        for t in targets
    ]
    inputs = [torch.from_numpy(image).cuda() for image in images]

    def step() -> None:
        optimizer.zero_grad()
        sum(model(inputs, truth).values()).backward()
        optimizer.step()

    return step


def run(device: Device, torch: Torch, record: Record, seconds_left: Callable[[], float]) -> str:
    rng, most = np.random.default_rng(0), 1 if device.dry else 20
    side, full = (64, 64) if device.tiny else (128, 800)
    until = time.perf_counter() + seconds_left() / 3
    images = rng.normal(size=(1 if device.tiny else 8, 3, side, side)).astype(np.float32)
    targets = [scene(rng, side, 10) for _ in images]
    net = models.create("maskrcnn_small", num_classes=10).to("cuda")
    step = our_step(net, tensor(images, device="cuda"), targets)
    seconds = median_step(step, device.wait, most, until)
    record.add(
        "training",
        name=f"maskrcnn_small, {len(images)} images of {side}x{side}",
        milliseconds=seconds * 1e3,
    )
    if device.tiny:
        return "the small network only"
    images = rng.normal(size=(2, 3, full, full)).astype(np.float32)
    targets = [scene(rng, full, 90) for _ in images]
    row: dict[str, Any] = {"name": f"Mask R-CNN ResNet-50-FPN, 2 images of {full}x{full}"}
    net = MaskRcnn(90).to("cuda")
    until = time.perf_counter() + seconds_left() / 2
    step = our_step(net, tensor(images, device="cuda"), targets)
    ours = median_step(step, device.wait, most, until)
    row["milliseconds"] = ours * 1e3
    if torch.vision is not None:
        try:
            theirs = median_step(
                their_step(torch.torch, torch.vision, images, targets),
                torch.torch.cuda.synchronize,
                most,
                time.perf_counter() + seconds_left() / 2,
            )
            row |= {"peer": "torchvision", "peer_milliseconds": theirs * 1e3}
            row["ratio"] = ours / theirs
        except Exception as error:
            row["peer"] = f"torchvision failed: {error}"[:200]
    record.add("training", **row)
    return "done"
