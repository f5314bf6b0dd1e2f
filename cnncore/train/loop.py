"""The training loop: steps, a progress bar, checkpoints that survive a kill, a clean Ctrl-C.

The loop knows nothing of the model but a function from a batch to named loss terms.  Everything a
run depends on (parameters, optimiser state, step, generator) is in the checkpoint, so a resumed run
continues exactly as the uninterrupted one would have.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError, CnncoreError, require
from cnncore.io import checkpoint_metadata, load_checkpoint, save_checkpoint
from cnncore.nn import Module, init
from cnncore.optim import AdamW, clip_grad_norm, schedules

Rng = np.random.Generator
LossTerms = Mapping[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How to train: AdamW, linear warm-up, cosine decay, gradient clipping."""

    steps: int
    batch_size: int = 8
    learning_rate: float = 0.003
    weight_decay: float = 0.001
    warmup_steps: int = 60
    clip_norm: float = 10.0
    seed: int = 0
    checkpoint_seconds: float = 30.0

    def stage_before(self, whole: Recipe, first: Recipe) -> Recipe:
        """``first``, the stage before ``whole``: shortened as this one is, and with its seed."""
        steps = math.ceil(first.steps * self.steps / whole.steps)
        return replace(first, steps=steps, seed=self.seed)


@dataclass
class History:
    """What was measured while training: one entry a step."""

    terms: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)  # duration of each step

    def add(self, terms: Mapping[str, float], seconds: float) -> None:
        """Append one step."""
        for name, value in terms.items():
            self.terms.setdefault(name, []).append(value)
        self.seconds.append(seconds)

    @property
    def steps(self) -> int:
        """Steps recorded."""
        return len(self.seconds)

    def arrays(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"seconds": np.asarray(self.seconds)} | {
            f"terms/{name}": np.asarray(values) for name, values in self.terms.items()
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, Any]) -> History:
        """The inverse of ``arrays``."""
        terms = {
            key.removeprefix("terms/"): [float(v) for v in values]
            for key, values in arrays.items()
            if key.startswith("terms/")
        }
        return History(terms, [float(v) for v in arrays["seconds"]])


class DivergedError(CnncoreError, RuntimeError):
    """The loss became NaN or infinite."""


def fit(
    model: Module,
    loss: Callable[[Any, Rng, float], LossTerms],
    batches: Callable[[int], Iterator[Any]],
    recipe: Recipe,
    checkpoint: Path | None = None,
    progress: bool = True,
    about: Mapping[str, Any] | None = None,
) -> History:
    """Train until ``recipe.steps`` or Ctrl-C, resuming from ``checkpoint`` where there is one.

    ``loss(batch, rng, progress)`` gives the named terms whose sum is minimised (progress runs from
    0 to 1); ``batches(step)`` iterates over batches from that step on.  On Ctrl-C the step is
    finished and saved, and the history so far is returned; a second Ctrl-C interrupts at once.
    ``about`` (JSON) goes into the checkpoint; one about something else is not resumed.
    """
    metadata = {"recipe": asdict(recipe), "task": dict(about or {})}
    optimizer = AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = schedules.Cosine(recipe.learning_rate, recipe.steps, recipe.warmup_steps)
    history = History()
    if checkpoint is not None and checkpoint.exists():
        _refuse_other_run(checkpoint, metadata)
        history = History.from_arrays(load_checkpoint(checkpoint, model, optimizer))
    step, saved = history.steps, time.monotonic()
    tqdm = require("tqdm", "vision").tqdm
    model.train()
    with (
        _interruptible() as interrupted,
        tqdm(
            total=recipe.steps, initial=step, disable=not progress, unit="step", dynamic_ncols=True
        ) as bar,
    ):
        for batch in batches(step):
            if step >= recipe.steps or interrupted.is_set():
                break
            started = time.perf_counter()
            rng = np.random.default_rng(
                (recipe.seed, step)
            )  # so that a resumed step draws the same
            init.seed((recipe.seed, step, 1))  # of dropout, likewise
            optimizer.lr = schedule(step)
            terms = loss(batch, rng, step / recipe.steps)
            values = _step(model, optimizer, terms, recipe.clip_norm, step)
            history.add(values, time.perf_counter() - started)
            step += 1
            bar.update()
            if step % 10 == 0:
                bar.set_postfix_str(_progress_text(history, recipe.batch_size), refresh=False)
            if checkpoint is not None and time.monotonic() - saved > recipe.checkpoint_seconds:
                _save(checkpoint, model, optimizer, history, metadata)
                saved = time.monotonic()
    if checkpoint is not None:
        _save(checkpoint, model, optimizer, history, metadata)
    return history


def _save(
    checkpoint: Path,
    model: Module,
    optimizer: AdamW,
    history: History,
    metadata: Mapping[str, Any],
) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(checkpoint, model, optimizer, history.arrays(), metadata=metadata)


def _refuse_other_run(checkpoint: Path, metadata: Mapping[str, Any]) -> None:
    saved = checkpoint_metadata(checkpoint)
    differing = [
        f"{name} {value} instead of {saved.get(part, {}).get(name)}"
        for part in ("recipe", "task")
        for name, value in metadata[part].items()
        # Checkpoints of earlier releases do not say what they are about.
        if value != saved.get(part, {}).get(name) and (part == "recipe" or saved.get(part))
    ]
    if differing:
        raise ArgumentError(
            "recipe",
            f"the settings that {checkpoint} was begun with",
            ", ".join(differing),
            "the same settings, another output folder, or --fresh",
        )


def _step(
    model: Module, optimizer: AdamW, terms: LossTerms, clip_norm: float, step: int
) -> dict[str, float]:
    values = {name: float(term.data) for name, term in terms.items()}
    if not all(np.isfinite(value) for value in values.values()):
        raise DivergedError(
            f"step {step}: the loss is not finite ({values}); try: a lower learning rate, "
            "or cnncore.detect_anomaly() to see where it first appears"
        )
    optimizer.zero_grad()
    total_loss(terms).backward()
    clip_grad_norm(model.parameters(), clip_norm)
    optimizer.step()
    return values


def total_loss(terms: LossTerms) -> Tensor:
    """The sum of the terms."""
    total, *others = terms.values()
    for term in others:
        total = total + term
    return total


def _progress_text(history: History, batch_size: int) -> str:
    recent = slice(-50, None)
    parts = [f"{name} {np.mean(values[recent]):.3f}" for name, values in history.terms.items()]
    rate = batch_size / float(np.mean(history.seconds[recent]))
    return ", ".join([*parts, f"{rate:.0f} images/s"])


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event that the loop looks at; a second one interrupts."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
