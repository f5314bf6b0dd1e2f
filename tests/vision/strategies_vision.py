"""What Hypothesis draws for the tests of vision."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st


@st.composite
def boxes(
    draw: Any,
    min_count: int = 0,
    max_count: int = 12,
    size: int = 40,
    positive: bool = False,
    reach: int = 160,
) -> np.ndarray:
    """Boxes with corners on quarters of a pixel, so that overlaps tie and touch often.

    ``size`` and ``reach`` (of the first corner) are in quarters, too.
    """
    count = draw(st.integers(min_count, max_count))
    least = 1 if positive else 0
    side = st.integers(least, size)
    rows = []
    for _ in range(count):
        x, y = draw(st.integers(-8, reach)), draw(st.integers(-8, reach))
        rows.append([x, y, x + draw(side), y + draw(side)])
    return np.array(rows, np.float64).reshape(-1, 4) / 4


def vectors(length: int, low: float = -2.0, high: float = 2.0) -> st.SearchStrategy[np.ndarray]:
    """Numbers on a coarse grid, with ties."""
    steps = st.integers(int(low * 4), int(high * 4))
    return st.lists(steps, min_size=length, max_size=length).map(
        lambda values: np.array(values, np.float64) / 4
    )
