"""``cnncore gradcheck``: check the gradients of an op, or of a function in a file of yours."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.errors import ArgumentError
from cnncore.geometry import as_int
from cnncore.testing import gradcheck, gradgradcheck


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "gradcheck", help="check the gradients of an op, or of a function of yours"
    )
    parser.add_argument("target", help="a name in cnncore.ops, FILE.py:FUNCTION or MODULE:FUNCTION")
    parser.add_argument(
        "shapes",
        nargs="+",
        help="one shape an argument: 2,3,5,5 (positive numbers if it ends in +)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs (default 0)")
    parser.add_argument("--sweep", action="store_true", help="show the steps tried")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """First and second derivatives at a random point; status 1 if one is wrong."""
    fn = find(options.target)
    rng = np.random.default_rng(options.seed)
    inputs = [_draw(rng, text) for text in options.shapes]
    reports = [
        check(fn, inputs, raise_exception=False, show_sweep=options.sweep)
        for check in (gradcheck, gradgradcheck)
    ]
    for report in reports:
        print(report)
    return 0 if all(reports) else 1


def find(target: str) -> Callable[..., Any]:
    """The function a target names."""
    where, _, name = target.rpartition(":")
    if not where:
        fn = getattr(ops, target, None)
        if target not in ops.__all__ or fn is None:
            raise ArgumentError("target", "a name in cnncore.ops", repr(target), "FILE.py:FUNCTION")
        return fn  # type: ignore[no-any-return]
    if where.endswith(".py"):
        if not Path(where).is_file():
            raise ArgumentError("target", "a file that exists", where)
        spec = importlib.util.spec_from_file_location(Path(where).stem, where)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        try:
            module = importlib.import_module(where)
        except ImportError as error:
            raise ArgumentError("target", "a module that imports", f"{where} ({error})") from error
    fn = getattr(module, name, None)
    if not callable(fn):
        raise ArgumentError("target", f"a function in {where}", repr(name))
    return fn  # type: ignore[no-any-return]


def _draw(rng: np.random.Generator, text: str) -> np.ndarray[Any, Any]:
    sizes = text.removesuffix("+")
    try:
        shape = tuple(as_int("shapes", int(size), 0) for size in sizes.split(",") if size)
    except ValueError:
        raise ArgumentError("shapes", "sizes joined by commas", repr(text), "2,3,5,5") from None
    values = rng.normal(size=shape)
    return np.abs(values) + 0.1 if text.endswith("+") else values
