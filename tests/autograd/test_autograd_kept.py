"""What is kept for backward: counted, released, and watched for modification."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore import detect_anomaly, ops, tensor
from cnncore.autograd import Function, observe
from cnncore.errors import AnomalyError, GraphError


def test_a_version_counter_notices_writes_through_tensors():
    w = tensor([1.0, 2.0])
    x = tensor([3.0, 4.0], requires_grad=True)
    y = (x * w).sum()
    w[0] = 1.0  # the same value: only the counter can tell
    with pytest.raises(GraphError, match=r"Mul.*modified"):
        y.backward()
    y = (x * w.detach()).sum()
    w.touched()  # a detached tensor shares memory and counter
    with pytest.raises(GraphError, match="modified"):
        y.backward()


def test_raw_writes_into_data_are_noticed():
    x = tensor([3.0, 4.0], requires_grad=True)
    y = (x * x).sum()
    x.data[1] = 5.0
    with pytest.raises(GraphError, match=r"Mul.*modified since the forward pass"):
        y.backward()


def test_a_new_array_is_no_modification():
    x = tensor([3.0, 4.0], requires_grad=True)
    y = (x * x).sum()
    x.data = np.array([0.0, 0.0], np.float32)
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [6, 8])


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
def test_large_arrays_are_sampled_and_searched_whole_under_detect_anomaly(layout):
    whole = np.ones((100, 200))
    values = whole if layout == "contiguous" else whole[:, ::2]
    x = tensor(np.ones(values.shape), requires_grad=True)
    w = tensor(0.0)
    w.data = values
    y = (x * w).sum()
    values += 1.0  # everything: a sample must see it
    with pytest.raises(GraphError):
        y.backward()
    with detect_anomaly():
        y = (x * w).sum()
    values[57, 33] = 9.0  # one value: only the whole array can tell
    with pytest.raises(GraphError):
        y.backward()


def test_outputs_and_further_arrays_are_watched_too():
    x = tensor([1.0, 2.0], requires_grad=True)
    y = ops.exp(x)
    y.data[0] = 0.0
    with pytest.raises(GraphError, match="Exp"):
        y.sum().backward()
    index = np.array([1, 0])
    y = x[index]
    index[0] = 0
    with pytest.raises(GraphError, match="GetItem"):
        y.sum().backward()


def test_writing_into_what_takes_a_gradient_is_refused():
    x = tensor([1.0], requires_grad=True)
    with pytest.raises(GraphError, match="in-place"):
        x[0] = 2.0
    with pytest.raises(GraphError):
        (x * 2.0)[0] = 2.0


def test_kept_bytes():
    x = tensor(np.ones((10, 10)), requires_grad=True)
    assert (x + 1.0).node.kept_bytes == 0
    assert ops.exp(x).node.kept_bytes == 800
    y = (x * x).sum()
    edge = y.node.edges[0][0]
    assert edge.kept_bytes == 1600
    y.backward()
    assert edge.kept_bytes == 0


def test_nothing_is_kept_under_no_grad_or_without_need():
    x = tensor(np.ones(3))
    y = ops.exp(x)
    assert y.node is None

    class Keeps(Function):
        def forward(self, x):
            self.keep_input(0)
            self.keep(x * 2)
            return x

    node = Keeps()
    node(x)
    assert node.kept_bytes == 0


# --- anomalies ------------------------------------------------------------------------------------


def test_the_first_nan_of_a_forward_names_op_and_line():
    x = tensor([-1.0, 2.0], requires_grad=True)
    with detect_anomaly(), pytest.raises(AnomalyError) as caught:
        ops.log(x).sum()
    message = str(caught.value)
    assert "forward of Log" in message
    assert "its inputs were finite" in message
    assert f"{__file__}:" in message
    assert ops.log(x).numpy()[1] > 0  # outside: no complaint


def test_a_nan_that_came_in_is_said_to_have():
    with detect_anomaly(), pytest.raises(AnomalyError, match="input 1"):
        tensor([1.0]) + tensor([np.nan])


def test_an_infinite_gradient_names_the_line_of_its_forward():
    x = tensor([0.0, 1.0], requires_grad=True)
    with detect_anomaly():
        y = ops.sqrt(x)
        line = __import__("inspect").currentframe().f_lineno
        with pytest.raises(AnomalyError) as caught:
            y.sum().backward()
    message = str(caught.value)
    assert "backward of Sqrt" in message or "forward of Div" in message
    assert "Sqrt" not in message or f"{__file__}:{line}" in message


# --- events ---------------------------------------------------------------------------------------


def test_every_op_reports_forward_and_backward():
    events = []
    x = tensor([2.0], requires_grad=True)
    with observe(lambda e: events.append((e.kind, e.subject.name))):
        y = x * x
        y.backward()
    kinds = [event for event in events if event[1] == "Mul"]
    assert kinds[:2] == [("before_forward", "Mul"), ("after_forward", "Mul")]
    assert ("before_backward", "Mul") in kinds
    assert ("after_backward", "Mul") in kinds
    count = len(events)
    x * x
    assert len(events) == count  # outside the block nobody watches


def test_events_carry_tensors():
    seen = {}
    x = tensor([2.0], requires_grad=True)
    with observe(lambda e: seen.setdefault(e.kind, e)):
        y = x * 3.0
        y.backward()
    assert seen["after_forward"].inputs[0] is x
    assert seen["after_forward"].outputs[0] is y
    assert seen["before_backward"].inputs[0].item() == 1
    assert seen["after_backward"].outputs[0].item() == 3
    assert seen["after_backward"].outputs[1] is None


def test_an_observer_is_removed_when_the_block_fails():
    calls = []
    with pytest.raises(ZeroDivisionError), observe(calls.append):
        raise ZeroDivisionError
    tensor([1.0]) + 1.0
    assert calls == []
