"""Forms of operators that neither the conformance suite nor ONNX Runtime covers, by definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import numpy_helper
from onnx_models import one_node

import cnncore
from cnncore.onnx import UnsupportedOperator, load


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_local_response_of_even_and_odd_sizes(size: int) -> None:
    """Channels from ``c - floor((size - 1)/2)`` to ``c + ceil((size - 1)/2)``, as ONNX says."""
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    expected = np.empty_like(x)
    for c in range(6):
        first = max(0, c - math.floor((size - 1) / 2))
        last = min(5, c + math.ceil((size - 1) / 2))
        squares = (x[:, first : last + 1] ** 2).sum(1)
        expected[:, c] = x[:, c] / (2.0 + 0.5 / size * squares) ** 0.6
    model = load(one_node("LRN", [x], size=size, alpha=0.5, beta=0.6, bias=2.0))
    np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-5)


def test_a_transposed_convolution_with_more_output_padding_than_stride() -> None:
    """What lies beyond the kernel's reach is the bias alone."""
    x, w, b = np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 1, 1), np.float32), np.float32([3])
    model = load(one_node("ConvTranspose", [x, w, b], output_shape=[5, 4]))
    y = model(x, w, b).numpy()[0, 0]
    expected = np.full((5, 4), 3.0)
    expected[:2, :2] = 4.0
    np.testing.assert_array_equal(y, expected)


def test_scatter_with_repeated_places() -> None:
    x, u = np.zeros(4, np.float32), np.float32([1, 2, 4])
    index = np.int64([1, 1, -1])
    results = {"add": [0, 3, 0, 4], "max": [0, 2, 0, 4], "min": [0, 0, 0, 0], "mul": [0, 0, 0, 0]}
    for how, expected in results.items():
        model = load(one_node("ScatterElements", [x, index, u], reduction=how))
        np.testing.assert_array_equal(model(x, index, u).numpy(), expected)


def test_empty_batches_and_no_boxes() -> None:
    empty = np.zeros((0, 3, 6, 6), np.float32)
    weight = np.ones((4, 3, 3, 3), np.float32)
    assert load(one_node("Conv", [empty, weight]))(empty, weight).shape == (0, 4, 4, 4)
    for op in ("MaxPool", "AveragePool", "LpPool"):
        model = load(one_node(op, [empty], kernel_shape=[2, 2], strides=[2, 2]))
        assert model(empty).shape == (0, 3, 3, 3), op
    sizes = np.int64([0, 3, 9, 4])
    assert load(one_node("Resize", [empty, None, None, sizes]))(empty, sizes).shape == (0, 3, 9, 4)
    x, none = np.ones((1, 3, 6, 6), np.float32), np.zeros((0, 4), np.float32)
    image = np.zeros(0, np.int64)
    for mode in ("avg", "max"):
        model = load(one_node("RoiAlign", [x, none, image], mode=mode, sampling_ratio=2))
        assert model(x, none, image).shape == (0, 3, 1, 1)
    boxes, scores = np.zeros((1, 0, 4), np.float32), np.zeros((1, 2, 0), np.float32)
    assert load(one_node("NonMaxSuppression", [boxes, scores]))(boxes, scores).shape == (0, 3)


def test_casting_to_double_keeps_large_integers_and_gradients() -> None:
    """``float64`` is no ``float6…``: it once was taken for one, and rounded to float32."""
    large = np.int64([2**24 + 1, -(2**40) - 3])
    double = load(one_node("Cast", [large], to=11))
    np.testing.assert_array_equal(double(large).numpy(), large.astype(np.float64))
    x = cnncore.tensor(np.float32([1.5, -2.0]), requires_grad=True)
    (gx,) = cnncore.grad(load(one_node("Cast", [x.numpy()], to=11))(x).sum(), (x,))
    np.testing.assert_array_equal(gx.numpy(), [1, 1])


# --- older forms ----------------------------------------------------------------------------------

M = np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 10.0
PLANE = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)


def softmax_of_rows(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def first(*values: int) -> np.ndarray:
    return np.int64(values)


# Operator, opsets, inputs, attributes, result: what later versions say otherwise.
OLDER: list[tuple[str, range, list, dict, np.ndarray]] = [
    ("Add", range(7, 25), [M, M[0, 0]], {}, M + M[0, 0]),
    ("Softmax", range(7, 13), [M], {}, softmax_of_rows(M.reshape(2, 12)).reshape(M.shape)),
    ("Softmax", range(7, 13), [M], {"axis": 2}, softmax_of_rows(M.reshape(6, 4)).reshape(M.shape)),
    ("LogSoftmax", range(7, 13), [M],
     {}, np.log(softmax_of_rows(M.reshape(2, 12))).reshape(M.shape)),
    ("Hardmax", range(7, 13), [M],
     {}, np.eye(12, dtype=np.float32)[[11, 11]].reshape(M.shape)),
    ("Clip", range(7, 11), [M], {"min": -2.0, "max": 3.0}, M.clip(-2, 3)),
    ("Clip", range(7, 11), [M], {"min": -2.0}, M.clip(-2, None)),
    ("Dropout", range(7, 12), [M], {"ratio": 0.5}, M),
    ("Slice", range(7, 10), [M], {"starts": [1, -3], "ends": [3, 1000], "axes": [1, 2]},
     M[:, 1:3, -3:]),
    ("Squeeze", range(7, 13), [M[:1, :, :1]], {"axes": [0, 2]}, M[0, :, 0]),
    ("Squeeze", range(7, 13), [M[:1, :, :1]], {}, M[0, :, 0]),
    ("Unsqueeze", range(7, 13), [M], {"axes": [0, 4]}, M[None, :, :, :, None]),
    ("ReduceSum", range(7, 13), [M], {"axes": [1], "keepdims": 0}, M.sum(1)),
    ("ReduceSum", range(7, 13), [M], {}, M.sum(keepdims=True)),
    ("ReduceMean", range(7, 18), [M], {"axes": [0, 2]}, M.mean((0, 2), keepdims=True)),
    ("ReduceMax", range(7, 18), [M], {"axes": [2], "keepdims": 0}, M.max(2)),
    ("ReduceL2", range(7, 18), [M], {"axes": [1]}, np.sqrt((M * M).sum(1, keepdims=True))),
    ("ArgMax", range(7, 25), [M], {"axis": 1, "keepdims": 0}, M.argmax(1)),
    ("Pad", range(7, 11), [M], {"pads": [0, 1, 0, 0, 0, 2], "value": 7.0},
     np.pad(M, ((0, 0), (1, 0), (0, 2)), constant_values=7)),
    ("Pad", range(7, 11), [M], {"pads": [0, 1, 0, 0, 0, 2], "mode": "reflect"},
     np.pad(M, ((0, 0), (1, 0), (0, 2)), "reflect")),
    ("Upsample", range(7, 9), [PLANE], {"scales": [1.0, 1.0, 2.0, 3.0]},
     PLANE.repeat(2, 2).repeat(3, 3)),
    ("Upsample", range(9, 10), [PLANE, np.float32([1, 1, 2, 3])], {},
     PLANE.repeat(2, 2).repeat(3, 3)),
    ("Resize", range(10, 11), [PLANE, np.float32([1, 1, 0.5, 2])], {},
     PLANE[:, :, ::2].repeat(2, 3)),
    ("Gemm", range(7, 25), [M[0], M[1].T.copy(), np.float32([[1], [2], [3]])],
     {"alpha": 0.5, "beta": 2.0}, 0.5 * M[0] @ M[1].T + 2 * np.float32([[1], [2], [3]])),
    ("Cast", range(7, 25), [M], {"to": 7}, M.astype(np.int64)),
    ("BatchNormalization", range(7, 25),
     [M, *(np.float32(v) for v in ([1, 2, 3], [0, 1, 0], [1, -1, 0], [4, 1, 0.25]))],
     {"epsilon": 0.0},
     (M - np.float32([[1], [-1], [0]])) / np.float32([[2], [1], [0.5]])
     * np.float32([[1], [2], [3]]) + np.float32([[0], [1], [0]])),
    ("PRelu", range(7, 25), [M, np.float32([[0.5], [2], [0]])],
     {}, np.where(M < 0, M * np.float32([[0.5], [2], [0]]), M)),
    ("AveragePool", range(7, 25), [PLANE], {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0],
                                            "strides": [4, 4]}, PLANE[:, :, :1, :1]),
    ("Flatten", range(7, 25), [M], {"axis": 2}, M.reshape(6, 4)),
    ("Constant", range(7, 25), [], {"value": numpy_helper.from_array(M)}, M),
    ("Where", range(9, 25), [M > 0, M, -M], {}, np.abs(M)),
    ("OneHot", range(9, 25), [first(1, -1), first(3), np.float32([0, 5])],
     {}, np.float32([[0, 5, 0], [0, 0, 5]])),
    ("Scatter", range(9, 11), [M[0], np.int64([[2, 0]]), np.float32([[7, 8]])], {"axis": 1},
     np.float32([[8, -9, 7, -7], [-6, -5, -4, -3], [-2, -1, 0, 1]])),
    ("Mod", range(10, 25), [M, np.float32(3)], {"fmod": 1}, np.fmod(M, 3)),
]  # fmt: skip


@pytest.mark.parametrize("case", OLDER, ids=lambda c: f"{c[0]}-{c[1].start}-{c[1].stop - 1}")
def test_versions_of_operators(case) -> None:
    op, opsets, inputs, attributes, expected = case
    for opset in opsets:
        y = load(one_node(op, inputs, opset, **attributes))(*inputs).numpy()
        assert y.shape == expected.shape, opset
        assert y.dtype == expected.dtype, opset
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6, err_msg=f"opset {opset}")


def test_versions_with_several_results() -> None:
    for opset in range(7, 13):
        a, b = load(one_node("Split", [M], opset, 2, axis=2, split=[1, 3]))(M)
        np.testing.assert_array_equal(a.numpy(), M[..., :1])
        np.testing.assert_array_equal(b.numpy(), M[..., 1:])
    for opset in range(7, 18):
        a, b = load(one_node("Split", [M], opset, 2, axis=2))(M)
        np.testing.assert_array_equal(b.numpy(), M[..., 2:])
    for opset in range(7, 10):
        values, places = load(one_node("TopK", [M], opset, 2, k=2, axis=1))(M)
        np.testing.assert_array_equal(values.numpy(), M[:, :0:-1])
        np.testing.assert_array_equal(places.numpy()[0, :, 0], [2, 1])
    for opset in range(10, 25):
        values, _ = load(one_node("TopK", [M, first(1)], opset, 2, axis=-1))(M, first(1))
        np.testing.assert_array_equal(values.numpy(), M[..., -1:])
    with pytest.raises(UnsupportedOperator, match="Upsample of opset 13"):
        load(one_node("Upsample", [PLANE, np.float32([1, 1, 2, 2])], 13))
