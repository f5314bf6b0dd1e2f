"""The others: what to install for each, and how each solves our problems.

A peer is an object with ``name``, ``version`` and ``contenders(problem)``, which returns one
``Contender`` for every way worth timing (PyTorch has two memory formats) or raises ``CannotError``.
``find`` imports only what was asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Protocol

from cnncore.bench.problem import Contender, Problem
from cnncore.errors import ArgumentError

# name -> (module of this package, packages it needs, what to type)
PEERS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "torch": ("pytorch", ("torch",), "pip install torch"),
    "onnxruntime": ("onnx_runtime", ("onnxruntime", "onnx"), "pip install onnxruntime onnx"),
    "numpy": ("plain_numpy", ("numpy",), "pip install numpy"),
}


class Peer(Protocol):
    """What the runner knows of a peer."""

    name: str
    version: str

    def contenders(self, problem: Problem) -> list[Contender]:
        """Its ways to solve a problem."""


def find(names: Iterable[str], threads: int) -> tuple[list[Peer], list[str]]:
    """The peers that are there, set to so many threads, and a line for each that is not."""
    peers: list[Peer] = []
    missing = []
    for name in names:
        if name not in PEERS:
            raise ArgumentError("against", f"some of {', '.join(PEERS)}", repr(name))
        module, packages, hint = PEERS[name]
        try:
            for package in packages:
                importlib.import_module(package)
        except ImportError as error:
            missing.append(f"{name} is left out: {error}; try: {hint}")
            continue
        peers.append(importlib.import_module(f"{__name__}.{module}").Peer(threads))
    return peers, missing
