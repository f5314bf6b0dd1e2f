"""Where windows fall: the size arithmetic of convolution and pooling, once.

Nothing here touches pixel values or arrays.  The coordinate rules of resampling and of regions of
interest are next door in ``cnncore.taps``.

Letters: ``N C H W`` of the input plane, ``KH KW`` kernel, ``OH OW`` output plane.  Pairs are
``(h, w)``.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, ShapeError

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]  # ((top, bottom), (left, right))

# Sizes whose product passes this cannot be indexed by a signed 64-bit integer in bytes.
MAX_ELEMENTS = 2**59


def checked_size(argument: str, *sizes: int) -> int:
    """The product of sizes, refusing what a 64-bit index cannot address."""
    product = math.prod(map(int, sizes))
    if product > MAX_ELEMENTS:
        raise ArgumentError(argument, "at most 2**59 elements in all", f"{sizes}", "smaller sizes")
    return product


def as_int(argument: str, value: object, minimum: int) -> int:
    """An integer not below ``minimum``; floats and booleans are refused, NumPy's are fine."""
    if type(value) is int and value >= minimum:  # the usual case
        return value
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ArgumentError(argument, f"an integer >= {minimum}", repr(value), "int(...)") from None
    if number < minimum:
        raise ArgumentError(argument, f"an integer >= {minimum}", number)
    return number


def as_pair(argument: str, value: object, minimum: int) -> Pair:
    """``3`` or ``(3, 5)`` as a pair ``(h, w)`` of integers not below ``minimum``.

    >>> as_pair("kernel_size", 3, 1)
    (3, 3)
    """
    if isinstance(value, (list, tuple, np.ndarray)):
        if len(value) != 2:
            raise ArgumentError(argument, "one integer or a pair (h, w)", repr(value))
        return as_int(argument, value[0], minimum), as_int(argument, value[1], minimum)
    number = as_int(argument, value, minimum)
    return number, number


@dataclass(frozen=True)
class Window2d:
    """A window sliding over a plane: the size arithmetic of convolution and pooling.

    >>> Window2d((3, 3), (2, 2), ((1, 1), (1, 1))).output_size((7, 8))
    (4, 4)
    """

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)

    @staticmethod
    def make(
        kernel_size: object,
        stride: object = 1,
        padding: object = 0,
        dilation: object = 1,
        *,
        names: tuple[str, str, str, str] = ("kernel_size", "stride", "padding", "dilation"),
    ) -> Window2d:
        """Check and normalise user arguments.

        ``padding`` is ``p``, ``(ph, pw)``, ``((top, bottom), (left, right))``, ``"valid"`` or
        ``"same"`` (stride 1 only; an odd surplus goes to the bottom and right, as in PyTorch).
        """
        if _plain(kernel_size) and _plain(stride) and _plain(padding) and _plain(dilation):
            return _made(kernel_size, stride, padding, dilation, names)
        return Window2d._make(kernel_size, stride, padding, dilation, names)

    @staticmethod
    def _make(
        kernel_size: object,
        stride: object,
        padding: object,
        dilation: object,
        names: tuple[str, str, str, str],
    ) -> Window2d:
        kernel = as_pair(names[0], kernel_size, 1)
        strides = as_pair(names[1], stride, 1)
        dilations = as_pair(names[3], dilation, 1)
        pads = _as_padding(names[2], padding, kernel, strides, dilations)
        return Window2d(kernel, strides, pads, dilations)

    @property
    def extent(self) -> Pair:
        """Rows and columns one window spans, holes included: ``d (k - 1) + 1``."""
        return (
            self.dilation[0] * (self.kernel[0] - 1) + 1,
            self.dilation[1] * (self.kernel[1] - 1) + 1,
        )

    def output_size(self, size: Pair, ceil_mode: bool = False, argument: str = "x") -> Pair:
        """Windows that fit: ``floor((n + p0 + p1 - extent) / s) + 1`` per axis.

        With ``ceil_mode`` a last window may hang over the end, but must begin inside the input or
        the leading padding (PyTorch's rule).
        """
        result = []
        for axis, name in enumerate(("height", "width")):
            before, after = self.padding[axis]
            room = size[axis] + before + after - self.extent[axis]
            if room < 0:
                raise ShapeError(
                    argument,
                    f"a padded {name} of at least the kernel's extent {self.extent[axis]}",
                    f"{name} {size[axis]} + padding {before}+{after}",
                    "a smaller kernel or dilation, more padding, or a larger input",
                )
            step = self.stride[axis]
            count = room // step + 1
            if ceil_mode and room % step and count * step < size[axis] + before:
                count += 1
            result.append(count)
        return result[0], result[1]

    def transposed_size(self, size: Pair, output_padding: Pair = (0, 0)) -> Pair:
        """The smallest input size that gives ``size`` windows, plus ``output_padding``.

        >>> Window2d((3, 3), (2, 2), ((1, 1), (1, 1))).transposed_size((4, 4), (1, 1))
        (8, 8)
        """
        result = []
        for axis in (0, 1):
            before, after = self.padding[axis]
            smallest = (size[axis] - 1) * self.stride[axis] - before - after + self.extent[axis]
            result.append(smallest + output_padding[axis])
        return result[0], result[1]

    def transposed_candidates(self, size: Pair) -> tuple[range, range]:
        """All input sizes that give ``size`` windows: what ``output_size=`` may be."""
        smallest = self.transposed_size(size)
        return (
            range(smallest[0], smallest[0] + self.stride[0]),
            range(smallest[1], smallest[1] + self.stride[1]),
        )

    def resolve_output_size(self, size: Pair, output_size: object) -> Pair:
        """Check a user's ``output_size`` against the candidates; the error lists them."""
        wanted = as_pair("output_size", output_size, 1)
        candidates = self.transposed_candidates(size)
        for axis, name in enumerate(("height", "width")):
            if wanted[axis] not in candidates[axis]:
                raise ArgumentError(
                    "output_size",
                    f"a {name} among {list(candidates[axis])}",
                    wanted[axis],
                    "one of these: each gives back the input's size under the same window",
                )
        return wanted

    def flat(self) -> tuple[int, ...]:
        """``KH KW SH SW top bottom left right DH DW``: the form compiled kernels take."""
        return self._flat

    # A layer's window is the same object in every step, and a key of several caches.

    @functools.cached_property
    def _flat(self) -> tuple[int, ...]:
        return (*self.kernel, *self.stride, *self.padding[0], *self.padding[1], *self.dilation)

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.kernel, self.stride, self.padding, self.dilation))

    def __hash__(self) -> int:
        return self._hash


def _plain(value: object) -> bool:
    """An integer or a pair of them, and no boolean or float that would compare equal to one."""
    if type(value) is tuple:
        return len(value) == 2 and type(value[0]) is int and type(value[1]) is int
    return type(value) is int


# A layer asks for the same window in every step.
_made = functools.lru_cache(maxsize=1024)(Window2d._make)


def _as_padding(
    argument: str, padding: object, kernel: Pair, stride: Pair, dilation: Pair
) -> Padding:
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding == "same":
            if stride != (1, 1):
                raise ArgumentError(
                    argument, '"same" only with stride 1', f"stride {stride}", "explicit padding"
                )
            total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
            return (
                (total[0] // 2, total[0] - total[0] // 2),
                (total[1] // 2, total[1] - total[1] // 2),
            )
        raise ArgumentError(argument, 'integers, "same" or "valid"', repr(padding))
    if isinstance(padding, (list, tuple)) and any(isinstance(p, (list, tuple)) for p in padding):
        if len(padding) != 2:
            raise ArgumentError(argument, "((top, bottom), (left, right))", repr(padding))
        return as_pair(argument, padding[0], 0), as_pair(argument, padding[1], 0)
    ph, pw = as_pair(argument, padding, 0)
    return (ph, ph), (pw, pw)


@dataclass(frozen=True)
class ReceptiveField:
    """What one output pixel of a chain of windows sees of the input, per axis.

    ``size`` pixels, neighbouring outputs ``jump`` pixels apart, the first one's window beginning at
    input coordinate ``start`` (negative inside padding).  Source: Dumoulin & Visin, "A guide to
    convolution arithmetic", 2016.
    """

    size: Pair = (1, 1)
    jump: Pair = (1, 1)
    start: Pair = (0, 0)

    def then(self, window: Window2d) -> ReceptiveField:
        """The receptive field after one more window.

        >>> ReceptiveField().then(Window2d((3, 3))).then(Window2d((3, 3))).size
        (5, 5)
        """
        axes = (0, 1)
        return ReceptiveField(
            _pair(self.size[a] + (window.extent[a] - 1) * self.jump[a] for a in axes),
            _pair(self.jump[a] * window.stride[a] for a in axes),
            _pair(self.start[a] - window.padding[a][0] * self.jump[a] for a in axes),
        )


def _pair(values: Any) -> Pair:
    first, second = values
    return first, second
