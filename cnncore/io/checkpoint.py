"""Checkpoints: everything that training needs to go on exactly as if it had not stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError
from cnncore.io.files import Arrays, load, load_metadata, save
from cnncore.nn import Module, init
from cnncore.optim import Optimizer

KIND = "cnncore checkpoint 1"


def save_checkpoint(
    path: str | os.PathLike[str],
    model: Module,
    optimizer: Optimizer | None = None,
    extra: Mapping[str, Any] | None = None,
    *,
    rng: np.random.Generator | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Save model, optimiser, generators and whatever else (``extra`` arrays, ``metadata`` JSON).

    ``rng`` is the training loop's own generator; the package's (dropout, initial values) is saved
    always.  The write is atomic: a kill leaves the previous checkpoint.
    """
    arrays = {f"model/{name}": value for name, value in model.state_dict().items()}
    arrays |= {f"extra/{name}": np.asarray(value) for name, value in (extra or {}).items()}
    description: dict[str, Any] = {
        "kind": KIND,
        "metadata": dict(metadata or {}),
        "generator": _generator_state(init.generator()),
        "rng": None if rng is None else _generator_state(rng),
        "optimizer": None,
    }
    if optimizer is not None:
        state = optimizer.state_dict()
        steps = []
        for number, slots in enumerate(state["state"]):
            steps.append(slots.get("step"))
            arrays |= {f"optimizer/{number}/{k}": v for k, v in slots.items() if k != "step"}
        description["optimizer"] = {
            "type": type(optimizer).__name__,
            "groups": state["groups"],
            "steps": steps,
        }
    save(path, arrays, description)


def load_checkpoint(
    path: str | os.PathLike[str],
    model: Module,
    optimizer: Optimizer | None = None,
    *,
    rng: np.random.Generator | None = None,
) -> Arrays:
    """Restore model, optimiser and generators in place; returns the ``extra`` arrays."""
    description = load_metadata(path)
    if description.get("kind") != KIND:
        raise ArgumentError(
            "path", "a checkpoint", os.fspath(path), "cnncore.io.load(path) for plain weight files"
        )
    parts: dict[str, Arrays] = {"model": {}, "extra": {}, "optimizer": {}}
    for key, value in load(path).items():
        part, _, name = key.partition("/")
        parts[part][name] = value
    saved = description["optimizer"]
    if optimizer is not None and (saved is None or saved["type"] != type(optimizer).__name__):
        got = "none" if saved is None else saved["type"]
        raise ArgumentError(
            "optimizer", f"the type that was saved, {got}", type(optimizer).__name__
        )
    if rng is not None and description["rng"] is None:
        raise ArgumentError("rng", "None: the checkpoint holds no generator", "a Generator")
    model.load_state_dict(parts["model"])
    if optimizer is not None:
        optimizer.load_state_dict(_optimizer_state(saved, parts["optimizer"]))
    if rng is not None:
        rng.bit_generator.state = description["rng"]
    init.generator().bit_generator.state = description["generator"]
    return parts["extra"]


def checkpoint_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The ``metadata`` that ``save_checkpoint`` was given."""
    return dict(load_metadata(path).get("metadata", {}))


def _optimizer_state(saved: Mapping[str, Any], arrays: Arrays) -> dict[str, Any]:
    entries: list[dict[str, Any]] = [
        {} if step is None else {"step": step} for step in saved["steps"]
    ]
    for key, value in arrays.items():
        number, _, slot = key.partition("/")
        entries[int(number)][slot] = value
    # JSON has no tuples.
    groups = [
        {k: tuple(v) if isinstance(v, list) else v for k, v in group.items()}
        for group in saved["groups"]
    ]
    return {"groups": groups, "state": entries}


def _generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """The generator's state as JSON holds it (Python's integers have no limit)."""
    state: dict[str, Any] = json.loads(
        json.dumps(rng.bit_generator.state, default=lambda array: array.tolist())
    )
    return state
