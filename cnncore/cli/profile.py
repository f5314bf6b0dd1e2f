"""``cnncore profile``: where the time of a network's step goes, op by op."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cnncore import models
from cnncore.autograd import Tensor, no_grad
from cnncore.errors import ArgumentError
from cnncore.explain.memory import total_of
from cnncore.geometry import as_int
from cnncore.inspect import machine
from cnncore.io import atomic_write
from cnncore.kernels import native


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "profile",
        help="where a network's time goes: op by op, kernels and Python apart",
        epilog="Example: cnncore profile resnet50 --batch 4 --backward --html profile.html",
    )
    parser.add_argument(
        "name", nargs="?", help="a network, or with --task what cnncore train knows"
    )
    parser.add_argument(
        "--overhead", action="store_true", help="instead: what Python costs each of the common ops"
    )
    parser.add_argument("--task", action="store_true", help="a whole step of training on its data")
    parser.add_argument("--shape", default="3,224,224", help="of one image (default 3,224,224)")
    parser.add_argument("--batch", type=int, default=1, help="images (default 1)")
    parser.add_argument("--classes", type=int, default=10, help="of the network (default 10)")
    parser.add_argument("--backward", action="store_true", help="the backward pass, too")
    parser.add_argument("--shapes", action="store_true", help="a line for every shape of an op")
    parser.add_argument("--steps", type=int, default=10, help="to average over (default 10)")
    parser.add_argument("--threads", type=int, help="default: one a core")
    parser.add_argument("--rows", type=int, default=30, help="lines to print (default 30)")
    parser.add_argument("--json", type=Path, help="write all figures")
    parser.add_argument("--html", type=Path, help="write a page")
    parser.add_argument("--trace", type=Path, help="write a trace for chrome://tracing or Perfetto")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the profile and write what was asked for."""
    from cnncore.profile import page, profile, text, to_json, trace

    if options.threads is not None:
        native.set_num_threads(options.threads)
    if options.overhead:
        return _overhead(options)
    if options.name is None:
        hint = "cnncore profile resnet50, or cnncore profile --overhead"
        raise ArgumentError("name", "a network", "none", hint)
    step, title = _task(options.name) if options.task else _network(options)
    found = profile(step, options.steps, options.shapes)
    print(f"{title} on {machine()}")
    print(text(found, options.rows))
    if options.json is not None:
        _write(options.json, to_json(found, title, machine()))
    if options.trace is not None:
        _write(options.trace, trace(found))
    if options.html is not None:
        page(found, title, machine()).write(options.html)
    return 0


def _overhead(options: argparse.Namespace) -> int:
    from cnncore.profile import overhead, overhead_text

    rows = overhead()
    print(f"Python around small ops on {machine()}")
    print(overhead_text(rows))
    if options.json is not None:
        _write(options.json, [asdict(row) for row in rows])
    return 0


def _write(path: Path, plain: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write((json.dumps(plain) + "\n").encode())


def _network(options: argparse.Namespace) -> tuple[Callable[[], Any], str]:
    """A pass over random images; the loss of a backward pass is the sum of all outputs."""
    try:
        shape = tuple(as_int("shape", int(part), 1) for part in options.shape.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 3:
        raise ArgumentError("shape", "three sizes C,H,W", repr(options.shape), "--shape 3,224,224")
    batch = as_int("batch", options.batch, 0)
    model = models.create(options.name, options.classes)
    x = Tensor(np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32))
    size = "×".join(map(str, (batch, *shape)))
    if not options.backward:
        model.eval()

        def forward() -> None:
            with no_grad():
                model(x)

        return forward, f"{options.name}, forward, {size}"

    def both() -> None:
        total_of(model(x)).backward()
        model.zero_grad()

    model.train()
    return both, f"{options.name}, forward and backward, {size}"


def _task(name: str) -> tuple[Callable[[], Any], str]:
    """Steps of training as ``cnncore train`` takes them, on one batch of its data."""
    from cnncore.optim import AdamW, clip_grad_norm
    from cnncore.train import make_task

    task = make_task(name)
    batch = next(task.batches(0))
    recipe = task.recipe
    optimizer = AdamW(task.model.parameters(), lr=1e-5, weight_decay=recipe.weight_decay)
    task.model.train()

    def step() -> None:
        terms = list(task.loss(batch, np.random.default_rng(0), 0.5).values())
        loss = terms[0]
        for term in terms[1:]:
            loss = loss + term
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(task.model.parameters(), recipe.clip_norm)
        optimizer.step()

    return step, f"a training step of {name}, {len(batch)} {task.noun}"
