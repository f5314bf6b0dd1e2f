"""Fully convolutional networks: a classifier slid over the image, its coarse scores enlarged.

    FCN-32s  image ─ … ─ pool3 ─ … ─ pool4 ─ … ─ pool5 ─ fc6 ─ fc7 ─ score ────────────── ×32 ─ crop
    FCN-16s                            └ score ───────────────────────── + ─ (×2 score) ─ ×16 ─ crop
    FCN-8s             └ score ───────────────────────────────────────── + ─ (×2 sum)  ─  ×8  ─ crop

``fc6`` and ``fc7`` are the classifier's dense layers as convolutions.  The first convolution pads
by 100 pixels so that small images still give scores; everything is cropped back afterwards.  By
how much follows from the layers: ``Place`` carries the map from positions of a layer to pixels.

Letters: ``N C H W`` images, ``K`` classes.

Source: Long, Shelhamer & Darrell, "Fully convolutional networks for semantic segmentation", 2015,
section 4 and figure 3; layer names, padding and crops as in the authors' released networks.
State-dict keys are those of the most used PyTorch implementation (torchfcn).
Differences: ``norm``, ``widths``, ``dense``, ``fc6``, ``padding`` and ``dropout`` exist to train
small ones from nothing; the released ones have none of it.  With a norm, FCN's convolutions lose
their bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.models.classification.blocks import initialise_for_relu
from cnncore.models.classification.vgg import DEPTHS, WIDTHS
from cnncore.models.segmentation.segmenter import Segmenter, cropped
from cnncore.nn import Buffer, Conv2d, ConvTranspose2d, Dropout, Module, activated, init, norm_layer

BLOCKS = (3, 4, 5)  # pooling layers that a score may come from


@dataclass(frozen=True)
class Place:
    """Position ``i`` of a layer looks at pixel ``step · i + start`` of the image."""

    step: Fraction = Fraction(1)
    start: Fraction = Fraction(0)

    def window(self, kernel: int, stride: int, padding: int) -> Place:
        """Behind a convolution or a pooling: the middle of its window."""
        middle = Fraction(kernel - 1, 2) - padding
        return Place(self.step * stride, self.start + self.step * middle)

    def enlarged(self, kernel: int, stride: int) -> Place:
        """Behind a transposed convolution without padding."""
        return Place(self.step / stride, self.start - self.step / stride * Fraction(kernel - 1, 2))

    def offset_of(self, other: Place) -> int:
        """Where in this layer the first position of ``other`` lies."""
        offset = (other.start - self.start) / self.step
        if self.step != other.step or offset.denominator != 1 or offset < 0:
            raise ArgumentError("padding", "one that leaves whole pixels to crop", str(offset))
        return int(offset)


def bilinear_upsampling(classes: int, factor: int, learned: bool) -> ConvTranspose2d:
    """Enlarge scores ``factor`` times, bilinearly at first; each class by itself.

    Kernel ``2 · factor``, no padding, no bias; a constant unless ``learned``.
    """
    layer = ConvTranspose2d(classes, classes, 2 * factor, factor, bias=False)
    init.bilinear_(layer.weight)
    layer.weight.requires_grad = learned
    return layer


def zero_score(channels: int, classes: int) -> Conv2d:
    """A 1×1 convolution that says nothing at first."""
    layer = Conv2d(channels, classes, 1)
    init.constant_(layer.weight, 0.0)
    if layer.bias is not None:
        init.constant_(layer.bias, 0.0)
    return layer


class FCN(Segmenter):
    """FCN-32s, -16s or -8s (``stride``) on VGG-16.

    ``learned``: whether the last upsampling is trained, too (the paper fixes it; the ones inside,
    of a factor 2, are always trained there and fixed in the released networks: here both follow
    ``learned``).  ``at_once``: the skips' features are scaled by constants (0.01 for pool4, 0.0001
    for pool3), with which all three streams can be trained from the start.  ``padding``: of the
    first convolution; ``fc6``: that layer's kernel.  ``norm``: a name in ``cnncore.nn.norm.NORMS``,
    behind every convolution of the blocks; ``batch_norm`` is ``"batch"``.
    """

    def __init__(
        self,
        num_classes: int = 21,
        in_channels: int = 3,
        stride: int = 8,
        learned: bool = False,
        at_once: bool = False,
        widths: Sequence[int] = WIDTHS,
        dense: int = 4096,
        fc6: int = 7,
        padding: int = 100,
        batch_norm: bool = False,
        dropout: float = 0.5,
        norm: str | None = None,
    ) -> None:
        norm = "batch" if batch_norm and norm is None else norm
        if stride not in (8, 16, 32):
            raise ArgumentError("stride", "8, 16 or 32", stride)
        self.num_classes, self.stride = num_classes, stride
        self.places: dict[str, Place] = {}
        place, channels = Place(), in_channels
        for block, (width, count) in enumerate(zip(widths, DEPTHS[16], strict=True), 1):
            for i in range(1, count + 1):
                pad = padding if (block, i) == (1, 1) else 1
                conv = Conv2d(channels, width, 3, padding=pad, bias=norm is None)
                setattr(self, f"conv{block}_{i}", conv)
                if norm is not None:
                    setattr(self, f"bn{block}_{i}", norm_layer(norm, width))
                place, channels = place.window(3, 1, pad), width
            place = place.window(2, 2, 0)
            self.places[f"pool{block}"] = place
        self.blocks, self.normed = DEPTHS[16], norm is not None
        self.fc6 = Conv2d(channels, dense, fc6)
        self.fc7 = Conv2d(dense, dense, 1)
        self.drop = Dropout(dropout)
        place = place.window(fc6, 1, 0)
        initialise_for_relu(self)
        self.score_fr = zero_score(dense, num_classes)
        self.crops: dict[str, int] = {}
        for pool in (4, 3):
            if stride > 2**pool:
                break
            up = "upscore2" if pool == 4 else "upscore_pool4"
            setattr(self, up, bilinear_upsampling(num_classes, 2, learned))
            if at_once:
                scale = 0.01 if pool == 4 else 0.0001
                setattr(self, f"scale_pool{pool}", Buffer([scale] * widths[pool - 1]))
            setattr(self, f"score_pool{pool}", zero_score(widths[pool - 1], num_classes))
            place = place.enlarged(4, 2)
            self.crops[f"pool{pool}"] = self.places[f"pool{pool}"].offset_of(place)
        last = "upscore" if stride == 32 else f"upscore{stride}"
        setattr(self, last, bilinear_upsampling(num_classes, stride, learned))
        self.upscore_last = last
        self.crops["score"] = place.enlarged(2 * stride, stride).offset_of(Place())
        self.at_once = at_once

    def features(self, x: Any) -> dict[str, Tensor]:
        """``pool3``, ``pool4`` and ``fc7``."""
        found: dict[str, Tensor] = {}
        for block, count in enumerate(self.blocks, 1):
            for i in range(1, count + 1):
                x = getattr(self, f"conv{block}_{i}")(x)
                if self.normed:
                    x = getattr(self, f"bn{block}_{i}")(x)
                x = ops.relu(x)
            x = ops.max_pool2d(x, 2, 2, ceil_mode=True)
            if block in BLOCKS:
                found[f"pool{block}"] = x
        x = self.drop(ops.relu(self.fc6(x)))
        found["fc7"] = self.drop(ops.relu(self.fc7(x)))
        return found

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, K, H, W)``"""
        size = x.shape[2:]
        features = self.features(x)
        score: Tensor = self.score_fr(features["fc7"])
        for pool in (4, 3):
            if self.stride > 2**pool:
                break
            up: Tensor = getattr(self, "upscore2" if pool == 4 else "upscore_pool4")(score)
            skip = features[f"pool{pool}"]
            if self.at_once:
                skip = skip * ops.reshape(getattr(self, f"scale_pool{pool}"), 1, -1, 1, 1)
            skip = getattr(self, f"score_pool{pool}")(skip)
            offset = self.crops[f"pool{pool}"]
            score = up + cropped(skip, offset, offset, up.shape[2:])
        offset = self.crops["score"]
        return cropped(getattr(self, self.upscore_last)(score), offset, offset, size)

    def continue_from(self, coarser: Module) -> None:
        """Take the weights of a trained network of a coarser stride; new skips stay at zero.

        The staged training of section 4.2: 32 -> 16 -> 8, each with a lower learning rate.  The
        upsamplings are not taken: their factors differ.
        """
        taken = {k: v for k, v in coarser.state_dict().items() if not k.startswith("upscore")}
        self.load_state_dict(taken, allow=["upscore*", "scale_pool*", "score_pool*"])


class FCNAlexNet(Segmenter):
    """FCN-32s on AlexNet (CaffeNet's order: pooling before normalisation).

    ``widths`` are those of the five convolutions; the other arguments are ``FCN``'s.  A norm takes
    the place of the local response norm.
    """

    def __init__(
        self,
        num_classes: int = 21,
        learned: bool = False,
        widths: Sequence[int] = (96, 256, 384, 384, 256),
        dense: int = 4096,
        fc6: int = 6,
        padding: int = 100,
        batch_norm: bool = False,
        dropout: float = 0.5,
        norm: str | None = None,
    ) -> None:
        norm = "batch" if batch_norm and norm is None else norm
        self.num_classes, self.normed = num_classes, norm is not None
        one, two, three, four, five = widths
        self.conv1 = Conv2d(3, one, 11, 4, padding)
        self.conv2 = Conv2d(one, two, 5, padding=2, groups=2)
        self.conv3 = Conv2d(two, three, 3, padding=1)
        self.conv4 = Conv2d(three, four, 3, padding=1, groups=2)
        self.conv5 = Conv2d(four, five, 3, padding=1, groups=2)
        if norm is not None:
            for number, width in enumerate(widths, 1):
                setattr(self, f"bn{number}", norm_layer(norm, width))
        self.fc6 = Conv2d(five, dense, fc6)
        self.fc7 = Conv2d(dense, dense, 1)
        self.drop = Dropout(dropout)
        initialise_for_relu(self)
        self.score_fr = zero_score(dense, num_classes)
        self.upscore = ConvTranspose2d(num_classes, num_classes, 63, 32, bias=False)
        init.bilinear_(self.upscore.weight)
        self.upscore.weight.requires_grad = learned
        place = Place().window(11, 4, padding)
        for kernel, stride, pad in ((3, 2, 0), (5, 1, 2), (3, 2, 0), (3, 2, 0), (fc6, 1, 0)):
            place = place.window(kernel, stride, pad)
        self.crop = place.enlarged(63, 32).offset_of(Place())

    def _layer(self, number: int, x: Any) -> Tensor:
        """Convolution, batch norm where there is one, ReLU."""
        x = getattr(self, f"conv{number}")(x)
        if self.normed:
            return activated(getattr(self, f"bn{number}"), ops.relu, x)
        return ops.relu(x)

    def forward(self, x: Any) -> Tensor:
        """``(N, 3, H, W) -> (N, K, H, W)``"""
        size = x.shape[2:]
        for number in (1, 2):
            x = ops.max_pool2d(self._layer(number, x), 3, 2, ceil_mode=True)
            if not self.normed:
                x = ops.local_response_norm(x, 5, 1e-4, 0.75, 1.0)
        x = self._layer(5, self._layer(4, self._layer(3, x)))
        x = ops.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.drop(ops.relu(self.fc6(x)))
        x = self.score_fr(self.drop(ops.relu(self.fc7(x))))
        return cropped(self.upscore(x), self.crop, self.crop, size)
