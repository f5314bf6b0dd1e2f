"""Every op beside its PyTorch namesake: results, gradients, and what is written in place."""

from __future__ import annotations

import functools
import zlib

import numpy as np
import pytest
from torch_table import TABLE, WITHOUT_NAMESAKE, D

import cnncore
from cnncore import Tensor, ops

CASES = 25
UNIT = float(np.finfo(np.float32).eps)

# The public list that users rely on: these names must exist and be accounted for.
PUBLIC = """
conv2d conv_transpose2d unfold fold im2col col2im max_pool2d max_unpool2d avg_pool2d
adaptive_avg_pool2d adaptive_max_pool2d unpool_nearest unpool_bed_of_nails interpolate roi_pool
roi_align ps_roi_pool ps_roi_align batch_norm layer_norm group_norm instance_norm
local_response_norm linear relu relu6 leaky_relu prelu elu selu celu gelu silu mish sigmoid
hardsigmoid hardswish tanh softplus softsign dropout pad cat stack softmax log_softmax cross_entropy
nll_loss binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss smooth_l1_loss
dice_loss jaccard_loss lovasz_softmax sigmoid_focal_loss
"""


def test_every_public_op_is_compared_or_excused():
    assert set(TABLE) | set(WITHOUT_NAMESAKE) >= {*PUBLIC.split(), *ops.__all__}
    assert not set(TABLE) & set(WITHOUT_NAMESAKE)
    assert set(TABLE) | set(WITHOUT_NAMESAKE) <= set(ops.__all__)


def single_precision_bound(length, size):
    """What rounding may do to a sum of ``length`` terms (Higham 2002, 3.1), in units of ``size``.

    Each addition and each product rounds once, a relative error of ε/2 of a partial sum that is at
    most about ``size``; 16 more roundings for the functions applied before and after the sum.
    """
    return (length + 16) * UNIT * max(size, 1.0)


class Side:
    """One library: makes its tensors out of drawn arguments, calls, differentiates."""

    def __init__(self, make, dtype):
        self.make, self.dtype = make, dtype
        self.wanted, self.constants = [], []

    def __call__(self, value):
        """A drawn argument in the terms of this library."""
        if isinstance(value, D):
            self.wanted.append(self.make(value.array.astype(self.dtype), True))
            return self.wanted[-1]
        if isinstance(value, np.ndarray):
            value = value.astype(self.dtype) if value.dtype.kind == "f" else value.copy()
            self.constants.append(self.make(value, False))
            return self.constants[-1]
        if isinstance(value, dict):
            return {name: self(part) for name, part in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self(part) for part in value)
        return value


def run(side, fn, call, differentiate):
    """Results, gradients and final constants of a call, as arrays."""
    result = fn(*side(call.args), **side(call.options))
    results = list(result) if isinstance(result, (tuple, list)) else [result]
    rng = np.random.default_rng(0)
    seeds = [rng.normal(size=tuple(y.shape)) for y in results]
    gradients = differentiate(results, seeds, side.wanted)
    return results, gradients, side.constants


def our_gradients(results, seeds, wanted):
    pairs = [(y, s.astype(y.dtype)) for y, s in zip(results, seeds, strict=True) if y.requires_grad]
    if not pairs:
        return [None] * len(wanted)
    outputs, seeds = zip(*pairs, strict=True)
    return cnncore.grad(outputs, wanted, seeds, allow_unused=True) if wanted else []


def their_gradients(torch, results, seeds, wanted):
    pairs = [
        (y, torch.from_numpy(s).to(y.dtype))
        for y, s in zip(results, seeds, strict=True)
        if y.requires_grad
    ]
    if not pairs:
        return [None] * len(wanted)
    outputs, seeds = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, wanted, seeds, allow_unused=True) if wanted else []


def as_array(tensor):
    return tensor.numpy() if isinstance(tensor, Tensor) else tensor.detach().numpy()


def compare(what, ours, theirs, bound):
    """Same shape, same integers, floats within ``bound(largest value)``; None means zero."""
    assert len(ours) == len(theirs), what
    for k, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if mine is None and other is None:
            continue
        a = np.zeros_like(as_array(other)) if mine is None else as_array(mine)
        b = np.zeros_like(as_array(mine)) if other is None else as_array(other)
        assert a.shape == b.shape, f"{what} {k}: {a.shape} and {b.shape}"
        if b.dtype.kind != "f":
            np.testing.assert_array_equal(a, b, err_msg=f"{what} {k}")
            continue
        error = float(np.abs(a - b).max(initial=0.0))
        limit = bound(float(np.abs(b).max(initial=0.0)))
        assert error <= limit, f"{what} {k}: off by {error:.3g}, allowed {limit:.3g}"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", TABLE)
def test_op_is_its_namesake(name, dtype):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    row = TABLE[name]
    if isinstance(row.theirs, str):
        theirs = functools.reduce(getattr, row.theirs.split("."), torch)
    else:
        theirs = functools.partial(row.theirs, torch)

    def torch_tensor(array, requires_grad):
        return torch.from_numpy(np.array(array, order="C")).requires_grad_(requires_grad)

    for seed in range(CASES):
        call = row.draw(np.random.default_rng([zlib.crc32(name.encode()), seed]))
        if dtype == "float32":  # both start from the same single-precision numbers
            call.args, call.options = (rounded(part) for part in (call.args, call.options))
        ours = run(Side(Tensor, dtype), getattr(ops, name), call, our_gradients)
        # The reference is always in double precision.
        gradients = functools.partial(their_gradients, torch)
        other = run(Side(torch_tensor, "float64"), theirs, call, gradients)

        def bound(size, length=call.length):
            if dtype == "float64":
                return 1e-9 * max(size, 1.0)
            return single_precision_bound(length, size)

        for what, mine, reference in zip(
            ("result", "gradient", "constant"), ours, other, strict=True
        ):
            text = f"{name}, case {seed} {described(call)}: {what}"
            compare(text, mine, reference, bound)


def rounded(value):
    if isinstance(value, D):
        return D(rounded(value.array))
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(np.float32).astype(np.float64)
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(rounded(part) for part in value)
    return value


def described(call):
    def short(value):
        if isinstance(value, D):
            return f"D{value.array.shape}"
        if isinstance(value, np.ndarray):
            return f"{value.dtype}{value.shape}"
        if isinstance(value, (list, tuple)):
            return "(" + ", ".join(map(short, value)) + ")"
        return repr(value)

    options = ", ".join(f"{name}={short(value)}" for name, value in call.options.items())
    return f"{short(call.args)} {options}"
