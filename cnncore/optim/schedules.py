"""Learning rates as functions of the step alone, so that a resumed run needs no state of theirs.

>>> schedule = Cosine(0.1, steps=100, warmup=10)
>>> [round(schedule(step), 4) for step in (0, 9, 10, 55, 100)]
[0.01, 0.1, 0.1, 0.05, 0.0]

Use: ``optimizer.lr = schedule(step)`` before each update, steps counted from 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cnncore.errors import ArgumentError
from cnncore.geometry import as_int


class Schedule:
    """A linear warm-up, then ``base · factor(step)``.

    Step ``s`` of ``warmup`` steps has ``base · (s + 1) / warmup``.
    """

    base: float
    warmup: int

    def __post_init__(self) -> None:
        if not 0 <= self.base < math.inf:
            raise ArgumentError("base", "a learning rate >= 0", self.base)
        as_int("warmup", self.warmup, 0)

    def __call__(self, step: int) -> float:
        """The learning rate of a step."""
        if step < self.warmup:
            return self.base * (step + 1) / self.warmup
        return self.base * self.factor(step)

    def factor(self, step: int) -> float:
        """What multiplies ``base`` once the warm-up is over."""
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """``base`` for ever."""

    base: float
    warmup: int = 0

    def factor(self, step: int) -> float:
        """1"""
        return 1.0


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from ``base`` at the end of the warm-up to ``final · base`` at ``steps``.

    Source: Loshchilov & Hutter, "SGDR", 2017, equation 5, without restarts.
    """

    base: float
    steps: int
    warmup: int = 0
    final: float = 0.0

    def factor(self, step: int) -> float:
        """``final + (1 − final) (1 + cos(π t)) / 2``, ``t`` from 0 to 1 after the warm-up."""
        t = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * min(1.0, t))) / 2


@dataclass(frozen=True)
class Step(Schedule):
    """``base`` times ``gamma`` for every milestone that has been reached.

    >>> [Step(1.0, (2, 4))(step) for step in range(5)]
    [1.0, 1.0, 0.1, 0.1, 0.010000000000000002]
    """

    base: float
    milestones: tuple[int, ...]
    gamma: float = 0.1
    warmup: int = 0

    def factor(self, step: int) -> float:
        """``gamma ** (milestones <= step)``"""
        return float(self.gamma ** sum(step >= milestone for milestone in self.milestones))
