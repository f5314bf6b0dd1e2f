"""Modules: what they find, what they save, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore import Tensor, nn, ops
from cnncore.autograd import observe
from cnncore.errors import ArgumentError
from cnncore.nn import Buffer, Linear, Module, ModuleList, Parameter, ReLU, Sequential


class Block(Module):
    def __init__(self) -> None:
        self.first = Linear(2, 3)
        self.scale = Parameter([1.0, 2.0, 3.0])
        self.seen = Buffer(np.zeros((), np.int64))
        self.rest = Sequential(ReLU(), Linear(3, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.first(x) * self.scale)


def test_names_follow_attributes_own_before_children() -> None:
    block = Block()
    assert list(block.state_dict()) == [
        "scale",
        "seen",
        "first.weight",
        "first.bias",
        "rest.1.weight",
    ]
    assert [name for name, _ in block.named_parameters()] == [
        "scale",
        "first.weight",
        "first.bias",
        "rest.1.weight",
    ]
    assert [name for name, _ in block.named_buffers()] == ["seen"]
    assert [name for name, _ in block.named_modules()] == ["", "first", "rest", "rest.0", "rest.1"]
    assert block.num_parameters() == 3 + 6 + 3 + 3


def test_a_shared_parameter_is_trained_once_and_saved_under_both_names() -> None:
    block = Block()
    block.twin = block.first
    block.alias = block.scale
    assert len(list(block.parameters())) == 4
    assert len(list(block.modules())) == 5
    assert {"twin.weight", "first.weight", "alias"} <= set(block.state_dict())


def test_state_dict_is_a_snapshot() -> None:
    block = Block()
    before = block.state_dict()
    block.scale.data += 1
    assert before["scale"].tolist() == [1, 2, 3]


def test_state_round_trip_restores_every_value() -> None:
    source, target = Block(), Block()
    source.seen.data[...] = 7
    target.load_state_dict(source.state_dict())
    for key, value in source.state_dict().items():
        np.testing.assert_array_equal(target.state_dict()[key], value)
    x = np.ones((4, 2), np.float32)
    np.testing.assert_array_equal(source(x).numpy(), target(x).numpy())


def test_loading_converts_the_type_and_marks_the_parameter_as_written() -> None:
    linear = Linear(2, 1)
    counter = linear.weight.counter[0]
    linear.load_state_dict({"weight": np.ones((1, 2)), "bias": [0]})
    assert linear.weight.dtype == np.float32
    assert linear.weight.counter[0] > counter


def test_one_error_lists_every_difference_and_nothing_is_written() -> None:
    block = Block()
    before = block.state_dict()
    state = {**before, "scale": np.zeros(4), "extra": np.zeros(1), "first.bias": np.ones(3)}
    del state["rest.1.weight"]
    with pytest.raises(ArgumentError) as error:
        block.load_state_dict(state)
    message = str(error.value)
    assert "missing: rest.1.weight (1, 3)" in message
    assert "unexpected: extra (1,)" in message
    assert "other shape: scale (4,), here (3,)" in message
    for key, value in block.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_allowed_patterns_are_skipped_and_the_rest_is_loaded() -> None:
    block = Block()
    state = {"first.weight": np.full((3, 2), 5.0), "scale": np.zeros(9), "old.x": np.zeros(1)}
    block.load_state_dict(state, allow=["scale", "old.*", "rest.*", "seen", "first.bias"])
    assert (block.first.weight.data == 5).all()
    assert block.scale.data.tolist() == [1, 2, 3]
    with pytest.raises(ArgumentError, match="list of patterns"):
        block.load_state_dict(state, allow="scale")  # a string is a sequence of letters


def test_frozen_batch_norm_takes_a_batch_norm_file() -> None:
    batch, frozen = nn.BatchNorm2d(3), Sequential(nn.FrozenBatchNorm2d(3))
    batch.running_mean.data[...] = [1, 2, 3]
    frozen.load_state_dict({f"0.{k}": v for k, v in batch.state_dict().items()})
    assert frozen.state_dict()["0.running_mean"].tolist() == [1, 2, 3]
    assert not list(frozen.parameters())


def test_train_eval_and_zero_grad_reach_everything_below() -> None:
    block = Block()
    block.eval()
    assert not any(module.training for module in block.modules())
    block.train()
    assert all(module.training for module in block.modules())
    block(np.ones((1, 2), np.float32)).sum().backward()
    assert all(p.grad is not None for p in block.parameters())
    block.zero_grad()
    assert all(p.grad is None for p in block.parameters())


def test_to_converts_floats_only() -> None:
    block = Block().to(np.float64)
    assert block.scale.dtype == np.float64
    assert block.seen.dtype == np.int64
    assert block.scale.requires_grad
    with pytest.raises(ArgumentError, match="float32 or float64"):
        block.to(np.int32)


def test_modules_in_a_plain_list_are_refused() -> None:
    block = Block()
    with pytest.raises(ArgumentError, match="ModuleList"):
        block.many = [Linear(1, 1)]
    block.many = ModuleList([Linear(1, 1)])
    assert "many.0.weight" in block.state_dict()


def test_a_parameter_cannot_silently_stop_being_one() -> None:
    block = Block()
    with pytest.raises(ArgumentError, match="Parameter"):
        block.scale = Tensor(np.zeros(3, np.float32))
    block.scale = None
    assert "scale" not in block.state_dict()


def test_parameters_own_their_memory() -> None:
    values = np.zeros(3, np.float32)
    parameter = Parameter(values)
    values += 1
    assert parameter.data.tolist() == [0, 0, 0]


def test_observers_see_modules_entered_and_left_in_order_also_on_errors() -> None:
    block = Block()
    log: list[tuple[str, str]] = []
    names = {id(module): name for name, module in block.named_modules()}

    def watch(event) -> None:
        if event.kind in ("enter_module", "leave_module"):
            log.append((event.kind.split("_")[0], names[id(event.subject)]))

    with observe(watch):
        block(np.ones((1, 2), np.float32))
    assert log == [
        ("enter", ""),
        ("enter", "first"),
        ("leave", "first"),
        ("enter", "rest"),
        ("enter", "rest.0"),
        ("leave", "rest.0"),
        ("enter", "rest.1"),
        ("leave", "rest.1"),
        ("leave", "rest"),
        ("leave", ""),
    ]
    log.clear()
    with observe(watch), pytest.raises(ArgumentError):
        block(np.ones((1, 5), np.float32))
    assert log == [("enter", ""), ("enter", "first"), ("leave", "first"), ("leave", "")]


def test_repr_is_the_tree() -> None:
    shown = repr(Sequential(Linear(2, 3), ReLU()))
    assert shown == ("Sequential(\n  0: Linear(in_features=2, out_features=3)\n  1: ReLU()\n)")


def test_a_forgotten_forward_names_the_class() -> None:
    class Empty(Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty"):
        Empty()(1)


def test_sequential_with_names_and_wrong_entries() -> None:
    named = Sequential({"conv": nn.Conv2d(1, 1, 1)})
    assert list(named.state_dict()) == ["conv.weight", "conv.bias"]
    with pytest.raises(ArgumentError, match="a Module"):
        Sequential(ops.relu)


def test_a_wrong_file_gives_a_short_error() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(30)))
    with pytest.raises(ArgumentError) as caught:
        model.load_state_dict({f"other.{n}": np.zeros(1) for n in range(50)})
    lines = str(caught.value).splitlines()
    assert "110 differences" in lines[0]
    assert len(lines) == 1 + 2 * 21
    assert "missing: 40 more" in str(caught.value)
    assert "unexpected: 30 more" in str(caught.value)
    assert "removeprefix" not in str(caught.value)


def test_a_prefix_that_all_names_share_is_told() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    with pytest.raises(ArgumentError, match=r"try: .*removeprefix\('module\.'\)"):
        model.load_state_dict(state)
    model.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
