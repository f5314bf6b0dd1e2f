"""Losses."""

from __future__ import annotations

from typing import Any

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.onnx.node import Node
from cnncore.onnx.registry import operator

Array = Any

NOTHING = -(2**31)  # a label that stands for no class: nothing is ignored


@operator("NegativeLogLikelihoodLoss", arrays=(1, 2))
def _nll(node: Node, x: Tensor, target: Array, weight: Array | None = None) -> Tensor:
    ignored, reduction = node.get("ignore_index", NOTHING), node.get("reduction", "mean")
    return ops.nll_loss(x, target, weight, ignored, reduction)


@operator("SoftmaxCrossEntropyLoss", arrays=(1, 2))
def _softmax_cross_entropy(
    node: Node, scores: Tensor, target: Array, weight: Array | None = None
) -> tuple[Tensor, Tensor]:
    logs = ops.log_softmax(scores, 1)
    return _nll(node, logs, target, weight), logs
