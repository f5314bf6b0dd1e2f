"""DeconvNet: a whole classifier down to one pixel, and its mirror image back to the picture.

    x ─ VGG-16 ─ fc6 ─ fc7 ─ fc6-deconv ─ unpool ─ deconv… ─ unpool ─ … ─ 1×1
                                             switches of the poolings

Letters: ``N C H W`` images (224×224 give a middle of one pixel; other sizes a map), ``K`` classes.

Source: Noh, Hong & Han, "Learning deconvolution network for semantic segmentation", 2015, section 3
and table 2; layer names as in the authors' published network, with ``-`` written ``_``.  Batch norm
follows every convolution and transposed convolution, whose biases stay.
Differences: the paper trains on cropped objects first and merges proposals at the end; here it is a
network for whole images.  ``widths``, ``depths``, ``dense``, ``fc6`` and ``norm`` exist to train
small ones.
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
from cnncore.nn import Conv2d, ConvTranspose2d, norm_layer


class DeconvNet(Segmenter):
    """VGG-16 with its dense layers as convolutions, then everything backwards."""

    def __init__(
        self,
        num_classes: int = 21,
        in_channels: int = 3,
        widths: Sequence[int] = WIDTHS,
        dense: int = 4096,
        fc6: int = 7,
        depths: Sequence[int] = DEPTHS[16],
        upsampling: str = "switches",
        norm: str = "batch",
    ) -> None:
        self.num_classes, self.depths = num_classes, tuple(depths)
        channels = in_channels
        for block, (width, count) in enumerate(zip(widths, self.depths, strict=True), 1):
            for i in range(1, count + 1):
                setattr(self, f"conv{block}_{i}", Conv2d(channels, width, 3, padding=1))
                setattr(self, f"bn{block}_{i}", norm_layer(norm, width))
                channels = width
        self.fc6 = Conv2d(channels, dense, fc6)
        self.bnfc6 = norm_layer(norm, dense)
        self.fc7 = Conv2d(dense, dense, 1)
        self.bnfc7 = norm_layer(norm, dense)
        self.fc6_deconv = ConvTranspose2d(dense, channels, fc6)
        self.fc6_deconv_bn = norm_layer(norm, channels)
        for block in range(len(widths), 0, -1):
            setattr(self, f"unpool{block}", Upsampling(upsampling, channels))
            count = self.depths[block - 1]
            for i in range(1, count + 1):
                # The last of a block brings the channels to those of the next.
                out = widths[block - 2] if i == count and block > 1 else channels
                setattr(self, f"deconv{block}_{i}", ConvTranspose2d(channels, out, 3, padding=1))
                setattr(self, f"debn{block}_{i}", norm_layer(norm, out))
                channels = out
        self.seg_score = Conv2d(channels, num_classes, 1)
        initialise_for_relu(self)

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, K, H, W)``; H and W at least 32 times the kernel of fc6."""
        passed: list[tuple[Any, tuple[int, ...]]] = []
        for block, count in enumerate(self.depths, 1):
            for i in range(1, count + 1):
                x = getattr(self, f"bn{block}_{i}")(getattr(self, f"conv{block}_{i}")(x))
                x = ops.relu(x)
            size = x.shape[2:]
            x, switches = ops.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
            passed.append((switches, size))
        x = ops.relu(self.bnfc6(self.fc6(x)))
        x = ops.relu(self.bnfc7(self.fc7(x)))
        x = ops.relu(self.fc6_deconv_bn(self.fc6_deconv(x)))
        for block in range(len(self.depths), 0, -1):
            x = getattr(self, f"unpool{block}")(x, *passed.pop())
            for i in range(1, self.depths[block - 1] + 1):
                x = getattr(self, f"debn{block}_{i}")(getattr(self, f"deconv{block}_{i}")(x))
                x = ops.relu(x)
        logits: Tensor = self.seg_score(x)
        return logits
