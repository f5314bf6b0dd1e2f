"""The CUDA backend: compiled kernels for CuPy arrays.

What each kernel means stands in ``contract.py``.  A file a family: each function makes its
arguments contiguous, asks for room and calls the kernel of its name in ``_cuda``
(``runtime.call``).  A kernel that is not here runs through ``array``; ``dispatch`` records it.
"""

from __future__ import annotations

from cnncore.kernels.cuda.boxes import box_iou, nms
from cnncore.kernels.cuda.convolution import (
    col2im,
    conv2d,
    conv2d_weight,
    conv_transpose2d,
    im2col,
    matmul,
)
from cnncore.kernels.cuda.indexing import put_add
from cnncore.kernels.cuda.optim import adam_update, sgd_update
from cnncore.kernels.cuda.pointwise import pointwise
from cnncore.kernels.cuda.reduce import reduce_max, reduce_sum, softmax, softmax_backward
from cnncore.kernels.cuda.rows import (
    normalize,
    normalize_backward,
    row_linear,
    row_linear2,
    row_moments,
    row_products,
)
from cnncore.kernels.cuda.runtime import AVAILABLE, REASON, architectures
from cnncore.kernels.cuda.sampling import (
    bin_max,
    gather,
    max_pool2d,
    region_gather,
    region_scatter,
    resample,
    resample_adjoint,
    scatter_add,
)

# Kernels here that give other bits from run to run, each with the reason: none may run under
# ``cnncore.deterministic(True)``.
NONDETERMINISTIC: dict[str, str] = {}

__all__ = [
    "AVAILABLE",
    "NONDETERMINISTIC",
    "REASON",
    "adam_update",
    "architectures",
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
]
