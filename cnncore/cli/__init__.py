"""The command line: ``cnncore demo | train | evaluate | predict | study | bench | info | …``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cnncore
from cnncore.cli import bench, evaluate, gradcheck, predict, profile, study, train
from cnncore.errors import CnncoreError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors of the user are one line on stderr and exit status 2."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at the end
        return 141  # as a shell reports it
    except CnncoreError as error:
        print(f"cnncore {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnncore", description="Convolutional networks from first principles."
    )
    parser.add_argument("--version", action="version", version=f"cnncore {cnncore.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="train Mask R-CNN on scenes of digits, write a report")
    demo.add_argument("--output", type=Path, default=Path("report"), help="folder of the report")
    train.training_options(demo)
    demo.set_defaults(run=_demo)

    train.add_parser(commands)
    evaluate.add_parser(commands)
    predict.add_parser(commands)
    gradcheck.add_parser(commands)
    bench.add_parser(commands)
    profile.add_parser(commands)
    study.add_parser(commands)

    info = commands.add_parser("info", help="what runs on what, and why not on better")
    info.set_defaults(run=_info)

    where = commands.add_parser("where", help="the hops from an op to its kernel")
    where.add_argument("op", help="a name in cnncore.ops, say conv2d")
    where.set_defaults(run=_where)
    return parser


def _demo(options: argparse.Namespace) -> int:
    from cnncore.inspect import machine
    from cnncore.train import demo

    print(f"Training Mask R-CNN on scenes of real digits ({machine()}).")
    print("Ctrl-C stops with what it has; the same command resumes, --fresh starts anew.")
    metrics = demo.run(
        options.output,
        fresh=options.fresh,
        progress=not options.quiet,
        steps=options.steps,
        seed=options.seed,
    )
    scores = metrics["scores"]
    print(
        f"{metrics['test_scenes']} held-out scenes after {metrics['steps']} steps "
        f"({metrics['training_seconds']:.0f} s):"
    )
    for kind in ("box", "mask"):
        print(f"  {kind:4}  AP50 {scores[f'{kind} AP50']:.3f}  AP {scores[f'{kind} AP']:.3f}")
    print(f"Report: {options.output / 'index.html'}")
    return 0


def _info(options: argparse.Namespace) -> int:
    print(cnncore.info())
    return 0


def _where(options: argparse.Namespace) -> int:
    op = getattr(cnncore.ops, options.op, None)
    if op is None:
        raise CnncoreError(f"op: expected a name in cnncore.ops, got {options.op!r}")
    cnncore.where(op)
    return 0
