"""Winograd convolution in plain form: 3x3 filters, stride 1, fewer products.

A tile of ``m x m`` results depends on ``n x n`` pixels, ``n = m + 2``.  Two polynomials can be
multiplied by multiplying their values at n points; the transpose of that is, along both axes,

    y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A        g 3x3 taps, d n x n pixels, y m x m results

with ``n²`` products for ``9 m²``: 36 for 144 with ``m = 4``, 16 for 36 with ``m = 2``.  Between the
transforms everything is a matrix product over channels, one for each of the ``n²`` points.  As a
function of g the map is linear, and its transpose is the gradient towards the weights.

Sources: Winograd, "Arithmetic complexity of computations", 1980; Lavin & Gray, "Fast algorithms for
convolutional neural networks", 2016; the points of ``m = 4`` lie at ±√½ and ±√2 rather than ±1 and
±2, which halves the rounding errors.
"""

from __future__ import annotations

import functools

import numpy as np

from cnncore.geometry import Pair, Window2d
from cnncore.kernels.array.modules import Array, array_module

TAPS = 3
POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))}


@functools.cache
def matrices(m: int) -> tuple[Array, Array, Array]:
    """A ``(n, m)``, B ``(n, n)`` and G ``(n, 3)`` of Toom and Cook for the points of ``POINTS``.

    Row j of A and G has the powers of point ``p_j`` (G divided by ``Π_l (p_j − p_l)``), row j of Bᵀ
    the coefficients of ``Π_{l≠j} (x − p_l)``; the last rows belong to the point at infinity.

    >>> A, B, G = matrices(2)
    >>> pixels, taps = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 0.0, -1.0])
    >>> A.T @ ((G @ taps) * (B.T @ pixels))  # what sliding the taps over the pixels gives
    array([-2., -2.])
    """
    return toom_cook(POINTS[m], m)


def toom_cook(points: tuple[float, ...], m: int) -> tuple[Array, Array, Array]:
    """``matrices`` for any ``m + 1`` different points and infinity."""
    n = m + TAPS - 1
    A, B, G = np.zeros((n, m)), np.zeros((n, n)), np.zeros((n, TAPS))
    for j, p in enumerate(points):
        others = [q for q in points if q != p]
        A[j], G[j] = p ** np.arange(m), p ** np.arange(TAPS) / np.prod([p - q for q in others])
        B[: n - 1, j] = np.poly(others)[::-1]
    A[-1, -1] = G[-1, -1] = 1.0
    B[:, -1] = np.poly(points)[::-1]
    return A, B, G


def correlate(x: Array, filters: Array, out: Pair, before: Pair, m: int) -> Array:
    """``y[n,g,o,i,j] = Σ_{c,u,v} filters[g,o,c,u,v] x[n,g,c, i+u−before, j+v−before]``.

    x ``(N, G, C, H, W)``, filters ``(G, O, C, 3, 3)`` -> ``(N, G, O, *out)``; zeros outside x.
    """
    A, _, G = matrices(m)
    V = _transformed(x, out, before, m)  # (n, n, G, C, N·tiles)
    U = _both_sides(array_module(x).asarray(G, x.dtype), filters)  # (n, n, G, O, C)
    rows, columns = (-(-size // m) for size in out)
    M = (U @ V).reshape(*V.shape[:3], filters.shape[1], x.shape[0], rows, columns)
    A = array_module(x).asarray(A, x.dtype)
    y = _einsum(x, "ai,bj,abgonrc->ngoricj", A, A, M)
    y = y.reshape(*y.shape[:3], rows * m, columns * m)[..., : out[0], : out[1]]
    return array_module(x).ascontiguousarray(y)


def weight_gradient(x: Array, gy: Array, before: Pair, m: int) -> Array:
    """The transpose of ``correlate`` in its filters.

    x ``(N, G, C, H, W)``, gy ``(N, G, O, OH, OW)`` -> ``(G, O, C, 3, 3)``.
    """
    xp = array_module(x)
    A, _, G = (xp.asarray(a, x.dtype) for a in matrices(m))
    rows, columns = (-(-size // m) for size in gy.shape[3:])
    tiles = _canvas(gy, (0, 0), (rows * m, columns * m))
    tiles = tiles.reshape(*gy.shape[:3], rows, m, columns, m)
    Y = _einsum(x, "ai,bj,ngoricj->abgonrc", A, A, tiles)
    Y = Y.reshape(*Y.shape[:4], gy.shape[0] * rows * columns)
    V = _transformed(x, (gy.shape[3], gy.shape[4]), before, m)
    return _einsum(x, "ai,bj,abgoc->gocij", G, G, Y @ V.swapaxes(3, 4))


def turned(filters: Array) -> Array:
    """Filters of the transpose: ``(G, O, C, 3, 3) -> (G, C, O, 3, 3)``, turned by half a turn."""
    return filters.swapaxes(1, 2)[..., ::-1, ::-1]


def transposed_before(window: Window2d) -> Pair:
    """What lies before the first pixel for the transpose (negative: it is cut off)."""
    return TAPS - 1 - window.padding[0][0], TAPS - 1 - window.padding[1][0]


def _transformed(x: Array, out: Pair, before: Pair, m: int) -> Array:
    """``Bᵀ d B`` of all tiles: ``(n, n, G, C, N·tiles)``."""
    xp = array_module(x)
    n = m + TAPS - 1
    rows, columns = (-(-size // m) for size in out)
    plane = _canvas(x, before, (rows * m + TAPS - 1, columns * m + TAPS - 1))
    r, c = (xp.arange(count)[:, None] * m + xp.arange(n) for count in (rows, columns))
    tiles = plane[..., r, :][..., c]  # (N, G, C, rows, n, columns, n)
    B = xp.asarray(matrices(m)[1], x.dtype)
    V = _einsum(x, "ia,jb,ngcriqj->abgcnrq", B, B, tiles)
    return V.reshape(*V.shape[:4], x.shape[0] * rows * columns)


def _both_sides(matrix: Array, filters: Array) -> Array:
    return _einsum(matrix, "ai,bj,gocij->abgoc", matrix, matrix, filters)


def _einsum(x: Array, subscripts: str, *arrays: Array) -> Array:
    return array_module(x).einsum(subscripts, *arrays, optimize=True)


def _canvas(x: Array, before: Pair, size: Pair) -> Array:
    """Zeros of ``size`` with x at ``before``, cut where it does not fit."""
    plane = array_module(x).zeros((*x.shape[:3], *size), x.dtype)
    spans = []
    for axis in (0, 1):
        first = max(0, before[axis])
        last = min(size[axis], before[axis] + x.shape[3 + axis])
        spans.append((first, max(first, last), before[axis]))
    (top, bottom, dy), (left, right, dx) = spans
    if bottom > top and right > left:
        plane[..., top:bottom, left:right] = x[..., top - dy : bottom - dy, left - dx : right - dx]
    return plane
