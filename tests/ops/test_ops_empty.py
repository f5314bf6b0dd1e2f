"""A batch without images (or without boxes) goes forward and backward through every op and loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnncore import ops, tensor
from cnncore.autograd import Tensor

PLANES = (0, 4, 6, 6)
ROIS = np.zeros((0, 5))
WEIGHT = np.ones((4, 2, 3, 3))
SOME = np.zeros((2, 4, 6, 6))  # images, but no box
LABELS = np.zeros((0, 6, 6), np.int64)

CASES: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Any]]] = {
    "conv2d": (PLANES, lambda x: ops.conv2d(x, WEIGHT, np.ones(4), 2, 1, groups=2)),
    "conv_transpose2d": (PLANES, lambda x: ops.conv_transpose2d(x, WEIGHT, None, 2, groups=2)),
    "unfold": (PLANES, lambda x: ops.unfold(x, 3)),
    "fold": ((0, 16, 25), lambda x: ops.fold(x, (6, 6), 2)),
    "max_pool2d": (PLANES, lambda x: ops.max_pool2d(x, 2)),
    "avg_pool2d": (PLANES, lambda x: ops.avg_pool2d(x, 3, 2, 1)),
    "adaptive_avg_pool2d": (PLANES, lambda x: ops.adaptive_avg_pool2d(x, 2)),
    "adaptive_max_pool2d": (PLANES, lambda x: ops.adaptive_max_pool2d(x, 2)),
    "max_unpool2d": (PLANES, lambda x: ops.max_unpool2d(x, np.zeros(PLANES, np.int64), 2)),
    "unpool_nearest": (PLANES, lambda x: ops.unpool_nearest(x, 2)),
    "unpool_bed_of_nails": (PLANES, lambda x: ops.unpool_bed_of_nails(x, 2)),
    "interpolate": (PLANES, lambda x: ops.interpolate(x, scale_factor=2, mode="bilinear")),
    "roi_pool": (PLANES, lambda x: ops.roi_pool(x, ROIS, 2)),
    "roi_align": (PLANES, lambda x: ops.roi_align(x, [], 2)),
    "ps_roi_pool": (PLANES, lambda x: ops.ps_roi_pool(x, ROIS, 2)),
    "ps_roi_align": (PLANES, lambda x: ops.ps_roi_align(x, ROIS, 2)),
    "crop_and_resize": (PLANES, lambda x: ops.crop_and_resize(x, ROIS, 2)),
    "batch_norm": (
        PLANES,
        lambda x: ops.batch_norm(x, np.zeros(4), np.ones(4), np.ones(4), np.zeros(4)),
    ),
    "layer_norm": (PLANES, lambda x: ops.layer_norm(x, (6, 6))),
    "group_norm": (PLANES, lambda x: ops.group_norm(x, 2)),
    "instance_norm": (PLANES, lambda x: ops.instance_norm(x)),
    "local_response_norm": (PLANES, lambda x: ops.local_response_norm(x, 3)),
    "linear": ((0, 4), lambda x: ops.linear(x, np.ones((3, 4)), np.ones(3))),
    "matmul": ((0, 4, 5), lambda x: ops.matmul(x, np.ones((5, 2)))),
    "prelu": (PLANES, lambda x: ops.prelu(x, np.full(4, 0.1))),
    "dropout": (PLANES, lambda x: ops.dropout(x, 0.5, True)),
    "pad": (PLANES, lambda x: ops.pad(x, (1, 1, 2, 2), "reflect")),
    "softmax": (PLANES, lambda x: ops.softmax(x, 1)),
    "log_softmax": (PLANES, lambda x: ops.log_softmax(x, 1)),
    "logsumexp": (PLANES, lambda x: ops.logsumexp(x, 1)),
    "sum": (PLANES, lambda x: ops.sum(x, (0, 2))),
    "mean": (PLANES, lambda x: ops.mean(x, (2, 3))),
    "var": (PLANES, lambda x: ops.var(x, (2, 3))),
    "std": (PLANES, lambda x: ops.std(x, (2, 3))),
    "amax": (PLANES, lambda x: ops.amax(x, 1)),
    "amin": (PLANES, lambda x: ops.amin(x, 1)),
    "cat": (PLANES, lambda x: ops.cat([x, x], 1)),
    "stack": (PLANES, lambda x: ops.stack([x, x], 1)),
    "split": (PLANES, lambda x: ops.split(x, 2, 1)[0]),
    "chunk": (PLANES, lambda x: ops.chunk(x, 2, 1)[1]),
    "reshape": (PLANES, lambda x: ops.reshape(x, (0, 144))),
    "flatten": (PLANES, lambda x: ops.flatten(x, 1)),
    "transpose": (PLANES, lambda x: ops.transpose(x, 1, 2)),
    "permute": (PLANES, lambda x: ops.permute(x, (0, 2, 3, 1))),
    "getitem": (PLANES, lambda x: x[:, [0, 0, 3]]),
    "expand": ((0, 1, 3), lambda x: ops.expand(x, (0, 5, 3))),
    "squeeze": ((0, 1, 3), lambda x: ops.squeeze(x, 1)),
    "unsqueeze": (PLANES, lambda x: ops.unsqueeze(x, 0)),
    "flip": (PLANES, lambda x: ops.flip(x, (2,))),
    "where": (PLANES, lambda x: ops.where(np.zeros(PLANES, bool), x, 0.0)),
    "clamp": (PLANES, lambda x: ops.clamp(x, 0.0, 1.0)),
    "to": (PLANES, lambda x: ops.to(x, np.float32)),
    "pow": (PLANES, lambda x: ops.pow(x, 2.0)),
    "cross_entropy": (PLANES, lambda x: ops.cross_entropy(x, LABELS, label_smoothing=0.1)),
    "nll_loss": (PLANES, lambda x: ops.nll_loss(x, LABELS)),
    "binary_cross_entropy": (
        PLANES,
        lambda x: ops.binary_cross_entropy(ops.sigmoid(x), np.zeros(PLANES)),
    ),
    "dice_loss": (PLANES, lambda x: ops.dice_loss(ops.softmax(x, 1), LABELS)),
    "jaccard_loss": (PLANES, lambda x: ops.jaccard_loss(ops.softmax(x, 1), LABELS)),
    "bce_dice_loss": (PLANES, lambda x: ops.bce_dice_loss(ops.sigmoid(x), np.zeros(PLANES))),
    "bce_jaccard_loss": (PLANES, lambda x: ops.bce_jaccard_loss(ops.sigmoid(x), np.zeros(PLANES))),
    "lovasz_softmax": (PLANES, lambda x: ops.lovasz_softmax(ops.softmax(x, 1), LABELS)),
    "lovasz_hinge": ((0, 6, 6), lambda x: ops.lovasz_hinge(x, LABELS)),
    **{
        name: (PLANES, lambda x, name=name: getattr(ops, name)(x, np.zeros(PLANES)))
        for name in (
            "binary_cross_entropy_with_logits", "l1_loss", "mse_loss", "smooth_l1_loss",
            "sigmoid_focal_loss", "add", "sub", "maximum", "minimum",
        )
    },
    **{
        name: (PLANES, lambda x, name=name: getattr(ops, name)(x, np.ones(PLANES)))
        for name in ("mul", "div")
    },
    **{
        name: (PLANES, getattr(ops, name))
        for name in (
            "abs", "celu", "cos", "elu", "exp", "gelu", "hardsigmoid", "hardswish", "hardtanh",
            "leaky_relu", "log", "log_sigmoid", "mish", "neg", "relu", "relu6", "selu", "sigmoid",
            "silu", "sin", "softplus", "softsign", "sqrt", "tanh",
        )
    },
}  # fmt: skip
# Not differentiable, not an op, or another name of one above.
OTHERS = {"LinearMap", "col2im", "eq", "ge", "gt", "im2col", "le", "lt", "manual_seed"}


def test_every_op_has_a_case() -> None:
    assert set(CASES) | OTHERS == set(ops.__all__)


@pytest.mark.parametrize("name", CASES)
def test_nothing_goes_through(name: str) -> None:
    shape, fn = CASES[name]
    x = tensor(np.zeros(shape), requires_grad=True)
    y = fn(x)
    assert np.isfinite(y.numpy()).all()
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == shape


@pytest.mark.parametrize(
    "name", ["roi_pool", "roi_align", "ps_roi_pool", "ps_roi_align", "crop_and_resize"]
)
def test_images_without_boxes(name: str) -> None:
    x = tensor(SOME, requires_grad=True)
    y = getattr(ops, name)(x, ROIS, 2)
    assert y.shape[0] == 0
    y.sum().backward()
    assert x.grad is not None
    assert not x.grad.numpy().any()
