"""Networks of shapes: parameters without memory, operations without arithmetic.

Inside ``shapes_only()`` modules are built with hollow parameters (the right shape, one number in
memory, no random draw; buffers are small and stay real) and kernels return hollow results.  What is
built and run there is the network itself, layer by layer; only the numbers are missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from cnncore.kernels.shapes import computing_shapes_only, hollow, is_hollow

_depth = 0  # how many ``shapes_only`` blocks are open


def active() -> bool:
    """Whether a ``shapes_only`` block is open."""
    return _depth > 0


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Build and run modules at no cost inside a ``with`` block; the whole process is affected.

    Modules made outside run inside too, and take no time.  Random draws, writes into parameters
    and loading a state have no meaning here.

    >>> from cnncore.nn import Linear
    >>> with shapes_only():
    ...     huge = Linear(100_000, 100_000)
    ...     print(huge.num_parameters(), huge(hollow((3, 100_000))).shape)
    10000100000 (3, 100000)
    """
    global _depth
    _depth += 1
    try:
        with computing_shapes_only():
            yield
    finally:
        _depth -= 1


def hollowed(data: Any) -> np.ndarray[Any, Any]:
    """A hollow array like a real one, filled with its first value."""
    array = np.asarray(data)
    value = array.flat[0] if array.size else 0
    result: np.ndarray[Any, Any] = hollow(array.shape, array.dtype, value)
    return result


__all__ = ["active", "hollow", "hollowed", "is_hollow", "shapes_only"]
