"""The training loop on a model of one parameter: resuming, stopping, refusing."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.nn import Dropout, Module, Parameter
from cnncore.train import DivergedError, History, Recipe, fit

RECIPE = Recipe(steps=8, batch_size=2, warmup_steps=2, checkpoint_seconds=1e9)


class Slope(Module):
    """y = a x, to be fitted to y = 3 x."""

    def __init__(self) -> None:
        self.a = Parameter(np.ones(1))


def numbers(step: int) -> Iterator[float]:
    return (1.0 + (s % 5) for s in itertools.count(step))


def loss_of(model: Slope) -> Any:
    def loss(x: float, rng: np.random.Generator, progress: float) -> dict[str, Tensor]:
        noise = float(rng.normal()) * 0.01
        error = model.a * x - (3.0 * x + noise)
        return {"squared": (error * error).sum() * (1.0 - 0.5 * progress)}

    return loss


def run(
    checkpoint: Path | None, stop_after: int | None = None, recipe: Recipe = RECIPE
) -> tuple[Slope, History]:
    model = Slope()

    def batches(step: int) -> Iterator[float]:
        end = None if stop_after is None else stop_after - step
        return itertools.islice(numbers(step), end)

    history = fit(model, loss_of(model), batches, recipe, checkpoint, progress=False)
    return model, history


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    straight, whole = run(None)
    _, first = run(tmp_path / "c.npz", stop_after=3)
    resumed, second = run(tmp_path / "c.npz")
    assert first.steps == 3
    assert second.steps == whole.steps == 8
    assert resumed.a.data.tobytes() == straight.a.data.tobytes()
    assert second.terms == whole.terms


def test_dropout_of_a_resumed_run_draws_what_it_would_have(tmp_path: Path) -> None:
    def dropping(model: Slope) -> Any:
        def loss(x: float, rng: np.random.Generator, progress: float) -> dict[str, Tensor]:
            return {"kept": Dropout(0.5)(model.a * np.full(50, x)).mean()}

        return loss

    histories = []
    for stop in (None, 3, None):
        model = Slope()
        batches = lambda step, stop=stop: itertools.islice(  # noqa: E731
            numbers(step), None if stop is None else stop - step
        )
        path = tmp_path / "c.npz" if histories else None
        histories.append(fit(model, dropping(model), batches, RECIPE, path, progress=False))
    whole, first, second = histories
    assert (first.steps, second.steps) == (3, 8)
    assert second.terms == whole.terms


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    first, _ = run(tmp_path / "c.npz")
    second, history = run(tmp_path / "c.npz")
    assert history.steps == 8
    assert second.a.data.tobytes() == first.a.data.tobytes()


def test_other_settings_do_not_resume(tmp_path: Path) -> None:
    run(tmp_path / "c.npz", stop_after=3)
    with pytest.raises(ArgumentError, match=r"learning_rate 0\.1 instead of 0\.003"):
        run(tmp_path / "c.npz", recipe=replace(RECIPE, learning_rate=0.1))


def test_ctrl_c_finishes_the_step_and_saves(tmp_path: Path) -> None:
    model = Slope()
    loss = loss_of(model)

    def interrupting(x: float, rng: np.random.Generator, progress: float) -> dict[str, Tensor]:
        if progress == 2 / 8:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(x, rng, progress)  # type: ignore[no-any-return]

    before = signal.getsignal(signal.SIGINT)
    history = fit(model, interrupting, numbers, RECIPE, tmp_path / "c.npz", progress=False)
    assert history.steps == 3
    assert signal.getsignal(signal.SIGINT) is before
    _, resumed = run(tmp_path / "c.npz")
    assert resumed.steps == 8


def test_a_diverged_loss_stops_with_its_step() -> None:
    model = Slope()

    def bad(x: float, rng: np.random.Generator, progress: float) -> dict[str, Tensor]:
        return {"squared": (model.a * (float("nan") if progress else 1.0)).sum()}

    with pytest.raises(DivergedError, match="step 1"):
        fit(model, bad, numbers, RECIPE, progress=False)


def test_training_fits_the_slope() -> None:
    model, history = run(None, recipe=replace(RECIPE, steps=400, learning_rate=0.05))
    assert abs(float(model.a.data[0]) - 3.0) < 0.02
    assert history.terms["squared"][-1] < 0.01 * history.terms["squared"][0]
