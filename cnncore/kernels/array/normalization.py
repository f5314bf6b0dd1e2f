"""Normalisation out of the kernels of rows: for every backend that has no kernel of its own.

``rows`` is a module with ``row_moments``, ``row_products``, ``row_linear``, ``row_linear2`` and
``pointwise``.  What the two functions compute stands in ``contract.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cnncore.kernels.array.modules import Array, array_module, native, quiet
from cnncore.kernels.epilogue import Epilogue, Gate


@quiet
def forward(
    rows: Any,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    joined: int,
    eps: float,
    epilogue: Epilogue | None,
) -> tuple[Array, Array, Array]:
    """``contract.normalize``: moments of the rows, joined to those of the groups."""
    flat, shape = x.reshape(-1, x.shape[3]), x.shape[:3]
    means, squares = (s.reshape(shape).astype(np.float64) for s in rows.row_moments(flat))
    mean = means.sum(joined, keepdims=True) / shape[joined]
    off = means - mean
    between = (off * off).sum(joined, keepdims=True) * x.shape[3]
    count = shape[joined] * x.shape[3]
    variance = (squares.sum(joined, keepdims=True) + between) / count
    rstd = 1.0 / array_module(x).sqrt(variance + eps)
    a = rstd if weight is None else rstd * _per_channel(weight, shape)
    b = -mean * a if bias is None else _per_channel(bias, shape) - mean * a
    if epilogue is not None and epilogue.residual is not None:
        epilogue = replace(epilogue, residual=epilogue.residual.reshape(flat.shape))
    y = rows.row_linear(flat, *(_per_row(s, x) for s in (a, b)), epilogue)
    return y.reshape(x.shape), mean, variance


@quiet
def backward(
    rows: Any,
    gy: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    rstd: Array,
    joined: int,
    fixed: bool,
    gate: Gate | None,
) -> tuple[Array, Array, Array]:
    """``contract.normalize_backward``, in two passes over the rows."""
    if gate is not None:
        gy = rows.pointwise(gate.y, gate.activation, gate.params, 1, gy)
    shape, count = x.shape[:3], x.shape[joined] * x.shape[3]
    mean, rstd = native(mean), native(rstd)
    flat_x, flat_g = x.reshape(-1, x.shape[3]), gy.reshape(-1, x.shape[3])
    found = rows.row_products(flat_g, flat_x, _per_row(mean, x))
    sums, products = (s.reshape(shape).astype(np.float64) for s in found)
    w = 1.0 if weight is None else _per_channel(weight, shape)
    a = rstd * w
    b = c = array_module(x).zeros((1, 1, 1))
    if not fixed:
        b = -rstd * rstd * rstd * (w * products).sum(joined, keepdims=True) / count
        c = -rstd * (w * sums).sum(joined, keepdims=True) / count - b * mean
    gx = rows.row_linear2(flat_g, flat_x, *(_per_row(s, x) for s in (a, b, c)))
    gweight, gbias = ((s.sum(0).reshape(-1)).astype(gx.dtype) for s in (products * rstd, sums))
    return gx.reshape(x.shape), gweight, gbias


def _per_channel(values: Array, shape: tuple[int, int, int]) -> Array:
    """``(G·M,)`` as ``(1, G, M)``, in float64."""
    return values.reshape(1, *shape[1:]).astype(np.float64)


def _per_row(values: Array, x: Array) -> Array:
    """Values that broadcast to ``(N, G, M)`` as one for each row in the type of x: ``(R,)``."""
    dtype = x.dtype.newbyteorder("=")
    return array_module(x).broadcast_to(values, x.shape[:3]).astype(dtype).reshape(-1)
