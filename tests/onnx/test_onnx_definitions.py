"""Forms of operators that neither the conformance suite nor ONNX Runtime covers, by definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx_models import one_node

from cnncore.onnx import load


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
