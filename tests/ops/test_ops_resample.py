"""Interpolation against direct evaluation at every output pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cnncore.autograd import tensor
from cnncore.errors import ArgumentError
from cnncore.ops.resample import MODES, interpolate
from cnncore.testing import adjoint_check, gradcheck, gradgradcheck

smooth = st.sampled_from(["bilinear", "bicubic"])
shapes = st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 6), st.integers(1, 6))
targets = st.tuples(st.integers(1, 9), st.integers(1, 9))
factors = st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 1.5, 2.0, 2.7])] * 2)


def hat(d: float) -> float:
    return max(0.0, 1.0 - abs(d))


def keys(d: float, a: float = -0.75) -> float:
    d = abs(d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def slow(x, size, ratio, mode, align_corners):
    """``Σ x[h, w] k(y − h) k(x − w)`` over a plane that goes on for ever with its edge pixels."""
    kernel, reach = (hat, 1) if mode == "bilinear" else (keys, 2)
    height, width = x.shape[2:]
    y = np.zeros((*x.shape[:2], *size))
    for i, j in np.ndindex(*size):
        position = []
        for p, n, m, r in zip((i, j), x.shape[2:], size, ratio, strict=True):
            corners = p * (n - 1) / (m - 1) if m > 1 else 0.0
            position.append(corners if align_corners else (p + 0.5) * r - 0.5)
        rows, cols = (range(math.floor(p) - reach, math.floor(p) + reach + 2) for p in position)
        for h in rows:
            for w in cols:
                weight = kernel(position[0] - h) * kernel(position[1] - w)
                pixel = x[:, :, min(max(h, 0), height - 1), min(max(w, 0), width - 1)]
                y[:, :, i, j] += weight * pixel
    return y


@given(shapes, targets, smooth, st.booleans())
def test_interpolation_to_a_size(shape, size, mode, align_corners):
    x = np.random.default_rng(3).normal(size=shape)
    ratio = [n / m for n, m in zip(shape[2:], size, strict=True)]
    got = interpolate(x, size, mode=mode, align_corners=align_corners).numpy()
    np.testing.assert_allclose(got, slow(x, size, ratio, mode, align_corners), atol=1e-12)


@given(shapes, factors, smooth, st.booleans())
def test_interpolation_by_a_factor(shape, factor, mode, recompute):
    """The factor is the ratio, unless it shall be computed again from the sizes."""
    x = np.random.default_rng(3).normal(size=shape)
    size = [math.floor(n * f) for n, f in zip(shape[2:], factor, strict=True)]
    if min(size) < 1:
        with pytest.raises(ArgumentError, match="scale_factor: expected a result of at least 1x1"):
            interpolate(x, scale_factor=factor, mode=mode)
        return
    sizes = zip(shape[2:], size, strict=True)
    ratio = [n / m for n, m in sizes] if recompute else [1 / f for f in factor]
    got = interpolate(x, scale_factor=factor, mode=mode, recompute_scale_factor=recompute).numpy()
    np.testing.assert_allclose(got, slow(x, size, ratio, mode, False), atol=1e-12)


@given(shapes, targets)
def test_nearest_and_area(shape, size):
    x = np.random.default_rng(3).normal(size=shape)
    near, exact, area = (
        interpolate(x, size, mode=m).numpy() for m in ("nearest", "nearest-exact", "area")
    )
    for i, j in np.ndindex(*size):
        h, w = (p * n // m for p, n, m in zip((i, j), shape[2:], size, strict=True))
        np.testing.assert_array_equal(near[:, :, i, j], x[:, :, h, w])
        h, w = ((2 * p + 1) * n // (2 * m) for p, n, m in zip((i, j), shape[2:], size, strict=True))
        np.testing.assert_array_equal(exact[:, :, i, j], x[:, :, h, w])
        rows, cols = (
            slice(p * n // m, -(-(p + 1) * n // m))
            for p, n, m in zip((i, j), shape[2:], size, strict=True)
        )
        np.testing.assert_allclose(area[:, :, i, j], x[:, :, rows, cols].mean((2, 3)), atol=1e-13)


@settings(max_examples=15)
@given(shapes, targets, st.sampled_from(MODES))
def test_interpolation_is_linear_and_differentiable(shape, size, mode):
    adjoint_check(lambda x: interpolate(x, size, mode=mode), shape)
    x = np.random.default_rng(3).normal(size=shape)
    gradcheck(lambda x: interpolate(x, size, mode=mode), x)
    gradgradcheck(lambda x: interpolate(x, size, mode=mode), x)


def test_by_hand():
    x = np.array([[[[0.0, 4.0]]]])
    doubled = interpolate(x, scale_factor=(1, 2), mode="bilinear").numpy().ravel().tolist()
    assert doubled == [0, 1, 3, 4]
    corners = interpolate(x, (1, 3), mode="bilinear", align_corners=True).numpy().ravel().tolist()
    assert corners == [0, 2, 4]
    # Keys' kernel at 1.25 is -27/256: the step overshoots by that on either side.  Between the
    # pixels k(0.75) + k(1.75) = 67/256 - 9/256.
    cubic = interpolate(x / 4, scale_factor=(1, 2), mode="bicubic").numpy().ravel()
    np.testing.assert_allclose(cubic * 256, [-27, 58, 198, 283], atol=1e-12)


def test_keeps_the_matrices_not_the_image():
    x = tensor(np.zeros((4, 16, 32, 32), np.float32), requires_grad=True)
    y = interpolate(x, scale_factor=2, mode="bilinear")
    assert y.node.kept_bytes < x.data.nbytes / 20
    assert y.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "size: expected exactly one of size and scale_factor, got none"),
        ({"size": 2, "scale_factor": 2}, "size: .* got both"),
        ({"size": 0}, "size: expected an integer >= 1"),
        ({"size": 2.5}, "size: expected an integer"),
        ({"size": (1, 2, 3)}, "size: expected one integer or a pair"),
        ({"scale_factor": -1.0}, "scale_factor: expected positive"),
        ({"scale_factor": math.nan}, "scale_factor: expected positive"),
        ({"scale_factor": (2, "x")}, "scale_factor: expected positive"),
        ({"scale_factor": (1, 2, 3)}, "scale_factor: expected one number or a pair"),
        ({"scale_factor": 1e-3}, "scale_factor: expected a result of at least 1x1"),
        ({"scale_factor": 1e12}, "size: expected at most 2"),
        ({"size": 2, "mode": "linear"}, "mode: expected one of"),
        ({"size": 2, "align_corners": True}, "align_corners: expected None unless"),
        ({"size": 2, "recompute_scale_factor": True}, "recompute_scale_factor"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ArgumentError, match=message):
        interpolate(np.zeros((1, 1, 4, 4)), **options)


def test_no_images():
    x = tensor(np.zeros((0, 2, 3, 3)), requires_grad=True)
    for mode in MODES:
        y = interpolate(x, 5, mode=mode)
        assert y.shape == (0, 2, 5, 5)
        y.backward(np.zeros(y.shape))
