"""The one idea: a linear op is a matrix, and its backward pass is that matrix transposed.

A ``LinearMap`` is a pair ``(A, Aᵀ)`` of functions on arrays.  ``apply`` makes a differentiable op
of it; differentiating applies the transpose, and differentiating again gives the op back, so any
order works.  ``cnncore.testing.adjoint_check`` verifies every pair by ``<A x, y> = <x, Aᵀ y>``,
and ``matrix`` writes the matrix out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnncore.autograd import Function, Tensor

Array = Any


@dataclass(frozen=True)
class LinearMap:
    """A linear map and its transpose: ``forward(x) = A x``, ``adjoint(y) = Aᵀ y``.

    ``constants`` are arrays both directions read (switches, say): they are kept for backward.
    ``settings`` say in words what the two functions were made from: for whoever draws, explains or
    exports the op.
    """

    name: str
    adjoint_name: str
    forward: Callable[[Array], Array]
    adjoint: Callable[[Array], Array]
    constants: tuple[Array, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def T(self) -> LinearMap:  # noqa: N802
        """The pair the other way round."""
        names, functions = (self.adjoint_name, self.name), (self.adjoint, self.forward)
        return LinearMap(*names, *functions, self.constants, self.settings)

    def matrix(self, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
        """``A`` written out, ``(outputs, inputs)``: one column per input element of ``shape``."""
        columns = []
        for position in range(math.prod(shape)):
            basis = np.zeros(shape, dtype)
            basis.flat[position] = 1
            columns.append(self.forward(basis).ravel())
        return np.stack(columns, axis=1)


class Linear(Function):
    """The differentiable op of a ``LinearMap``.  Keeps nothing but the map's constants."""

    def __init__(self, map: LinearMap) -> None:
        self.map = map

    @property
    def name(self) -> str:
        return self.map.name

    def forward(self, x: Array) -> Array:
        self.keep(*self.map.constants)
        return self.map.forward(x)

    def backward(self, gy: Tensor) -> tuple[Tensor]:
        self.kept()  # refuses if a constant has been modified since
        return (apply(self.map.T, gy),)


def apply(map: LinearMap, x: Tensor) -> Tensor:
    """``A x`` as a differentiable op."""
    return Linear(map)(x)  # type: ignore[no-any-return]
