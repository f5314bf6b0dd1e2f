"""Refusals, in words.  Every kernel of the contract is checked here before any backend sees it.

One function per kernel with the kernel's signature.  It raises an ``ArgumentError`` that names the
argument, or returns whether the arrays live on a device.  What passes here cannot make a backend
read or write outside its arrays.  Foreign byte order and strides pass: backends convert them.
"""

from __future__ import annotations

from cnncore.kernels.checks.boxes import (
    adam_update,
    box_iou,
    nms,
    sgd_update,
)
from cnncore.kernels.checks.convolution import (
    col2im,
    conv2d,
    conv2d_weight,
    conv_transpose2d,
    im2col,
    matmul,
)
from cnncore.kernels.checks.rows import (
    POINTWISE,
    normalize,
    normalize_backward,
    pointwise,
    put_add,
    reduce_max,
    reduce_sum,
    row_linear,
    row_linear2,
    row_moments,
    row_products,
    softmax,
    softmax_backward,
    take,
    ufunc,
)
from cnncore.kernels.checks.sampling import (
    bin_max,
    gather,
    max_pool2d,
    region_gather,
    region_scatter,
    resample,
    resample_adjoint,
    scatter_add,
)

__all__ = [
    "POINTWISE",
    "adam_update",
    "bin_max",
    "box_iou",
    "col2im",
    "conv2d",
    "conv2d_weight",
    "conv_transpose2d",
    "gather",
    "im2col",
    "matmul",
    "max_pool2d",
    "nms",
    "normalize",
    "normalize_backward",
    "pointwise",
    "put_add",
    "reduce_max",
    "reduce_sum",
    "region_gather",
    "region_scatter",
    "resample",
    "resample_adjoint",
    "row_linear",
    "row_linear2",
    "row_moments",
    "row_products",
    "scatter_add",
    "sgd_update",
    "softmax",
    "softmax_backward",
    "take",
    "ufunc",
]
