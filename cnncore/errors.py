"""The errors cnncore raises.  Every message says what was expected, what came, and what to try."""

from __future__ import annotations

import importlib
from types import ModuleType


class CnncoreError(Exception):
    """Base class of all errors raised on purpose by cnncore."""


class ArgumentError(CnncoreError, ValueError):
    """An argument that cannot be served.

    The message names the argument, what was expected, what came, and what to try:

    >>> raise ArgumentError("stride", "integers >= 1", (0, 1), "stride=1 for no subsampling")
    Traceback (most recent call last):
        ...
    cnncore.errors.ArgumentError: stride: expected integers >= 1, got (0, 1); \
try: stride=1 for no subsampling
    """

    def __init__(self, argument: str, expected: str, got: object, hint: str = "") -> None:
        self.argument, self.expected, self.got, self.hint = argument, expected, got, hint
        message = f"{argument}: expected {expected}, got {got}"
        super().__init__(f"{message}; try: {hint}" if hint else message)


class ShapeError(ArgumentError):
    """An array of the wrong rank or shape."""


class DTypeError(ArgumentError, TypeError):
    """An array of the wrong element type, or a mix of types."""


class DeviceError(ArgumentError):
    """Arrays on different devices, or a device this machine does not have."""


class BackendError(CnncoreError, RuntimeError):
    """A kernel that no active backend implements, or a backend that was asked for and is absent."""


class CudaError(CnncoreError, RuntimeError):
    """A CUDA call failed: the kernel being started, or one before it whose failure shows now."""


class OutOfMemoryError(CnncoreError, MemoryError):
    """No room for a result: names the op, the bytes asked for and the device."""


class GraphError(CnncoreError, RuntimeError):
    """A misuse of the autograd graph: released, not differentiable, modified after being kept."""


class AnomalyError(GraphError):
    """Under ``detect_anomaly``: the first NaN or Inf, with its op and the line of user code."""


class MissingDependencyError(CnncoreError, ImportError):
    """An optional package is needed and not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package, or say which extra installs it.

    >>> require("math", "vision").sqrt(4.0)
    2.0
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{module!r} is needed here and could not be imported ({error}); "
            f'try: pip install "cnncore[{extra}]"'
        ) from error
