"""``cnncore train NAME``: train one of the small networks, print its scores."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Register the command."""
    from cnncore.train.sources import FORMS

    parser = commands.add_parser("train", help="train one of the small networks")
    parser.add_argument("name", help="which network; a wrong name lists them all")
    parser.add_argument("--output", type=Path, help="folder of the checkpoint (default: runs/NAME)")
    parser.add_argument("--data", help=f"to learn from: {', '.join(FORMS)} (default: NAME's own)")
    parser.add_argument("--split", help="split to score on: validation or test")
    parser.add_argument("--scenes", type=int, help="scenes or pictures to score on")
    training_options(parser)
    parser.set_defaults(run=run)


def training_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command that trains."""
    parser.add_argument("--steps", type=int, help="training steps (default: the recipe's)")
    parser.add_argument("--seed", type=int, help="of weights, scenes and sampling (default 0)")
    parser.add_argument("--fresh", action="store_true", help="forget the checkpoint, start anew")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Train, score on samples that training has not seen."""
    from cnncore.train import make_task

    task = make_task(options.name, options.data, steps=options.steps, seed=options.seed)
    folder = options.output or Path("runs") / options.name
    if options.fresh:
        for checkpoint in task.checkpoints(folder):
            checkpoint.unlink(missing_ok=True)
    histories = task.train(folder, progress=not options.quiet)
    steps = sum(history.steps for history in histories)
    seconds = sum(sum(history.seconds) for history in histories)
    split = options.split or (task.source.held_out if task.source else "test")
    if split is None:
        print(f"{steps} steps ({seconds:.0f} s); this data has no part held out to score on")
        return 0
    count = task.held_out_count if options.scenes is None else options.scenes
    samples = task.held_out(split, count)
    _, scores = task.evaluate(samples)
    print(f"{len(samples)} {split} {task.noun} after {steps} steps ({seconds:.0f} s):")
    for name in [*task.headline, *(n for n in scores if n not in task.headline)]:
        print(f"  {name:16} {scores[name]:.3f}")
    return 0
