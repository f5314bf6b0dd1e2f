"""What may be fused to the end of a kernel: a residual added, an activation applied.

Convolutions take any activation.  Normalisation, whose backward pass has a part of the work to do,
takes those whose result tells their derivative: straight between two limits, constant outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Array = Any

# Activations whose result tells their derivative: f'(x) = f'(f(x)).
OUTPUT_TELLS = frozenset({"relu", "relu6", "hardtanh"})


@dataclass(frozen=True)
class Epilogue:
    """``y -> f(y + residual)`` before the result is written.

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


@dataclass(frozen=True)
class Gate:
    """What an activation lets through of a gradient, told by its result: ``gy · f'(y)``.

    ``activation`` is one of ``OUTPUT_TELLS``; ``y``, its result, has the shape of the gradient.
    """

    y: Array
    activation: str
    params: tuple[float, ...] = ()


def limits(activation: str, params: tuple[float, ...]) -> tuple[float, float]:
    """Between which values one of ``OUTPUT_TELLS`` is straight; NaN where it has no limit.

    >>> limits("relu", ())
    (0.0, nan)
    """
    fixed = {"": (math.nan, math.nan), "relu": (0.0, math.nan), "relu6": (0.0, 6.0)}
    return fixed[activation] if activation in fixed else (params[0], params[1])


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
