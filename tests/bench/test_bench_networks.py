"""Whole networks: what is compared before anything is timed, and that each can take a step."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore.bench import networks
from cnncore.bench.networks import Network, Ours, compare_gradients, run_network
from cnncore.errors import ArgumentError

SMALL = Network("lenet5", (2, 1, 32, 32), 10, {"variant": "modern"})


def gradients() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"a.weight": rng.normal(size=(4, 5)), "a.bias": rng.normal(size=4)}


def test_equal_gradients_agree() -> None:
    assert compare_gradients(1.0, gradients(), 1.0, gradients()) == (0.0, "")


def test_what_deviates_is_named() -> None:
    wrong = gradients()
    wrong["a.bias"] = wrong["a.bias"] * 1.1
    error, note = compare_gradients(1.0, wrong, 1.0, gradients())
    assert error == pytest.approx(0.1)
    assert "a.bias" in note
    assert "losses" in compare_gradients(1.01, gradients(), 1.0, gradients())[1]
    missing = gradients()
    del missing["a.bias"]
    assert "a.bias" in compare_gradients(1.0, missing, 1.0, gradients())[1]
    broken = gradients()
    broken["a.weight"][0, 0] = np.nan
    assert compare_gradients(1.0, broken, 1.0, gradients())[1]


def test_a_network_is_timed_without_peers() -> None:
    found = list(run_network(SMALL, 1, torch=False, threads=1, memory=False))
    assert [result.job for result in found] == ["inference", "compiled", "training"]
    assert all(result.rows[0].timing is not None for result in found)
    assert found[0].ratio is None


def test_a_step_changes_the_weights_and_inference_does_not() -> None:
    ours = Ours(SMALL)
    before = ours.model.state_dict()
    ours.prepare("inference")
    ours.infer()
    assert all(np.array_equal(v, before[k]) for k, v in ours.model.state_dict().items())
    ours.prepare("training")
    before = {k: v.copy() for k, v in before.items()}
    ours.step()
    after = ours.model.state_dict()
    assert any(not np.array_equal(v, before[k]) for k, v in after.items())


def test_what_is_compiled_gives_the_same() -> None:
    ours = Ours(SMALL)
    ours.prepare("inference")
    expected = ours.infer().numpy()
    ours.prepare("compiled")
    assert ours.forward is not ours.model
    np.testing.assert_allclose(ours.infer().numpy(), expected, rtol=1e-4, atol=1e-5)
    ours.prepare("training")
    assert ours.forward is ours.model


def test_the_detector_learns_from_what_was_drawn_once() -> None:
    pytest.importorskip("sklearn")
    ours = Ours(Network("maskrcnn_small", (2, 3, 128, 128), 10))
    ours.prepare("training")
    first, second = ours.gradients(), ours.gradients()
    assert first[0] == second[0]
    assert all(np.array_equal(g, second[1][name]) for name, g in first[1].items())
    assert set(first[1]) == {name for name, _ in ours.model.named_parameters()}


def test_networks_are_found_by_the_beginning_of_their_name() -> None:
    assert [n.name for n in networks.find("lenet")] == ["lenet5"]
    assert len(networks.find()) == len(networks.NETWORKS)
    with pytest.raises(ArgumentError, match="only"):
        networks.find("nothing")
