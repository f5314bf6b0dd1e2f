"""Switches for a ``with`` block, per thread: recording of the graph, anomaly detection."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class _State(threading.local):
    grad_enabled = True
    anomaly = False


state = _State()


def is_grad_enabled() -> bool:
    """Whether ops record what backward needs."""
    return state.grad_enabled


def is_anomaly_enabled() -> bool:
    """Whether every op's result and gradient is searched for NaN and Inf."""
    return state.anomaly


@contextlib.contextmanager
def set_grad_enabled(enabled: bool) -> Iterator[None]:
    """Record the graph, or do not, inside a ``with`` block or a decorated function."""
    before, state.grad_enabled = state.grad_enabled, enabled
    try:
        yield
    finally:
        state.grad_enabled = before


def no_grad() -> contextlib._GeneratorContextManager[None]:
    """Record nothing inside the block: results have ``requires_grad=False`` and keep nothing."""
    return set_grad_enabled(False)


def enable_grad() -> contextlib._GeneratorContextManager[None]:
    """Record again, inside a ``no_grad`` block."""
    return set_grad_enabled(True)


@contextlib.contextmanager
def detect_anomaly() -> Iterator[None]:
    """Stop at the first NaN or Inf with the op's name and the line of user code that called it.

    Also compares *every* value kept for backward, not a sample, when it is used again.  Slow: for
    looking for a fault.
    """
    before, state.anomaly = state.anomaly, True
    try:
        yield
    finally:
        state.anomaly = before
