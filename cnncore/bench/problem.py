"""What is timed: one operation on given arrays, with its cost counted and a reference to check it.

A ``Case`` is a line of a table: an operation and its sizes.  A ``Problem`` is a case with arrays,
made when its turn comes, because a suite of them would not fit in memory.

Directions of a problem are ``forward``; ``input`` and ``weight``, the two gradients of a
convolution; and ``backward``, the gradient of any other operation towards its first argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Array = Any
Run = Callable[[], Any]

# Largest error that is let through, as a share of the largest value of the reference.  Winograd
# F(4×4) in float32 reaches 5e-6 at 512 channels; a tap left out of a 3×3 kernel of 512 channels
# still changes some value by several per cent.
TOLERANCE = {"float32": 5e-5, "float64": 1e-11}


@dataclass(frozen=True)
class Case:
    """One line of a suite.

    ``settings`` holds what the operation needs (``shape``, ``filters``, ``kernel``, …); ``count``
    says how often a network has this layer.
    """

    op: str
    settings: Mapping[str, Any]
    direction: str = "forward"
    name: str = ""
    count: int = 1

    def towards(self, direction: str) -> Case:
        """The same sizes in another direction."""
        return replace(self, direction=direction)


@dataclass(frozen=True)
class Problem:
    """An operation on arrays.

    ``arrays``: its array arguments by name, in order; ``settings``: its other arguments.  A kernel
    of a user is called as ``fn(*arrays, **settings)`` and returns an array (N, C, H, W) in front.
    ``flops``: floating-point operations, a multiply-add counting two, as the definition has them:
    padding included, whatever an algorithm saves.  ``nbytes``: every argument and the result moved
    once, the least that must be.  ``reference``: the result in float64, computed in another way.
    """

    case: Case
    label: str
    arrays: Mapping[str, Array]
    settings: Mapping[str, Any]
    flops: float
    nbytes: float
    reference: Callable[[], Array]
    reference_is: str  # in words
    algorithms: tuple[str, ...] = ("auto",)
    tolerance: float = field(default=0.0)

    @property
    def kind(self) -> str:
        """``conv2d``, ``conv2d.weight``, …: what kernels of users are registered for."""
        plain = self.case.direction == "forward"
        return self.case.op if plain else f"{self.case.op}.{self.case.direction}"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the first array."""
        dtype: np.dtype[Any] = next(iter(self.arrays.values())).dtype
        return dtype

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.nbytes if self.nbytes else 0.0

    @property
    def allowed(self) -> float:
        """The largest error let through, relative to the largest value."""
        return self.tolerance or TOLERANCE[self.dtype.name]


@dataclass(frozen=True)
class Contender:
    """One way to solve a problem.

    ``who``: ``ours``, ``user`` or ``peer``.  ``run`` is timed; ``read`` turns its result into a
    NumPy array (N, C, H, W in that order), outside the timing.
    """

    name: str
    who: str
    run: Run
    read: Callable[[Any], Array] = np.asarray
    algorithm: str = ""


class CannotError(Exception):
    """A peer has no such operation, or not for these settings; the text says which."""


def size_of(*arrays: Array) -> float:
    """Bytes of arrays."""
    return float(sum(int(a.nbytes) for a in arrays))


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, fan: int = 1) -> Array:
    """Normal numbers, scaled so that sums over ``fan`` of them stay near one."""
    return (rng.standard_normal(shape) / np.sqrt(fan)).astype(dtype)


def times(shape: tuple[int, ...]) -> str:
    """``4×64×56×56``"""
    return "×".join(map(str, shape))
