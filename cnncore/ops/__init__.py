"""Layer 3: the differentiable operations, one file a family.

Arguments are checked here, once, in words; a backward pass is written with ops, so every op can be
differentiated twice.  Names, argument order and meaning are those of ``torch.nn.functional`` and
``torchvision.ops`` wherever these have an equivalent.
"""

from __future__ import annotations

from cnncore.autograd import OPERATORS
from cnncore.ops.activation import (
    celu,
    dropout,
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    manual_seed,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    tanh,
)
from cnncore.ops.conv import col2im, conv2d, conv_transpose2d, fold, im2col, unfold
from cnncore.ops.elementwise import (
    abs,
    add,
    clamp,
    cos,
    div,
    eq,
    exp,
    ge,
    gt,
    le,
    log,
    lt,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    sin,
    sqrt,
    sub,
    to,
    where,
)
from cnncore.ops.linalg import linear, matmul
from cnncore.ops.linear import LinearMap
from cnncore.ops.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    l1_loss,
    mse_loss,
    nll_loss,
    sigmoid_focal_loss,
    smooth_l1_loss,
)
from cnncore.ops.loss_segmentation import (
    bce_dice_loss,
    bce_jaccard_loss,
    dice_loss,
    jaccard_loss,
    lovasz_hinge,
    lovasz_softmax,
)
from cnncore.ops.norm import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
)
from cnncore.ops.pad import pad
from cnncore.ops.pool import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d
from cnncore.ops.reduce import amax, amin, logsumexp, mean, std, sum, var
from cnncore.ops.resample import interpolate
from cnncore.ops.roi import crop_and_resize, ps_roi_align, ps_roi_pool, roi_align, roi_pool
from cnncore.ops.shape import (
    cat,
    chunk,
    expand,
    flatten,
    flip,
    getitem,
    permute,
    reshape,
    split,
    squeeze,
    stack,
    transpose,
    unsqueeze,
)
from cnncore.ops.unpool import max_unpool2d, unpool_bed_of_nails, unpool_nearest

# What tensors' operators and methods do (``cnncore.autograd`` lies below and cannot import it).
_METHODS = (
    abs, add, amax, amin, clamp, cos, div, exp, expand, flatten, flip, ge, getitem, gt, le, log, lt,
    matmul, maximum, mean, minimum, mul, neg, permute, pow, reshape, sin, sqrt, squeeze, std, sub,
    sum, to, transpose, unsqueeze, var,
)  # fmt: skip
OPERATORS.update({op.__name__: op for op in _METHODS})

__all__ = [
    "LinearMap", "abs", "adaptive_avg_pool2d", "adaptive_max_pool2d", "add", "amax", "amin",
    "avg_pool2d", "batch_norm", "bce_dice_loss", "bce_jaccard_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "cat", "celu", "chunk", "clamp", "col2im", "conv2d",
    "conv_transpose2d", "cos", "crop_and_resize", "cross_entropy", "dice_loss", "div", "dropout",
    "elu", "eq", "exp", "expand", "flatten", "flip", "fold", "ge", "gelu", "getitem", "group_norm",
    "gt", "hardsigmoid", "hardswish", "hardtanh", "im2col", "instance_norm", "interpolate",
    "jaccard_loss", "l1_loss", "layer_norm", "le", "leaky_relu", "linear", "local_response_norm",
    "log", "log_sigmoid", "log_softmax", "logsumexp", "lovasz_hinge", "lovasz_softmax", "lt",
    "manual_seed", "matmul", "max_pool2d", "max_unpool2d", "maximum", "mean", "minimum", "mish",
    "mse_loss", "mul", "neg", "nll_loss", "pad", "permute", "pow", "prelu", "ps_roi_align",
    "ps_roi_pool", "relu", "relu6", "reshape", "roi_align", "roi_pool", "selu", "sigmoid",
    "sigmoid_focal_loss", "silu", "sin", "smooth_l1_loss", "softmax", "softplus", "softsign",
    "split", "sqrt", "squeeze", "stack", "std", "sub", "sum", "tanh", "to", "transpose", "unfold",
    "unpool_bed_of_nails", "unpool_nearest", "unsqueeze", "var", "where",
]  # fmt: skip
