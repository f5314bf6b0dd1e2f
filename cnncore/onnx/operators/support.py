"""What handlers share: element types, windows over any number of axes, maps that only copy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.geometry import Window2d
from cnncore.onnx.node import Node
from cnncore.ops.linear import LinearMap, apply
from cnncore.ops.resample import resampling
from cnncore.taps import Taps

Array = Any
Ints = tuple[int, ...]


def is_float(x: Tensor) -> bool:
    """float32 or float64: what ``cnncore.ops`` computes with, and what has gradients."""
    return x.dtype in (np.float32, np.float64)


def ints(values: Any) -> Ints:
    """A 1-D array or a sequence of integers as a tuple."""
    return tuple(int(v) for v in np.asarray(values).reshape(-1))


def axis_of(axis: int, ndim: int) -> int:
    """A possibly negative axis as a non-negative one."""
    if not -ndim <= axis < max(ndim, 1):
        raise ValueError(f"axis {axis} of an input with {ndim} axes")
    return axis % max(ndim, 1)


def every_index(shape: tuple[int, ...]) -> list[Array]:
    """The index of every element along every axis, in shapes that broadcast."""
    return [np.arange(n).reshape(-1, *(1,) * (len(shape) - 1 - i)) for i, n in enumerate(shape)]


def exactly(x: Tensor, op: Callable[[Tensor], Any]) -> Any:
    """``op`` on numbers of any type: integers travel as float64, which holds 2**53 of them."""
    if is_float(x):
        return op(x)
    wide = op(ops.to(x, np.float64))
    if isinstance(wide, tuple):
        return (ops.to(wide[0], x.dtype), *wide[1:])
    return ops.to(wide, x.dtype)


def rearranged(name: str, x: Tensor, f: Callable[[Array], Array]) -> Tensor:
    """``f(x)`` for a NumPy function that only copies elements: linear, so its transpose is known.

    The transpose adds every element of the gradient to where ``f`` copied it from; where that is,
    ``f`` of the positions says.
    """
    if not is_float(x):
        return Tensor(f(x.data))
    shape = x.shape

    def put_back(g: Array) -> Array:
        source = f(np.arange(math.prod(shape)).reshape(shape)).reshape(-1)
        total = np.bincount(source, g.reshape(-1), math.prod(shape))
        return total.reshape(shape).astype(g.dtype)

    return apply(LinearMap(name, f"{name}Transpose", f, put_back), x)


# --- windows over any number of axes --------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """Kernel, strides, dilations and padding (before, after) of every spatial axis."""

    kernel: Ints
    strides: Ints
    dilations: Ints
    pads: tuple[tuple[int, int], ...]

    @property
    def extent(self) -> Ints:
        """Elements one window spans along each axis, holes included."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def plane(self, rows: int, cols: int) -> Window2d:
        """The window over two of the axes (-1: an axis that is not there)."""

        def pick(values: Sequence[Any], absent: Any) -> tuple[Any, Any]:
            return tuple(absent if i < 0 else values[i] for i in (rows, cols))

        return Window2d(
            pick(self.kernel, 1),
            pick(self.strides, 1),
            pick(self.pads, (0, 0)),
            pick(self.dilations, 1),
        )

    def output_size(self, size: Sequence[int], ceil: bool = False) -> Ints:
        """Windows that fit along each axis; with ``ceil`` a last one may hang over the end."""
        if len(size) != len(self.kernel):
            raise ValueError(f"kernel {self.kernel} for {len(size)} spatial axes")
        return tuple(self.plane(i, -1).output_size((n, 1), ceil)[0] for i, n in enumerate(size))


def windows(node: Node, kernel: Sequence[int], size: Sequence[int]) -> Windows:
    """The attributes that Conv and the pools share; ``auto_pad`` for an input of ``size``."""
    count = len(kernel)
    if len(size) != count:
        raise ValueError(f"a kernel {tuple(kernel)} for an input with {len(size)} spatial axes")
    strides = ints(node.get("strides", (1,) * count))
    dilations = ints(node.get("dilations", (1,) * count))
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto = node.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for n, s, e in zip(size, strides, extent, strict=True):
            total = max((-(-n // s) - 1) * s + e - n, 0)
            pads.append(halves(total, auto == "SAME_UPPER"))
    elif auto == "VALID":
        pads = [(0, 0)] * count
    else:
        given = ints(node.get("pads", (0,) * (2 * count)))
        pads = list(zip(given[:count], given[count:], strict=True))
    return Windows(tuple(int(k) for k in kernel), strides, dilations, tuple(pads))


def halves(total: int, upper: bool) -> tuple[int, int]:
    """Padding split in two, the odd one at the end if ``upper``, else at the beginning."""
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


# --- one sparse matrix along each axis ------------------------------------------------------------


def identity_taps(size: int) -> Taps:
    """The matrix that changes nothing."""
    return Taps(
        size,
        np.arange(size).reshape(1, size, 1),
        np.ones((1, size, 1)),
        np.ones((1, size), np.int64),
    )


def separable(name: str, x: Tensor, matrices: dict[int, Taps]) -> Tensor:
    """Apply one matrix along each of some axes: the last two at once, the others one by one."""
    todo = {axis % x.ndim: taps for axis, taps in matrices.items()}
    last = x.ndim - 1
    if x.ndim >= 2 and last in todo and last - 1 in todo:
        x = _two(name, x, last - 1, todo.pop(last - 1), todo.pop(last))
    for axis, taps in todo.items():
        inner = math.prod(x.shape[axis + 1 :])
        lead, rest = x.shape[:axis], x.shape[axis + 1 :]
        flat = ops.reshape(x, (math.prod(lead), 1, x.shape[axis], inner))
        y = _two(name, flat, 2, taps, identity_taps(inner))
        x = ops.reshape(y, (*lead, taps.length, *rest))
    return x


def _two(name: str, x: Tensor, axis: int, rows: Taps, cols: Taps) -> Tensor:
    lead = x.shape[:axis]
    planes = ops.reshape(x, (math.prod(lead), 1, *x.shape[axis:]))
    if rows.length * cols.length * math.prod(lead) == 0:
        return Tensor(np.zeros((*lead, rows.length, cols.length), x.dtype))
    y = apply(resampling(name, rows, cols, planes.shape[0]), planes)
    return ops.reshape(y, (*lead, rows.length, cols.length))
