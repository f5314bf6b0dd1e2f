"""What the machine can do at best, measured in the same run as everything that is compared to it.

``Roof.seconds``: the least time for work of known operations and bytes (Williams et al., "Roofline:
an insightful visual performance model for multicore architectures", 2009).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore.kernels import native

FAR = 1 << 24  # floats an array: three of 64 MB are in no cache
NEAR = 1 << 14  # three of 64 KB, which a second-level cache holds


@dataclass(frozen=True)
class Roof:
    """Operations a second, bytes a second from memory and from a cache near the cores."""

    flops: float
    bandwidth: float
    cache_bandwidth: float
    method: str

    def seconds(self, flops: float, nbytes: float) -> float:
        """The least time: whichever of arithmetic and memory takes longer.

        >>> Roof(100.0, 10.0, 50.0, "").seconds(200.0, 10.0)
        2.0
        """
        return max(flops / self.flops, nbytes / self.bandwidth)


def measure_roof(dtype: Any = np.float32, trials: int = 40) -> Roof:
    """The best of a few short trials of each loop: the machine undisturbed."""
    if not native.AVAILABLE:
        return _with_numpy(dtype, trials)
    rounds = 2000
    flops = _best(lambda: native.probe_arithmetic(dtype, rounds), trials)
    rates = []
    for count, sweeps in ((FAR, 1), (NEAR, 512)):
        a, b, c = (np.ones(count, np.float32) for _ in range(3))

        def sweep(a: Any = a, b: Any = b, c: Any = c, sweeps: int = sweeps) -> float:
            native.probe_memory(a, b, c, sweeps)
            return 12.0 * float(a.size) * sweeps

        rates.append(_best(sweep, max(1, trials // 4)))
    isa = native.describe()["isa"]
    return Roof(
        flops, rates[0], rates[1],
        f"independent multiply-adds in {np.dtype(dtype).name} and a triad of float32 arrays "
        f"(12 bytes an element), compiled for {isa}, {native.get_num_threads()} threads, best of "
        f"{trials}",
    )  # fmt: skip


def _with_numpy(dtype: Any, trials: int) -> Roof:
    a = np.ones((512, 512), dtype)
    flops = _best(lambda: 2.0 * a.size * float((a @ a).shape[0]), trials)
    rates = []
    for count, sweeps in ((FAR, 1), (NEAR, 64)):
        x, y = np.ones(count, np.float32), np.ones(count, np.float32)

        def copy(x: Any = x, y: Any = y, sweeps: int = sweeps) -> float:
            for _ in range(sweeps):
                np.copyto(y, x)
            return 8.0 * float(x.size * sweeps)

        rates.append(_best(copy, trials))
    method = f"NumPy's matrix product and copy, best of {trials} (no compiled kernels here)"
    return Roof(flops, rates[0], rates[1], method)


def _best(work: Callable[[], float], trials: int) -> float:
    """The highest rate; the first trial warms up."""
    work()
    best = 0.0
    for _ in range(trials):
        start = time.perf_counter()
        done = work()
        best = max(best, done / (time.perf_counter() - start))
    return best
