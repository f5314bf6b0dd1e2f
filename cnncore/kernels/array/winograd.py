"""Winograd convolution in plain form: fewer products for 3x3 filters, and for 4x4 with stride 2.

A tile of ``m x m`` results of ``r x r`` taps depends on ``n x n`` pixels, ``n = m + r - 1``.  Two
polynomials can be multiplied by multiplying their values at n points; the transpose of that is,
along both axes,

    y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A        g r x r taps, d n x n pixels, y m x m results

with ``n²`` products for ``r² m²``: with 3x3 taps 36 for 144 if ``m = 4``, 16 for 36 if ``m = 2``.
Between the transforms everything is a matrix product over channels, one for each of the ``n²``
points.  As a function of g the map is linear, and its transpose is the gradient towards the
weights.

With stride 2 the filters fall into four phases of 2x2 taps, by the parity of row and column, each
of which meets the pixels of one parity as a convolution with stride 1: the results are their sum.
In the transpose each phase makes the results of one parity.  (The compiled kernels also leave out
the products that are zero because a phase of 3x3 taps has but one along an axis.)

Sources: Winograd, "Arithmetic complexity of computations", 1980; Lavin & Gray, "Fast algorithms for
convolutional neural networks", 2016; the points of ``m = 4`` lie at ±√½ and ±√2 rather than ±1 and
±2, with two taps at ±2/5 and ±5/4, which halves the rounding errors.
"""

from __future__ import annotations

import functools

import numpy as np

from cnncore.geometry import Pair, Window2d
from cnncore.kernels.array.modules import Array, array_module

PARITIES = ((0, 0), (0, 1), (1, 0), (1, 1))
POINTS = {  # (m, r)
    (2, 3): (0.0, 1.0, -1.0),
    (4, 3): (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)),
    (3, 2): (0.0, 1.0, -1.0),
    (4, 2): (0.4, -0.4, 1.25, -1.25),
}


@functools.cache
def matrices(m: int, taps: int = 3) -> tuple[Array, Array, Array]:
    """A ``(n, m)``, B ``(n, n)`` and G ``(n, r)`` of Toom and Cook for the points of ``POINTS``.

    Row j of A and G has the powers of point ``p_j`` (G divided by ``Π_l (p_j − p_l)``), row j of Bᵀ
    the coefficients of ``Π_{l≠j} (x − p_l)``; the last rows belong to the point at infinity.

    >>> A, B, G = matrices(2)
    >>> pixels, taps = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 0.0, -1.0])
    >>> A.T @ ((G @ taps) * (B.T @ pixels))  # what sliding the taps over the pixels gives
    array([-2., -2.])
    """
    return toom_cook(POINTS[m, taps], m, taps)


def toom_cook(points: tuple[float, ...], m: int, taps: int = 3) -> tuple[Array, Array, Array]:
    """``matrices`` for any ``m + r - 2`` different points and infinity."""
    n = m + taps - 1
    A, B, G = np.zeros((n, m)), np.zeros((n, n)), np.zeros((n, taps))
    for j, p in enumerate(points):
        others = [q for q in points if q != p]
        A[j], G[j] = p ** np.arange(m), p ** np.arange(taps) / np.prod([p - q for q in others])
        B[: n - 1, j] = np.poly(others)[::-1]
    A[-1, -1] = G[-1, -1] = 1.0
    B[:, -1] = np.poly(points)[::-1]
    return A, B, G


def convolve(x: Array, filters: Array, out: Pair, window: Window2d, m: int) -> Array:
    """The convolution, stride 1 or 2.

    x ``(N, G, C, H, W)``, filters ``(G, O, C, K, K)`` -> ``(N, G, O, *out)``.
    """
    before = _before(window)
    if window.stride == (1, 1):
        return correlate(x, filters, out, before, m)
    plane = _canvas(x, before, (2 * out[0] + 2, 2 * out[1] + 2))
    parts = (
        correlate(plane[..., p::2, q::2], _phase(filters, p, q), out, (0, 0), m)
        for p, q in PARITIES
    )
    return functools.reduce(lambda total, part: total + part, parts)


def transpose(y: Array, filters: Array, size: Pair, window: Window2d, m: int) -> Array:
    """Its transpose in x.

    y ``(N, G, O, OH, OW)``, filters ``(G, O, C, K, K)`` -> ``(N, G, C, *size)``.
    """
    top, left = _before(window)
    if window.stride == (1, 1):
        return correlate(y, turned(filters), size, (2 - top, 2 - left), m)
    rows, columns = y.shape[3] + 1, y.shape[4] + 1
    shape = (*y.shape[:2], filters.shape[2], 2 * rows, 2 * columns)
    plane = array_module(y).empty(shape, y.dtype)
    for p, q in PARITIES:
        phase = turned(_phase(filters, p, q))
        plane[..., p::2, q::2] = correlate(y, phase, (rows, columns), (1, 1), m)
    return _canvas(plane, (-top, -left), size)


def weight_gradient(x: Array, gy: Array, window: Window2d, m: int) -> Array:
    """Its transpose in the filters.

    x ``(N, G, C, H, W)``, gy ``(N, G, O, OH, OW)`` -> ``(G, O, C, K, K)``.
    """
    before, (rows, columns) = _before(window), window.kernel
    if window.stride == (1, 1):
        return correlate_filters(x, gy, before, m, 3)
    plane = _canvas(x, before, (2 * gy.shape[3] + 2, 2 * gy.shape[4] + 2))
    shape = (x.shape[1], gy.shape[2], x.shape[2], rows, columns)
    gweight = array_module(x).empty(shape, x.dtype)
    for p, q in PARITIES:
        part = correlate_filters(plane[..., p::2, q::2], gy, (0, 0), m, 2)
        part = part[..., : (rows + 1 - p) // 2, : (columns + 1 - q) // 2]
        gweight[..., p::2, q::2] = part
    return gweight


def correlate(x: Array, filters: Array, out: Pair, before: Pair, m: int) -> Array:
    """``y[n,g,o,i,j] = Σ_{c,u,v} filters[g,o,c,u,v] x[n,g,c, i+u−before, j+v−before]``.

    x ``(N, G, C, H, W)``, filters ``(G, O, C, r, r)`` -> ``(N, G, O, *out)``; zeros outside x.
    """
    taps = filters.shape[-1]
    A, _, G = matrices(m, taps)
    V = _transformed(x, out, before, m, taps)  # (n, n, G, C, N·tiles)
    U = _both_sides(array_module(x).asarray(G, x.dtype), filters)  # (n, n, G, O, C)
    rows, columns = (-(-size // m) for size in out)
    M = (U @ V).reshape(*V.shape[:3], filters.shape[1], x.shape[0], rows, columns)
    A = array_module(x).asarray(A, x.dtype)
    y = _einsum(x, "ai,bj,abgonrc->ngoricj", A, A, M)
    y = y.reshape(*y.shape[:3], rows * m, columns * m)[..., : out[0], : out[1]]
    return array_module(x).ascontiguousarray(y)


def correlate_filters(x: Array, gy: Array, before: Pair, m: int, taps: int) -> Array:
    """The transpose of ``correlate`` in its filters.

    x ``(N, G, C, H, W)``, gy ``(N, G, O, OH, OW)`` -> ``(G, O, C, r, r)``.
    """
    xp = array_module(x)
    A, _, G = (xp.asarray(a, x.dtype) for a in matrices(m, taps))
    rows, columns = (-(-size // m) for size in gy.shape[3:])
    tiles = _canvas(gy, (0, 0), (rows * m, columns * m))
    tiles = tiles.reshape(*gy.shape[:3], rows, m, columns, m)
    Y = _einsum(x, "ai,bj,ngoricj->abgonrc", A, A, tiles)
    Y = Y.reshape(*Y.shape[:4], gy.shape[0] * rows * columns)
    V = _transformed(x, (gy.shape[3], gy.shape[4]), before, m, taps)
    return _einsum(x, "ai,bj,abgoc->gocij", G, G, Y @ V.swapaxes(3, 4))


def turned(filters: Array) -> Array:
    """Filters of the transpose: ``(G, O, C, r, r) -> (G, C, O, r, r)``, turned by half a turn."""
    return filters.swapaxes(1, 2)[..., ::-1, ::-1]


def _before(window: Window2d) -> Pair:
    return window.padding[0][0], window.padding[1][0]


def _phase(filters: Array, p: int, q: int) -> Array:
    """The taps of one parity, with zeros after them to make two: ``(G, O, C, 2, 2)``."""
    taps = filters[..., p::2, q::2]
    phase = array_module(filters).zeros((*filters.shape[:3], 2, 2), filters.dtype)
    phase[..., : taps.shape[3], : taps.shape[4]] = taps
    return phase


def _transformed(x: Array, out: Pair, before: Pair, m: int, taps: int) -> Array:
    """``Bᵀ d B`` of all tiles: ``(n, n, G, C, N·tiles)``."""
    xp = array_module(x)
    n = m + taps - 1
    rows, columns = (-(-size // m) for size in out)
    plane = _canvas(x, before, (rows * m + taps - 1, columns * m + taps - 1))
    r, c = (xp.arange(count)[:, None] * m + xp.arange(n) for count in (rows, columns))
    tiles = plane[..., r, :][..., c]  # (N, G, C, rows, n, columns, n)
    B = xp.asarray(matrices(m, taps)[1], x.dtype)
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
