"""What every detector here is: pictures in, raw outputs, a loss, detections.

prepare(pictures) ─ Batch ─ forward ─ outputs ─┬─ loss(outputs, targets) ── named terms
                                               └─ decode(outputs) ── one Objects an image
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import as_int, as_pair
from cnncore.models.backbones import ResNetBody
from cnncore.models.detection.resize import Batch, Resize
from cnncore.nn import Module
from cnncore.vision import Objects
from cnncore.vision.boxes import FloatArray, Size


class Detector(Module):
    """A network with ``num_classes`` real classes and, if ``resize`` is set, an input size."""

    num_classes: int
    resize: Resize | None

    def prepare(self, pictures: Sequence[Any]) -> Batch:
        """Pictures ``(H, W, 3)`` uint8 to what the network takes: see ``resize.py``."""
        if self.resize is None:
            hint = "call the model with images (N, 3, H, W)"
            raise ArgumentError("settings.resize", "a size to bring pictures to", None, hint)
        return self.resize(pictures)

    def decode(self, outputs: Any, **changes: Any) -> list[Objects]:
        """The detections of every image, by descending score; no gradient flows."""
        raise NotImplementedError

    def load_state_dict(self, state: Mapping[str, Any], allow: Sequence[str] = ()) -> None:
        """As any module's; names of older torchvision files are understood, too."""
        super().load_state_dict(modern_keys(state), allow)


@dataclass(frozen=True)
class DenseOutputs:
    """What a network without proposals says of all anchors of a batch.

    Letters: ``N`` images, ``T`` anchors of an image (by level, row, column, anchor), ``K`` classes.
    """

    logits: Tensor  # (N, T, 1 + K), background first
    deltas: Tensor  # (N, T, 4)
    anchors: list[FloatArray]  # for each level (H_l · W_l · A, 4)
    image_sizes: list[Size]  # the part of each image that is not padding

    @property
    def all_anchors(self) -> FloatArray:
        """``(T, 4)``"""
        return np.concatenate(self.anchors)


def checked_images(images: Any, image_sizes: Sequence[Size] | None) -> tuple[Tensor, list[Size]]:
    """A batch ``(N, 3, H, W)`` and how much of each image is not padding."""
    x = images if isinstance(images, Tensor) else Tensor(images)
    if x.ndim != 4 or x.shape[1] != 3:
        raise ShapeError("images", "shape (N, 3, H, W)", x.shape, "images[None]")
    sizes = [(x.shape[2], x.shape[3])] * x.shape[0] if image_sizes is None else list(image_sizes)
    if len(sizes) != x.shape[0]:
        raise ArgumentError("image_sizes", f"one an image, {x.shape[0]}", len(sizes))
    return x, [as_pair("image_sizes", size, 1) for size in sizes]


def freeze_stages(body: Module, count: int) -> None:
    """Exclude the first parts of a residual network from training: stem, layer1 … layer4."""
    if count and not isinstance(body, ResNetBody):
        hint = "model.backbone.body…requires_grad_(False)"
        raise ArgumentError("frozen_stages", "0 for a body that is no ResNetBody", count, hint)
    parts = ("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)
    for names in parts[: as_int("frozen_stages", count, 0)]:
        for name in names:
            getattr(body, name).requires_grad_(False)


def by_anchor(x: Tensor, values: int) -> Tensor:
    """A head's ``(N, A · values, H, W)`` as ``(N, H · W · A, values)``, in the anchors' order."""
    N, channels, H, W = x.shape
    rows = x.permute((0, 2, 3, 1))  # the anchor axis last: row, column, anchor
    y: Tensor = rows.reshape((N, H * W * (channels // values), values))
    return y


# Names in torchvision's files from before a block was a Sequential -> names since.
_PLAIN_BLOCKS = (
    (re.compile(r"(.*\bfpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)"), r"\1.0.\2"),
    (re.compile(r"(rpn\.head\.conv)\.(weight|bias)"), r"\1.0.0.\2"),
)
_MASK_LAYER = re.compile(r"(roi_heads\.mask_head)\.mask_fcn(\d+)\.(weight|bias)")
# RetinaNet's four convolutions stood between activations: 0, 2, 4, 6.
_DENSE_LAYER = re.compile(r"(head\.(?:classification|regression)_head\.conv)\.(\d)\.(weight|bias)")


def modern_keys(state: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a file under the names of today's torchvision.

    >>> list(modern_keys({"rpn.head.conv.bias": 0, "roi_heads.mask_head.mask_fcn4.bias": 0}))
    ['rpn.head.conv.0.0.bias', 'roi_heads.mask_head.3.0.bias']
    """
    renamed = {}
    for key, value in state.items():
        for old, new in _PLAIN_BLOCKS:
            key = old.sub(new, key) if old.fullmatch(key) else key
        if layer := _MASK_LAYER.fullmatch(key):
            key = f"{layer[1]}.{int(layer[2]) - 1}.0.{layer[3]}"
        if layer := _DENSE_LAYER.fullmatch(key):
            key = f"{layer[1]}.{int(layer[2]) // 2}.0.{layer[3]}"
        renamed[key] = value
    return renamed
