"""Reading under watch: what a reader does besides returning is written down by the interpreter."""

from __future__ import annotations

import io
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cnncore.io import FileFormatError
from cnncore.io.torch_file import DESCRIPTION_FACTOR, NUMBERS_FACTOR, read_stream

_seen: list[str] | None = None
# What Python does by itself; anything else (import, open, exec, os.system, ...) is an alarm.
HARMLESS = {"builtins.id", "object.__getattr__", "object.__setattr__", "sys._getframe"}


def _hook(event: str, arguments: Any) -> None:
    if _seen is not None and event not in HARMLESS:
        _seen.append(f"{event}{arguments!r:.100}")


"".encode("cp437")  # zipfile decodes names with it, and Python imports it at its first use
sys.addaudithook(_hook)  # for good: hooks cannot be taken back


@contextmanager
def watched() -> Iterator[list[str]]:
    """The audit events (PEP 578) of the block."""
    global _seen
    _seen = events = []
    try:
        yield events
    finally:
        _seen = None


SLACK = 1 << 20


def examine(content: bytes, read: Callable[[io.BytesIO, int], Any] = read_stream) -> str:
    """Read bytes that may be anything; "read", or why not.

    Fails if the reader raises anything but ``FileFormatError``, touches anything outside of itself,
    or takes more memory than it says.
    """
    file = io.BytesIO(content)
    tracemalloc.start()
    try:
        with watched() as events:
            try:
                read(file, len(content))
                outcome = "read"
            except FileFormatError as error:
                outcome = str(error)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not events, f"the reader did {events}"
    bound = max(DESCRIPTION_FACTOR, NUMBERS_FACTOR) * len(content) + SLACK
    assert peak <= bound, f"{peak} bytes of memory for {len(content)} bytes of file"
    return outcome
