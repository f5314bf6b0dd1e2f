"""Losses of one segmentation map against another: overlap measures made differentiable.

They have no namesake in PyTorch; each docstring says what is computed.  All take *probabilities*
(``softmax`` or ``sigmoid`` of the network's output), except ``lovasz_hinge``, which takes logits.

Letters: ``N`` images, ``K`` classes, ``…`` the axes of the plane.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.kernels.dispatch import array_module
from cnncore.ops.activation import relu
from cnncore.ops.arguments import as_array, as_tensor, float_tensor
from cnncore.ops.elementwise import abs, add, div, log, mul, sub
from cnncore.ops.loss import binary_cross_entropy, class_target, reduced
from cnncore.ops.reduce import mean, sum
from cnncore.ops.shape import reshape, stack

Array = Any


def _columns(x: Any, target: Any, ignore_index: int | None) -> tuple[Tensor, Array, Array]:
    """x as ``(N, K, I)``, the truth in [0, 1] likewise, and which pixels count, ``(N, 1, I)``."""
    x = float_tensor("x", x)
    if x.ndim < 2 or x.shape[1] == 0:
        raise ShapeError("x", "probabilities of shape (N, K, …), K >= 1", x.shape)
    N, K, inner = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    values, xp = as_tensor("target", target), array_module(x.data)
    if values.dtype.kind in "fb" and values.shape == x.shape:
        truth = as_array("target", values, x.data, x.dtype).reshape(N, K, inner)
        return reshape(x, N, K, inner), truth, xp.ones((N, 1, inner), x.dtype)
    shape = (N, *x.shape[2:])
    # One channel is the probability of class 1 against class 0.
    classes = builtins.max(K, 2)
    labels = class_target(target, x.data, classes, shape, ignore_index).reshape(N, 1, inner)
    wanted = xp.arange(K).reshape(1, K, 1) if K > 1 else xp.ones((1, 1, 1), np.int64)
    return (
        reshape(x, N, K, inner),
        (labels == wanted).astype(x.dtype),
        (labels >= 0).astype(x.dtype),
    )


def _overlap(
    x: Any,
    target: Any,
    smooth: float,
    ignore_index: int | None,
    union: bool = False,
    squared: bool = False,
) -> Tensor:
    """The overlap of each class ``(K,)``: intersection over union, or twice it over the sum."""
    if not smooth >= 0:
        raise ArgumentError("smooth", "a number >= 0", smooth)
    p, truth, counts = _columns(x, target, ignore_index)
    truth = truth * counts
    shared = sum(mul(p, Tensor(truth)), (0, 2))
    sizes = mul(p, p) if squared else p
    true_sizes = truth * truth if squared else truth
    total = add(sum(mul(sizes, Tensor(counts)), (0, 2)), Tensor(true_sizes.sum((0, 2))))
    top, bottom = (shared, sub(total, shared)) if union else (mul(shared, 2.0), total)
    # With smooth = 0 a class that neither side has agrees perfectly: 1 over 1, not 0 over 0.
    room = smooth or Tensor((bottom.data <= 0).astype(p.dtype))
    return div(add(top, room), add(bottom, room))


def dice_loss(
    x: Any,
    target: Any,
    smooth: float = 1.0,
    reduction: str = "mean",
    ignore_index: int | None = None,
    squared: bool = False,
) -> Tensor:
    """``1 − (2·Σ p·t + smooth) / (Σ p + Σ t + smooth)`` per class, sums over images and pixels.

    Shapes: x ``(N, K, …)`` probabilities, target class indices ``(N, …)`` or values in [0, 1] with
    the shape of x; K = 1 is class 1 against class 0.  ``reduction`` acts on the K values.
    ``squared``: ``Σ p² + Σ t²`` below, V-Net's form.

    >>> from cnncore import tensor
    >>> dice_loss(tensor([[[1.0, 0.0]]]), [[1, 0]]).item()
    0.0

    Source: Milletari, Navab & Ahmadi, "V-Net", 2016, section 3 (with squares); Drozdzal et al.,
    "The importance of skip connections in biomedical image segmentation", 2016, equation 2.
    """
    overlap = _overlap(x, target, smooth, ignore_index, squared=squared)
    return reduced(sub(1.0, overlap), reduction)


def jaccard_loss(
    x: Any,
    target: Any,
    smooth: float = 1.0,
    reduction: str = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """``1 − (Σ p·t + smooth) / (Σ p + Σ t − Σ p·t + smooth)`` per class: a soft 1 − IoU.

    Arguments as for ``dice_loss``.

    >>> from cnncore import tensor
    >>> jaccard_loss(tensor([[[1.0, 0.0]]]), [[0, 1]], smooth=0.0).item()
    1.0

    Source: Rahman & Wang, "Optimizing intersection-over-union in deep neural networks", 2016.
    """
    return reduced(sub(1.0, _overlap(x, target, smooth, ignore_index, union=True)), reduction)


def bce_dice_loss(x: Any, target: Any, smooth: float = 1.0) -> Tensor:
    """``BCE − ln(D)``: mean binary cross-entropy and the logarithm of the soft Dice coefficient.

    ``BCE = −mean(t·ln p + (1 − t)·ln(1 − p))`` over all values and
    ``D = (2·Σ p·t + smooth) / (Σ p + Σ t + smooth)`` per class, whose logarithms are averaged.
    Shapes: x ``(N, K, …)`` probabilities, target of the shape of x with values in [0, 1].
    ``smooth = 0`` gives infinity where nothing overlaps.

    >>> from cnncore import tensor
    >>> p, t = tensor([[[0.9, 0.2, 0.7, 0.4]]]), np.array([[[1.0, 0.0, 1.0, 1.0]]], np.float32)
    >>> round(bce_dice_loss(p, t, smooth=0.0).item(), 5)
    0.66273
    """
    return _bce_overlap(x, target, smooth, union=False)


def bce_jaccard_loss(x: Any, target: Any, smooth: float = 1.0) -> Tensor:
    """``BCE − ln(J)`` with the soft Jaccard index ``J = Σ p·t / (Σ p + Σ t − Σ p·t)`` per class.

    Arguments and averaging as for ``bce_dice_loss``.

    >>> from cnncore import tensor
    >>> p, t = tensor([[[0.9, 0.2, 0.7, 0.4]]]), np.array([[[1.0, 0.0, 1.0, 1.0]]], np.float32)
    >>> round(bce_jaccard_loss(p, t, smooth=0.0).item(), 5)
    0.87037

    Source: Iglovikov & Shvets, "TernausNet", 2018, equation 5.  There J is the mean over pixels of
    ``p·t / (p + t − p·t)``, another number; here it is the index of whole maps, which a metric
    would measure.
    """
    return _bce_overlap(x, target, smooth, union=True)


def _bce_overlap(x: Any, target: Any, smooth: float, union: bool) -> Tensor:
    x = float_tensor("x", x)
    overlap = _overlap(x, target, smooth, None, union)
    return sub(binary_cross_entropy(x, target), mean(log(overlap)))


# --- Lovász ---------------------------------------------------------------------------------------


def _jaccard_steps(errors: Array, truth: Array) -> Array:
    """For every pixel, how much the Jaccard loss grows when it joins the wrong ones, largest first.

    This is the gradient of the Lovász extension: piecewise constant in the errors.
    """
    xp = array_module(errors)
    order = xp.argsort(-errors, kind="stable")
    hit = truth[order]
    positives = hit.sum()
    remaining = positives - hit.cumsum()
    union = positives + (1 - hit).cumsum()
    jaccard = 1.0 - remaining / union
    steps = xp.empty_like(errors)
    steps[order] = xp.diff(jaccard, prepend=xp.zeros(1, jaccard.dtype))
    return steps


def _lovasz(errors: Tensor, truth: Array) -> Tensor:
    """The Lovász extension of the Jaccard loss at ``errors`` (one per pixel)."""
    return sum(mul(errors, Tensor(_jaccard_steps(errors.data, truth))))


def _images(
    x: Tensor, truth: Array, counts: Array, per_image: bool
) -> Iterator[tuple[Tensor, Array]]:
    """``(K, pixels)`` of each image, or of all together, ignored pixels left out."""
    N, K, inner = x.shape
    if not per_image:
        x = reshape(x.transpose(0, 1), 1, K, N * inner)
        truth = truth.swapaxes(0, 1).reshape(1, truth.shape[1], N * inner)
        counts = counts.reshape(1, 1, N * inner)
    for n in range(x.shape[0]):
        chosen = counts[n, 0] > 0
        yield x[n][:, chosen], truth[n][:, chosen]


def lovasz_softmax(
    x: Any,
    target: Any,
    classes: Any = "present",
    per_image: bool = False,
    ignore_index: int | None = None,
) -> Tensor:
    """The Lovász extension of 1 − IoU, of class probabilities; mean over classes (and images).

    Shapes: x ``(N, K, …)`` probabilities, target class indices ``(N, …)``.  ``classes``:
    ``"present"`` (those the target has), ``"all"``, or a list.  ``per_image``: one loss per image,
    averaged, instead of one over the whole batch.  Without a pixel or class the loss is 0.

    >>> from cnncore import tensor
    >>> lovasz_softmax(tensor([[[0.75, 0.0], [0.25, 1.0]]]), [[0, 1]]).item()
    0.1875

    Source: Berman, Triki & Blaschko, "The Lovász-softmax loss", 2018.
    """
    p, truth, counts = _columns(x, target, ignore_index)
    K = p.shape[1]
    if classes not in ("present", "all") and not isinstance(classes, (list, tuple)):
        raise ArgumentError("classes", '"present", "all" or a list', repr(classes))
    chosen = range(K) if isinstance(classes, str) else classes
    if builtins.any(not 0 <= k < K for k in chosen):
        raise ArgumentError("classes", f"indices in [0, {K})", classes)
    images = []
    for probabilities, labels in _images(p, truth, counts, per_image):
        losses = [
            _lovasz(abs(sub(Tensor(labels[k]), probabilities[k])), labels[k])
            for k in chosen
            if labels.shape[1] and (classes != "present" or bool(labels[k].any()))
        ]
        images.append(_mean_of(losses, p))
    return _mean_of(images, p)


def lovasz_hinge(
    x: Any, target: Any, per_image: bool = True, ignore_index: int | None = None
) -> Tensor:
    """The Lovász extension of 1 − IoU of the foreground; errors ``max(0, 1 − x·(2t − 1))``.

    Shapes: x ``(N, …)`` or ``(N, 1, …)`` logits, target 0 or 1, ``(N, …)``.  Images are averaged
    (``per_image=False``: one loss over the whole batch).  Without any pixel the loss is 0.

    >>> from cnncore import tensor
    >>> lovasz_hinge(tensor([[2.0, -2.0]]), [[1, 0]]).item()
    0.0

    Source: Berman, Triki & Blaschko, "The Lovász-softmax loss", 2018, section 3.1.
    """
    x, values = float_tensor("x", x), as_tensor("target", target)
    shape = values.shape
    if x.ndim < 1 or x.shape not in (shape, (*shape[:1], 1, *shape[1:])):
        raise ShapeError("target", f"0 or 1 for each of the logits {x.shape}", shape)
    N, inner = x.shape[0], math.prod(x.shape[1:])
    logits, truth, counts = _columns(
        reshape(x, N, 1, inner), values.data.reshape(N, inner), ignore_index
    )
    images = []
    for scores, labels in _images(logits, truth, counts, per_image):
        if labels.shape[1]:
            margins = mul(scores[0], Tensor(labels[0] * 2 - 1))
            images.append(_lovasz(relu(sub(1.0, margins)), labels[0]))
    return _mean_of(images, x)


def _mean_of(losses: list[Tensor], x: Tensor) -> Tensor:
    """Their mean; of none at all, a 0 that still depends on x."""
    if not losses:
        return mul(sum(x), 0.0) if x.size == 0 else mul(sum(reshape(x, -1)[:0]), 1.0)
    return mul(sum(stack(losses)), 1.0 / len(losses))
