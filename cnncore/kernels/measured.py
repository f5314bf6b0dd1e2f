"""Choosing a convolution's algorithm by trying, instead of by the rule: ``measure_algorithms``.

The first call of a shape times every algorithm that the rule deems worth it, on the caller's own
arrays; later calls of the shape take the fastest.  Algorithms round differently and clocks vary, so
two processes may then differ in the last bits: under ``deterministic`` the rule decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cnncore.geometry import Window2d
from cnncore.kernels import native, switches

WORTH = 3.0  # algorithms of up to so many times the steps of the best are tried

_fastest: dict[tuple[Any, ...], str] = {}


def choose(
    direction: str,
    shape: tuple[int, ...],
    outputs: int,
    window: Window2d,
    groups: int,
    dtype: Any,
    run: Callable[[str], Any],
) -> str:
    """The fastest algorithm for a layer; ``run(algorithm)`` computes it.

    The arguments before ``run`` are those of ``native.convolution_estimates``.
    """
    layer = (shape, outputs, window, groups, direction, dtype)
    setting = (native.get_num_threads(), switches.get_precision())
    key = (*layer, *setting)
    known = _fastest.get(key)
    if known is None:
        rows = native.convolution_estimates(*layer)
        least = min(steps for _, steps, allowed in rows if allowed)
        tried = [name for name, steps, allowed in rows if allowed and steps <= WORTH * least]
        seconds = {name: _seconds(run, name) for name in tried} if len(tried) > 1 else {}
        known = min(seconds, key=seconds.__getitem__) if seconds else tried[0]
        _fastest[key] = known
    return known


def _seconds(run: Callable[[str], Any], name: str) -> float:
    """The best of three runs after one that does not count."""
    best = float("inf")
    run(name)
    for _ in range(3):
        start = time.perf_counter()
        run(name)
        best = min(best, time.perf_counter() - start)
    return best
