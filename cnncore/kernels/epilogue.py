"""What may be fused to the end of a convolution: a residual added, an activation applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Array = Any


@dataclass(frozen=True)
class Epilogue:
    """``y -> f(y + residual)`` before the result is written; the bias is the kernel's own argument.

    ``residual`` has the result's shape; ``activation`` and ``params`` are a kind of ``pointwise``
    ("" for none).

    >>> import numpy as np
    >>> from cnncore import kernels
    >>> from cnncore.geometry import Window2d
    >>> x, weight = np.array([[[[-2.0, 3.0]]]]), np.ones((1, 1, 1, 1))
    >>> window = Window2d((1, 1))
    >>> kernels.conv2d(x, weight, None, window, epilogue=Epilogue(activation="relu")).tolist()
    [[[[0.0, 3.0]]]]
    """

    residual: Array | None = None
    activation: str = ""
    params: tuple[float, ...] = ()


def finished(
    y: Array,
    epilogue: Epilogue | None,
    ufunc: Callable[..., Array],
    pointwise: Callable[..., Array],
) -> Array:
    """The plain form, in passes of their own, with a backend's ``ufunc`` and ``pointwise``."""
    if epilogue is None:
        return y
    if epilogue.residual is not None:
        y = ufunc("add", y, epilogue.residual)
    if epilogue.activation:
        y = pointwise(y, epilogue.activation, epilogue.params)
    return y
