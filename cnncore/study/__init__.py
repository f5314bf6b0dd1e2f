"""Claims of the field as experiments: conditions × seeds, run again by one command.

An ``Experiment`` runs one condition with one seed and gives named measures; the runner keeps every
finished run, so that a kill loses nothing; the page says what came out, as claimed or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cnncore.errors import ArgumentError
from cnncore.study.experiment import Expectation, Experiment, Measures, Settings
from cnncore.study.results import Results, Run
from cnncore.study.runner import run


def _segmentation() -> Mapping[str, Experiment]:
    from cnncore.study.segmentation import EXPERIMENTS

    return EXPERIMENTS


def _detection() -> Mapping[str, Experiment]:
    from cnncore.study.detection import EXPERIMENTS

    return EXPERIMENTS


# Studies by name, each imported when it is asked for.
STUDIES: dict[str, Callable[[], Mapping[str, Experiment]]] = {
    "segmentation": _segmentation,
    "detection": _detection,
}


def experiments(study: str) -> Mapping[str, Experiment]:
    """The experiments of a study by name, in the order to run them.

    >>> list(experiments("segmentation"))[0]
    'sliding_window'
    """
    if study not in STUDIES:
        raise ArgumentError("study", f"one of {sorted(STUDIES)}", repr(study))
    return STUDIES[study]()


__all__ = [
    "STUDIES",
    "Expectation",
    "Experiment",
    "Measures",
    "Results",
    "Run",
    "Settings",
    "experiments",
    "run",
]
