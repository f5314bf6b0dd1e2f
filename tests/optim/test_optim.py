"""Optimisers against steps worked out by hand, from the papers' formulas, and against PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cnncore import Tensor
from cnncore.errors import ArgumentError
from cnncore.nn import Parameter
from cnncore.optim import SGD, Adam, AdamW, NonFiniteGradientError, clip_grad_norm, schedules


def stepped(optimizer, parameter: Parameter, gradients) -> list[float]:
    """The parameter's value after each of these gradients."""
    values = []
    for gradient in gradients:
        parameter.grad = Tensor(np.full_like(parameter.data, gradient))
        optimizer.step()
        values.append(float(parameter.data[0]))
    return values


def one() -> Parameter:
    return Parameter(np.ones(1))  # float64


def test_sgd_by_hand() -> None:
    p = one()
    # 1 − .1·2, then .8 − .1·(−1)
    assert stepped(SGD([p], 0.1), p, [2, -1]) == pytest.approx([0.8, 0.9], abs=1e-15)


def test_sgd_momentum_by_hand() -> None:
    p = one()
    # v = 2: 1 − .2 = .8;  v = .9·2 − 1 = .8: .8 − .08 = .72;  v = .9·.8 = .72: .72 − .072
    values = stepped(SGD([p], 0.1, momentum=0.9), p, [2, -1, 0])
    assert values == pytest.approx([0.8, 0.72, 0.648], abs=1e-15)


def test_sgd_dampening_begins_with_the_second_step() -> None:
    p = one()
    # v = 2; then v = .5·2 + (1 − .25)·4 = 4
    values = stepped(SGD([p], 0.1, momentum=0.5, dampening=0.25), p, [2, 4])
    assert values == pytest.approx([0.8, 0.4], abs=1e-15)


def test_sgd_nesterov_by_hand() -> None:
    p = one()
    # g + μ v with v = g = 2: 1 − .1·(2 + .5·2) = .7;  v = 1 + 2 = 3: .7 − .1·(2 + 1.5)
    values = stepped(SGD([p], 0.1, momentum=0.5, nesterov=True), p, [2, 2])
    assert values == pytest.approx([0.7, 0.35], abs=1e-15)


def test_sgd_weight_decay_by_hand() -> None:
    p = one()
    assert stepped(SGD([p], 0.1, weight_decay=0.5), p, [0])[0] == pytest.approx(0.95, abs=1e-15)


def test_adam_first_step_is_the_sign_of_the_gradient() -> None:
    for gradient in (1e-3, 7.0, -2.0):
        p = one()
        value = stepped(Adam([p], 0.1, eps=0.0), p, [gradient])[0]
        assert value == pytest.approx(1 - math.copysign(0.1, gradient), abs=1e-12)


def test_adam_second_step_by_hand() -> None:
    p = one()
    value = stepped(Adam([p], 0.1, betas=(0.5, 0.75), eps=0.5), p, [2, 4])[1]
    # first: m̂ = 2, v̂ = 4: 1 − .1·2/2.5;  m = .5·1 + .5·4 = 2.5, m̂ = 2.5/.75
    # v = .75·1 + .25·16 = 4.75, v̂ = 4.75/(1 − .5625)
    expected = 0.92 - 0.1 * (2.5 / 0.75) / (math.sqrt(4.75 / 0.4375) + 0.5)
    assert value == pytest.approx(expected, abs=1e-14)


def test_weight_decay_is_inside_the_gradient_for_adam_and_outside_for_adamw() -> None:
    p, q = one(), one()
    # With gradient 0: Adam sees g = λ p > 0 and takes a full step; AdamW only shrinks.
    assert stepped(Adam([p], 0.1, weight_decay=0.01), p, [0])[0] == pytest.approx(0.9, abs=1e-6)
    assert stepped(AdamW([q], 0.1, weight_decay=0.01), q, [0])[0] == pytest.approx(0.999, abs=1e-12)


def test_groups_have_settings_of_their_own() -> None:
    p, q = one(), one()
    optimizer = SGD([{"params": [p]}, {"params": [q], "lr": 0.5}], lr=0.1)
    for parameter in (p, q):
        parameter.grad = Tensor(np.ones(1))
    optimizer.step()
    assert (p.data[0], q.data[0]) == pytest.approx((0.9, 0.5))
    optimizer.lr = 0.2
    assert [group["lr"] for group in optimizer.groups] == [0.2, 0.2]


def test_no_gradient_no_update_not_even_decay() -> None:
    p = one()
    AdamW([p], 0.1, weight_decay=1.0).step()
    assert p.data[0] == 1


def test_an_update_counts_as_a_write() -> None:
    from cnncore.errors import GraphError

    p = one()
    y = p * p
    p.grad = Tensor(np.ones(1))
    before = p.counter[0]
    SGD([p], 0.1).step()
    assert p.counter[0] > before
    with pytest.raises(GraphError, match="modified"):
        y.backward(np.ones(1))


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(kind) -> None:
    settings = {"momentum": 0.9, "dampening": 0.2} if kind is SGD else {}
    gradients = np.random.default_rng(0).normal(size=8).astype(np.float32)

    def fresh():
        p = Parameter(np.ones(5, np.float32))
        return p, kind([p], lr=0.01, **settings)

    whole, optimizer = fresh()
    stepped(optimizer, whole, gradients)
    first, optimizer = fresh()
    stepped(optimizer, first, gradients[:3])
    state = optimizer.state_dict()
    second, resumed = fresh()
    second.data[...] = first.data
    stepped(optimizer, first, [100])  # the snapshot must not follow the running optimiser
    resumed.lr = 99.0  # comes back with the state
    resumed.load_state_dict(state)
    stepped(resumed, second, gradients[3:])
    np.testing.assert_array_equal(second.data, whole.data)


def test_state_of_another_model_is_refused() -> None:
    p = one()
    optimizer = Adam([p])
    stepped(optimizer, p, [1])
    state = optimizer.state_dict()
    with pytest.raises(ArgumentError, match="groups of"):
        Adam([one(), one()]).load_state_dict(state)
    with pytest.raises(ArgumentError, match="shape"):
        Adam([Parameter(np.ones(2))]).load_state_dict(state)


def test_bad_arguments_are_named() -> None:
    p = one()
    with pytest.raises(ArgumentError, match="at least one parameter"):
        SGD([])
    with pytest.raises(ArgumentError, match="every parameter once"):
        SGD([p, p])
    with pytest.raises(ArgumentError, match="settings among"):
        SGD([{"params": [p], "rate": 1.0}])
    for bad in (-0.1, math.nan, math.inf):
        with pytest.raises(ArgumentError, match="lr"):
            SGD([p], lr=bad)
    with pytest.raises(ArgumentError, match="betas"):
        Adam([p], betas=(0.9, 1.0))
    with pytest.raises(ArgumentError, match="nesterov"):
        SGD([p], nesterov=True)


# --- clipping -------------------------------------------------------------------------------------


def test_clipping_scales_all_gradients_by_one_factor() -> None:
    p, q, r = one(), one(), one()
    p.grad, q.grad = Tensor(np.array([3.0])), Tensor(np.array([-4.0]))
    assert clip_grad_norm([p, q, r], 2.5) == pytest.approx(5)
    assert (p.grad.data[0], q.grad.data[0]) == pytest.approx((1.5, -2.0))
    assert r.grad is None
    assert clip_grad_norm([p, q, r], 2.5) == pytest.approx(2.5)
    assert p.grad.data[0] == pytest.approx(1.5)


def test_clipping_serves_read_only_gradients() -> None:
    p = one()
    p.grad = Tensor(np.broadcast_to(np.array([8.0]), (1,)))
    clip_grad_norm([p], 1.0)
    assert p.grad.data[0] == pytest.approx(1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clipping_refuses_what_is_not_finite_and_names_it(bad) -> None:
    p, q = one(), one()
    p.grad, q.grad = Tensor(np.ones(1)), Tensor(np.array([bad]))
    with pytest.raises(NonFiniteGradientError, match="parameter 1"):
        clip_grad_norm([p, q], 1.0)


# --- schedules ------------------------------------------------------------------------------------


def test_warmup_is_linear_and_ends_at_the_base() -> None:
    schedule = schedules.Constant(0.4, warmup=4)
    assert [schedule(s) for s in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_cosine_goes_from_base_to_final_and_stays() -> None:
    schedule = schedules.Cosine(2.0, steps=12, warmup=2, final=0.1)
    assert [schedule(s) for s in (2, 7, 12, 50)] == pytest.approx([2.0, 1.1, 0.2, 0.2])
    values = [schedule(s) for s in range(2, 13)]
    assert values == sorted(values, reverse=True)


def test_step_multiplies_at_every_milestone() -> None:
    schedule = schedules.Step(1.0, (3, 5), gamma=0.5)
    assert [schedule(s) for s in (2, 3, 4, 5, 9)] == [1.0, 0.5, 0.5, 0.25, 0.25]


def test_bad_schedules_are_refused() -> None:
    with pytest.raises(ArgumentError, match="base"):
        schedules.Constant(-1.0)
    with pytest.raises(ArgumentError, match="warmup"):
        schedules.Cosine(1.0, 10, warmup=-1)
