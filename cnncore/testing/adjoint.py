"""The exact test of a linear op: ``<A x, y> = <x, Aᵀ y>`` for all x and y, no finite difference.

A convolution towards its input, a pooling with known switches, a resampling: all are matrices,
their backward pass is the transpose, and a wrong index, a lost overlap or a swapped axis breaks the
identity in the first digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError
from cnncore.ops.linear import LinearMap
from cnncore.testing.problem import Floats, Place, Problem
from cnncore.testing.report import CheckError

# Both matrices are written out, to name the worst entry, up to this many numbers.
MOST_ENTRIES = 250_000


@dataclass
class AdjointReport:
    """What ``adjoint_check`` found; true when it passed."""

    title: str
    seeds: int = 0
    worst: float = 0.0  # largest relative violation
    failures: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return not self.failures

    def __str__(self) -> str:
        verdict = "; ".join(["FAILED", *self.failures]) if self.failures else "exact"
        return (
            f"{self.title}: {verdict} ({self.seeds} seeds, worst relative error {self.worst:.2g})"
        )


@dataclass
class _Pair:
    """``A`` and ``Aᵀ`` on flat vectors, and names for their positions."""

    n: int
    m: int
    forward: Callable[[Floats], Floats]
    adjoint: Callable[[Floats], Floats]
    input_place: Callable[[int], Place]
    output_place: Callable[[int], Place]


def adjoint_check(
    map_or_fn: LinearMap | Callable[..., Any],
    shape_or_x: Any,
    *,
    exact: bool = False,
    rtol: float = 1e-12,
    seeds: Sequence[int] = (0, 1, 2),
    raise_exception: bool = True,
    title: str = "adjoint_check",
) -> AdjointReport:
    """Check that an op is linear and that its backward pass is its transpose.

    ``map_or_fn``: a ``LinearMap`` (``shape_or_x`` is then the shape of its input, or an array of
    that shape), or a linear function of float64 tensors (``shape_or_x``: a shape, an array, or a
    sequence of arguments as for ``gradcheck``).  For each seed, with random x, z, y and numbers
    a, b:

    ``A(a x + b z) = a A x + b A z`` and ``<A x, y> = <x, Aᵀ y>``, within ``rtol`` of the size of
    the terms.  With ``exact`` all numbers are small integers and equality is demanded bit for bit
    (for maps that only move and add: im2col, scatter, padding).

    A failure names the worst entry of the two matrices where they are small enough to write out.
    Returns a report (true when passed) or raises ``CheckError``.

    >>> from cnncore import ops
    >>> print(adjoint_check(lambda x: ops.unfold(x, 3, padding=1), (1, 2, 4, 4), exact=True))
    adjoint_check: exact (3 seeds, worst relative error 0)
    """
    pair = _map_pair(map_or_fn, shape_or_x) if isinstance(map_or_fn, LinearMap) else None
    pair = pair or _function_pair(map_or_fn, shape_or_x)  # type: ignore[arg-type]
    report = AdjointReport(title)
    for seed in seeds:
        _check_once(pair, np.random.default_rng([seed, 3]), exact, rtol, report)
        report.seeds += 1
        if report.failures:
            break
    if report.failures and pair.n * pair.m <= MOST_ENTRIES:
        report.failures.append(_worst_entry(pair))
    if report.failures and raise_exception:
        raise CheckError(report)
    return report


def _check_once(
    pair: _Pair, rng: np.random.Generator, exact: bool, rtol: float, report: AdjointReport
) -> None:
    def draw(size: int) -> Floats:
        values = rng.integers(1, 8, size) if exact else rng.uniform(0.5, 1.5, size)
        return np.asarray(values * rng.choice([-1.0, 1.0], size))

    x, z, y = draw(pair.n), draw(pair.n), draw(pair.m)
    a, b = (2.0, -3.0) if exact else (1.7, -0.6)
    ax, az = pair.forward(x), pair.forward(z)
    both = pair.forward(a * x + b * z)
    aty = pair.adjoint(y)
    if not all(np.isfinite(part).all() for part in (ax, az, both, aty)):
        report.failures.append("NaN or Inf in A x or Aᵀ y for finite x and y")
        return
    terms = np.abs(a * ax) + np.abs(b * az)
    _compare("not linear: A(a x + b z) differs from a A x + b A z", both, a * ax + b * az,
             float(terms.max(initial=0.0)), exact, rtol, report)  # fmt: skip
    norm = np.linalg.norm
    size = float(max(norm(ax) * norm(y), norm(x) * norm(aty)))
    left, right = float(ax @ y), float(x @ aty)
    _compare(f"not the transpose: <A x, y> = {left:.15g} but <x, Aᵀ y> = {right:.15g}",
             np.array([left]), np.array([right]), size, exact, rtol, report)  # fmt: skip


def _compare(
    message: str,
    left: Floats,
    right: Floats,
    size: float,
    exact: bool,
    rtol: float,
    report: AdjointReport,
) -> None:
    difference = float(np.abs(left - right).max(initial=0.0))
    if difference == 0:
        return
    relative = difference / size if size else np.inf
    report.worst = max(report.worst, relative)
    if exact or not relative <= rtol:
        report.failures.append(message)


def _worst_entry(pair: _Pair) -> str:
    """Write both matrices out and name the entry in which they differ most."""
    a = np.stack([pair.forward(e) for e in np.eye(pair.n)], axis=1)
    at = np.stack([pair.adjoint(e) for e in np.eye(pair.m)], axis=0)
    flat = int(np.argmax(np.abs(a - at)))
    j, i = divmod(flat, pair.n)
    return (
        f"worst entry: d {pair.output_place(j)} / d {pair.input_place(i)} is "
        f"{a[j, i]:.10g} forwards and {at[j, i]:.10g} backwards"
    )


def _map_pair(map: LinearMap, shape_or_x: Any) -> _Pair:
    shape = _shape(shape_or_x) or tuple(np.shape(shape_or_x))
    output = map.forward(np.zeros(shape)).shape

    def place(name: str, of: tuple[int, ...]) -> Callable[[int], Place]:
        return lambda flat: Place(name, 0, tuple(int(i) for i in np.unravel_index(flat, of)))

    return _Pair(
        int(np.prod(shape)),
        int(np.prod(output)),
        lambda x: np.ravel(map.forward(x.reshape(shape))),
        lambda y: np.ravel(map.adjoint(y.reshape(output))),
        place("x", shape),
        place("output", output),
    )


def _function_pair(fn: Callable[..., Any], shape_or_x: Any) -> _Pair:
    if not callable(fn):
        raise ArgumentError("map_or_fn", "a LinearMap or a function of tensors", type(fn).__name__)
    shape = _shape(shape_or_x)
    # Away from zero, so that the graph built for backward is that of a typical point.
    problem = Problem(fn, np.ones(shape) if shape is not None else shape_or_x)
    return _Pair(
        problem.n, problem.m, problem.evaluate, problem.gradient,
        problem.input_place, problem.output_place,
    )  # fmt: skip


def _shape(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, (tuple, list)) and all(isinstance(n, (int, np.integer)) for n in value):
        return tuple(int(n) for n in value)
    return None
