"""Moving numbers: values against NumPy, transposes against the adjoint identity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from cnncore import ops, tensor
from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.testing import adjoint_check, gradcheck, gradgradcheck

X = np.arange(24.0).reshape(2, 3, 4)
MASK = X % 5 < 2

LINEAR = {
    "reshape": (lambda x: ops.reshape(x, 4, -1), X.reshape(4, 6)),
    "flatten": (lambda x: ops.flatten(x, 1), X.reshape(2, 12)),
    "squeeze": (lambda x: ops.squeeze(x[:, :1]), X[:, 0]),
    "unsqueeze": (lambda x: ops.unsqueeze(x, -1), X[..., None]),
    "permute": (lambda x: ops.permute(x, 2, 0, 1), X.transpose(2, 0, 1)),
    "transpose": (lambda x: ops.transpose(x, 0, 2), X.swapaxes(0, 2)),
    "flip": (lambda x: ops.flip(x, (0, -1)), X[::-1, :, ::-1]),
    "expand": (lambda x: ops.expand(x[:, :1], 5, -1, 3, 4),
               np.broadcast_to(X[:, :1], (5, 2, 3, 4))),
    "slice": (lambda x: x[:, 1:, ::-2], X[:, 1:, ::-2]),
    "integer": (lambda x: x[1, ..., None, 2], X[1, ..., None, 2]),
    "array": (lambda x: x[[1, 0, 1]], X[[1, 0, 1]]),
    "arrays": (lambda x: x[np.array([0, 1, 1]), :, np.array([3, 3, 3])],
               X[[0, 1, 1], :, [3, 3, 3]]),
    "mask": (lambda x: x[MASK], X[MASK]),
    "tensor": (lambda x: x[tensor([1, 1])], X[[1, 1]]),
    "stack": (lambda x: ops.stack([x, x * 2], 1), np.stack([X, 2 * X], 1)),
    "cat": (lambda x: ops.cat([x, x[:1]], 0), np.concatenate([X, X[:1]])),
    "split": (lambda x: ops.split(x, [1, 3], 2)[1], X[..., 1:]),
    "chunk": (lambda x: ops.chunk(x, 2, 1)[0], X[:, :2]),
    "pad": (lambda x: ops.pad(x, (1, 2, -1, 3)), np.pad(X[:, 1:], ((0, 0), (0, 3), (1, 2)))),
    "reflect": (lambda x: ops.pad(x, (2, 3, 1, 0), "reflect"),
                np.pad(X, ((0, 0), (1, 0), (2, 3)), "reflect")),
    "replicate": (lambda x: ops.pad(x, (2, 5), "replicate"),
                  np.pad(X, ((0, 0), (0, 0), (2, 5)), "edge")),
    "crop": (lambda x: ops.pad(x, (-1, -1, 0, -2)), X[:, :1, 1:-1]),
    "reflected crop": (lambda x: ops.pad(x, (-1, 2), "reflect"),
                       np.pad(X, ((0, 0), (0, 0), (0, 2)), "reflect")[..., 1:]),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_values_and_transpose(name):
    op, expected = LINEAR[name]
    np.testing.assert_array_equal(op(tensor(X)).numpy(), expected)
    adjoint_check(op, X.shape)
    gradgradcheck(op, X)


@given(st.data())
def test_any_basic_index(data):
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=4))
    x = np.arange(np.prod(shape), dtype=float).reshape(shape)
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    np.testing.assert_array_equal(ops.getitem(x, key).numpy(), x[key])
    adjoint_check(lambda x: ops.getitem(x, key), shape, exact=True)


def test_an_index_named_twice_adds_up():
    x = tensor(np.zeros(3), requires_grad=True)
    x[[2, 2, 0, 2]].backward(np.array([1.0, 10.0, 100.0, 1000.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [100, 0, 1011])


def test_constant_padding_with_a_value():
    y = ops.pad(tensor(X), (1, 0, -1, 1), value=7.0)
    np.testing.assert_array_equal(
        y.numpy(), np.pad(X[:, 1:], ((0, 0), (0, 1), (1, 0)), constant_values=7.0)
    )
    gradcheck(lambda x: ops.pad(x, (1, 0, -1, 1), value=7.0), X)
    assert ops.pad(tensor([1.0, np.inf]), (0, 1), value=2.0).numpy().tolist() == [1.0, np.inf, 2.0]


def test_slices_are_views():
    x = tensor(X)
    for y in (x[1:], x.reshape(6, 4), x.permute(2, 1, 0), ops.flip(x, 0), ops.split(x, 2, 1)[0]):
        assert np.shares_memory(y.data, x.data)
    assert not np.shares_memory(x[[0, 1]].data, x.data)


def test_split_and_chunk_sizes_are_those_of_torch():
    sizes = [piece.shape[0] for piece in ops.split(tensor(np.zeros(7)), 3)]
    assert sizes == [3, 3, 1]
    assert [piece.shape[0] for piece in ops.chunk(tensor(np.zeros(7)), 4)] == [2, 2, 2, 1]
    assert [piece.shape for piece in ops.split(tensor(np.zeros((0, 2))), 3)] == [(0, 2)]


def test_methods_are_the_same_ops():
    x = tensor(X)
    assert x.flatten().shape == (24,)
    assert x.transpose(0, 1).shape == (3, 2, 4)
    assert tensor(np.zeros((2, 5))).T.shape == (5, 2)
    assert [row.shape for row in x] == [(3, 4), (3, 4)]


@pytest.mark.parametrize(
    "call",
    [
        lambda x: ops.reshape(x, 5, 5),
        lambda x: ops.reshape(x, -1, -1),
        lambda x: ops.reshape(x, 2.0, 12),
        lambda x: ops.permute(x, 0, 0, 1),
        lambda x: ops.transpose(x, 0, 3),
        lambda x: ops.expand(x, 2, 3, 5),
        lambda x: ops.expand(x, 4),
        lambda x: ops.split(x, [1, 1], 2),
        lambda x: ops.split(x, 0),
        lambda x: ops.cat([]),
        lambda x: ops.cat([x, x[0]]),
        lambda x: ops.cat([x, x[:, :2]]),
        lambda x: ops.stack([x, x[:1]]),
        lambda x: ops.flip(x, (0, 0)),
        lambda x: ops.pad(x, (1,)),
        lambda x: ops.pad(x, (1, 1) * 4),
        lambda x: ops.pad(x, (0.5, 1)),
        lambda x: ops.pad(x, (-3, -3)),
        lambda x: ops.pad(x, (4, 0), "reflect"),
        lambda x: ops.pad(x, (1, 0), "mirror"),
        lambda x: x[5],
        lambda x: x[[0, 5]],
        lambda x: x[np.array([0.5])],
        lambda x: x["a"],
        lambda x: x[np.ones((5, 5), bool)],
    ],
)
def test_bad_input(call):
    with pytest.raises(ArgumentError):
        call(tensor(X))


def test_types_do_not_mix_in_a_join():
    with pytest.raises(DTypeError, match=r"float64.*float32"):
        ops.cat([np.zeros(2), tensor([1.0])])
    with pytest.raises(ShapeError, match=r"tensors\[1\]"):
        ops.cat([tensor(X), tensor(X[..., :2])])


def test_empty_arrays():
    x = np.zeros((0, 3, 4))
    for op in (
        lambda x: ops.reshape(x, 0, 12),
        lambda x: ops.flatten(x, 1),
        lambda x: ops.cat([x, x]),
        lambda x: ops.pad(x, (1, 1), "reflect"),
        lambda x: x[:, 1:],
        lambda x: x[np.zeros(0, int)],
    ):
        adjoint_check(op, x.shape)
