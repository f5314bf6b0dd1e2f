"""Where results live: one block of memory, in which values that are never alive together overlap.

Greedy by size (Pisarchyk & Lee, "Efficient memory management for deep neural net inference", 2020,
section 4.3): the largest value first, each at the lowest place that is free while it is alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64


@dataclass(frozen=True)
class Life:
    """A value of ``size`` bytes, alive from step ``first`` to step ``last``, both included."""

    size: int
    first: int
    last: int


def place(lives: Sequence[Life]) -> tuple[list[int], int]:
    """The offset of every value, and the size of the block.

    >>> place([Life(64, 0, 1), Life(128, 1, 2), Life(64, 2, 3)])
    ([128, 0, 128], 192)
    """
    offsets = [0] * len(lives)
    placed: list[int] = []
    end = 0
    for i in sorted(range(len(lives)), key=lambda i: (-lives[i].size, lives[i].first)):
        offset = 0
        for other in sorted(placed, key=lambda j: offsets[j]):
            if lives[other].first > lives[i].last or lives[other].last < lives[i].first:
                continue
            if offset + lives[i].size <= offsets[other]:
                break
            offset = max(offset, _aligned(offsets[other] + lives[other].size))
        offsets[i] = offset
        placed.append(i)
        end = max(end, offset + _aligned(lives[i].size))
    return offsets, end


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
