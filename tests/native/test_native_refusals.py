"""Compiled code refuses what it cannot serve, in words, even when called past the checks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cnncore.errors import ArgumentError
from cnncore.geometry import Window2d
from cnncore.kernels import native
from cnncore.taps import Bins, Taps

pytestmark = pytest.mark.skipif(not native.AVAILABLE, reason=native.REASON)

X = np.ones((2, 3, 4, 5), np.float32)
ROWS = np.ones((3, 4), np.float32)
VECTOR = np.ones(3, np.float32)
ROWS4, STATS = np.ones((2, 2, 1, 3)), np.ones((1, 2, 1))
TAPS_H = Taps(4, np.zeros((1, 2, 1), np.int64), np.ones((1, 2, 1)), np.ones((1, 2), np.int64))
TAPS_W = dataclasses.replace(TAPS_H, size=5)
BINS_H = Bins(4, np.zeros((1, 2), np.int64), np.full((1, 2), 4))
BINS_W = Bins(5, np.zeros((1, 2), np.int64), np.full((1, 2), 5))
WINDOW = Window2d((2, 2), (2, 2))
IMAGE = np.zeros(2, np.int64)


def moved(index):
    return dataclasses.replace(TAPS_H, index=np.full((1, 2, 1), index))


def counted(count):
    return dataclasses.replace(TAPS_H, count=np.full((1, 2), count))


REFUSALS = {
    "rank": ("x", lambda: native.max_pool2d(X[0], WINDOW, (2, 2))),
    "half": ("x", lambda: native.max_pool2d(X.astype(np.float16), WINDOW, (2, 2))),
    "window without pixels": ("output_size", lambda: native.max_pool2d(X, WINDOW, (3, 2))),
    "zero stride": ("window", lambda: native.max_pool2d(X, Window2d((2, 2), (0, 1)), (2, 2))),
    "huge window": ("window", lambda: native.max_pool2d(X, Window2d((2**62, 2)), (2, 2))),
    "image": ("image", lambda: native.bin_max(X, IMAGE + 2, BINS_H, BINS_W)),
    "negative image": ("image", lambda: native.resample(X, IMAGE - 1, TAPS_H, TAPS_W)),
    "image type": ("image", lambda: native.resample(X, IMAGE.astype(np.int32), TAPS_H, TAPS_W)),
    "bins": (
        "rows",
        lambda: native.bin_max(X, IMAGE, Bins(4, BINS_H.start, BINS_H.end + 1), BINS_W),
    ),
    "bins size": ("x", lambda: native.bin_max(X, IMAGE, BINS_W, BINS_W)),
    "tap index": ("rows", lambda: native.resample(X, IMAGE, moved(4), TAPS_W)),
    "tap index negative": ("rows", lambda: native.resample(X, IMAGE, moved(-1), TAPS_W)),
    "tap count": ("rows", lambda: native.resample(X, IMAGE, counted(2), TAPS_W)),
    "tap count negative": ("rows", lambda: native.resample(X, IMAGE, counted(-1), TAPS_W)),
    "tap index adjoint": (
        "rows",
        lambda: native.resample_adjoint(np.ones((2, 3, 2, 2)), IMAGE, moved(4), TAPS_W, 2),
    ),
    "tap size": ("x", lambda: native.resample(X, IMAGE, TAPS_W, TAPS_W)),
    "groups": (
        "rows",
        lambda: native.resample(
            X, np.zeros(3, np.int64), Taps(4, *(np.repeat(a, 2, 0) for a in parts(TAPS_H))), TAPS_W
        ),
    ),
    "channels": ("x", lambda: native.resample(X, IMAGE, TAPS_H, TAPS_W, True)),
    "gather index": ("index", lambda: native.gather(X[0], np.full((1, 2, 1), 4))),
    "gather below -1": ("index", lambda: native.gather(X[0], np.full((1, 2, 5), -2))),
    "scatter index": ("index", lambda: native.scatter_add(X[0], np.full((3, 4, 1), 7), 7)),
    "scatter -1": (
        "index",
        lambda: native.scatter_add(X[0], np.full((3, 4, 1), -1), 7, False),
    ),
    "scatter rows": ("index", lambda: native.scatter_add(X[0], np.zeros((3, 3, 1), np.int64), 7)),
    "index shape": ("index", lambda: native.gather(X[0], np.zeros((2, 4, 1), np.int64))),
    "row vector": ("a", lambda: native.row_linear(ROWS, VECTOR[:2], VECTOR)),
    "row dtype": ("b", lambda: native.row_linear(ROWS, VECTOR, VECTOR.astype(np.float64))),
    "row shape": ("z", lambda: native.row_linear2(ROWS, ROWS[:2], VECTOR, VECTOR, VECTOR)),
    "normalize weight": ("weight", lambda: native.normalize(ROWS4, VECTOR, None, 0, 0.0)),
    "normalize dtype": (
        "bias",
        lambda: native.normalize(ROWS4, None, np.ones(2, np.float32), 0, 0.0),
    ),
    "normalize empty": ("x", lambda: native.normalize(ROWS4[:0], None, None, 0, 0.0)),
    "normalize gy": (
        "gy",
        lambda: native.normalize_backward(ROWS4[..., :2], ROWS4, None, STATS, STATS, 0),
    ),
    "normalize mean": (
        "mean",
        lambda: native.normalize_backward(ROWS4, ROWS4, None, STATS[:, :1], STATS, 0),
    ),
    "empty row": ("x", lambda: native.row_moments(np.ones((3, 0)))),
    "kind": ("kind", lambda: native.pointwise(X, "swishy")),
    "params": ("kind", lambda: native.pointwise(X, "elu")),
    "order": ("order", lambda: native.pointwise(X, "relu", (), 3)),
    "scale": ("scale", lambda: native.pointwise(X, "relu", (), 1, X[:1])),
    "axis": ("axis", lambda: native.reduce_max(X, 4)),
    "axes": ("axes", lambda: native.reduce_sum(X, (1, 1))),
    "no classes": ("x", lambda: native.softmax(np.ones((2, 0, 3)))),
    "boxes": ("b", lambda: native.box_iou(ROWS, ROWS[:, :3])),
    "scores": ("scores", lambda: native.nms(ROWS, VECTOR[:2], 0.5)),
    "grad": ("grad", lambda: native.sgd_update(VECTOR.copy(), VECTOR[:2], None, 0.1)),
    "velocity": ("velocity", lambda: native.sgd_update(VECTOR.copy(), VECTOR, None, 0.1, 0.9)),
    "step": ("step", lambda: native.adam_update(*np.ones((4, 3)), 0, 0.1)),
    "strided parameter": (
        "param",
        lambda: native.sgd_update(np.ones(6, np.float32)[::2], VECTOR, None, 0.1),
    ),
}


def parts(taps):
    return taps.index, taps.weight, taps.count


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_with_the_name_of_the_argument(case):
    argument, call = REFUSALS[case]
    with pytest.raises(ArgumentError) as caught:
        call()
    assert caught.value.argument == argument
    assert str(caught.value).startswith(f"{argument}: expected ")


def test_read_only_parameters_are_refused_and_read_only_inputs_served():
    frozen = VECTOR.copy()
    frozen.flags.writeable = False
    with pytest.raises(ArgumentError, match="writeable"):
        native.sgd_update(frozen, VECTOR, None, 0.1)
    param = np.ones(3, np.float32)
    native.sgd_update(param, frozen, None, 0.5)
    assert param.tolist() == [0.5] * 3


def test_strided_and_foreign_arrays_are_served():
    x = np.arange(24.0).reshape(2, 12)
    want = native.row_linear(x, np.ones(2), np.ones(2))
    wide = np.repeat(x, 2, axis=1)[:, ::2]
    for form in (wide, np.asfortranarray(x), x.astype(">f8")):
        np.testing.assert_array_equal(native.row_linear(form, np.ones(2), np.ones(2)), want)
