"""Algorithms chosen by trying: the fastest is kept, and only when asked for."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_support import window

import cnncore
from cnncore import kernels
from cnncore.kernels import measured, native, switches

pytestmark = pytest.mark.skipif(not native.AVAILABLE, reason=native.REASON)

WIN = window(3, 1, 1)


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(measured, "_fastest", {})


def fake_clock(monkeypatch, fastest):
    """Every algorithm takes a second, ``fastest`` half of one; returns what was run."""
    ran = []

    def seconds(run, name):
        run(name)
        ran.append(name)
        return 0.5 if name == fastest else 1.0

    monkeypatch.setattr(measured, "_seconds", seconds)
    return ran


@pytest.mark.parametrize("fastest", ["implicit_gemm", "winograd_2x2", "winograd_4x4"])
def test_the_fastest_is_taken_for_the_shape_and_tried_once(monkeypatch, rng, fastest):
    x, weight = (rng.normal(size=s).astype(np.float32) for s in ((1, 24, 13, 13), (24, 24, 3, 3)))
    calls = {
        "output": lambda a: kernels.conv2d(x, weight, None, WIN, 1, a),
        "input": lambda a: kernels.conv_transpose2d(x, weight, None, (13, 13), WIN, 1, a),
        "weight": lambda a: kernels.conv2d_weight(x, x, WIN, 1, a),
    }
    for call in calls.values():
        ran = fake_clock(monkeypatch, fastest)
        with cnncore.measure_algorithms():
            assert call("auto").tobytes() == call(fastest).tobytes()
            tried = list(ran)
            call("auto")
        assert fastest in tried
        assert len(set(tried)) == len(tried)
        assert ran == tried


def test_it_is_off_unless_asked_for_and_under_deterministic(monkeypatch, rng):
    ran = fake_clock(monkeypatch, "implicit_gemm")
    x, weight = rng.normal(size=(1, 8, 9, 9)), rng.normal(size=(8, 8, 3, 3))
    kernels.conv2d(x, weight, None, WIN)
    with cnncore.measure_algorithms(), cnncore.deterministic():
        assert not switches.measures_algorithms()
        kernels.conv2d(x, weight, None, WIN)
    assert ran == []


def test_precision_limits_what_is_tried(monkeypatch, rng):
    ran = fake_clock(monkeypatch, "winograd_4x4")
    x, weight = (rng.normal(size=s).astype(np.float32) for s in ((1, 24, 13, 13), (24, 24, 3, 3)))
    with cnncore.measure_algorithms(), cnncore.set_precision("strict"):
        kernels.conv2d(x, weight, None, WIN)
    assert "winograd_2x2" in ran
    assert "winograd_4x4" not in ran


def test_times_are_taken():
    runs = []
    assert measured._seconds(runs.append, "direct") >= 0
    assert runs == ["direct"] * 4
