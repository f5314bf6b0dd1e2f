"""Why a convolution runs by the algorithm it runs by, and what the others would have cost.

``algorithm="auto"`` picks the cheapest by a rule that counts *steps*, multiply-adds of a whole
vector: those of the matrix products, and what transforms and copies cost, expressed in the same
unit (``csrc/cpu/conv/cost.cpp`` is the rule).  ``why`` shows the count of every algorithm that
serves a layer and, on request, times them.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnncore import kernels, nn
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError, BackendError, ShapeError
from cnncore.geometry import Pair, Window2d, as_int
from cnncore.kernels import dispatch, native, switches
from cnncore.kernels.checks.algorithms import unserved
from cnncore.kernels.contract import CONV_ALGORITHMS

Array = Any
DIRECTIONS = ("output", "input", "weight")
_OPPOSITE = {"output": "input", "input": "output", "weight": "weight"}


@dataclass
class Candidate:
    """An algorithm that serves: millions of steps by the rule, seconds where measured."""

    algorithm: str
    steps: float
    allowed: bool  # by the precision
    seconds: float | None = None


@dataclass
class Choice:
    """What ``why`` found; printing it gives a table, the cheapest first."""

    layer: str
    chosen: str
    reason: str
    candidates: list[Candidate]
    refused: dict[str, str] = field(default_factory=dict)  # algorithm: why it does not serve

    def __str__(self) -> str:
        measured = any(c.seconds is not None for c in self.candidates)
        lines = [self.layer, f"runs by {self.chosen}: {self.reason}"]
        head = f"  {'algorithm':<14}{'million steps':>15}{'to the least':>14}"
        lines.append(head + (f"{'measured':>14}" if measured else ""))
        for c in self.candidates:
            least = self.candidates[0].steps
            line = f"{'>' if c.algorithm == self.chosen else ' ':<2}{c.algorithm:<14}"
            line += f"{c.steps:>15.3f}{c.steps / least if least else 1:>14.2f}"
            if c.seconds is not None:
                line += f"{c.seconds * 1e3:>11.3f} ms"
            lines.append(line + ("" if c.allowed else "  not with precision strict"))
        lines += [f"  {name}: no, {why}" for name, why in self.refused.items()]
        return "\n".join(lines)


@dataclass
class _Layer:
    """A convolution as its kernels see it: x is always the larger plane's side."""

    shape: tuple[int, int, int, int]
    outputs: int
    window: Window2d
    groups: int
    direction: str
    dtype: Any

    def __str__(self) -> str:
        n, c, h, w = self.shape
        kernel = "x".join(map(str, self.window.kernel))
        what = {"output": "conv2d", "input": "conv_transpose2d", "weight": "conv2d_weight"}
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        return (
            f"{what[self.direction]}: ({n}, {c}, {h}, {w}), {self.outputs} filters of {kernel}"
            f"{groups}, {self.dtype.name}, precision {switches.get_precision()}"
        )

    def calls(self) -> dict[str, Callable[[], Array]]:
        """Each algorithm's call on random numbers."""
        rng = np.random.default_rng(0)
        n, c, h, w = self.shape
        out = self.window.output_size((h, w))

        def draw(*shape: int) -> Array:
            return rng.standard_normal(shape).astype(self.dtype)

        x, gy = draw(n, c, h, w), draw(n, self.outputs, *out)
        weight = draw(self.outputs, c // self.groups, *self.window.kernel)

        def run(algorithm: str) -> Array:
            settings = (self.window, self.groups, algorithm)
            if self.direction == "output":
                return kernels.conv2d(x, weight, None, *settings)
            if self.direction == "input":
                return kernels.conv_transpose2d(gy, weight, None, (h, w), *settings)
            return kernels.conv2d_weight(x, gy, *settings)

        return {name: functools.partial(run, name) for name in CONV_ALGORITHMS}


def why(
    conv: Any,
    x: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    direction: str = "output",
    measure: bool = False,
) -> Choice:
    """Which algorithm ``"auto"`` takes for a convolution on the CPU, and what the others cost.

    ``conv``: an ``nn.Conv2d`` or ``nn.ConvTranspose2d`` (the settings are then its own), or the
    weight ``(O, C/groups, KH, KW)`` of a ``conv2d``, or just that shape.  ``x``: its input
    ``(N, C, H, W)``, or just that shape.  ``direction``: what is computed, ``"output"`` (forward),
    ``"input"`` or ``"weight"`` (the gradients).  ``measure``: time each algorithm, too.

    Errors: ``BackendError`` where the compiled kernels are absent: the rule is theirs.

    >>> choice = why((64, 64, 3, 3), (1, 64, 56, 56), padding=1)  # doctest: +SKIP
    >>> choice.chosen  # doctest: +SKIP
    'winograd_4x4'
    """
    if dispatch.resolve("conv2d")[0] != "native":
        raise BackendError(
            "explain.why needs the compiled kernels, whose rule it shows; "
            "elsewhere 'auto' is the one algorithm that the backend has"
        )
    if direction not in DIRECTIONS:
        raise ArgumentError("direction", f"one of {DIRECTIONS}", repr(direction))
    layer = _describe(conv, x, stride, padding, dilation, groups, direction)
    rows = native.convolution_estimates(
        layer.shape, layer.outputs, layer.window, layer.groups, layer.direction, layer.dtype
    )
    candidates = sorted((Candidate(*row) for row in rows), key=lambda c: c.steps)
    asked = getattr(conv, "algorithm", "auto")
    if asked in ("auto", "winograd"):
        able = [
            c for c in candidates if c.allowed and (asked == "auto" or "winograd" in c.algorithm)
        ]
        if not able:
            raise ArgumentError("algorithm", "one that serves this convolution", repr(asked))
        chosen, reason = able[0].algorithm, f"the least steps of {asked!r}"
    else:
        chosen, reason = asked, "asked for by name"
    if measure:
        calls = layer.calls()
        for candidate in candidates:
            candidate.seconds = _seconds(calls[candidate.algorithm])
    one_group = layer.shape[1] // layer.groups, layer.outputs // layer.groups
    refused = {a: unserved(a, layer.window, *one_group, layer.direction) for a in CONV_ALGORITHMS}
    return Choice(str(layer), chosen, reason, candidates, {a: r for a, r in refused.items() if r})


def _describe(
    conv: Any, x: Any, stride: Any, padding: Any, dilation: Any, groups: int, direction: str
) -> _Layer:
    shape = _shape("x", x)
    transposed = isinstance(conv, nn.ConvTranspose2d)
    weight = conv
    if transposed or isinstance(conv, nn.Conv2d):
        weight = conv.weight
        stride, padding, dilation = conv.stride, conv.padding, conv.dilation
        groups = conv.groups
    first, second, *kernel = _shape("conv", weight)
    groups = as_int("groups", groups, 1)
    dtype = np.dtype(getattr(weight, "dtype", getattr(x, "dtype", np.float32)))
    window = Window2d.make((kernel[0], kernel[1]), stride, padding, dilation)
    channels = second * groups
    expected = first if transposed else channels
    if shape[1] != expected:
        raise ShapeError("x", f"{expected} channels, as the weight asks for", shape)
    if not transposed:
        return _Layer(shape, first, window, groups, direction, dtype)
    extra = conv.output_padding
    padding_after: Pair = (extra, extra) if isinstance(extra, int) else (extra[0], extra[1])
    size = window.transposed_size((shape[2], shape[3]), padding_after)
    plane = (shape[0], channels, *size)
    return _Layer(plane, first, window, groups, _OPPOSITE[direction], dtype)


def _shape(name: str, value: Any) -> tuple[int, int, int, int]:
    found = value.shape if isinstance(value, Tensor) or hasattr(value, "shape") else value
    if not isinstance(found, (tuple, list)) or len(found) != 4:
        raise ArgumentError(name, "an array of 4 axes, or a shape (4 integers)", repr(found))
    a, b, c, d = (as_int(name, size, 0) for size in found)
    return a, b, c, d


def _seconds(call: Callable[[], Array]) -> float:
    """Median of five runs after one that does not count."""
    call()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
