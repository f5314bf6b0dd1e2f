"""The benchmark's networks as plain PyTorch modules, with the names of our state dicts.

Written as a PyTorch user would write them, and given our weights: losses and gradients are compared
before anything is timed.  Letters: ``N C H W`` images, ``R`` regions, ``K`` classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def lenet5() -> nn.Module:
    """LeNet-5 as it is taught today."""

    class LeNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(1, 6, 5), nn.ReLU(), nn.AvgPool2d(2),
                nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2),
            )  # fmt: skip
            self.classifier = nn.Sequential(
                nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
                nn.Linear(84, 10),
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            return self.classifier(self.features(x))

    return LeNet()


def norm(kind: str, channels: int) -> nn.Module:
    """Batch norm, or group norm with 8 channels a group."""
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(channels // 8, channels)


class Block(nn.Module):
    """``relu(f(x) + shortcut(x))``, ``f`` two 3×3 (basic) or 1×1, 3×3, 1×1 (bottleneck)."""

    def __init__(self, c: int, width: int, stride: int, kind: str, bottleneck: bool) -> None:
        super().__init__()
        out = width * 4 if bottleneck else width
        if bottleneck:
            self.conv1 = nn.Conv2d(c, width, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            self.conv3 = nn.Conv2d(width, out, 1, bias=False)
            self.bn3 = norm(kind, out)
        else:
            self.conv1 = nn.Conv2d(c, width, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = norm(kind, width), norm(kind, width)
        self.relu = nn.ReLU(inplace=True)
        self.bottleneck = bottleneck
        self.downsample: nn.Module | None = None
        if stride != 1 or c != out:
            projection = nn.Conv2d(c, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, norm(kind, out))

    def forward(self, x: Any) -> Any:
        """``(N, C, H, W) -> (N, out, H / stride, W / stride)``"""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            y = self.bn3(self.conv3(self.relu(y)))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Body(nn.Module):
    """Stem and four stages."""

    def __init__(
        self, stem: int, kernel: int, widths: Sequence[int], depths: Sequence[int], kind: str,
        bottleneck: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, kernel, 2, kernel // 2, bias=False)
        self.bn1, self.relu = norm(kind, stem), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        c = stem
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = []
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(Block(c, width, stride, kind, bottleneck))
                c = width * 4 if bottleneck else width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))

    def stages(self, x: Any) -> list[Any]:
        """The four features."""
        features = [self.maxpool(self.relu(self.bn1(self.conv1(x))))]
        for stage in range(1, 5):
            features.append(getattr(self, f"layer{stage}")(features[-1]))
        return features[1:]

    def forward(self, x: Any) -> Any:
        """The four features."""
        return self.stages(x)


class ResNet50(Body):
    """ResNet-50 that classifies."""

    def __init__(self) -> None:
        super().__init__(64, 7, (64, 128, 256, 512), (3, 4, 6, 3), "batch", True)
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x: Any) -> Any:
        """``(N, 3, H, W) -> (N, 1000)``"""
        return self.fc(self.stages(x)[-1].mean((2, 3)))


class VGG16(nn.Module):
    """VGG-16, without dropout."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c = 3
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                layers += [nn.Conv2d(c, width, 3, 1, 1), nn.ReLU(inplace=True)]
                c = width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 49, 4096), nn.ReLU(inplace=True), nn.Identity(),
            nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Identity(), nn.Linear(4096, 1000),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        """``(N, 3, 224, 224) -> (N, 1000)``"""
        return self.classifier(torch.flatten(self.features(x), 1))


class Inverted(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, c: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = c * expansion
        stages: list[nn.Module] = []
        if expansion > 1:
            stages.append(_conv_norm(c, wide, 1))
        stages.append(_conv_norm(wide, wide, 3, stride, wide))
        stages += [nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out)]
        self.conv = nn.Sequential(*stages)
        self.shortcut = stride == 1 and c == out

    def forward(self, x: Any) -> Any:
        """``(N, C, H, W) -> (N, out, H / stride, W / stride)``"""
        return x + self.conv(x) if self.shortcut else self.conv(x)


def _conv_norm(c: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU6(inplace=True))


class MobileNetV2(nn.Module):
    """MobileNetV2, without dropout."""

    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = [_conv_norm(3, 32, 3, 2)]
        c = 32
        for expansion, out, count, stride in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1),
        ):  # fmt: skip
            for number in range(count):
                features.append(Inverted(c, out, stride if number == 0 else 1, expansion))
                c = out
        self.features = nn.Sequential(*features, _conv_norm(c, 1280, 1))
        self.classifier = nn.Sequential(nn.Identity(), nn.Linear(1280, 1000))

    def forward(self, x: Any) -> Any:
        """``(N, 3, H, W) -> (N, 1000)``"""
        return self.classifier(self.features(x).mean((2, 3)))


class DoubleConv(nn.Module):
    """Twice 3×3, normalisation, ReLU."""

    def __init__(self, c: int, out: int, kind: str) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(c, out, 3, padding=1, bias=False), norm(kind, out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False), norm(kind, out),
            nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        """``(N, C, H, W) -> (N, out, H, W)``"""
        return self.double_conv(x)


class Down(nn.Module):
    """Half the resolution."""

    def __init__(self, c: int, out: int, kind: str) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(c, out, kind))

    def forward(self, x: Any) -> Any:
        """``(N, C, H, W) -> (N, out, H / 2, W / 2)``"""
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Twice the resolution, beside the bridge."""

    def __init__(self, c: int, kind: str) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(c, c // 2, 2, 2)
        self.conv = DoubleConv(c, c // 2, kind)

    def forward(self, x: Any, bridge: Any) -> Any:
        """``(N, C, h, w)``, ``(N, C/2, 2h, 2w)`` -> ``(N, C/2, 2h, 2w)``"""
        return self.conv(torch.cat([bridge, self.up(x)], 1))


class UNet(nn.Module):
    """U-Net of ``base`` channels at its first level, with four below it."""

    def __init__(self, base: int, classes: int, kind: str) -> None:
        super().__init__()
        self.inc = DoubleConv(3, base, kind)
        for d, c in enumerate((base, 2 * base, 4 * base, 8 * base)):
            setattr(self, f"down{d + 1}", Down(c, 2 * c, kind))
            setattr(self, f"up{4 - d}", Up(2 * c, kind))
        self.outc = nn.Sequential()
        self.outc.add_module("conv", nn.Conv2d(base, classes, 1))

    def forward(self, x: Any) -> Any:
        """``(N, 3, H, W) -> (N, classes, H, W)``"""
        bridges = [self.inc(x)]
        for d in range(1, 5):
            bridges.append(getattr(self, f"down{d}")(bridges[-1]))
        y = bridges.pop()
        for d in range(1, 5):
            y = getattr(self, f"up{d}")(y, bridges.pop())
        return self.outc(y)


# --- the demo's Mask R-CNN ------------------------------------------------------------------------


def _conv_block(c: int, out: int, kernel: int, kind: str | None) -> nn.Sequential:
    conv = nn.Conv2d(c, out, kernel, padding=kernel // 2, bias=kind is None)
    return nn.Sequential(conv) if kind is None else nn.Sequential(conv, norm(kind, out))


class MaskRcnn(nn.Module):
    """``maskrcnn_small``: features, proposals' scores, and the heads on given regions.

    ``plan`` (see ``networks.py``) holds what sampling has drawn: the same for both sides.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 64, 128, 128)
        self.backbone = nn.Module()
        self.backbone.body = Body(16, 3, widths, (1, 1, 1, 1), "group", False)
        self.backbone.fpn = nn.Module()
        self.backbone.fpn.inner_blocks = nn.ModuleList(
            _conv_block(c, 32, 1, "group") for c in widths
        )
        self.backbone.fpn.layer_blocks = nn.ModuleList(
            _conv_block(32, 32, 3, "group") for _ in widths
        )
        self.rpn = nn.Module()
        self.rpn.head = nn.Module()
        self.rpn.head.conv = nn.Sequential(_conv_block(32, 32, 3, None))
        self.rpn.head.cls_logits = nn.Conv2d(32, 3, 1)
        self.rpn.head.bbox_pred = nn.Conv2d(32, 12, 1)
        heads = self.roi_heads = nn.Module()
        heads.box_head = nn.Module()
        heads.box_head.fc6, heads.box_head.fc7 = nn.Linear(32 * 49, 128), nn.Linear(128, 128)
        heads.box_predictor = nn.Module()
        heads.box_predictor.cls_score = nn.Linear(128, 11)
        heads.box_predictor.bbox_pred = nn.Linear(128, 44)
        heads.mask_head = nn.Sequential(*(_conv_block(32, 32, 3, "group") for _ in range(4)))
        heads.mask_predictor = nn.Module()
        heads.mask_predictor.conv5_mask = nn.ConvTranspose2d(32, 32, 2, 2)
        heads.mask_predictor.mask_fcn_logits = nn.Conv2d(32, 11, 1)

    def features(self, x: Any) -> list[Any]:
        """P2 … P5."""
        fpn = self.backbone.fpn
        lateral = [
            f(c) for f, c in zip(fpn.inner_blocks, self.backbone.body.stages(x), strict=True)
        ]
        for level in reversed(range(3)):
            size = lateral[level].shape[2:]
            lateral[level] = lateral[level] + functional.interpolate(lateral[level + 1], size=size)
        return [f(c) for f, c in zip(fpn.layer_blocks, lateral, strict=True)]

    def proposals(self, features: Sequence[Any]) -> tuple[Any, Any]:
        """Objectness ``(N, T)`` and deltas ``(N, T, 4)``."""
        scores, deltas = [], []
        for x in features:
            hidden = functional.relu(self.rpn.head.conv(x))
            n = len(x)
            scores.append(self.rpn.head.cls_logits(hidden).permute(0, 2, 3, 1).reshape(n, -1))
            moves = self.rpn.head.bbox_pred(hidden).permute(0, 2, 3, 1)
            deltas.append(moves.reshape(n, -1, 4))
        return torch.cat(scores, 1), torch.cat(deltas, 1)

    def forward(self, x: Any, plan: Mapping[str, Any]) -> Any:
        """The five terms of the loss, added up."""
        features = self.features(x)
        scores, deltas = self.proposals(features)
        losses = functional
        picked = scores.reshape(-1)[plan["anchors"]]
        loss = losses.binary_cross_entropy_with_logits(picked, plan["object"], reduction="mean")
        moved = deltas.reshape(-1, 4)[plan["positive_anchors"]]
        count = len(plan["anchors"])
        loss = (
            loss
            + losses.smooth_l1_loss(moved, plan["anchor_deltas"], reduction="sum", beta=1 / 9)
            / count
        )
        heads = self.roi_heads
        pooled = roi_align(features, plan["box_grids"], plan["box_order"], 7)
        hidden = functional.relu(heads.box_head.fc6(pooled.flatten(1)))
        hidden = functional.relu(heads.box_head.fc7(hidden))
        logits = heads.box_predictor.cls_score(hidden)
        boxes = heads.box_predictor.bbox_pred(hidden).reshape(len(hidden), 11, 4)
        loss = loss + losses.cross_entropy(logits, plan["labels"])
        right = boxes[plan["positive"], plan["classes"]]
        loss = loss + losses.smooth_l1_loss(
            right, plan["deltas"], reduction="sum", beta=1 / 9
        ) / len(hidden)
        y = roi_align(features, plan["mask_grids"], plan["mask_order"], 14)
        for block in heads.mask_head:
            y = functional.relu(block(y))
        masks = heads.mask_predictor
        y = masks.mask_fcn_logits(functional.relu(masks.conv5_mask(y)))
        y = y[torch.arange(len(y)), plan["classes"]]
        return loss + losses.binary_cross_entropy_with_logits(y, plan["masks"])


def roi_align(features: Sequence[Any], grids: Sequence[Any], order: Any, size: int) -> Any:
    """``(R, C, S, S)``: bilinear samples at prepared places, averaged four by four.

    ``grids[level]`` is ``(N, M·2S, 2S, 2)``: every image's regions one below the other, filled up
    to the same number M; ``order`` picks the real ones.
    """
    pooled = []
    for x, grid in zip(features, grids, strict=True):
        if grid is None:
            continue
        samples = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
        n, c = samples.shape[:2]
        mean = functional.avg_pool2d(samples, 2)
        pooled.append(mean.reshape(n, c, -1, size, size).transpose(1, 2).flatten(0, 1))
    return torch.cat(pooled)[order]


def sampling_grid(boxes: Any, size: int, stride: int, plane: tuple[int, int], dtype: Any) -> Any:
    """The grid of one level. boxes ``(N, M, 4)``, filled up with anything."""
    n, m = boxes.shape[:2]
    steps = (np.arange(2 * size) + 0.5) / (2 * size)  # two samples a bin
    height, width = plane
    scaled = boxes / stride
    ys = scaled[..., 1:2] + steps * (scaled[..., 3:4] - scaled[..., 1:2])  # (N, M, 2S), edges
    xs = scaled[..., 0:1] + steps * (scaled[..., 2:3] - scaled[..., 0:1])
    grid = np.empty((n, m, 2 * size, 2 * size, 2), dtype)
    grid[..., 0] = (2 * xs / width - 1)[..., None, :]
    grid[..., 1] = (2 * ys / height - 1)[..., :, None]
    return torch.from_numpy(grid.reshape(n, m * 2 * size, 2 * size, 2))


NETWORKS: dict[str, Any] = {
    "lenet5": lenet5,
    "resnet50": ResNet50,
    "vgg16": VGG16,
    "mobilenet_v2": MobileNetV2,
    "unet": partial(UNet, 64, 21, "batch"),
    "unet_scenes": partial(UNet, 16, 11, "group"),
    "maskrcnn_small": MaskRcnn,
}


def build(name: str, state: Mapping[str, Any]) -> nn.Module:
    """The network with our weights."""
    dtype = torch.float64 if next(iter(state.values())).dtype == np.float64 else torch.float32
    network: nn.Module = NETWORKS[name]().to(dtype)
    tensors = {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
    network.load_state_dict(tensors)
    return network
