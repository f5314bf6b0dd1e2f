"""ZFNet: AlexNet after its authors had looked inside, with a smaller and slower first layer.

    conv1 7×7/2   pool  conv2 5×5/2  pool  conv3  conv4  conv5  pool  fc6   fc7   fc8
    96@110²       55²   256@26²      13²   384    384    256    6²    4096  4096  K

Source: Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", 2014, figure 3 and
section 3.1; the wider network is table 2's "(b)".  The sizes of figure 3 need a row of padding in
conv1 and pooling that rounds up.  Differences: contrast normalisation is local response
normalisation, as AlexNet's.  No weights are published.
"""

from __future__ import annotations

from cnncore.models.classification.alexnet import dense_layers
from cnncore.nn import Conv2d, LocalResponseNorm, MaxPool2d, Module, ReLU, Sequential


class ZFNet(Sequential):
    """``widths`` are the filters of layers 3 to 5; ``(512, 1024, 512)`` is the wider network."""

    def __init__(
        self, num_classes: int = 1000, widths: tuple[int, int, int] = (384, 384, 256)
    ) -> None:
        third, fourth, fifth = widths

        def pool() -> Module:
            return MaxPool2d(3, 2, ceil_mode=True)

        def norm() -> Module:
            return LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)

        super().__init__(
            {
                "conv1": Conv2d(3, 96, 7, 2, 1), "relu1": ReLU(), "pool1": pool(), "norm1": norm(),
                "conv2": Conv2d(96, 256, 5, 2), "relu2": ReLU(), "pool2": pool(), "norm2": norm(),
                "conv3": Conv2d(256, third, 3, 1, 1), "relu3": ReLU(),
                "conv4": Conv2d(third, fourth, 3, 1, 1), "relu4": ReLU(),
                "conv5": Conv2d(fourth, fifth, 3, 1, 1), "relu5": ReLU(), "pool5": pool(),
                **dense_layers(fifth * 6 * 6, num_classes),
            }
        )  # fmt: skip
