"""Losses against loops written from the definitions, derivatives numerically."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from cnncore import ops, tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.testing import gradcheck, gradgradcheck

RNG = np.random.default_rng(11)
LOGITS = RNG.normal(size=(4, 3, 2))
LABELS = np.array([[0, 2], [1, -100], [2, 2], [0, 1]])
WEIGHT = np.array([0.5, 2.0, 1.25])
REDUCTIONS = ("none", "mean", "sum")


def log_softmax(x):
    return x - math.log(sum(math.exp(v) for v in x))


def cross_entropy(x, labels, weight, smoothing, reduction):
    """One example at a time, as the definition says."""
    losses, shares = np.zeros(labels.shape), 0.0
    K = x.shape[1]
    for n, i in np.ndindex(labels.shape):
        t = labels[n, i]
        if t == -100:
            continue
        logs = log_softmax(x[n, :, i])
        q = [(1 - smoothing) * (k == t) + smoothing / K for k in range(K)]
        losses[n, i] = -sum(weight[k] * q[k] * logs[k] for k in range(K))
        shares += weight[t]
    if reduction == "none":
        return losses
    return losses.sum() / (shares if reduction == "mean" else 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_cross_entropy_of_indices(weight, reduction, smoothing):
    def loss(x):
        return ops.cross_entropy(x, LABELS, weight, -100, reduction, smoothing)

    w = np.ones(3) if weight is None else weight
    expected = cross_entropy(LOGITS, LABELS, w, smoothing, reduction)
    np.testing.assert_allclose(loss(LOGITS).numpy(), expected, rtol=1e-12)
    gradcheck(loss, LOGITS)
    gradgradcheck(loss, LOGITS)


def test_cross_entropy_of_probabilities():
    q = RNG.dirichlet(np.ones(3), (4, 2)).transpose(0, 2, 1)
    logs = np.apply_along_axis(log_softmax, 1, LOGITS)
    smooth = 0.9 * q + 0.1 / 3
    expected = -(smooth * WEIGHT[None, :, None] * logs).sum() / 8
    loss = ops.cross_entropy(LOGITS, q, WEIGHT, label_smoothing=0.1)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-12)
    gradcheck(lambda x, q: ops.cross_entropy(x, q, WEIGHT), [LOGITS, q])
    gradgradcheck(ops.cross_entropy, [LOGITS[:2], q[:2]])


def test_one_example_and_tensors_as_targets():
    x = LOGITS[0, :, 0]
    assert ops.cross_entropy(x, 2).item() == pytest.approx(-log_softmax(x)[2])
    assert ops.cross_entropy(x, tensor(2)).item() == pytest.approx(-log_softmax(x)[2])
    a = ops.cross_entropy(LOGITS, tensor(LABELS)).item()
    assert a == ops.cross_entropy(LOGITS, LABELS.astype(np.int32)).item()


def test_nll_is_cross_entropy_without_the_softmax():
    logs = ops.log_softmax(LOGITS, 1)
    for reduction in REDUCTIONS:
        np.testing.assert_allclose(
            ops.nll_loss(logs, LABELS, WEIGHT, reduction=reduction).numpy(),
            cross_entropy(LOGITS, LABELS, WEIGHT, 0.0, reduction),
            rtol=1e-12,
        )
    gradcheck(lambda x: ops.nll_loss(x, LABELS, WEIGHT), LOGITS)
    labels = np.where(LABELS < 0, 1, LABELS)
    ignored = ops.nll_loss(logs, labels, ignore_index=1, reduction="none").numpy()
    assert (ignored[labels == 1] == 0).all()
    assert (ignored[labels != 1] > 0).all()


def test_targets_out_of_range_are_named_with_the_class_count():
    for bad in (3, -1, 1000):
        labels = np.where(LABELS == 1, bad, LABELS)
        with pytest.raises(ArgumentError, match=rf"\[0, 3\).*{bad}"):
            ops.cross_entropy(LOGITS, labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_mean_over_nothing_is_zero_and_poisons_nothing(smoothing):
    x = tensor(LOGITS, requires_grad=True)
    loss = ops.cross_entropy(x, np.full((4, 2), -100), label_smoothing=smoothing)
    assert loss.item() == 0
    loss.backward()
    assert not x.grad.numpy().any()
    empty = tensor(np.ones((0, 3)), requires_grad=True)
    targets = np.ones((0, 3))
    for loss in (
        ops.cross_entropy(empty, np.zeros(0, int), label_smoothing=smoothing),
        ops.cross_entropy(empty, []),
        ops.nll_loss(empty, np.zeros(0, int)),
        ops.mse_loss(empty, targets),
        ops.l1_loss(empty, targets),
        ops.smooth_l1_loss(empty, targets),
        ops.binary_cross_entropy(empty, targets),
        ops.binary_cross_entropy_with_logits(empty, targets),
        ops.sigmoid_focal_loss(empty, targets, reduction="mean"),
    ):
        assert loss.item() == 0
        empty.grad = None
        loss.backward()
        assert empty.grad.shape == (0, 3)


# --- yes or no ------------------------------------------------------------------------------------

SCORES = RNG.normal(size=(3, 4)) * 3
TRUTH = RNG.uniform(size=(3, 4))


def bce(p, t):
    return -(t * np.log(p) + (1 - t) * np.log1p(-p))


def test_binary_cross_entropy():
    p, w = RNG.uniform(0.05, 0.95, (3, 4)), RNG.uniform(0.5, 2, 4)
    got = ops.binary_cross_entropy(p, TRUTH, w, "none").numpy()
    np.testing.assert_allclose(got, w * bce(p, TRUTH), rtol=1e-12)
    gradcheck(lambda x, t: ops.binary_cross_entropy(x, t, w), [p, TRUTH])
    gradgradcheck(lambda x, t: ops.binary_cross_entropy(x, t, w), [p, TRUTH])


def test_binary_cross_entropy_at_the_ends_is_finite():
    x = tensor(np.array([0.0, 1.0, 0.0, 1.0]), requires_grad=True)
    losses = ops.binary_cross_entropy(x, [0.0, 1.0, 1.0, 0.0], reduction="none")
    np.testing.assert_array_equal(losses.numpy(), [0, 0, 100, 100])
    losses.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [0, 0, -1e12, 1e12])
    with pytest.raises(ArgumentError, match=r"\[0, 1\].*1.5"):
        ops.binary_cross_entropy([1.5], [1.0])
    with pytest.raises(ArgumentError, match="nan"):
        ops.binary_cross_entropy([np.nan], [1.0])


def test_binary_cross_entropy_with_logits():
    p, w, pos = 1 / (1 + np.exp(-SCORES)), RNG.uniform(0.5, 2, (3, 1)), RNG.uniform(0.5, 2, 4)
    expected = -w * (pos * TRUTH * np.log(p) + (1 - TRUTH) * np.log1p(-p))

    def loss(x, t, reduction="none"):
        return ops.binary_cross_entropy_with_logits(x, t, w, reduction, pos)

    np.testing.assert_allclose(loss(SCORES, TRUTH).numpy(), expected, rtol=1e-11)
    np.testing.assert_allclose(loss(SCORES, TRUTH, "mean").item(), expected.mean(), rtol=1e-11)
    gradcheck(loss, [SCORES, TRUTH])
    gradgradcheck(loss, [SCORES, TRUTH])
    far = tensor(np.array([-1000.0, 1000.0]), requires_grad=True)
    value = ops.binary_cross_entropy_with_logits(far, [1.0, 1.0], reduction="sum")
    assert value.item() == 1000
    value.backward()
    np.testing.assert_array_equal(far.grad.numpy(), [-1, 0])


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (-1, 1.5), (0.5, 0.0)])
def test_focal_loss(alpha, gamma):
    t = np.round(TRUTH)
    p = 1 / (1 + np.exp(-SCORES))
    pt = np.where(t == 1, p, 1 - p)
    at = 1.0 if alpha < 0 else np.where(t == 1, alpha, 1 - alpha)
    got = ops.sigmoid_focal_loss(SCORES, t, alpha, gamma)
    np.testing.assert_allclose(got.numpy(), -at * (1 - pt) ** gamma * np.log(pt), rtol=1e-9)
    gradcheck(lambda x: ops.sigmoid_focal_loss(x, t, alpha, gamma), SCORES)
    gradgradcheck(lambda x: ops.sigmoid_focal_loss(x, t, alpha, gamma), SCORES)


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 3.0])
def test_smooth_l1(beta):
    x, t = SCORES, TRUTH
    d = np.abs(x - t)
    expected = np.where(d < beta, d * d / (2 * max(beta, 1e-9)), d - beta / 2)
    for reduction in REDUCTIONS:
        wanted = {"none": expected, "mean": expected.mean(), "sum": expected.sum()}[reduction]
        got = ops.smooth_l1_loss(x, t, reduction, beta)
        np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-12)
    gradcheck(lambda x, t: ops.smooth_l1_loss(x, t, beta=beta), [x, t])
    gradgradcheck(lambda x, t: ops.smooth_l1_loss(x, t, beta=beta), [x, t])


def test_squares_and_absolutes():
    np.testing.assert_allclose(ops.mse_loss(SCORES, TRUTH).item(), ((SCORES - TRUTH) ** 2).mean())
    np.testing.assert_allclose(ops.l1_loss(SCORES, TRUTH).item(), np.abs(SCORES - TRUTH).mean())
    for op in (ops.mse_loss, ops.l1_loss):
        gradcheck(op, [SCORES, TRUTH])
        gradgradcheck(op, [SCORES, TRUTH])


# --- segmentation ---------------------------------------------------------------------------------

PROBS = RNG.dirichlet(np.ones(3), (2, 4)).transpose(0, 2, 1)
MAP = np.array([[0, 1, 1, 2], [2, 0, 255, 1]])


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_overlap_losses(smooth):
    p, t = np.moveaxis(PROBS, 1, 2).reshape(-1, 3), MAP.reshape(-1)
    dice, jaccard = [], []
    for k in range(3):
        both = sum(p[i, k] for i in range(8) if t[i] == k)
        total = sum(p[i, k] for i in range(8) if t[i] != 255) + (t == k).sum()
        dice.append(1 - (2 * both + smooth) / (total + smooth))
        jaccard.append(1 - (both + smooth) / (total - both + smooth))
    for op, expected in ((ops.dice_loss, dice), (ops.jaccard_loss, jaccard)):
        got = op(PROBS, MAP, smooth, "none", ignore_index=255).numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-12)
        gradcheck(lambda x: op(x, MAP, smooth, ignore_index=255), PROBS)  # noqa: B023
        gradgradcheck(lambda x: op(x, MAP, smooth, ignore_index=255), PROBS)  # noqa: B023


def test_published_values_of_the_losses_for_masks():
    # computed once with the formulas as their papers write them
    p, t = np.array([[[0.9, 0.2, 0.7, 0.4]]]), np.array([[[1.0, 0.0, 1.0, 1.0]]])
    assert ops.binary_cross_entropy(p, t).item() == pytest.approx(0.4003674, abs=1e-7)
    assert 1 - ops.dice_loss(p, t, smooth=0.0).item() == pytest.approx(0.7692308, abs=1e-7)
    squared = ops.dice_loss(p, t, smooth=0.0, squared=True).item()
    assert 1 - squared == pytest.approx(0.8888889, abs=1e-6)
    assert 1 - ops.jaccard_loss(p, t, smooth=0.0).item() == pytest.approx(0.625, abs=1e-12)
    assert ops.bce_dice_loss(p, t, smooth=0.0).item() == pytest.approx(0.6627317, abs=1e-7)
    assert ops.bce_jaccard_loss(p, t, smooth=0.0).item() == pytest.approx(0.8703711, abs=1e-7)
    x, y = np.array([[2.0, -1.0, 0.5, -2.0]]), np.array([[1, 0, 0, 1]])
    assert ops.lovasz_hinge(x, y).item() == pytest.approx(1.75)


@pytest.mark.parametrize("op", [ops.bce_dice_loss, ops.bce_jaccard_loss])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_cross_entropy_with_the_logarithm_of_an_overlap(op, smooth):
    p, t = RNG.uniform(0.05, 0.95, (2, 3, 4)), RNG.integers(0, 2, (2, 3, 4)).astype(float)
    t[0] = 1.0  # every class occurs
    entropy = -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))
    both, total = (p * t).sum((0, 2)), (p + t).sum((0, 2))
    overlap = (
        (2 * both + smooth) / (total + smooth)
        if op is ops.bce_dice_loss
        else (both + smooth) / (total - both + smooth)
    )
    assert op(p, t, smooth).item() == pytest.approx(entropy - np.log(overlap).mean(), rel=1e-12)
    gradcheck(lambda x: op(x, t, smooth), p)
    gradgradcheck(lambda x: op(x, t, smooth), p)


def test_squared_dice_has_its_gradient():
    p, t = RNG.uniform(0.05, 0.95, (2, 3, 4)), RNG.integers(0, 3, (2, 4))
    truth = np.moveaxis(np.eye(3)[t], 2, 1)
    both = (p * truth).sum((0, 2))
    wanted = 1 - 2 * both / ((p**2).sum((0, 2)) + (truth**2).sum((0, 2)))
    got = ops.dice_loss(p, t, 0.0, "none", squared=True).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    gradcheck(lambda x: ops.dice_loss(x, t, squared=True), p)


def test_overlap_losses_of_one_channel_and_of_nothing():
    p = np.array([[[0.9, 0.1, 0.4]]])
    a = ops.dice_loss(p, np.array([[1, 0, 1]])).item()
    assert a == pytest.approx(1 - (2 * 1.3 + 1) / (1.4 + 2 + 1))
    assert a == pytest.approx(ops.dice_loss(p, np.array([[[1.0, 0.0, 1.0]]])).item())
    # a class that neither side has: agreement, not 0/0
    zero = tensor(np.zeros((1, 1, 3)), requires_grad=True)
    loss = ops.jaccard_loss(zero, np.zeros((1, 3), int), smooth=0.0)
    assert loss.item() == 0
    loss.backward()
    assert np.isfinite(zero.grad.numpy()).all()
    empty = tensor(np.zeros((0, 3, 4)), requires_grad=True)
    for op in (ops.dice_loss, ops.jaccard_loss, ops.lovasz_softmax):
        loss = op(empty, np.zeros((0, 4), int))
        assert loss.item() == 0
        loss.backward()


def lovasz_extension(errors, truth):
    """By the definition: the Jaccard loss of the level sets, each for as long as it holds."""
    levels = sorted({0.0, *errors})
    total = 0.0
    for low, high in itertools.pairwise(levels):
        wrong = np.asarray(errors) > low  # the pixels mispredicted at this level
        positives = truth.sum()
        union = positives + (wrong & (truth == 0)).sum()
        jaccard = 1 - (positives - (wrong & (truth == 1)).sum()) / union
        total += (high - low) * jaccard
    return total


def test_lovasz_softmax():
    p, t = np.moveaxis(PROBS, 1, 2).reshape(-1, 3), MAP.reshape(-1)
    p, t = p[t != 255], t[t != 255]
    expected = [
        lovasz_extension(np.abs((t == k) - p[:, k]), (t == k).astype(int)) for k in range(3)
    ]
    got = ops.lovasz_softmax(PROBS, MAP, ignore_index=255)
    assert got.item() == pytest.approx(np.mean(expected))
    gradcheck(lambda x: ops.lovasz_softmax(x, MAP, ignore_index=255), PROBS)
    gradcheck(lambda x: ops.lovasz_softmax(x, MAP, "all", True, 255), PROBS)
    only = ops.lovasz_softmax(PROBS, MAP, [1], ignore_index=255)
    assert only.item() == pytest.approx(expected[1])


def test_lovasz_hinge():
    x, t = (
        np.array([[1.5, -0.3, 0.2, -2.0], [0.1, 0.4, -0.7, 0.9]]),
        np.array([[1, 0, 0, 1], [1, 1, 0, 0]]),
    )
    each = [lovasz_extension(np.maximum(0, 1 - x[n] * (2 * t[n] - 1)), t[n]) for n in range(2)]
    assert ops.lovasz_hinge(x, t).item() == pytest.approx(np.mean(each))
    whole = lovasz_extension(np.maximum(0, 1 - x * (2 * t - 1)).ravel(), t.ravel())
    assert ops.lovasz_hinge(x, t, per_image=False).item() == pytest.approx(whole)
    gradcheck(lambda x: ops.lovasz_hinge(x, t), x)
    empty = ops.lovasz_hinge(np.zeros((0, 4)), np.zeros((0, 4), int))
    assert empty.item() == 0


def test_bad_input():
    for call in (
        lambda: ops.cross_entropy(LOGITS, LABELS[:2]),
        lambda: ops.cross_entropy(LOGITS, LABELS, np.ones(2)),
        lambda: ops.cross_entropy(LOGITS, LABELS, reduction="average"),
        lambda: ops.cross_entropy(LOGITS, LABELS, label_smoothing=1.5),
        lambda: ops.cross_entropy(LOGITS, LABELS + 0.5),
        lambda: ops.cross_entropy(np.ones((2, 0)), np.zeros(2, int)),
        lambda: ops.mse_loss(SCORES, TRUTH[:1]),
        lambda: ops.smooth_l1_loss(SCORES, TRUTH, beta=-1.0),
        lambda: ops.sigmoid_focal_loss(SCORES, TRUTH, gamma=-1),
        lambda: ops.binary_cross_entropy_with_logits(SCORES, TRUTH, weight=np.ones((2, 3, 4))),
        lambda: ops.dice_loss(PROBS, MAP),  # 255 is no class
        lambda: ops.dice_loss(PROBS, MAP, smooth=-1, ignore_index=255),
        lambda: ops.lovasz_softmax(PROBS, MAP, [3], ignore_index=255),
        lambda: ops.lovasz_softmax(PROBS, MAP, "some", ignore_index=255),
        lambda: ops.lovasz_hinge(SCORES, TRUTH[:2]),
    ):
        with pytest.raises(ArgumentError):
            call()
    with pytest.raises(ShapeError):
        ops.nll_loss(np.ones(()), 0)
