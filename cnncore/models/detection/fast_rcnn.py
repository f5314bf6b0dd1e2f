"""Fast R-CNN: the convolutions run once an image, each proposal is pooled from their map.

    image ─ VGG-16 … conv5_3 (stride 16) ─┐
    proposals (selective search, say) ────┴─ RoI pooling 7×7 ─ fc6, fc7 ─┬─ 1 + K logits
                                                                         └─ a box a class
    loss = cross-entropy + [object] · smooth L1

Letters: ``N 3 H W`` images, ``R`` regions, ``K`` classes, ``t`` rank.

Source: Girshick, "Fast R-CNN", 2015, figure 1, sections 2 and 3.  Differences: true boxes are among
the regions to learn from, and deltas are multiplied by (10, 10, 5, 5) instead of being divided by
their deviation on the training set, both as its author's later code does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnncore.autograd import Tensor, no_grad
from cnncore.errors import ArgumentError
from cnncore.geometry import as_int
from cnncore.models.backbones import Body, ClassifierBody, body_at
from cnncore.models.detection.detector import Detector, checked_images
from cnncore.models.detection.rcnn import checked_proposals
from cnncore.models.detection.resize import Resize
from cnncore.models.detection.roi_heads import RoiHeads, RoiSettings
from cnncore.models.detection.truth import checked_truth
from cnncore.nn import Linear, Sequential
from cnncore.vision import BalancedSampler, DetectionSettings, IouMatcher, LevelRule, Objects
from cnncore.vision.boxes import FloatArray, Size

Rng = np.random.Generator


@dataclass(frozen=True)
class FastRcnnSettings:
    """All of Fast R-CNN; the defaults are the paper's with VGG-16."""

    body: Body = ClassifierBody("vgg16")
    level: int = 4  # of the body's maps: 5 halvings of the image would be level 5
    roi: RoiSettings = RoiSettings(
        masks=False,
        pooling="max",
        levels=LevelRule(lowest=4, highest=4),
        box_channels=4096,
        dropout=0.5,
        matcher=IouMatcher(0.5, 0.5, least=0.1),
        sampler=BalancedSampler(64, 0.25),
        detections=DetectionSettings(nms_threshold=0.3),
        smooth_l1_beta=1.0,
    )
    resize: Resize | None = Resize(min_size=600, max_size=1000, divisor=16)

    def __post_init__(self) -> None:
        levels = self.roi.levels
        if not levels.lowest == levels.highest == self.level:
            got = f"level {self.level}, roi.levels {levels.lowest}..{levels.highest}"
            raise ArgumentError("level, roi.levels", "one and the same level", got)


@dataclass(frozen=True)
class RegionOutputs:
    """The map of a batch, and the regions to pool from it."""

    features: list[Tensor]  # one map (N, C, H / 16, W / 16)
    proposals: list[FloatArray]  # (R, 4) of each image
    image_sizes: list[Size]


class FastRcnn(Detector):
    """Fast R-CNN for ``num_classes`` real classes.

    ``model(images, proposals, image_sizes)`` -> ``RegionOutputs``; ``model.loss(outputs, targets,
    rng)`` -> named terms; ``model.decode(outputs)`` -> one ``vision.Objects`` an image.
    """

    def __init__(self, num_classes: int, settings: FastRcnnSettings = FastRcnnSettings()) -> None:
        self.num_classes = as_int("num_classes", num_classes, 1)
        self.settings, self.resize = settings, settings.resize
        self.backbone, channels = body_at(settings.body, settings.level)
        self.roi_heads = RoiHeads(channels, num_classes, settings.roi)

    def forward(
        self, images: Any, proposals: Sequence[Any], image_sizes: Sequence[Size] | None = None
    ) -> RegionOutputs:
        """The map of images ``(N, 3, H, W)``; ``proposals`` boxes ``(R, 4)`` for each image."""
        x, sizes = checked_images(images, image_sizes)
        boxes = checked_proposals(proposals, len(sizes))
        return RegionOutputs([self.backbone(x)], boxes, sizes)

    def loss(self, outputs: RegionOutputs, targets: Sequence[Any], rng: Rng) -> dict[str, Tensor]:
        """``class`` and ``box`` of equation 1 on sampled regions; ``rng`` draws them."""
        truth = checked_truth(targets, outputs.image_sizes, self.num_classes, with_masks=False)
        return self.roi_heads.loss(outputs.features, outputs.proposals, truth, rng)

    def decode(
        self, outputs: RegionOutputs, settings: DetectionSettings | None = None, **changes: Any
    ) -> list[Objects]:
        """The detections of every image, by descending score; no gradient flows."""
        settings = replace(settings or self.settings.roi.detections, **changes)
        with no_grad():
            return self.roi_heads.detect(
                outputs.features, outputs.proposals, outputs.image_sizes, settings
            )

    def compress(self, fc6: int = 1024, fc7: int = 256) -> None:
        """Replace the two large layers by pairs of thin ones, in place (section 3.1).

        ``u v`` products become ``t (u + v)``: with many regions most of the time goes here.
        """
        head = self.roi_heads.box_head
        for name, rank in (("fc6", fc6), ("fc7", fc7)):
            layer = getattr(head, name)
            if not isinstance(layer, Linear):
                raise ArgumentError("model", "a network that is not compressed yet", name)
            setattr(head, name, truncated_svd(layer, rank))


def truncated_svd(layer: Linear, rank: int) -> Sequential:
    """A dense layer as two: ``W ≈ U_t (Σ_t V_tᵀ)``, the best approximation of rank ``t``.

    The first has no bias, the second that of ``layer``.  At full rank the product is ``W`` up to
    rounding.
    Source: Girshick, "Fast R-CNN", 2015, section 3.1.

    >>> both = truncated_svd(Linear(6, 4), 2)
    >>> [part.weight.shape for part in both]
    [(2, 6), (4, 2)]
    """
    t = as_int("rank", rank, 1)
    out, features = layer.weight.shape
    if t > min(out, features):
        raise ArgumentError("rank", f"at most {min(out, features)}", t)
    u, s, vt = np.linalg.svd(layer.weight.numpy().astype(np.float64), full_matrices=False)
    first, second = Linear(features, t, bias=False), Linear(t, out, bias=layer.bias is not None)
    for part, value in ((first.weight, s[:t, None] * vt[:t]), (second.weight, u[:, :t])):
        part.data = value.astype(layer.weight.dtype)
    if layer.bias is not None:
        assert second.bias is not None
        second.bias.data = np.array(layer.bias.numpy())
    return Sequential(first, second)


def fastrcnn_vgg16(num_classes: int = 20, **changes: Any) -> FastRcnn:
    """Fast R-CNN on VGG-16, 134.7 M parameters for VOC's 20 classes.

    ``changes`` replace fields of ``FastRcnnSettings``.
    """
    return FastRcnn(num_classes, FastRcnnSettings(**changes))
