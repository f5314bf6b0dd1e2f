"""Kernels that users bring along: registered by name, verified and timed like all others."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnncore.bench import convolution, operations
from cnncore.errors import ArgumentError

Kernel = Callable[..., Any]

# kind -> {name: function}
_registered: dict[str, dict[str, Kernel]] = {}


def kinds() -> tuple[str, ...]:
    """What a kernel can be registered for: ``conv2d``, ``conv2d.input``, ``matmul``, …"""
    found = []
    for op in ("conv2d", "conv_transpose2d"):
        found += [op, *(f"{op}.{d}" for d in convolution.DIRECTIONS[1:])]
    for op, operation in operations.OPERATIONS.items():
        found += [op, f"{op}.backward"] if operation.differentiable else [op]
    return tuple(found)


def register(name: str, kind: str, fn: Kernel) -> Kernel:
    """Let ``fn`` take part under ``name`` wherever problems of ``kind`` are timed.

    It is called as ``fn(*arrays, **settings)`` with the problem's arrays and settings, say
    ``fn(x, weight, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)`` for ``conv2d``, and
    returns an array.  It must not write into its arguments.  A name registered again is replaced.
    ``docs/benchmarks.md`` lists the arguments of every kind.

    >>> import numpy as np
    >>> fn = register("numpy", "matmul", np.matmul)
    >>> unregister("numpy", "matmul")
    """
    if kind not in kinds():
        raise ArgumentError("kind", f"one of {', '.join(kinds())}", repr(kind))
    if not callable(fn):
        raise ArgumentError("fn", "a function of arrays", repr(fn))
    if not name or name == "cnncore":
        raise ArgumentError("name", "a name of your own", repr(name))
    _registered.setdefault(kind, {})[name] = fn
    return fn


def unregister(name: str, kind: str) -> None:
    """Take a kernel out again."""
    if _registered.get(kind, {}).pop(name, None) is None:
        raise ArgumentError("name", f"a kernel registered for {kind}", repr(name))


def registered(kind: str) -> dict[str, Kernel]:
    """The kernels of users for a kind of problem."""
    return dict(_registered.get(kind, {}))


def load(path: str | Path) -> None:
    """Run a Python file, which registers kernels."""
    if not Path(path).is_file():
        raise ArgumentError("plugin", "a Python file", str(path))
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ArgumentError("plugin", "a Python file (its name ends in .py)", str(path))
    before = {kind: dict(found) for kind, found in _registered.items()}
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    if before == _registered:
        hint = 'cnncore.bench.register("my conv", "conv2d", fn)'
        raise ArgumentError("plugin", "a file that registers kernels", str(path), hint)
