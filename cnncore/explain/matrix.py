"""A linear layer as the matrix that it is, drawn beside its transpose.

Letters: ``C H W`` input, ``O`` output channels, ``OH OW`` output plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore import kernels
from cnncore.errors import ArgumentError, require
from cnncore.geometry import Pair, Window2d, checked_size
from cnncore.ops.linear import LinearMap

MAX_ENTRIES = 4_000_000  # a picture, not a way to compute


@dataclass(frozen=True)
class ConvolutionMatrix:
    """``A`` with ``conv2d(x, weight).ravel() = A @ x.ravel()``, and what it maps between.

    ``matrix`` is ``(O·OH·OW, C·H·W)``; its transpose is the matrix of ``conv_transpose2d``.
    """

    matrix: np.ndarray[Any, Any]
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]

    @property
    def sharing(self) -> str:
        """Connections and distinct weights in words: the two ideas of a convolutional layer."""
        filled = int(np.count_nonzero(self.matrix))
        distinct = len(np.unique(self.matrix[self.matrix != 0]))
        return (
            f"{self.matrix.shape[0]}×{self.matrix.shape[1]} matrix, {filled} of {self.matrix.size} "
            f"entries are not zero ({filled / self.matrix.size:.1%}), {distinct} distinct values"
        )


def conv_map(weight: Any, window: Window2d, size: Pair, groups: int = 1) -> LinearMap:
    """The pair (convolution, transposed convolution) of fixed weights on planes of ``size``."""
    return LinearMap(
        "Conv2d",
        "ConvTranspose2d",
        lambda x: kernels.conv2d(x, weight, None, window, groups),
        lambda y: kernels.conv_transpose2d(y, weight, None, size, window, groups),
    )


def convolution_matrix(
    weight: Any,
    input_size: Pair,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> ConvolutionMatrix:
    """Write out the matrix of a convolution on one image of ``input_size = (H, W)``.

    >>> A = convolution_matrix(np.ones((1, 1, 1, 2)), (1, 3))
    >>> A.matrix
    array([[1., 1., 0.],
           [0., 1., 1.]])
    """
    weight = np.asarray(weight)
    window = Window2d.make(weight.shape[2:], stride, padding, dilation)
    oh, ow = window.output_size(input_size)
    channels = weight.shape[1] * groups
    shape = (channels, *input_size)
    rows, columns = weight.shape[0] * oh * ow, checked_size("input_size", *shape)
    if rows * columns > MAX_ENTRIES:
        raise ArgumentError(
            "input_size",
            f"a matrix of at most {MAX_ENTRIES:,} entries",
            f"{rows}×{columns}",
            "a smaller plane",
        )
    matrix = conv_map(weight, window, input_size, groups).matrix((1, *shape), weight.dtype)
    return ConvolutionMatrix(matrix, shape, (weight.shape[0], oh, ow))


def draw_matrix_pair(pair: ConvolutionMatrix, title: str = "") -> Any:
    """``A`` beside ``Aᵀ`` as a matplotlib figure, equal weights in equal colours."""
    plt = require("matplotlib.pyplot", "vision")
    rows, columns = pair.matrix.shape
    figure, axes = plt.subplots(
        1, 2, figsize=(12, 6), layout="constrained", width_ratios=(columns, rows)
    )
    limit = float(np.abs(pair.matrix).max()) or 1.0
    sides = (
        ("A: convolution", pair.matrix, "input pixel (c, h, w)", "output pixel (o, i, j)"),
        (
            "Aᵀ: transposed convolution",
            pair.matrix.T,
            "output pixel (o, i, j)",
            "input pixel (c, h, w)",
        ),
    )
    for axis, (name, matrix, across, down) in zip(axes, sides, strict=True):
        shown = np.where(matrix == 0, np.nan, matrix)
        image = axis.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axis.set(title=f"{name}  ({matrix.shape[0]}×{matrix.shape[1]})", xlabel=across, ylabel=down)
        axis.set_facecolor("0.95")
    figure.colorbar(image, ax=axes, label="weight", shrink=0.8)
    if title:
        figure.suptitle(title)
    return figure
