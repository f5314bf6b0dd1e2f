"""Two promises about arithmetic, for the whole process: TF32 products, and the same bits every run.

Each function sets its switch at once; what it returns restores the switch when used in a ``with``.

>>> with allow_tf32(True):
...     tf32_allowed()
True
>>> tf32_allowed()
False
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

_values = {"tf32": False, "deterministic": False}
# Called after a change: choices made under the old value are void.
observers: list[Callable[[], None]] = []


class Setting:
    """A switch that has been set; leaving its ``with`` block sets it back."""

    def __init__(self, name: str, value: bool) -> None:
        self._name, self._before = name, _values[name]
        _set(name, value)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _set(self._name, self._before)


def _set(name: str, value: bool) -> None:
    _values[name] = bool(value)
    for changed in observers:
        changed()


def allow_tf32(allowed: bool = True) -> Setting:
    """Let float32 convolutions and products on a GPU round their factors to TF32 (10 bits).

    Off unless asked for: results then have a relative error near 5e-4 instead of 1e-6, and come
    several times faster from tensor cores.  Sums stay in float32; nothing changes on the CPU.
    """
    return Setting("tf32", allowed)


def tf32_allowed() -> bool:
    """Whether ``allow_tf32`` is on."""
    return _values["tf32"]


def deterministic(required: bool = True) -> Setting:
    """Refuse every kernel whose bits may differ from run to run, instead of running it.

    ``cnncore.info()`` lists those kernels and why; on the CPU there are none.
    """
    return Setting("deterministic", required)


def is_deterministic() -> bool:
    """Whether ``deterministic`` is on."""
    return _values["deterministic"]
