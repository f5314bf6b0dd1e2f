"""The walk backwards: accumulation, release, intermediate tensors, hooks, depth."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from cnncore import enable_grad, grad, no_grad, ops, tensor
from cnncore.autograd import Function, Tensor, describe, to_dot
from cnncore.autograd.graph import memory_owner
from cnncore.errors import ArgumentError, DTypeError, GraphError, ShapeError


def leaf(*values, dtype=np.float64):
    return tensor(np.array(values, dtype), requires_grad=True)


def test_paths_add_up():
    x = leaf(3.0)
    y = x * x
    (y * y + x).backward()  # x⁴ + x
    assert x.grad.item() == 4 * 27 + 1
    (x * 2.0).backward()
    assert x.grad.item() == 111  # accumulates


def test_the_graph_is_released_and_can_be_retained():
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 8
    with pytest.raises(GraphError, match="retain_graph"):
        y.backward()
    assert x.grad.item() == 8


def test_released_arrays_are_freed():
    x = leaf(*range(1000))
    hidden = ops.exp(x)
    kept = weakref.ref(hidden.data)
    y = (hidden * 2.0).sum()
    del hidden
    assert kept() is not None
    y.backward()
    assert kept() is None


def test_a_graph_holds_no_reference_cycles():
    gc.collect()
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        y = ops.relu(ops.softmax(ops.exp(x), 0)).sum()
        node = weakref.ref(y.node)
        y.backward()
        del y
        assert node() is None
    finally:
        gc.enable()


def test_ten_thousand_ops_deep():
    x = leaf(1.0)
    y = x
    for _ in range(10_000):
        y = y + 1.0
    y.backward(retain_graph=True)
    assert x.grad.item() == 1
    (g,) = grad(y, x)
    assert g.item() == 1
    assert describe(y).count("\n") == 9_999
    del y, g  # taking the chain apart does not recurse, either


def test_gradients_of_intermediate_tensors():
    x = leaf(3.0)
    y = x * x
    z = y * y
    gy, gx = grad(z, [y, x])
    assert gy.item() == 18
    assert gx.item() == 108
    assert x.grad is None
    (own,) = grad(z, z)
    assert own.item() == 1


def test_only_what_is_asked_for_is_computed():
    asked = []

    class Watched(Function):
        def forward(self, a, b):
            return a + b

        def backward(self, gy):
            asked.append(self.needs)
            return gy, gy

    x, y = leaf(1.0), leaf(2.0)
    z = Watched()(x, y)
    grad(z, x, retain_graph=True)
    grad(z, y, retain_graph=True)
    z.backward()
    assert asked == [(True, False), (False, True), (True, True)]


def test_higher_orders():
    x = leaf(2.0)
    y = x * x * x * x
    expected = [32.0, 48.0, 48.0, 24.0, 0.0]
    for value in expected[:-1]:
        (y,) = grad(y, x, create_graph=True)
        assert y.item() == value
    x.grad = None
    (x * x * x).backward(create_graph=True)
    (second,) = grad(x.grad, x)
    assert second.item() == 12


def test_unused_inputs_and_missing_graphs():
    x, other = leaf(1.0), leaf(1.0)
    y = x * 2.0
    with pytest.raises(GraphError, match=r"inputs\[0\].*allow_unused"):
        grad(y, other, retain_graph=True)
    assert grad(y, other, allow_unused=True) == (None,)
    with pytest.raises(GraphError, match="requires_grad=False"):
        grad(y, tensor([1.0]))
    with pytest.raises(GraphError, match="no_grad"):
        tensor([1.0]).backward()
    with pytest.raises(ShapeError, match="reduce"):
        (leaf(1.0, 2.0) * 2.0).backward()
    with pytest.raises(ShapeError):
        (leaf(1.0, 2.0) * 2.0).backward(np.ones(3))
    with pytest.raises(ArgumentError, match="grad_outputs"):
        grad([y, y], x, [np.ones(1)])


def test_no_grad_and_back():
    x = leaf(1.0)
    with no_grad():
        assert not (x * 2.0).requires_grad
        with enable_grad():
            assert (x * 2.0).requires_grad
    assert (x * 2.0).requires_grad

    @no_grad()
    def quiet(x):
        return x * 2.0

    assert not quiet(x).requires_grad
    assert not x.detach().requires_grad
    with pytest.raises(GraphError):
        (x * 2.0).requires_grad = False
    with pytest.raises(DTypeError):
        tensor([1], requires_grad=True)


def test_grads_of_leaves_share_no_memory_and_can_be_written():
    a, b, c = leaf(1.0, 2.0), leaf(1.0, 2.0), leaf(1.0, 2.0)
    seed = tensor(np.array([1.0, 1.0]))
    (a + b).backward(seed)
    (ops.reshape(c, 2, 1).sum() * 1.0).backward()
    arrays = [a.grad.data, b.grad.data, c.grad.data, seed.data]
    for i, left in enumerate(arrays):
        left += 10.0 * i
        for right in arrays[:i]:
            assert not np.shares_memory(left, right)
    assert len({memory_owner(array) for array in arrays}) == 4
    d = leaf(1.0)
    d.backward(seed := tensor(np.array([5.0])))
    d.grad.data += 1
    assert seed.item() == 5


def test_hooks_replace_gradients_of_leaves_and_of_results():
    x = leaf(1.0, 2.0)
    seen = []
    y = x * 3.0
    remove = y.register_hook(lambda g: seen.append(g.numpy().copy()))
    y.register_hook(lambda g: g * 10.0)
    x.register_hook(lambda g: g + 1.0)
    y.sum().backward(retain_graph=True)
    np.testing.assert_array_equal(seen, [[1, 1]])
    np.testing.assert_array_equal(x.grad.numpy(), [31, 31])
    remove()
    gy, gx = grad(y.sum(), [y, x], retain_graph=True)
    np.testing.assert_array_equal(gy.numpy(), [10, 10])
    np.testing.assert_array_equal(gx.numpy(), [31, 31])
    (only,) = grad(y.sum(), y)  # the op that made y is not visited, its hook runs all the same
    np.testing.assert_array_equal(only.numpy(), [10, 10])
    assert len(seen) == 1
    with pytest.raises(GraphError):
        tensor([1.0]).register_hook(print)


def test_the_graph_as_text_and_as_a_drawing():
    x = leaf(1.0, 2.0)
    y = ops.relu(x * x + 1.0)
    assert describe(y).splitlines() == [
        "0  Mul  (2,)  <- leaf (2,), leaf (2,)",
        "1  Add  (2,)  <- 0, constant",
        "2  Relu  (2,)  <- 1",
    ]
    drawing = to_dot(y)
    assert drawing.startswith("digraph")
    assert drawing.count("->") == 3  # x is drawn into Mul once
    for name in ("Mul", "Add", "Relu", "leaf"):
        assert name in drawing


class Wrong(Function):
    def __init__(self, result):
        self.result = result

    def forward(self, x):
        return x * 2

    def backward(self, gy):
        return self.result(gy)


def test_a_backward_that_answers_wrongly_is_told_so():
    for result, message in (
        (lambda gy: (gy, gy), "2 gradients for 1"),
        (lambda gy: (gy.sum(),), r"shape \(\), expected \(2,\)"),
    ):
        with pytest.raises(GraphError, match=message):
            Wrong(result)(leaf(1.0, 2.0)).sum().backward()
    with pytest.raises(DTypeError, match="ndarray"):
        Wrong(None)(np.ones(2))


def test_several_outputs_of_which_one_is_used():
    class Both(Function):
        def forward(self, x):
            return x * 2, x * 3, (x > 0).astype(np.int64)

        def backward(self, g2, g3, gi):
            assert gi is None
            assert g2 is None
            return (g3 * 3.0,)

    x = leaf(1.0, -1.0)
    double, triple, sign = Both()(x)
    assert double.requires_grad
    assert not sign.requires_grad
    triple.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3])


def test_optional_inputs_may_be_absent():
    x = leaf(1.0)
    y = ops.conv2d(Tensor(np.ones((1, 1, 2, 2))), ops.reshape(x, 1, 1, 1, 1), None)
    y.sum().backward()
    assert x.grad.item() == 4
