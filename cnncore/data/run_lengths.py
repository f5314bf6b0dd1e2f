"""Masks as run lengths, decoded without trusting them.

Runs go down the columns and alternate between outside and inside, beginning outside.  As text each
run is a number in base 32: characters of 5 bits and a bit that says "more", from ``'0'`` on; from
the fourth run on, the difference to the run before the last.

Letters: ``H W`` mask.

Source: the description of the format in COCO's ``maskApi.h`` (``rleToString``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.errors import ArgumentError


def counts_of_text(text: str) -> list[int]:
    """The run lengths that a compressed text holds.

    >>> counts_of_text("52203")
    [5, 2, 2, 2, 5]
    """
    counts: list[int] = []
    value, shift = 0, 0
    for place, character in enumerate(text):
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ArgumentError("counts", "characters '0'..'o'", f"{character!r} at {place}")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            if shift > 60:
                raise ArgumentError("counts", "runs of at most 12 characters", f"more at {place}")
            continue
        if code & 16:  # the sign, in the highest bit of the last character
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise ArgumentError("counts", "a whole number of runs", "a text that ends within one")
    return counts


def mask_of_counts(counts: Any, size: Sequence[int]) -> NDArray[np.bool_]:
    """The mask ``(H, W)`` of run lengths that must add up to its pixels.

    >>> mask_of_counts([1, 2, 1], (2, 2)).astype(int).tolist()
    [[0, 1], [1, 0]]
    """
    height, width = size
    valid = isinstance(counts, list) and all(
        isinstance(c, int) and not isinstance(c, bool) and c >= 0 for c in counts
    )
    if not valid:
        raise ArgumentError("counts", "a list of integers >= 0, or their text", repr(counts)[:60])
    if sum(counts) != height * width:
        expected = f"runs that add up to {height}·{width} = {height * width} pixels"
        raise ArgumentError("counts", expected, sum(counts))
    inside = np.arange(len(counts)) % 2 == 1
    mask: NDArray[np.bool_] = np.repeat(inside, counts).reshape(width, height).T
    return mask
