"""What each convolution algorithm asks of a layer."""

from __future__ import annotations

from cnncore.errors import ArgumentError
from cnncore.geometry import Window2d
from cnncore.kernels.contract import CONV_ALGORITHMS


def unserved(
    algorithm: str, window: Window2d, channels: int, outputs: int, direction: str = "output"
) -> str:
    """Why an algorithm cannot compute a convolution; ``""`` where it can.

    ``channels`` and ``outputs`` are those of one group, ``direction`` says what is computed:
    ``"output"``, ``"input"`` or ``"weight"``.

    >>> unserved("winograd_2x2", Window2d((5, 5)), 8, 8)
    'it is for 3x3 kernels with stride 1 and dilation up to 4, not (5, 5), (1, 1), (1, 1)'
    """
    if algorithm.startswith("winograd"):
        settings = (window.kernel, window.stride, window.dilation)
        got = "not " + ", ".join(str(tuple(setting)) for setting in settings)
        dilation = window.dilation[0] if window.dilation[0] == window.dilation[1] else 0
        whole = settings[:2] == ((3, 3), (1, 1)) and 1 <= dilation <= 4
        phases = window.kernel in ((3, 3), (4, 4)) and settings[1:] == ((2, 2), (1, 1))
        if not whole and algorithm in ("winograd_2x2", "winograd_4x4"):
            return f"it is for 3x3 kernels with stride 1 and dilation up to 4, {got}"
        if not phases and algorithm.startswith("winograd_phases"):
            return f"it is for 3x3 and 4x4 kernels with stride 2, {got}"
        if not whole and not phases:
            return f"it is for 3x3 kernels with stride 1, or 3x3 and 4x4 with stride 2, {got}"
    if algorithm == "depthwise" and channels * outputs > 2:
        return (
            "it is for groups of one channel and one or two outputs (or the reverse), "
            f"not {channels} and {outputs}"
        )
    return ""


def algorithm(name: str, window: Window2d, channels: int, outputs: int, direction: str) -> None:
    """Refuse a name that does not exist or does not serve; arguments as in ``unserved``."""
    if name == "auto":
        return
    if name not in CONV_ALGORITHMS:
        raise ArgumentError("algorithm", f"one of {CONV_ALGORITHMS}", repr(name))
    layer = (window, channels, outputs, direction)
    why = unserved(name, *layer)
    if why:
        serving = ", ".join(repr(a) for a in CONV_ALGORITHMS if not unserved(a, *layer))
        expected = f"one that serves this convolution: {serving}"
        raise ArgumentError("algorithm", expected, f"{name!r} ({why})", "'auto'")
