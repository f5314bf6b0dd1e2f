"""Benchmarks that can be trusted: verified first, timed in turns, beside peers and your kernels.

``cnncore bench`` is the command; ``run`` is the same from Python.

>>> import numpy as np
>>> from cnncore import bench
>>> case = bench.Case("matmul", {"shape": (8, 8, 8)})
>>> found = bench.run([case], rounds=2, against=())
>>> found.cases[0].flops, found.cases[0].ours.refused
(1024.0, False)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cnncore.bench.comparison import Comparison, compare
from cnncore.bench.measure import PAUSE, Timing, interleaved, summary
from cnncore.bench.peers import find as find_peers
from cnncore.bench.plugins import load as load_plugin, register, unregister
from cnncore.bench.problem import Case, Problem
from cnncore.bench.results import CaseResult, Results, Row, load
from cnncore.bench.runner import Neighbours, Settings, make_problem, run_case, start
from cnncore.bench.suites import SUITES, Suite
from cnncore.kernels import native


def run(
    cases: Iterable[Case],
    *,
    against: Sequence[str] = ("torch", "onnxruntime"),
    algorithms: Sequence[str] = ("auto",),
    dtype: str = "float32",
    rounds: int = 20,
    threads: int | None = None,
    suite: str = "",
    show: Callable[[CaseResult], Any] = lambda case: None,
) -> Results:
    """Verify and time all contenders on each case; ``show`` is told of every case when it is done.

    Contenders: cnncore by each of ``algorithms`` (``"all"``: every one), the kernels registered by
    users, and the peers named in ``against``; those not installed are named in ``.remarks``.
    """
    settings = Settings(tuple(algorithms), dtype, rounds, threads)
    peers, missing = find_peers(against, threads or native.get_num_threads())
    results, neighbours = start(settings, peers, missing), Neighbours()
    for case in cases:
        results.cases.append(run_case(case, settings, peers, suite))
        show(results.cases[-1])
    results.remarks += neighbours.remarks()
    return results


__all__ = [
    "PAUSE",
    "SUITES",
    "Case",
    "CaseResult",
    "Comparison",
    "Problem",
    "Results",
    "Row",
    "Settings",
    "Suite",
    "Timing",
    "compare",
    "find_peers",
    "interleaved",
    "load",
    "load_plugin",
    "make_problem",
    "register",
    "run",
    "run_case",
    "start",
    "summary",
    "unregister",
]
