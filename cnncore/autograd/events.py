"""The single place from which everything that watches a network lives.

An observer is a function of one ``Event``.  Profilers, cost tables, recorders and explanations all
use this stream; the engine knows none of them, and pays one truth test when nobody watches.

>>> from cnncore import tensor
>>> with observe(lambda event: print(event.kind, event.subject.name)):
...     y = tensor([1.0]) + 2.0
before_forward Add
after_forward Add
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "before_forward",
    "after_forward",
    "before_backward",
    "after_backward",
    "enter_module",
    "leave_module",
    "note",
]


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    ``subject`` is the ``Function`` (forward, backward), the module (enter, leave), or a string that
    names a note (say ``"proposals"``).  ``inputs`` and ``outputs`` are its tensors (for backward:
    incoming and outgoing gradients; for a note: whatever it reports).
    """

    kind: Kind
    subject: Any
    inputs: tuple[Any, ...] = ()
    outputs: tuple[Any, ...] = ()


Observer = Callable[[Event], None]
observers: list[Observer] = []


@contextlib.contextmanager
def observe(*watching: Observer) -> Iterator[None]:
    """Send every event to these functions inside a ``with`` block, in the order given."""
    observers.extend(watching)
    try:
        yield
    finally:
        for observer in watching:
            observers.remove(observer)


def layer_by_layer() -> bool:
    """Whether somebody is to see every layer by itself, so that none may be fused with the next.

    All observers are, but those that say ``takes_fused = True``: a profiler times what really runs.
    """
    return not all(getattr(observer, "takes_fused", False) for observer in observers)


def emit(
    kind: Kind, subject: Any, inputs: tuple[Any, ...] = (), outputs: tuple[Any, ...] = ()
) -> None:
    """Tell the observers.  Callers on hot paths test ``observers`` first."""
    event = Event(kind, subject, inputs, outputs)
    for observer in list(observers):
        observer(event)
