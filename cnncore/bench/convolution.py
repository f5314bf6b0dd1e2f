"""Convolution and transposed convolution, forward and both gradients, by every algorithm.

The reference is the definition, one tap of the kernel at a time in float64: it shares no code with
the kernels, and NumPy does its matrix products.

Letters: ``N C H W`` input, ``O`` output channels, ``G`` groups, ``KH KW`` kernel, ``OH OW`` output.
For the transposed convolution, too, ``x`` is its input and ``y`` its output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cnncore import kernels
from cnncore.bench.problem import Array, Case, Contender, Problem, draw, size_of, times
from cnncore.errors import ArgumentError
from cnncore.geometry import Pair, Window2d, as_int
from cnncore.kernels import dispatch, native
from cnncore.kernels.contract import CONV_ALGORITHMS

DIRECTIONS = ("forward", "input", "weight")
REFERENCE = "the definition, tap by tap in float64"


def make(case: Case, dtype: Any) -> Problem:
    """Arrays, counts and reference of a convolution.

    Settings of the case: ``shape`` (N, C, H, W), ``filters``, ``kernel``, and where they are not 1,
    0, 1, 1: ``stride``, ``padding``, ``dilation``, ``groups``.
    """
    s = case.settings
    if len(s["shape"]) != 4:
        raise ArgumentError("shape", "four sizes N,C,H,W", s["shape"], "--shape 4,256,14,14")
    n, c, height, width = s["shape"]
    window = Window2d.make(
        s["kernel"], s.get("stride", 1), s.get("padding", 0), s.get("dilation", 1)
    )
    groups = as_int("groups", s.get("groups", 1), 1)
    filters = c if s.get("filters") is None else as_int("filters", s["filters"], 1)
    if c % groups or filters % groups:
        raise ArgumentError("groups", f"a divisor of {c} and {filters} channels", groups)
    down = case.op == "conv2d"
    big: Pair = (height, width)
    small = window.output_size(big) if down else big
    if not down:
        big = window.transposed_size(small)
    # `wide` is the side with the larger plane: conv2d's input, its transpose's output.
    many, few = (c, filters) if down else (filters, c)  # channels of wide and of narrow
    rng = np.random.default_rng(0)
    weight = draw(rng, (few, many // groups, *window.kernel), dtype, _fan(s, window, c, groups))
    wide = draw(rng, (n, many, *big), dtype)
    narrow = draw(rng, (n, few, *small), dtype)
    flops = 2.0 * narrow.size * math.prod(weight.shape[1:])
    result = {"wide": wide, "narrow": narrow, "weight": weight}[_result(case.op, case.direction)]
    arrays = _arguments(case.op, case.direction, wide, narrow, weight)
    settings = {
        "stride": window.stride,
        "padding": (window.padding[0][0], window.padding[1][0]),
        "dilation": window.dilation,
        "groups": groups,
    }
    if case.direction == "input" and down:
        settings = {"size": big, **settings}
    if case.direction == "weight":
        settings = {"kernel_size": window.kernel, **settings}
    return Problem(
        case,
        label(case, window, filters, groups),
        arrays,
        settings,
        flops,
        size_of(result, *arrays.values()),
        _reference(_result(case.op, case.direction), wide, narrow, weight, window, groups),
        REFERENCE,
        tuple(CONV_ALGORITHMS),
    )


def label(case: Case, window: Window2d, filters: int, groups: int) -> str:
    """``conv2d 4×64×56×56 → 64, 3×3 s1``"""
    s = case.settings
    parts = [f"{times(s['shape'])} → {filters}, {times(window.kernel)}"]
    if window.stride != (1, 1):
        parts.append(f"s{window.stride[0]}")
    if window.dilation != (1, 1):
        parts.append(f"d{window.dilation[0]}")
    if groups > 1:
        parts.append("depthwise" if groups == s["shape"][1] == filters else f"groups {groups}")
    kind = {"forward": "", "input": " input gradient", "weight": " weight gradient"}
    return f"{case.op}{kind[case.direction]} {' '.join(parts)}"


def _fan(s: Any, window: Window2d, channels: int, groups: int) -> int:
    return channels // groups * math.prod(window.kernel)


def _result(op: str, direction: str) -> str:
    """Which of the three arrays is asked for."""
    if direction == "weight":
        return "weight"
    return "narrow" if (op == "conv2d") == (direction == "forward") else "wide"


def _arguments(
    op: str, direction: str, wide: Array, narrow: Array, weight: Array
) -> dict[str, Array]:
    x, y = (wide, narrow) if op == "conv2d" else (narrow, wide)
    if direction == "forward":
        return {"x": x, "weight": weight}
    return {"gy": y, "weight": weight} if direction == "input" else {"x": x, "gy": y}


def window_of(problem: Problem) -> Window2d:
    """The window of a problem's settings."""
    s = problem.case.settings
    return Window2d.make(s["kernel"], s.get("stride", 1), s.get("padding", 0), s.get("dilation", 1))


# --- ours -----------------------------------------------------------------------------------------


def ours(problem: Problem, algorithm: str) -> Contender:
    """One of our algorithms, straight from the kernels' layer."""
    window, groups = window_of(problem), problem.settings["groups"]
    first, second = problem.arrays.values()
    asked = _result(problem.case.op, problem.case.direction)
    run: Callable[[], Array]
    if asked == "narrow":
        run = lambda: kernels.conv2d(first, second, None, window, groups, algorithm)  # noqa: E731
    elif asked == "wide":
        size = problem.settings.get("size") or window.transposed_size(first.shape[2:])
        run = lambda: kernels.conv_transpose2d(  # noqa: E731
            first, second, None, size, window, groups, algorithm
        )
    else:
        wide, narrow = (first, second) if problem.case.op == "conv2d" else (second, first)
        run = lambda: kernels.conv2d_weight(wide, narrow, window, groups, algorithm)  # noqa: E731
    return Contender("cnncore", "ours", run, algorithm=algorithm)


def chosen(problem: Problem) -> str:
    """What ``auto`` runs for this problem: the cheapest by the kernels' own rule."""
    if dispatch.resolve("conv2d")[0] != "native":
        return "auto"
    asked = _result(problem.case.op, problem.case.direction)
    direction = {"narrow": "output", "wide": "input", "weight": "weight"}[asked]
    first, second = problem.arrays.values()
    window, groups = window_of(problem), problem.settings["groups"]
    if asked == "weight":
        wide, narrow = (first, second) if problem.case.op == "conv2d" else (second, first)
        shape, outputs = wide.shape, narrow.shape[1]
    elif asked == "narrow":
        shape, outputs = first.shape, second.shape[0]
    else:
        size = problem.settings.get("size") or window.transposed_size(first.shape[2:])
        shape = (first.shape[0], second.shape[1] * groups, *size)
        outputs = second.shape[0]
    return cheapest(shape, outputs, window, groups, direction, problem.dtype)


def cheapest(
    shape: tuple[int, ...], outputs: int, window: Window2d, groups: int, direction: str, dtype: Any
) -> str:
    """The algorithm of the least cost; ``shape`` is that of conv2d's input."""
    rows = native.convolution_estimates(shape, outputs, window, groups, direction, dtype)
    steps = {name: cost for name, cost, allowed in rows if allowed}
    return min(steps, key=steps.__getitem__) if steps else "auto"


# --- the definition -------------------------------------------------------------------------------


def _reference(
    asked: str, wide: Array, narrow: Array, weight: Array, window: Window2d, groups: int
) -> Callable[[], Array]:
    def run() -> Array:
        x, y, w = (a.astype(np.float64) for a in (wide, narrow, weight))
        return by_taps(asked, x, y, w, window, groups)

    return run


def by_taps(asked: str, x: Array, y: Array, w: Array, window: Window2d, groups: int) -> Array:
    """``y[n,o,i,j] = Σ_{c,u,v} w[o,c,u,v] x[n,c,i·s+u·d−p,…]``, solved for one of the three.

    ``asked``: ``narrow`` gives y, ``wide`` the transpose (from y), ``weight`` the sum of products.
    x ``(N, C, H, W)``, y ``(N, O, OH, OW)``, w ``(O, C/G, KH, KW)``; float64.

    >>> x, y = np.arange(4.0).reshape(1, 1, 2, 2), np.zeros((1, 1, 1, 2))
    >>> w = np.array([[[[1.0], [10.0]]]])
    >>> by_taps("narrow", x, y, w, Window2d.make((2, 1)), 1)
    array([[[[20., 31.]]]])
    """
    (top, bottom), (left, right) = window.padding
    n, _, height, width = x.shape
    oh, ow = y.shape[2:]
    outputs, per_group, kh, kw = w.shape
    padded = np.zeros((n, groups, per_group, height + top + bottom, width + left + right))
    inside = padded[..., top : top + height, left : left + width]
    if asked != "wide":
        inside[...] = x.reshape(inside.shape)
    shape = (n, groups, outputs // groups, oh, ow)
    result = np.zeros(shape)
    given = y.reshape(shape)
    bank = w.reshape(groups, outputs // groups, per_group, kh, kw)
    gradient = np.zeros(bank.shape)
    (sh, sw), (dh, dw) = window.stride, window.dilation
    for u, v in np.ndindex(kh, kw):
        rows = slice(u * dh, u * dh + sh * (oh - 1) + 1, sh)
        cols = slice(v * dw, v * dw + sw * (ow - 1) + 1, sw)
        seen = padded[..., rows, cols]
        if asked == "narrow":
            flat = np.ascontiguousarray(seen).reshape(n, groups, per_group, -1)
            result += (bank[..., u, v] @ flat).reshape(shape)
        elif asked == "wide":
            flat = given.reshape(n, groups, outputs // groups, -1)
            back = np.swapaxes(bank[..., u, v], 1, 2) @ flat
            seen += back.reshape(seen.shape)
        else:
            flat = np.ascontiguousarray(seen).reshape(n, groups, per_group, -1)
            product = given.reshape(n, groups, outputs // groups, -1) @ np.swapaxes(flat, 2, 3)
            gradient[..., u, v] = product.sum(0)
    if asked == "narrow":
        return result.reshape(y.shape)
    return inside.reshape(x.shape) if asked == "wide" else gradient.reshape(w.shape)
