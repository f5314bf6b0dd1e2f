"""Small labelled pictures, and the fixed way they are dealt to training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.errors import ArgumentError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Items:
    """Grey pictures of single things with their classes.

    ``source`` are the items' positions in the original data set: no two splits share one.
    """

    images: NDArray[np.float32]  # (N, S, S) in 0..1, 0 where there is nothing
    labels: NDArray[np.int64]  # (N,), 0..K-1
    class_names: tuple[str, ...]
    source: NDArray[np.int64]  # (N,)

    def __len__(self) -> int:
        return len(self.images)


def check_split(split: str) -> int:
    """The position of a split in ``SPLITS``, refusing other names."""
    if split not in SPLITS:
        raise ArgumentError("split", f"one of {SPLITS}", repr(split))
    return SPLITS.index(split)


def shuffled(count: int, seed: int) -> NDArray[np.int64]:
    """A permutation of ``0..count-1`` that is the same with every release of NumPy.

    ``Generator.permutation`` may change between releases, the bits of PCG64 may not; a split that
    moved would let test items into training.

    >>> shuffled(5, 0).tolist()
    [3, 2, 1, 0, 4]
    """
    draws: NDArray[Any] = np.random.PCG64(seed).random_raw(count)
    return np.argsort(draws, kind="stable")
