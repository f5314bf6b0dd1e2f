"""The plain kernels run on arrays that are not NumPy's: what CuPy needs, without a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import strict_arrays
import test_kernels_invariance as invariance
from device_support import on_device

from cnncore import kernels
from cnncore.errors import ArgumentError
from cnncore.kernels import dispatch


@pytest.fixture
def moved(monkeypatch):
    """All kernels that ``linear`` and ``rounded`` call run on the stand-in."""
    namespace = SimpleNamespace(
        **{name: on_device(getattr(kernels, name)) for name in dispatch.KERNELS}
    )

    def run(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(invariance, "k", namespace)
            return function(*args)

    return run


def test_arrays_of_another_module_are_served(moved, dtype):
    with dispatch.use_backend("array"):
        expected = invariance.linear(dtype, True), invariance.rounded(dtype)
    assert dispatch.resolve("conv2d", device=True)[0] == "array"
    invariance.assert_agree(expected[0], moved(invariance.linear, dtype, True))
    invariance.assert_agree(expected[1], moved(invariance.rounded, dtype))


def test_edge_cases_too():
    x = strict_arrays.asarray(np.ones((0, 3, 4), np.float32))
    assert kernels.softmax(x).get().shape == (0, 3, 4)
    boxes = strict_arrays.asarray(np.zeros((0, 4)))
    assert kernels.nms(boxes, boxes[:, 0], 0.5).get().shape == (0,)
    with pytest.raises(ArgumentError, match="box 0"):
        kernels.box_iou(strict_arrays.asarray(np.array([[2.0, 0, 1, 1]])), boxes)
    ones, index = (strict_arrays.asarray(np.full((1, n, 1), n)) for n in (2, 1))
    with pytest.raises(ArgumentError, match="x: expected float32"):
        kernels.gather(ones, index)
    with pytest.raises(ArgumentError, match="index: expected indices"):
        kernels.gather(strict_arrays.asarray(np.ones((1, 1, 1))), index)


def test_the_stand_in_is_strict():
    """It would be no check if it let NumPy in."""
    x = strict_arrays.asarray(np.ones(3))
    here = np.ones(3)
    for mixture in (
        lambda: x + here,
        lambda: here + x,
        lambda: np.asarray(x),
        lambda: np.exp(x),
        lambda: np.concatenate([x, x]),
        lambda: x[np.array([0, 1])],
        lambda: strict_arrays.where(x > 0, here, x),
    ):
        with pytest.raises(TypeError):
            mixture()
    with pytest.raises(AttributeError):
        strict_arrays.percentile  # noqa: B018
