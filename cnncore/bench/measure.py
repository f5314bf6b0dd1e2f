"""Timing that can be trusted on a machine that does other things, too.

Contenders take turns in one process, round after round, so that whatever disturbs the machine
disturbs all of them alike; figures are medians, with quartiles.  After a peer's turn comes a pause,
because its threads spin for a while and would be timed with whoever comes next.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Seconds after a peer's turn in which its threads go to sleep.  Measured on two cores by the
# processor time used up in the pause: PyTorch's spin for 10 ms, ONNX Runtime's for 40, those of
# NumPy's OpenBLAS for 105 (after 40 ms, products of 1024 x 1024 took everybody else twice as long).
PAUSES = {"torch": 0.02, "onnxruntime": 0.06, "numpy": 0.15}
PAUSE = max(PAUSES.values())
SHORTEST = 8e-3  # a shorter call is repeated within its turn until about this much time has passed
MOST_REPEATS = 200
LONGEST = 5.0  # seconds in all for one contender: a slow one gets fewer turns, not fewer than 3


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median and quartiles over ``samples`` turns of ``repeats`` calls."""

    median: float
    q1: float
    q3: float
    samples: int
    repeats: int = 1


def summary(seconds: Sequence[float], repeats: int = 1) -> Timing:
    """Median and quartiles (by linear interpolation between the sorted values).

    >>> summary([5.0, 1.0, 2.0, 4.0, 3.0])
    Timing(median=3.0, q1=2.0, q3=4.0, samples=5, repeats=1)
    """
    if len(seconds) == 1:
        return Timing(seconds[0], seconds[0], seconds[0], 1, repeats)
    q1, median, q3 = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(median, q1, q3, len(seconds), repeats)


def interleaved(
    runs: Mapping[str, Callable[[], Any]],
    rounds: int = 20,
    pause_after: Callable[[str], float] = lambda name: PAUSE,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], Any] = time.sleep,
    tick: Callable[[], Any] = lambda: None,
) -> dict[str, Timing]:
    """Time all of ``runs`` in turns; ``pause_after(name)``: seconds until its threads are asleep.

    Each runs twice first: once for caches, memory and lazy set-up, once to see how long it takes.
    Calls shorter than eight milliseconds are repeated within their turn.  A turn begins with as
    many that are not timed: they wake threads that went to sleep in the pause (after 20 ms of sleep
    everybody's calls of half a millisecond took twice as long at first and had their usual length
    from the fourth on) and fetch the arrays, as the layer before does in a network (arrays of 12 MB
    came to rest in the last cache after some ten calls).  Who begins a round is the second of the
    round before, so that nobody always follows the same neighbour or itself.  Who needs more than
    five seconds for all its turns gets fewer; ``Timing.samples`` says how many.
    """
    plans = {name: _plan(run, rounds, clock) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        first = number % max(1, len(runs))
        for name in [*runs][first:] + [*runs][:first]:
            run, (turns, repeats) = runs[name], plans[name]
            if number >= turns:
                continue
            for _ in range(repeats):
                run()
            start = clock()
            for _ in range(repeats):
                run()
            seconds[name].append((clock() - start) / repeats)
            pause = pause_after(name)
            if pause:
                sleep(pause)
        tick()
    return {name: summary(values, plans[name][1]) for name, values in seconds.items()}


def _plan(run: Callable[[], Any], rounds: int, clock: Callable[[], float]) -> tuple[int, int]:
    """Turns, and calls in each."""
    run()
    start = clock()
    run()
    taken = max(clock() - start, 1e-9)
    turns = min(rounds, max(3, int(LONGEST / taken)))
    return turns, max(1, min(MOST_REPEATS, round(SHORTEST / taken)))
