"""The matrix, the cost table and the followed region, each against what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore import nn, ops
from cnncore.errors import ArgumentError
from cnncore.explain import conv_map, convolution_matrix, cost, follow_region
from cnncore.geometry import Window2d
from cnncore.testing import adjoint_check


def test_the_matrix_by_hand() -> None:
    weight = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    expected = [
        [1, 2, 0, 3, 4, 0, 0, 0, 0],
        [0, 1, 2, 0, 3, 4, 0, 0, 0],
        [0, 0, 0, 1, 2, 0, 3, 4, 0],
        [0, 0, 0, 0, 1, 2, 0, 3, 4],
    ]
    assert convolution_matrix(weight, (3, 3)).matrix.tolist() == expected


def test_the_matrix_convolves_and_its_transpose_is_conv_transpose2d() -> None:
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(4, 1, 3, 2)), rng.normal(size=(1, 2, 6, 5))
    A = convolution_matrix(weight, (6, 5), stride=2, padding=1, groups=2).matrix
    y = ops.conv2d(x, weight, stride=2, padding=1, groups=2).numpy()
    np.testing.assert_allclose(A @ x.ravel(), y.ravel(), atol=1e-12)
    back = ops.conv_transpose2d(
        y, weight, stride=2, padding=1, groups=2, output_size=(6, 5)
    ).numpy()
    np.testing.assert_allclose(A.T @ y.ravel(), back.ravel(), atol=1e-12)
    window = Window2d.make((3, 2), 2, 1)
    adjoint_check(conv_map(weight, window, (6, 5), 2), (3, 2, 6, 5))


def test_a_matrix_too_large_for_a_picture_is_refused() -> None:
    with pytest.raises(ArgumentError, match="input_size"):
        convolution_matrix(np.ones((8, 8, 3, 3)), (64, 64))


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4 * 5 * 6, 2)

    def forward(self, x):
        return self.head(ops.flatten(ops.relu(self.conv(x)), 1))


def test_costs_counted_by_hand() -> None:
    table = cost(TwoLayers(), (3, 5, 6), batch=2, timed=True)
    rows = {row.name: row for row in table.rows}
    conv, head, rest = rows["conv"], rows["head"], rows["(model)"]
    assert conv.parameters == 4 * 3 * 9 + 4
    assert conv.multiply_adds == 2 * 4 * 5 * 6 * 3 * 9
    assert conv.output_shape == (2, 4, 5, 6)
    assert conv.kept_bytes == 2 * 3 * 5 * 6 * 4  # the images, for the gradient of the weight
    # ReLU's result is kept twice, by ReLU and by the dense layer, but it is one array.
    assert rest.kept_bytes + head.kept_bytes == 2 * 4 * 5 * 6 * 4
    assert head.parameters == 120 * 2 + 2
    assert head.multiply_adds == 2 * 120 * 2
    assert rest.parameters == 0
    assert table.total("parameters") == 112 + 242
    assert all(row.forward_seconds > 0 for row in table.rows)
    assert conv.backward_seconds > 0


def test_one_region_against_the_ops() -> None:
    features = np.random.default_rng(0).normal(size=(3, 12, 10)).astype(np.float32)
    box = np.array([4.0, 6.0, 30.0, 41.0])
    followed = follow_region(features, box, 0.25, (3, 4), channel=1)
    rois = np.array([[0.0, *box]], np.float32)
    pooled = ops.roi_pool(features[None], rois, (3, 4), 0.25).numpy()[0, 1]
    aligned = ops.roi_align(features[None], rois, (3, 4), 0.25, 2, True).numpy()[0, 1]
    np.testing.assert_array_equal(followed.pooled, pooled)
    np.testing.assert_array_equal(followed.aligned, aligned)
    np.testing.assert_array_equal(features[1].ravel()[followed.switches], pooled)
    x, y = followed.sample_points()
    assert x.shape == y.shape == (6, 8)
