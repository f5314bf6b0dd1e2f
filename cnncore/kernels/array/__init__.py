"""The plain implementation of every kernel: vectorised, one source for NumPy and CuPy.

This is the version to study.  It is also what runs where no compiler was available, and the only
one that serves CuPy arrays where the CUDA kernels were not built.  The array module is found from
the arguments (``modules.array_module``), so nothing here says which of the two is at work.
"""

from __future__ import annotations

from cnncore.kernels.array.activation import pointwise
from cnncore.kernels.array.boxes import box_iou, nms
from cnncore.kernels.array.convolution import (
    col2im,
    conv2d,
    conv2d_weight,
    conv_transpose2d,
    im2col,
    matmul,
)
from cnncore.kernels.array.elementwise import put_add, take, ufunc
from cnncore.kernels.array.optimiser import adam_update, sgd_update
from cnncore.kernels.array.pooling import (
    bin_max,
    gather,
    max_pool2d,
    region_gather,
    region_scatter,
    scatter_add,
)
from cnncore.kernels.array.rows import (
    normalize,
    normalize_backward,
    reduce_max,
    reduce_sum,
    row_linear,
    row_linear2,
    row_moments,
    row_products,
    softmax,
    softmax_backward,
)
from cnncore.kernels.array.sampling import resample, resample_adjoint

AVAILABLE = True
REASON = ""
# On a device CuPy adds what meets in one place in the order of arrival.
NONDETERMINISTIC = {
    "put_add": "cupy.add.at adds by atomics",
    "scatter_add": "cupy.bincount adds by atomics",
}

__all__ = [
    "AVAILABLE",
    "NONDETERMINISTIC",
    "REASON",
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
