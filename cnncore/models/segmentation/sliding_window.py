"""A patch classifier that is asked about the neighbourhood of every pixel: before everything else.

    patch 24 ─ conv ─ conv ─ pool ─ conv ─ conv ─ pool ─ 3×3 ─ dense ─ dense ─ class of its middle
              22     20     10     8      6      3

No layer pads, so the classifier with its dense layers as convolutions gives exactly its answers,
one every four pixels; the same on the image shifted by 0 … 3 pixels each way gives the others
(shift and stitch).  ``models.to_fully_convolutional`` makes the same network of any classifier;
here both share their parameters, so either may be trained.

Letters: ``N C H W`` images, ``K`` classes, ``S`` side of a patch, ``s`` stride of the network.

Source: Ciresan et al., "Deep neural networks segment neuronal membranes in electron microscopy
images", 2012, section 2 (a patch for every pixel, mirrored beyond the image's edge); Long,
Shelhamer & Darrell, "Fully convolutional networks for semantic segmentation", 2015, sections 3.1
and 3.2 (the conversion; shift and stitch).
Differences: small patches and few layers; ReLU and batch norm, which the paper of 2012 has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.models.classification.blocks import initialise_for_relu
from cnncore.models.segmentation.segmenter import Segmenter, cropped
from cnncore.nn import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential


class SlidingWindow(Segmenter):
    """``classifier`` takes patches ``(N, C, S, S)``; the network as a whole takes images.

    ``widths``: channels of the four convolutions; ``dense``: of the layer behind them.
    ``patches`` cuts out what to train ``classifier`` on.
    """

    side, stride = 24, 4
    before = side // 2  # pixels of a patch before its middle
    last = 3  # side of the map that the first dense layer reads

    def __init__(
        self,
        num_classes: int = 2,
        in_channels: int = 3,
        widths: Sequence[int] = (32, 32, 64, 64),
        dense: int = 128,
    ) -> None:
        self.num_classes, self.in_channels = num_classes, in_channels
        layers: list[Module] = []
        channels = in_channels
        for i, width in enumerate(widths):
            layers += [Conv2d(channels, width, 3, bias=False), BatchNorm2d(width), ReLU()]
            layers += [MaxPool2d(2)] if i % 2 else []
            channels = width
        head = [
            Flatten(),
            Linear(channels * self.last**2, dense),
            ReLU(),
            Linear(dense, num_classes),
        ]
        self.classifier = Sequential(*layers, *head)
        initialise_for_relu(self)

    def patches(self, x: Any, places: Any) -> Tensor:
        """The patches ``(R, C, S, S)`` whose middles are ``places (R, 3)``: image, row, column."""
        side = self.side
        framed = self._framed(x, side - self.before - 1, side - self.before - 1)
        return ops.cat([framed[n : n + 1, :, i : i + side, j : j + side] for n, i, j in places])

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, K, H, W)``: the classifier's answer for every pixel's patch.

        H and W at least 15, for mirroring.
        """
        height, width = x.shape[2:]
        s = self.stride
        rows, columns = -(-height // s), -(-width // s)  # answers of one pass
        beyond = self.side - self.before - 1
        framed = self._framed(x, s * rows - height + beyond, s * columns - width + beyond)
        more = self.side - s  # what the last answer sees more than its own s pixels
        passes = [
            self._dense(framed[:, :, i : i + s * rows + more, j : j + s * columns + more])
            for i in range(s)
            for j in range(s)
        ]
        k = self.num_classes
        answers = ops.reshape(ops.stack(passes, 2), -1, k, s, s, rows, columns)
        whole = ops.reshape(ops.permute(answers, (0, 1, 4, 2, 5, 3)), -1, k, s * rows, s * columns)
        return cropped(whole, 0, 0, (height, width))

    def _dense(self, x: Any) -> Tensor:
        """The classifier's answer for every window that begins at a multiple of the stride."""
        kernel = self.last
        for layer in self.classifier:
            if isinstance(layer, Linear):
                weight = ops.reshape(layer.weight, layer.out_features, -1, kernel, kernel)
                x, kernel = ops.conv2d(x, weight, layer.bias), 1
            elif not isinstance(layer, Flatten):
                x = layer(x)
        return x  # type: ignore[no-any-return]

    def _framed(self, x: Any, below: int, right: int) -> Tensor:
        """Mirrored pixels around the images, as many above and left as a patch has there."""
        frame = (self.before, right, self.before, below)
        framed: Tensor = ops.pad(x, frame, "reflect")
        return framed
