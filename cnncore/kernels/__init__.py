"""Layer 1: plain functions on arrays.  ``contract.py`` says what each means."""

from __future__ import annotations

from cnncore.kernels import contract
from cnncore.kernels.dispatch import dispatched as _dispatched

matmul = _dispatched(contract.matmul)
im2col = _dispatched(contract.im2col)
col2im = _dispatched(contract.col2im)
conv2d = _dispatched(contract.conv2d)
conv_transpose2d = _dispatched(contract.conv_transpose2d)
conv2d_weight = _dispatched(contract.conv2d_weight)
max_pool2d = _dispatched(contract.max_pool2d)
bin_max = _dispatched(contract.bin_max)
gather = _dispatched(contract.gather)
scatter_add = _dispatched(contract.scatter_add)
region_gather = _dispatched(contract.region_gather)
region_scatter = _dispatched(contract.region_scatter)
resample = _dispatched(contract.resample)
resample_adjoint = _dispatched(contract.resample_adjoint)
row_moments = _dispatched(contract.row_moments)
row_products = _dispatched(contract.row_products)
row_linear = _dispatched(contract.row_linear)
row_linear2 = _dispatched(contract.row_linear2)
normalize = _dispatched(contract.normalize)
normalize_backward = _dispatched(contract.normalize_backward)
pointwise = _dispatched(contract.pointwise)
ufunc = _dispatched(contract.ufunc)
reduce_sum = _dispatched(contract.reduce_sum)
reduce_max = _dispatched(contract.reduce_max)
softmax_backward = _dispatched(contract.softmax_backward)
softmax = _dispatched(contract.softmax)
box_iou = _dispatched(contract.box_iou)
nms = _dispatched(contract.nms)
sgd_update = _dispatched(contract.sgd_update)
adam_update = _dispatched(contract.adam_update)
take = _dispatched(contract.take)
put_add = _dispatched(contract.put_add)
