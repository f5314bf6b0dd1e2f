"""What each convolution algorithm asks of a layer."""

from __future__ import annotations

from cnncore.errors import ArgumentError
from cnncore.geometry import Window2d
from cnncore.kernels.contract import CONV_ALGORITHMS


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


def algorithm(name: str, window: Window2d, channels: int, outputs: int) -> None:
    """Refuse a name that does not exist or does not serve; ``channels`` as in ``unserved``."""
    if name == "auto":
        return
    if name not in CONV_ALGORITHMS:
        raise ArgumentError("algorithm", f"one of {CONV_ALGORITHMS}", repr(name))
    why = unserved(name, window, channels, outputs)
    if why:
        serving = [a for a in CONV_ALGORITHMS if not unserved(a, window, channels, outputs)]
        expected = f"one that serves this convolution: {', '.join(map(repr, serving))}"
        raise ArgumentError("algorithm", expected, f"{name!r} ({why})", "'auto'")
