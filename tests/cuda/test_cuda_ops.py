"""Every op forward and backward on the stand-in for CuPy, with the device code of the host.

The same numbers as on the CPU must come out, and every array on the way must be the device's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import device_support as support
import numpy as np
import pytest
from device_support import brought_in, taken_out

from cnncore import ops, tensor
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError

sys.path.append(str(Path(__file__).parents[1] / "ops"))
import test_ops_empty as cases

pytestmark = [support.needs_device_code]

PLANES = (2, 4, 6, 6)
CASES = {
    **cases.CASES,  # three of them name the size of the batch
    "reshape": (PLANES, lambda x: ops.reshape(x, (2, 144))),
    "expand": ((2, 1, 3), lambda x: ops.expand(x, (2, 5, 3))),
    "roi_align": (PLANES, lambda x: ops.roi_align(x, cases.ROIS, 2)),
}
CONSTANTS = {
    "PLANES": PLANES,
    "WEIGHT": np.arange(72.0).reshape(4, 2, 3, 3) / 9 - 3,
    "LABELS": np.arange(72).reshape(2, 6, 6) % 2,
    "ROIS": np.array([[0, 1.0, 1.0, 4.0, 3.0], [1, 0.0, 2.0, 5.0, 5.0], [0, 2.0, 0.0, 3.0, 6.0]]),
}


def constants(move):
    """The names that a case uses, with two images a batch, and its arrays moved."""

    def made(function):
        return lambda *args: move(function(*args))

    fake = SimpleNamespace(**{n: made(getattr(np, n)) for n in ("ones", "zeros", "full")})
    fake.int64, fake.float32 = np.int64, np.float32
    moved = {k: move(v) if isinstance(v, np.ndarray) else v for k, v in CONSTANTS.items()}
    return {"np": fake, **moved}


def run(name, monkeypatch, move):
    """The results and gradients of a case, as they are."""
    shape, fn = CASES[name]
    shape = tuple(n or 2 for n in shape)
    for key, value in constants(move).items():
        monkeypatch.setattr(cases, key, value)
    ops.manual_seed(3)
    numbers = 0.1 + np.random.default_rng(1).random(shape)  # log, sqrt and 1/x are at home here
    x = Tensor(move(numbers), requires_grad=True)
    y = fn(x)
    y.sum().backward()
    return y.data, x.grad.data


@pytest.mark.parametrize("name", sorted(CASES))
def test_an_op_on_the_device_is_the_op_on_the_host(name, monkeypatch):
    expected = run(name, monkeypatch, lambda a: a)
    with support.hosted():
        actual = taken_out(run(name, monkeypatch, brought_in))
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=1e-5 if e.dtype == np.float32 else 1e-11, atol=1e-12)


def test_no_op_takes_arrays_of_two_devices(monkeypatch):
    """Each case that has constants, with x there and the constants here."""
    refused = set()
    for name in sorted(CASES):
        shape, fn = CASES[name]
        for key, value in constants(lambda a: a).items():
            monkeypatch.setattr(cases, key, value)
        x = Tensor(brought_in(np.ones(tuple(n or 2 for n in shape))))
        problem = None
        try:
            with support.hosted():
                fn(x)
        except ArgumentError as error:
            problem = str(error)
        if problem:
            assert "device" in problem, (name, problem)
            refused.add(name)
    boxes_on_the_host = {"roi_pool", "roi_align", "ps_roi_pool", "ps_roi_align", "crop_and_resize"}
    assert len(refused) >= 20
    assert not refused & boxes_on_the_host  # coordinates become tables on the host anyway


def test_numbers_take_the_device_of_the_tensor():
    x = Tensor(brought_in(np.ones(3, np.float32)))
    with support.hosted():
        assert (2.0 * x + 1).device == "cuda"
        assert tensor([1.0]).device == "cpu"
