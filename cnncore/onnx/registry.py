"""The table of operators: ONNX name -> handlers, each for a range of opset versions.

A handler is a function ``(node, *inputs)`` that returns one value or a tuple.  Inputs are tensors,
or None where an optional one is absent.  Two rules keep handlers short:

- ``arrays`` names the positions that a handler wants as plain NumPy arrays: shapes, axes, indices,
  everything through which no gradient flows.
- Half precision (float16, bfloat16) is computed in float32 and rounded at the end of every
  operator, unless the handler says ``widen=False``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from cnncore.errors import CnncoreError

Handler = TypeVar("Handler", bound=Callable[..., Any])

ALL = frozenset(range(256))
NEWEST = 10_000


class UnsupportedOperator(CnncoreError, NotImplementedError):  # noqa: N818
    """An operator of a model that this package does not run; names it, its domain and opset."""


@dataclass(frozen=True)
class Operator:
    """One handler and what it is good for."""

    name: str
    first: int  # opset versions, both included
    last: int
    function: Callable[..., Any]
    arrays: frozenset[int]  # inputs wanted as arrays
    statistics: frozenset[int]  # inputs that are a layer's state, not its parameters
    widen: bool
    flat: bool  # the derivative is zero wherever there is one


OPERATORS: dict[str, list[Operator]] = {}


def operator(
    *names: str,
    since: int = 1,
    until: int = NEWEST,
    arrays: Iterable[int] = (),
    statistics: Iterable[int] = (),
    widen: bool = True,
    flat: bool = False,
) -> Callable[[Handler], Handler]:
    """Enter a handler into the table for ``since <= opset <= until``."""

    def enter(function: Handler) -> Handler:
        for name in names:
            entry = Operator(
                name, since, until, function, frozenset(arrays), frozenset(statistics), widen, flat
            )
            OPERATORS.setdefault(name, []).append(entry)
        return function

    return enter


def find(domain: str, name: str, opset: int) -> Operator | None:
    """The handler for an operator at an opset, or None."""
    if domain not in ("", "ai.onnx"):
        return None
    for entry in OPERATORS.get(name, ()):
        if entry.first <= opset <= entry.last:
            return entry
    return None
