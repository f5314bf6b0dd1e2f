"""NumPy: its matrix product, and our plain vectorised version of everything else."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from cnncore.bench import convolution, operations
from cnncore.bench.problem import Contender, Problem
from cnncore.kernels.dispatch import use_backend


class Peer:
    """NumPy on so many threads of its BLAS (only if threadpoolctl is there to say so)."""

    name, version = "numpy", np.__version__

    def __init__(self, threads: int) -> None:
        try:
            importlib.import_module("threadpoolctl").threadpool_limits(threads)
        except ImportError:
            self.version += " (its own number of threads: threadpoolctl is not installed)"

    def contenders(self, problem: Problem) -> list[Contender]:
        """``np.matmul``, or the plain version of the kernel."""
        if problem.kind == "matmul":
            a, b = problem.arrays.values()
            return [Contender(self.name, "peer", lambda: np.matmul(a, b))]
        table = operations if problem.case.op in operations.OPERATIONS else convolution
        ours = table.ours(problem, "auto")
        return [Contender(self.name, "peer", _plainly(ours.run), ours.read)]


def _plainly(run: Callable[[], Any]) -> Callable[[], Any]:
    def plain() -> Any:
        with use_backend("array"):
            return run()

    return plain
