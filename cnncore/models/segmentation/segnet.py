"""SegNet: an encoder that remembers where its maxima were, a decoder that puts values back there.

    x ─ conv… ─ pool ─ conv… ─ pool ─ …          (switches and sizes go across, features do not)
        y ─ conv… ─ unpool ─ conv… ─ unpool ─ …

The poolings round up (45 rows become 23), so the sizes to unpool to are remembered, not doubled.

Letters: ``N C H W`` images, ``K`` classes.

Source: Badrinarayanan, Kendall & Cipolla, "SegNet", 2017, section 3 and figure 2; layer names,
sizes and the basic variant as in the authors' published networks (segnet_train,
segnet_basic_train).
Differences: other ways up than by switches can be chosen (``upsampling``); ``widths``, ``depths``
and ``norm`` exist to train small ones.  Batch norm keeps running statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.models.classification.blocks import initialise_for_relu
from cnncore.models.classification.vgg import DEPTHS, WIDTHS
from cnncore.models.segmentation.segmenter import Segmenter
from cnncore.models.segmentation.upsampling import Upsampling
from cnncore.nn import Conv2d, activated, norm_layer


class SegNet(Segmenter):
    """VGG-16's convolutions with batch norm, and their mirror image."""

    def __init__(
        self,
        num_classes: int = 11,
        in_channels: int = 3,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS[16],
        upsampling: str = "switches",
        norm: str = "batch",
    ) -> None:
        self.num_classes, self.depths = num_classes, tuple(depths)
        channels = in_channels
        for block, (width, count) in enumerate(zip(widths, depths, strict=True), 1):
            for i in range(1, count + 1):
                setattr(self, f"conv{block}_{i}", Conv2d(channels, width, 3, padding=1))
                setattr(self, f"conv{block}_{i}_bn", norm_layer(norm, width))
                channels = width
        for block in range(len(widths), 0, -1):
            setattr(self, f"upsample{block}", Upsampling(upsampling, channels))
            for i in range(self.depths[block - 1], 0, -1):
                last = (block, i) == (1, 1)
                # The last convolution of a block brings the channels to those of the next.
                out = channels if i > 1 else num_classes if last else widths[block - 2]
                setattr(self, f"conv{block}_{i}_D", Conv2d(channels, out, 3, padding=1))
                if not last:
                    setattr(self, f"conv{block}_{i}_D_bn", norm_layer(norm, out))
                channels = out
        initialise_for_relu(self)

    def _layer(self, name: str, x: Any) -> Tensor:
        return activated(getattr(self, f"{name}_bn"), ops.relu, getattr(self, name)(x))

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, K, H, W)``"""
        passed: list[tuple[Any, tuple[int, ...]]] = []  # switches and size of each pooling
        for block, count in enumerate(self.depths, 1):
            for i in range(1, count + 1):
                x = self._layer(f"conv{block}_{i}", x)
            size = x.shape[2:]
            x, switches = ops.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
            passed.append((switches, size))
        for block in range(len(self.depths), 0, -1):
            x = getattr(self, f"upsample{block}")(x, *passed.pop())
            for i in range(self.depths[block - 1], 0, -1):
                name = f"conv{block}_{i}_D"
                x = getattr(self, name)(x) if (block, i) == (1, 1) else self._layer(name, x)
        logits: Tensor = x
        return logits


class SegNetBasic(Segmenter):
    """Four 7×7 convolutions of ``width`` channels down, four up without ReLU, one 1×1 to classes.

    The image is normalised across its channels first (local response norm), as published.
    """

    def __init__(
        self,
        num_classes: int = 11,
        in_channels: int = 3,
        width: int = 64,
        upsampling: str = "switches",
        norm: str = "batch",
    ) -> None:
        self.num_classes = num_classes
        for block in range(1, 5):
            channels = in_channels if block == 1 else width
            setattr(self, f"conv{block}", Conv2d(channels, width, 7, padding=3))
            setattr(self, f"conv{block}_bn", norm_layer(norm, width))
        for block in range(4, 0, -1):
            setattr(self, f"upsample{block}", Upsampling(upsampling, width))
            setattr(self, f"conv_decode{block}", Conv2d(width, width, 7, padding=3))
            setattr(self, f"conv_decode{block}_bn", norm_layer(norm, width))
        self.conv_classifier = Conv2d(width, num_classes, 1)
        initialise_for_relu(self)

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, K, H, W)``"""
        x = ops.local_response_norm(x, 5, 1e-4, 0.75, 1.0)
        passed: list[tuple[Any, tuple[int, ...]]] = []
        for block in range(1, 5):
            x = getattr(self, f"conv{block}")(x)
            x = activated(getattr(self, f"conv{block}_bn"), ops.relu, x)
            size = x.shape[2:]
            x, switches = ops.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
            passed.append((switches, size))
        for block in range(4, 0, -1):
            x = getattr(self, f"upsample{block}")(x, *passed.pop())
            x = getattr(self, f"conv_decode{block}_bn")(getattr(self, f"conv_decode{block}")(x))
        logits: Tensor = self.conv_classifier(x)
        return logits
