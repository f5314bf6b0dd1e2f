"""Scenes for the detector's benchmark, with everything that sampling draws drawn once."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnncore.autograd import Tensor, no_grad
from cnncore.bench.networks import Data, crop
from cnncore.data import Scenes
from cnncore.models.detection.truth import checked_truth


def scene_data(count: int, model: Any) -> Data:
    """A batch of the demo's training scenes, sampled once by the untrained network."""
    rng = np.random.default_rng(0)
    scenes = Scenes("train", count, seed=0)
    samples = [scenes[i] for i in range(count)]
    x = np.stack([s.image for s in samples]) * np.float32(2) - np.float32(1)
    with no_grad():
        outputs = model(Tensor(x))
    truth = checked_truth(samples, outputs.image_sizes, model.num_classes)
    positive, negative, deltas = model.rpn._sample(
        outputs.rpn.all_anchors, [t.boxes for t in truth], rng
    )
    settings = model.settings.rpn.train
    proposals = model.rpn.propose(outputs.rpn, outputs.image_sizes, settings)
    sample = model.roi_heads.sample([p.boxes for p in proposals], truth, rng)
    plan = {
        "anchors": np.concatenate([positive, negative]),
        "object": np.repeat(np.array([1.0, 0.0], np.float32), (len(positive), len(negative))),
        "positive_anchors": positive,
        "anchor_deltas": deltas.astype(np.float32),
        "labels": sample.labels,
        "positive": sample.positive,
        "classes": sample.labels[sample.positive],
        "deltas": sample.deltas.astype(np.float32),
        "masks": crop(sample, truth, 2 * model.settings.roi.mask_size),
    }
    return Data(x, None, sample, plan)


def torch_plan(data: Data, shape: tuple[int, ...]) -> dict[str, Any]:
    """The same for PyTorch: tensors, and where to sample each region."""
    import torch

    plan: dict[str, Any] = {k: torch.from_numpy(np.array(v)) for k, v in data.plan.items()}
    sample = data.sample
    for word, regions, size in (
        ("box", sample.regions, 7),
        ("mask", sample.regions[sample.positive], 14),
    ):
        plan[f"{word}_grids"], plan[f"{word}_order"] = _grids(regions, size, shape, data.x.dtype)
    return plan


def _grids(regions: Any, size: int, shape: tuple[int, ...], dtype: Any) -> tuple[list[Any], Any]:
    """A grid a level (None where it has no region), and the place of each region in all of them."""
    import torch

    from cnncore.bench.torch_networks import sampling_grid

    grids: list[Any] = []
    order = np.zeros(len(regions), np.int64)
    first = 0
    for level in range(4):
        rows = np.flatnonzero(regions.level == level)
        if not len(rows):
            grids.append(None)
            continue
        counts = np.bincount(regions.image[rows], minlength=shape[0])
        boxes = np.zeros((shape[0], counts.max(), 4))
        boxes[..., 2:] = 1.0
        seen = np.zeros(shape[0], np.int64)
        for row in rows:
            image = regions.image[row]
            boxes[image, seen[image]] = regions.boxes[row]
            order[row] = first + image * counts.max() + seen[image]
            seen[image] += 1
        stride = 4 * 2**level
        plane = (-(-shape[2] // stride), -(-shape[3] // stride))
        grids.append(sampling_grid(boxes, size, stride, plane, dtype))
        first += shape[0] * int(counts.max())
    return grids, torch.from_numpy(order)
