"""Losses: classification by index or probability, binary, regression, focal.

Targets may be arrays or tensors.  Where a mean would be taken over nothing (an empty batch, all
targets ignored), the loss is 0 with gradient 0: PyTorch gives NaN there, and one such batch would
poison every weight for good.  Losses of one segmentation map against another are next door, in
``loss_segmentation.py``.

Letters: ``N`` examples, ``K`` classes, ``…`` any further axes (a pixel is an example, too).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnncore import kernels
from cnncore.autograd import Function, Tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.kernels.dispatch import array_module
from cnncore.ops.activation import hardtanh, log_sigmoid, log_softmax, sigmoid
from cnncore.ops.arguments import as_array, as_tensor, float_tensor
from cnncore.ops.elementwise import abs, add, clamp, div, log, mul, neg, pow, sub, where
from cnncore.ops.linear import LinearMap, apply
from cnncore.ops.reduce import sum

Array = Any

REDUCTIONS = ("none", "mean", "sum")


def reduced(
    losses: Tensor, reduction: str, count: float | None = None, factor: float = 1.0
) -> Tensor:
    """``factor`` times one number (or all): the sum, or the sum over ``count`` (default: how many
    there are)."""
    if reduction not in REDUCTIONS:
        raise ArgumentError("reduction", f"one of {REDUCTIONS}", repr(reduction))
    if reduction == "mean":
        count = losses.size if count is None else count
        factor = factor / count if count else 0.0
    total = losses if reduction == "none" else sum(losses)
    return total if factor == 1 else mul(total, factor)


def float_target(target: Any, x: Tensor, argument: str = "target") -> Tensor:
    """A target of numbers with the shape of x, converted to its element type."""
    if not isinstance(target, Tensor):
        target = Tensor(as_array(argument, target, x.data, x.dtype))
    if target.shape != x.shape:
        raise ShapeError(
            argument, f"the shape of x {x.shape}", target.shape, "reshape, not broadcast"
        )
    return target if target.dtype == x.dtype else target.to(x.dtype)  # type: ignore[no-any-return]


def class_target(
    target: Any, x: Array, classes: int, shape: Any, ignore_index: int | None
) -> Array:
    """Class indices of ``shape``, checked; -1 where they are to be ignored."""
    labels = as_array("target", target, x, np.int64)
    if labels.shape != tuple(shape):
        raise ShapeError("target", f"class indices of shape {tuple(shape)}", labels.shape)
    xp = array_module(labels)
    ignored = xp.zeros(labels.shape, bool) if ignore_index is None else labels == ignore_index
    wrong = ~ignored & ((labels < 0) | (labels >= classes))
    if bool(wrong.any()):
        raise ArgumentError(
            "target",
            f"class indices in [0, {classes}) (or ignore_index={ignore_index})",
            int(labels[wrong][0]),
            "check the number of classes of the model",
        )
    return xp.where(ignored, -1, labels)


# --- classes --------------------------------------------------------------------------------------


def nll_loss(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """``−weight[t] · x[t]`` with x log-probabilities and t the class: the log-likelihood.

    Shapes: x ``(N, K, …)`` or ``(K,)``, target ``(N, …)`` or ``()``, weight ``(K,)``.  The mean
    divides by the sum of the weights of the targets that are not ignored; by none at all it is 0.
    Linear in x; keeps the indices.

    >>> from cnncore import tensor
    >>> nll_loss(tensor([[-0.5, -1.0]]), [1]).item()
    1.0
    """
    x = float_tensor("x", x)
    picked, shares = _picked(x, target, _class_weight(weight, x), ignore_index)
    return reduced(picked, reduction, float(shares.sum()), -1.0)


def _class_weight(weight: Any, x: Tensor) -> Array | None:
    if x.ndim == 0:
        raise ShapeError("x", "shape (N, K, …) or (K,)", x.shape)
    classes = x.shape[1] if x.ndim > 1 else x.shape[0]
    if classes == 0:
        raise ShapeError("x", "at least one class", x.shape)
    if weight is None:
        return None
    array = as_array("weight", weight, x.data, x.dtype)
    if array.shape != (classes,):
        raise ShapeError("weight", f"shape ({classes},), one for each class", array.shape)
    return array


def _picked(
    x: Tensor, target: Any, weight: Array | None, ignore_index: int
) -> tuple[Tensor, Array]:
    """``weight[t] · x[t]`` of every example (0 if ignored), and the weights."""
    batch = (1, *x.shape) if x.ndim == 1 else x.shape
    columns = batch[0], batch[1], math.prod(batch[2:])
    shape = () if x.ndim == 1 else (batch[0], *batch[2:])
    labels = class_target(target, x.data, batch[1], shape, ignore_index)
    shares = (labels >= 0).astype(x.dtype)
    picked = apply(_picking(labels, x.shape, columns), x)
    if weight is not None:
        shares = shares * weight[labels.clip(0)]
        picked = mul(picked, Tensor(shares))
    return picked, shares


def _picking(labels: Array, shape: tuple[int, ...], columns: tuple[int, int, int]) -> LinearMap:
    """From ``shape``, seen as ``columns`` (N, K, …), to the element of each column that its label
    names; 0 where it is -1."""
    index = labels.reshape(columns[0], 1, columns[2])
    return LinearMap(
        "Gather",
        "ScatterAdd",
        lambda x: kernels.gather(x.reshape(columns), index).reshape(labels.shape),
        lambda g: kernels.scatter_add(g.reshape(index.shape), index, columns[1]).reshape(shape),
        (index,),
    )


def cross_entropy(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """``−Σ_k q[k] · log softmax(x)[k]`` with q the target distribution: logits against classes.

    Shapes: x ``(N, K, …)`` or ``(K,)``; target either class indices ``(N, …)`` or ``()``, or
    probabilities with the shape of x; weight ``(K,)``.  ``label_smoothing`` s: q becomes
    ``(1 − s)·q + s/K``.  With indices the mean divides by the weights of the targets that are not
    ignored (by none at all it is 0); with probabilities by the number of examples, and
    ``ignore_index`` plays no part.  Keeps the log-probabilities and the indices.

    >>> from cnncore import tensor
    >>> cross_entropy(tensor([[0.0, 0.0]]), [1]).item()
    0.6931471824645996
    """
    x = float_tensor("x", x)
    class_weight = _class_weight(weight, x)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError("label_smoothing", "a number in [0, 1]", label_smoothing)
    axis = 1 if x.ndim > 1 else 0
    logs = log_softmax(x, axis)
    columns = (1, -1) + (1,) * (x.ndim - 2) if x.ndim > 1 else (-1,)
    values = as_tensor("target", target)
    if values.dtype.kind == "f" and values.shape == x.shape:
        q = float_target(target, x)
        if label_smoothing:
            q = add(mul(q, 1 - label_smoothing), label_smoothing / x.shape[axis])
        if class_weight is not None:
            q = mul(q, Tensor(class_weight.reshape(columns)))
        losses = neg(sum(mul(q, logs), axis))
        return reduced(losses, reduction)
    likely, shares = _picked(logs, target, class_weight, ignore_index)
    if label_smoothing:
        weighted = (
            logs if class_weight is None else mul(logs, Tensor(class_weight.reshape(columns)))
        )
        valid = class_target(target, x.data, x.shape[axis], likely.shape, ignore_index) >= 0
        spread = mul(where(valid, sum(weighted, axis), 0.0), label_smoothing / x.shape[axis])
        likely = add(mul(likely, 1 - label_smoothing), spread)
    return reduced(likely, reduction, float(shares.sum()), -1.0)


# --- yes or no ------------------------------------------------------------------------------------


class BinaryCrossEntropy(Function):
    """``−t·log x − (1 − t)·log(1 − x)``, each logarithm at least −100.  Keeps x and t."""

    def forward(self, x: Array, t: Array) -> Array:
        self.keep_input(0, 1)
        xp = array_module(x)
        with np.errstate(divide="ignore"):
            logs, others = xp.log(x).clip(-100), xp.log1p(-x).clip(-100)
        return -(t * logs + (1 - t) * others)

    def backward(self, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, t = self.kept()
        gx = gt = None
        if self.needs[0]:
            # x(1 − x) stays away from 0: a certain and wrong answer has a finite gradient.
            gx = div(mul(gy, sub(x, t)), clamp(mul(x, sub(1.0, x)), 1e-12))
        if self.needs[1]:
            tiny = 1e-44 if x.dtype == np.float64 else 1e-38
            logs = log(clamp(x, tiny)), log(clamp(sub(1.0, x), tiny))
            gt = mul(gy, sub(clamp(logs[1], -100.0), clamp(logs[0], -100.0)))
        return gx, gt


def binary_cross_entropy(
    x: Any, target: Any, weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """``−weight·(t·log x + (1 − t)·log(1 − x))`` with x a probability and t in [0, 1].

    The logarithms are limited to −100 and the slope's denominator to 1e-12, as in PyTorch.  Shapes:
    target as x; weight broadcasts.  Probabilities outside [0, 1] are refused.

    >>> from cnncore import tensor
    >>> binary_cross_entropy(tensor([0.5]), [1.0]).item()
    0.6931471824645996
    """
    x = float_tensor("x", x)
    target = float_target(target, x)
    outside = ~((x.data >= 0) & (x.data <= 1))
    if bool(outside.any()):
        raise ArgumentError(
            "x",
            "probabilities in [0, 1]",
            float(x.data[outside][0]),
            "binary_cross_entropy_with_logits for logits",
        )
    losses = _weighted(BinaryCrossEntropy()(x, target), weight)
    return reduced(losses, reduction)


def _weighted(losses: Tensor, weight: Any) -> Tensor:
    if weight is None:
        return losses
    factor = Tensor(as_array("weight", weight, losses.data, losses.dtype))
    product = mul(losses, factor)
    if product.shape != losses.shape:
        raise ShapeError("weight", f"a shape that broadcasts to {losses.shape}", factor.shape)
    return product


def binary_cross_entropy_with_logits(
    x: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """``−weight·(pos_weight·t·log σ(x) + (1 − t)·log(1 − σ(x)))``: logits against t in [0, 1].

    Computed as ``(1 − t)·x − (1 + (pos_weight − 1)·t)·log σ(x)``, which never overflows.  Shapes:
    target as x; weight and pos_weight broadcast.  Keeps x, and t where it takes part in a product.

    >>> from cnncore import tensor
    >>> binary_cross_entropy_with_logits(tensor([0.0]), [1.0]).item()
    0.6931471824645996
    """
    x = float_tensor("x", x)
    target = float_target(target, x)
    rest, logs = mul(sub(1.0, target), x), log_sigmoid(x)
    if pos_weight is not None:
        factor = Tensor(as_array("pos_weight", pos_weight, x.data, x.dtype))
        logs = mul(add(mul(sub(factor, 1.0), target), 1.0), logs)
        if logs.shape != x.shape:
            raise ShapeError("pos_weight", f"a shape that broadcasts to {x.shape}", factor.shape)
    return reduced(_weighted(sub(rest, logs), weight), reduction)


def sigmoid_focal_loss(
    inputs: Any,
    targets: Any,
    alpha: float = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Tensor:
    """``α_t · (1 − p_t)^γ · BCE(x, t)``: binary cross-entropy that fades where it is already right.

    ``p_t`` is the probability given to the truth, ``α_t`` is alpha for t = 1 and 1 − alpha for
    t = 0 (negative alpha: no such factor).  Shapes: targets as inputs.  Not reduced by default.

    >>> from cnncore import tensor
    >>> sigmoid_focal_loss(tensor([0.0]), [1.0]).numpy().round(4)
    array([0.0433], dtype=float32)

    Source: Lin et al., "Focal loss for dense object detection", 2017, equation 5.
    """
    x = float_tensor("inputs", inputs)
    t = float_target(targets, x, "targets")
    if alpha > 1 or gamma < 0:
        raise ArgumentError("alpha, gamma", "alpha <= 1, gamma >= 0", (alpha, gamma))
    losses = binary_cross_entropy_with_logits(x, t, reduction="none")
    p = sigmoid(x)
    # 1 − p_t without cancellation in the sum: t(1 − p) + (1 − t)p.
    missed = add(mul(t, sub(1.0, p)), mul(sub(1.0, t), p))
    losses = mul(losses, pow(missed, gamma))
    if alpha >= 0:
        losses = mul(losses, add(mul(t, 2 * alpha - 1), 1 - alpha))
    return reduced(losses, reduction)


# --- numbers --------------------------------------------------------------------------------------


def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """``(x − target)²``.  Target as x (not broadcast: PyTorch warns, we refuse).

    >>> from cnncore import tensor
    >>> mse_loss(tensor([1.0, 2.0]), [1.0, 4.0]).item()
    2.0
    """
    x = float_tensor("x", x)
    difference = sub(x, float_target(target, x))
    return reduced(mul(difference, difference), reduction)


def l1_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """``|x − target|``, with slope 0 where they are equal.  Target as x.

    >>> from cnncore import tensor
    >>> l1_loss(tensor([1.0, 2.0]), [1.0, 4.0]).item()
    1.0
    """
    x = float_tensor("x", x)
    return reduced(abs(sub(x, float_target(target, x))), reduction)


def smooth_l1_loss(x: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """``d²/(2·beta)`` where ``d = |x − target| < beta``, else ``d − beta/2``; beta 0: L1.

    Computed as ``d·c − c²/2`` over beta with ``c = min(d, beta)``.  Target as x.

    >>> from cnncore import tensor
    >>> smooth_l1_loss(tensor([0.5, 3.0]), [0.0, 0.0], "none").numpy()
    array([0.125, 2.5  ], dtype=float32)

    Source: Girshick, "Fast R-CNN", 2015, equation 3; beta as in Ren et al., "Faster R-CNN".
    """
    if beta < 0:
        raise ArgumentError("beta", "a number >= 0", beta)
    if beta == 0:
        return l1_loss(x, target, reduction)
    x = float_tensor("x", x)
    difference = sub(x, float_target(target, x))
    near = hardtanh(difference, -beta, beta)
    # Its slope is near/beta on both branches, so no branch is needed.
    losses = mul(mul(near, sub(difference, mul(near, 0.5))), 1.0 / beta)
    return reduced(losses, reduction)
