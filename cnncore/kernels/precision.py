"""Which convolution algorithms may be chosen, and what each asks of a layer.

``set_precision("fast")``, the default, lets ``"auto"`` and ``"winograd"`` take the form
F(4x4, 3x3); ``"strict"`` leaves it out.  In float32 its largest errors are some five times those of
a plain sum (``docs/accuracy.md``), far below what training with noisy gradients can notice;
``"strict"`` is for comparing networks digit by digit.  A form asked for by name is always taken.
"""

from __future__ import annotations

from types import TracebackType

from cnncore.errors import ArgumentError
from cnncore.geometry import Window2d
from cnncore.kernels.contract import PRECISIONS

_precision = "fast"


def get_precision() -> str:
    """``"fast"`` or ``"strict"``.

    >>> get_precision()
    'fast'
    """
    return _precision


class set_precision:  # noqa: N801 - reads as a function, and is one that may end
    """Let ``"auto"`` choose F(4x4, 3x3) (``"fast"``) or not (``"strict"``), for the whole process.

    Also a context manager, which puts the former setting back at its end.

    >>> with set_precision("strict"):
    ...     get_precision()
    'strict'
    >>> get_precision()
    'fast'
    """

    def __init__(self, name: str) -> None:
        if name not in PRECISIONS:
            raise ArgumentError("name", f"one of {PRECISIONS}", repr(name))
        self._before = _precision
        _set(name)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _set(self._before)


def _set(name: str) -> None:
    global _precision
    from cnncore.kernels import native  # here: its fallback, the plain backend, asks this module

    _precision = name
    native.set_precision(name)


def unserved(algorithm: str, window: Window2d, channels: int, outputs: int) -> str:
    """Why an algorithm cannot compute a convolution; ``""`` where it can.

    ``channels`` and ``outputs`` are those of one group.

    >>> unserved("winograd", Window2d((5, 5)), 8, 8)
    'it is for 3x3 kernels with stride 1 and dilation 1, not (5, 5), (1, 1), (1, 1)'
    """
    if algorithm.startswith("winograd"):
        settings = (window.kernel, window.stride, window.dilation)
        if settings != ((3, 3), (1, 1), (1, 1)):
            got = ", ".join(str(tuple(setting)) for setting in settings)
            return f"it is for 3x3 kernels with stride 1 and dilation 1, not {got}"
    if algorithm == "depthwise" and channels * outputs > 2:
        return (
            "it is for groups of one channel and one or two outputs (or the reverse), "
            f"not {channels} and {outputs}"
        )
    return ""
