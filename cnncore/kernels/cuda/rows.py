"""Rows of a matrix: the building blocks of every normalisation."""

from __future__ import annotations

import sys

import numpy as np

from cnncore.kernels.array import normalization
from cnncore.kernels.array.elementwise import ufunc
from cnncore.kernels.array.modules import array_module
from cnncore.kernels.cuda import runtime
from cnncore.kernels.cuda.pointwise import pointwise
from cnncore.kernels.cuda.runtime import Array, Module, call, empty, ready
from cnncore.kernels.epilogue import Epilogue, Gate, finished

_ROWS = sys.modules[__name__]


def _room_for_parts(op: str, xp: Module, x: Array) -> Array | None:
    """Where rows are worked on in several pieces: what each piece finds, two numbers."""
    pieces = -(-x.shape[1] // runtime.compiled.row_piece)
    return empty(op, xp, (x.shape[0], pieces, 2), np.float64) if pieces > 1 else None


def row_moments(x: Array) -> tuple[Array, Array]:
    """See ``contract.row_moments``."""
    xp = array_module(x)
    parts = _room_for_parts("row_moments", xp, x)
    mean, squares = (empty("row_moments", xp, x.shape[:1], x.dtype) for _ in range(2))
    call("row_moments", xp, ready(x), parts, mean, squares)
    return mean, squares


def row_products(gy: Array, x: Array, mean: Array) -> tuple[Array, Array]:
    """See ``contract.row_products``."""
    xp = array_module(x)
    parts = _room_for_parts("row_products", xp, x)
    sums, products = (empty("row_products", xp, x.shape[:1], x.dtype) for _ in range(2))
    call("row_products", xp, ready(gy), ready(x), ready(mean), parts, sums, products)
    return sums, products


def row_linear(x: Array, a: Array, b: Array, epilogue: Epilogue | None = None) -> Array:
    """See ``contract.row_linear``."""
    xp = array_module(x)
    y = empty("row_linear", xp, x.shape, x.dtype)
    call("row_linear", xp, ready(x), None, ready(a), None, ready(b), y)
    return finished(y, epilogue, ufunc, pointwise)


def row_linear2(x: Array, z: Array, a: Array, b: Array, c: Array) -> Array:
    """See ``contract.row_linear2``."""
    xp = array_module(x)
    y = empty("row_linear2", xp, x.shape, x.dtype)
    call("row_linear", xp, ready(x), ready(z), ready(a), ready(b), ready(c), y)
    return y


def normalize(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    joined: int,
    eps: float,
    epilogue: Epilogue | None = None,
) -> tuple[Array, Array, Array]:
    """See ``contract.normalize``."""
    return normalization.forward(_ROWS, x, weight, bias, joined, eps, epilogue)


def normalize_backward(
    gy: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    rstd: Array,
    joined: int,
    fixed: bool = False,
    gate: Gate | None = None,
) -> tuple[Array, Array, Array]:
    """See ``contract.normalize_backward``."""
    return normalization.backward(_ROWS, gy, x, weight, mean, rstd, joined, fixed, gate)
