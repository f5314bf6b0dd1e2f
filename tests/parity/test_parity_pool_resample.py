"""Pooling, unpooling and interpolation against their PyTorch namesakes, values and gradients.

Not the regions of interest: they are torchvision's, and tested against their definition.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, strategies as st

from cnncore.autograd import tensor
from cnncore.errors import ArgumentError
from cnncore.ops.pool import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d
from cnncore.ops.resample import interpolate
from cnncore.ops.unpool import max_unpool2d
from cnncore.testing.strategies import dtypes, pool_cases, spaced

torch = pytest.importorskip("torch")
F = torch.nn.functional

shapes = st.tuples(*[st.integers(1, 2)] * 2, *[st.integers(1, 9)] * 2)
planes = dtypes().flatmap(lambda dtype: shapes.flatmap(lambda shape: spaced(shape, dtype=dtype)))
cases = dtypes().flatmap(lambda dtype: pool_cases(dtype))
mean_cases = dtypes().flatmap(lambda dtype: pool_cases(dtype, dilation=False))
targets = st.tuples(st.integers(1, 20), st.integers(1, 20))
factors = st.tuples(*[st.sampled_from([0.3, 0.5, 1 / 3, 0.9, 1.0, 1.1, 1.5, 2.0, 2.3, 3.7])] * 2)


def compare(ours, theirs, x, terms=1, positions=0.0):
    """Both results and both gradients for the same random gradient of the output.

    ``terms`` are added per output; in float32 PyTorch also computes coordinates in float32, which
    moves samples by ``positions`` units in the last place of the plane's size.
    """
    a, b = tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    ours, theirs = ours(a), theirs(b)
    ours = ours if isinstance(ours, tuple) else (ours,)
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    assert ours[0].shape == tuple(theirs[0].shape)
    for y, z in zip(ours[1:], theirs[1:], strict=True):
        np.testing.assert_array_equal(y.numpy(), z.numpy())
    eps = np.finfo(x.dtype).eps
    scale = float(abs(x).max())
    rounding = (terms + positions) * eps * scale
    atol = rounding if x.dtype == np.float32 else 1e-9
    np.testing.assert_allclose(ours[0].numpy(), theirs[0].detach().numpy(), rtol=0, atol=atol)
    gy = np.random.default_rng(0).normal(size=ours[0].shape).astype(x.dtype)
    ours[0].backward(gy)
    theirs[0].backward(torch.tensor(gy))
    most = gy.size / max(x.shape[0] * x.shape[1], 1)  # every output of the plane in one sum
    atol = most * (1 + positions) * eps * 4 if x.dtype == np.float32 else 1e-9
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=0, atol=atol)


def _some_window_sees_nothing(case):
    found = F.max_pool2d(torch.tensor(case.x), **case.options)
    return bool(torch.isinf(found).any())


@given(cases)
def test_max_pool(case):
    if _some_window_sees_nothing(case):  # PyTorch gives -inf there, and an index outside the plane
        with pytest.raises(ArgumentError, match="sees at least one pixel"):
            max_pool2d(case.x, **case.options)
        return
    compare(
        lambda x: max_pool2d(x, **case.options, return_indices=True),
        lambda x: F.max_pool2d(x, **case.options, return_indices=True),
        case.x,
    )


@given(mean_cases, st.booleans(), st.sampled_from([None, 3]))
def test_avg_pool(case, include, divisor):
    options = {**case.options, "count_include_pad": include, "divisor_override": divisor}
    compare(
        lambda x: avg_pool2d(x, **options),
        lambda x: F.avg_pool2d(x, **options),
        case.x,
        terms=2 * np.prod(case.options["kernel_size"]),
    )


@given(planes, st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_adaptive_pools(x, size):
    compare(
        lambda x: adaptive_avg_pool2d(x, size),
        lambda x: F.adaptive_avg_pool2d(x, size),
        x,
        terms=2 * x.shape[2] * x.shape[3],
    )
    compare(
        lambda x: adaptive_max_pool2d(x, size, return_indices=True),
        lambda x: F.adaptive_max_pool2d(x, size, return_indices=True),
        x,
    )


@given(dtypes().flatmap(lambda dtype: pool_cases(dtype, dilation=False, ceil_mode=False)))
def test_max_unpool(case):
    """Where no two windows name the same pixel: there PyTorch keeps one value, cnncore the sum."""
    options = {name: case.options[name] for name in ("kernel_size", "stride", "padding")}
    y, indices = max_pool2d(case.x, **options, return_indices=True)
    for plane in indices.numpy().reshape(-1, indices.shape[2] * indices.shape[3]):
        assume(len(set(plane)) == plane.size)
    size = case.x.shape[2:]
    for n, m, k, s, p in zip(size, y.shape[2:], *options.values(), strict=True):
        assume(abs(n - ((m - 1) * s - 2 * p + k)) < s)
    compare(
        lambda x: max_unpool2d(x, indices, **options, output_size=size),
        lambda x: F.max_unpool2d(x, torch.tensor(indices.numpy()), **options, output_size=size),
        y.numpy(),
    )


@given(planes, targets, st.sampled_from(["nearest", "nearest-exact", "area"]))
def test_interpolate_without_weights(x, size, mode):
    compare(
        lambda x: interpolate(x, size, mode=mode),
        lambda x: F.interpolate(x, size, mode=mode),
        x,
        terms=2 * x.shape[2] * x.shape[3],
    )


@given(planes, targets, st.sampled_from(["bilinear", "bicubic"]), st.booleans())
def test_interpolate_to_a_size(x, size, mode, align_corners):
    options = {"size": size, "mode": mode, "align_corners": align_corners}
    compare(
        lambda x: interpolate(x, **options),
        lambda x: F.interpolate(x, **options),
        x,
        terms=32,
        positions=16 * max(x.shape[2:]),
    )


@given(
    planes,
    factors,
    st.sampled_from(["nearest", "nearest-exact", "bilinear", "bicubic", "area"]),
    st.sampled_from([None, False, True]),
)
def test_interpolate_by_a_factor(x, factor, mode, recompute):
    assume(all(int(n * f) >= 1 for n, f in zip(x.shape[2:], factor, strict=True)))
    options = {"scale_factor": factor, "mode": mode, "recompute_scale_factor": recompute}
    compare(
        lambda x: interpolate(x, **options),
        lambda x: F.interpolate(x, **options),
        x,
        terms=2 * x.shape[2] * x.shape[3] + 32,
        positions=16 * max(x.shape[2:]),
    )


def test_nearest_for_all_small_sizes():
    """PyTorch rounds the ratio to float32; so do we, on every pixel of 6000 resizes."""
    for n in range(1, 48):
        x = np.arange(n, dtype=np.float32)[None, None, None]
        for m in range(1, 129):
            theirs = F.interpolate(torch.tensor(x), size=(1, m)).numpy()
            np.testing.assert_array_equal(interpolate(x, (1, m)).numpy(), theirs)
