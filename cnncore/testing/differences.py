"""Derivatives along a line by finite differences, over a sweep of steps.

One step size is never right: large ones feel the curvature (error ``h²``), small ones the rounding
of f (error ``ε/h``).  So f is evaluated at ``x ± h d`` for a falling sequence of h, the ``h²`` term
is removed by Richardson's extrapolation, and the step is taken where neighbouring results agree
best: the plateau.  Comparing the slope to the right with the slope to the left tells a smooth point
from a kink, where no derivative exists and no gradient can be called wrong.

Source: Richardson, "The deferred approach to the limit", 1927; Press et al., "Numerical Recipes",
section 5.7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RATIO = 4.0
STEPS = tuple(1e-2 / RATIO**k for k in range(9))  # 1e-2 … 1.5e-7
FEW_STEPS = STEPS[:5]
EPS = float(np.finfo(np.float64).eps)
# A kink: the two slopes differ by this part of their size, and by this many times the uncertainty.
KINK_RELATIVE, KINK_SIGMAS = 1e-4, 50.0


@dataclass(frozen=True)
class Estimate:
    """Numeric derivatives of some outputs along one direction.

    ``value`` and its ``uncertainty``; ``step``, where the plateau lies; ``left`` and ``right``, the
    one-sided slopes at the smallest usable step; ``kink``, where they differ for good; ``jump``,
    where f itself has a step.  Arrays over outputs.
    """

    value: Floats
    uncertainty: Floats
    step: Floats
    left: Floats
    right: Floats
    kink: NDArray[np.bool_]
    jump: NDArray[np.bool_]

    @property
    def broken(self) -> NDArray[np.bool_]:
        """Where no derivative exists."""
        return self.kink | self.jump


@dataclass(frozen=True)
class Sweep:
    """f on the line ``x + t d``: at 0, and at ``±h`` for every h in ``steps`` (falling)."""

    steps: Floats  # (K,)
    centre: Floats  # (m,)
    plus: Floats  # (K, m)
    minus: Floats  # (K, m)

    @staticmethod
    def of(
        f: Callable[[Floats], Floats],
        x: Floats,
        direction: Floats,
        centre: Floats,
        steps: Sequence[float] = STEPS,
    ) -> Sweep:
        """Evaluate f along a direction."""
        plus = np.stack([f(x + h * direction) for h in steps])
        minus = np.stack([f(x - h * direction) for h in steps])
        return Sweep(np.asarray(steps, np.float64), centre, plus, minus)

    def project(self, v: Floats) -> Sweep:
        """The same sweep of the single number ``<v, f>``."""
        with np.errstate(invalid="ignore"):
            return Sweep(
                self.steps,
                (self.centre @ v)[None],
                (self.plus @ v)[:, None],
                (self.minus @ v)[:, None],
            )

    def central(self) -> Floats:
        """``(f(x + h d) − f(x − h d)) / 2h`` for every step, (K, m)."""
        return (self.plus - self.minus) / (2 * self.steps[:, None])

    def estimate(self, size: Floats | None = None) -> Estimate:
        """The derivative at the plateau; ``size`` bounds the numbers f adds up (for rounding)."""
        h = self.steps[:, None]
        with np.errstate(invalid="ignore"):
            magnitude = np.abs(self.centre) if size is None else size
            noise = 4 * EPS * magnitude / h
            central = self.central()
            right = (self.plus - self.centre) / h
            left = (self.centre - self.minus) / h
            value, uncertainty, chosen = _plateau(central, RATIO**2, noise)
            gap, gap_uncertainty, _ = _plateau(right - left, RATIO, 2 * noise)
            last = _last_finite(right - left)
            columns = np.arange(self.centre.size)
            left, right = left[last, columns], right[last, columns]
            slopes = np.maximum(np.abs(left), np.abs(right))
            kink = np.abs(gap) > KINK_RELATIVE * slopes + KINK_SIGMAS * gap_uncertainty + 1e-8
            jump = self._jumps(magnitude)
        return Estimate(value, uncertainty, self.steps[chosen], left, right, kink & ~jump, jump)

    def _jumps(self, magnitude: Floats) -> NDArray[np.bool_]:
        """Where f itself leaps: shrinking the step sixteenfold does not shrink the difference."""
        if self.steps.size < 3:
            return np.zeros(self.centre.shape, bool)
        leap = np.maximum(np.abs(self.plus - self.centre), np.abs(self.minus - self.centre))
        small = 1e6 * EPS * np.maximum(magnitude, 1.0)
        return np.asarray((leap[-1] > small) & (leap[-1] > 0.6 * leap[-3:-1]).all(axis=0))

    def table(self, column: int = 0) -> str:
        """The sweep as text: step, central difference, slope to the left and to the right."""
        rows = ["      step    central difference        left slope       right slope"]
        for k, h in enumerate(self.steps):
            left = (self.centre[column] - self.minus[k, column]) / h
            right = (self.plus[k, column] - self.centre[column]) / h
            middle = self.central()[k, column]
            rows.append(f"{h:10.2e} {middle:21.12e} {left:17.8e} {right:17.8e}")
        return "\n".join(rows)


def _plateau(d: Floats, order: float, noise: Floats) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Extrapolate a (K, m) table whose error falls ``order``-fold a row; take the calmest row."""
    if len(d) == 1:
        return d[0], np.abs(noise[0]), np.zeros(d.shape[1], np.intp)
    better = (order * d[1:] - d[:-1]) / (order - 1)
    doubt = np.abs(better - d[1:]) if len(better) == 1 else np.abs(better[1:] - better[:-1])
    better = better[-len(doubt) :]
    doubt = doubt + noise[-len(doubt) :]
    doubt = np.where(np.isfinite(doubt), doubt, np.inf)
    chosen = np.argmin(doubt, axis=0)
    columns = np.arange(d.shape[1])
    return better[chosen, columns], doubt[chosen, columns], chosen + len(d) - len(doubt)


def _last_finite(table: Floats) -> NDArray[np.intp]:
    """The last row that is finite, per column (0 if none)."""
    finite = np.isfinite(table)
    last = len(table) - 1 - np.argmax(finite[::-1], axis=0)
    return np.where(finite.any(axis=0), last, 0)
