"""Promises about arithmetic, for the whole process: precision, TF32, and the same bits every run.

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
from typing import Any

from cnncore.errors import ArgumentError

PRECISIONS = ("strict", "fast")

_values: dict[str, Any] = {
    "tf32": False,
    "deterministic": False,
    "precision": "fast",
    "measure": False,
}
# Called after a change: choices made under the old value are void.
observers: list[Callable[[], None]] = []


class Setting:
    """A switch that has been set; leaving its ``with`` block sets it back."""

    def __init__(self, name: str, value: Any) -> None:
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


def _set(name: str, value: Any) -> None:
    _values[name] = value
    for changed in observers:
        changed()


def allow_tf32(allowed: bool = True) -> Setting:
    """Let float32 convolutions and products on a GPU round their factors to TF32 (10 bits).

    Off unless asked for: results then have a relative error near 5e-4 instead of 1e-6, and come
    several times faster from tensor cores.  Sums stay in float32; nothing changes on the CPU.
    """
    return Setting("tf32", bool(allowed))


def tf32_allowed() -> bool:
    """Whether ``allow_tf32`` is on."""
    return bool(_values["tf32"])


def deterministic(required: bool = True) -> Setting:
    """Refuse every kernel whose bits may differ from run to run, instead of running it.

    ``cnncore.info()`` lists those kernels and why; on the CPU there are none.
    """
    return Setting("deterministic", bool(required))


def is_deterministic() -> bool:
    """Whether ``deterministic`` is on."""
    return bool(_values["deterministic"])


def set_precision(name: str) -> Setting:
    """Let ``"auto"`` take F(4x4, 3x3) of Winograd (``"fast"``, the default) or not (``"strict"``).

    In float32 its errors are about twice those of a plain sum (``docs/accuracy.md``), far below
    what training with noisy gradients can notice; ``"strict"`` is for comparing networks digit by
    digit.  An algorithm asked for by name is always taken.

    >>> with set_precision("strict"):
    ...     get_precision()
    'strict'
    >>> get_precision()
    'fast'
    """
    if name not in PRECISIONS:
        raise ArgumentError("name", f"one of {PRECISIONS}", repr(name))
    return Setting("precision", name)


def get_precision() -> str:
    """``"fast"`` or ``"strict"``: see ``set_precision``."""
    return str(_values["precision"])


def measure_algorithms(wanted: bool = True) -> Setting:
    """Let ``"auto"`` of compiled convolutions time the algorithms, once a shape, and take the best.

    Off unless asked for.  Results of two processes may then differ in their last bits, since the
    algorithms round differently; under ``deterministic`` the rule decides as usual.  Layers of a
    compiled network are prepared by the rule.
    """
    return Setting("measure", bool(wanted))


def measures_algorithms() -> bool:
    """Whether ``measure_algorithms`` is on and ``deterministic`` is not."""
    return bool(_values["measure"]) and not _values["deterministic"]
