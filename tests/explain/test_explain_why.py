"""Which algorithm is chosen, and what is said about the others."""

from __future__ import annotations

import numpy as np
import pytest

import cnncore
from cnncore import kernels, nn
from cnncore.errors import ArgumentError, BackendError
from cnncore.explain import why
from cnncore.geometry import Window2d
from cnncore.kernels import dispatch, native

pytestmark = pytest.mark.skipif(not native.AVAILABLE, reason=native.REASON)

WEIGHT, SHAPE = (64, 64, 3, 3), (1, 64, 56, 56)


def test_the_least_is_chosen_and_the_precision_is_heeded() -> None:
    fast = why(WEIGHT, SHAPE, padding=1)
    assert fast.chosen == fast.candidates[0].algorithm == "winograd_4x4"
    steps = [c.steps for c in fast.candidates]
    assert steps == sorted(steps)
    with cnncore.set_precision("strict"):
        strict = why(WEIGHT, SHAPE, padding=1)
        strided = why(WEIGHT, SHAPE, stride=2, padding=1)
    assert strict.chosen == "winograd_2x2"
    assert "not with precision strict" in str(strict)
    assert "depthwise: no, it is for groups" in str(strict)
    assert strided.chosen == "winograd_phases_4x4"  # as exact as a plain sum


@pytest.mark.parametrize("direction", ["output", "input", "weight"])
@pytest.mark.parametrize("precision", ["strict", "fast"])
def test_auto_runs_what_it_says(direction: str, precision: str) -> None:
    rng = np.random.default_rng(0)
    x, gy, weight = (rng.normal(size=s).astype(np.float32) for s in (SHAPE, SHAPE, WEIGHT))
    window = Window2d.make(3, 1, 1)

    def run(algorithm: str) -> bytes:
        if direction == "output":
            y = kernels.conv2d(x, weight, None, window, 1, algorithm)
        elif direction == "input":
            y = kernels.conv_transpose2d(gy, weight, None, (56, 56), window, 1, algorithm)
        else:
            y = kernels.conv2d_weight(x, gy, window, 1, algorithm)
        return bytes(y.tobytes())

    with cnncore.set_precision(precision):
        choice = why(weight, x, padding=1, direction=direction)
        assert run("auto") == run(choice.chosen)
        others = [c.algorithm for c in choice.candidates if c.algorithm != choice.chosen]
        assert any(run("auto") != run(other) for other in others)


def test_layers_bring_their_settings() -> None:
    plain = why(nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2), (2, 8, 10, 10))
    assert plain.layer.startswith("conv2d: (2, 8, 10, 10), 16 filters of 3x3, 2 groups, float32")
    assert "winograd_4x4: no, it is for 3x3 kernels with stride 1" in str(plain)
    layer = nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1)
    back = why(layer, (2, 8, 5, 5))
    assert back.layer.startswith("conv_transpose2d: (2, 4, 10, 10), 8 filters of 4x4")
    gradient = why(
        nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1), (2, 8, 5, 5), direction="input"
    )
    assert gradient.layer.startswith("conv2d: (2, 4, 10, 10), 8 filters")
    named = why(nn.Conv2d(8, 16, 3, algorithm="im2col"), (1, 8, 5, 5))
    assert (named.chosen, named.reason) == ("im2col", "asked for by name")


def test_measured_times_are_shown() -> None:
    choice = why((4, 4, 3, 3), (1, 4, 6, 6), measure=True)
    assert all(c.seconds is not None and c.seconds > 0 for c in choice.candidates)
    assert " ms" in str(choice)


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="direction"):
        why(WEIGHT, SHAPE, direction="sideways")
    with pytest.raises(ArgumentError, match="64 channels"):
        why(WEIGHT, (1, 3, 8, 8))
    with pytest.raises(ArgumentError, match="4 axes"):
        why(WEIGHT, (8, 8))
    with dispatch.use_backend("array"), pytest.raises(BackendError, match="compiled"):
        why(WEIGHT, SHAPE)
