"""How often a transposed convolution paints each pixel: the checkerboard, before any training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.errors import ArgumentError
from cnncore.geometry import as_int, as_pair


def overlap_count(
    size: tuple[int, int],
    kernel: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
) -> NDArray[np.int64]:
    """The number of inputs that reach each output pixel of a transposed convolution, ``(OH, OW)``.

    ``size (H, W)``: of its input.  Input ``i`` paints outputs ``i·stride − padding`` to
    ``i·stride − padding + kernel − 1``; along each axis the count of those around output ``o`` is
    ``Σᵢ [0 ≤ o + padding − i·stride < kernel]``, and the plane's is the product.  In the middle it
    is even exactly where the stride divides the kernel; elsewhere it repeats every ``stride``
    pixels.  Errors: ``ArgumentError`` if nothing is left of the output.

    >>> overlap_count((1, 4), (1, 3), (1, 2))[0].tolist()
    [1, 1, 2, 1, 2, 1, 2, 1, 1]
    >>> overlap_count((1, 4), (1, 4), (1, 2))[0].tolist()
    [1, 1, 2, 2, 2, 2, 2, 2, 1, 1]

    Source: Odena, Dumoulin & Olah, "Deconvolution and checkerboard artifacts", 2016.
    """
    windows = (
        as_pair("kernel", kernel, 1),
        as_pair("stride", stride, 1),
        as_pair("padding", padding, 0),
    )
    sizes = as_pair("size", size, 1)
    rows, columns = (_along(n, *w) for n, w in zip(sizes, zip(*windows, strict=True), strict=True))
    return rows[:, None] * columns


def _along(size: int, kernel: int, stride: int, padding: int) -> NDArray[np.int64]:
    length = (size - 1) * stride + kernel - 2 * padding
    if length < 1:
        raise ArgumentError("padding", "one that leaves some output", padding)
    offset = np.arange(length)[:, None] + padding - np.arange(size) * stride
    count: NDArray[np.int64] = ((offset >= 0) & (offset < kernel)).sum(1)
    return count


def unevenness(values: Any, period: int) -> float:
    """How much of a plane repeats every ``period`` pixels: deviation of the phases' means by mean.

    ``values (…, H, W)`` >= 0, H and W at least ``period``; all planes are averaged first.  0 for an
    even plane, and for anything else that does not depend on the place within a period.

    >>> unevenness([[1.0, 3.0, 1.0, 3.0]] * 2, 2)
    0.5
    """
    plane = np.asarray(values, np.float64)
    step = as_int("period", period, 1)
    if plane.ndim < 2 or min(plane.shape[-2:]) < step:
        raise ArgumentError("values", f"planes of at least {step} pixels each way", plane.shape)
    plane = plane.reshape(-1, *plane.shape[-2:]).mean(0)
    height, width = (n // step * step for n in plane.shape)
    phases = plane[:height, :width].reshape(height // step, step, width // step, step).mean((0, 2))
    mean = phases.mean()
    return float(phases.std() / mean) if mean > 0 else 0.0
