"""Which backend runs a kernel.  This is the only place that falls back, and it records why.

Backends are modules whose functions have the names and signatures of ``contract.py``:
``native`` (compiled C++) then ``array`` for NumPy arrays, ``cuda`` then ``array`` for CuPy arrays.
``CNNCORE_BACKEND`` or ``set_backend`` ask for one by name; then nothing falls back.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from cnncore.errors import ArgumentError, BackendError, OutOfMemoryError
from cnncore.kernels import array, checks, contract, cuda, native, switches
from cnncore.kernels.array.modules import array_module as array_module

F = TypeVar("F", bound=Callable[..., Any])

BACKENDS: dict[str, ModuleType] = {"native": native, "cuda": cuda, "array": array}
CHOICES = ("auto", "native", "cuda", "array")

_wanted = "auto"
# name -> replacement, for deliberate faults and for kernels that a user registers
_overrides: dict[str, Callable[..., Any]] = {}
# (kernel name, on device) -> implementation; emptied whenever a choice changes
_chosen: dict[tuple[str, bool], Callable[..., Any]] = {}


def _preference(device: bool) -> tuple[str, ...]:
    if _wanted == "auto":
        return ("cuda", "array") if device else ("native", "array")
    return (_wanted,)


def resolve(name: str, device: bool = False) -> tuple[str, Callable[..., Any], list[str]]:
    """The backend that serves a kernel, its function, and why better ones do not."""
    reasons = []
    for backend in _preference(device):
        module = BACKENDS[backend]
        implementation = getattr(module, name, None)
        if not module.AVAILABLE:
            reasons.append(f"{backend}: {module.REASON}")
        elif implementation is None:
            reasons.append(f"{backend}: has no {name}")
        else:
            reason = nondeterministic(backend).get(name) if device else None
            if reason and switches.is_deterministic():
                raise BackendError(
                    f"kernel {name!r} on a device ({backend}): {reason}, which "
                    'cnncore.deterministic(True) forbids; try: .to("cpu") around it'
                )
            return backend, implementation, reasons
    raise BackendError(
        f"kernel {name!r}: no active backend has it ({'; '.join(reasons)}); "
        f"try: cnncore.set_backend('auto')"
    )


def nondeterministic(backend: str) -> dict[str, str]:
    """Kernels of a backend that give other bits from run to run on a device, and why."""
    found: dict[str, str] = getattr(BACKENDS[backend], "NONDETERMINISTIC", {})
    return found


def set_backend(name: str) -> None:
    """Use one backend for every kernel (``"array"``, ``"native"``, ``"cuda"``) or ``"auto"``."""
    global _wanted
    if name not in CHOICES:
        raise ArgumentError("backend", f"one of {CHOICES}", repr(name))
    if name not in ("auto", "array") and not BACKENDS[name].AVAILABLE:
        raise BackendError(f"backend {name!r} is not available: {BACKENDS[name].REASON}")
    _wanted = name
    _chosen.clear()


def get_backend() -> str:
    """The backend asked for: ``"auto"`` unless set."""
    return _wanted


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """``set_backend`` for a ``with`` block."""
    before = _wanted
    set_backend(name)
    try:
        yield
    finally:
        set_backend(before)


@contextlib.contextmanager
def override(name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """Replace one kernel inside a ``with`` block: a deliberate fault, or a kernel under trial."""
    if name not in KERNELS:
        raise ArgumentError("name", f"a kernel of the contract: {sorted(KERNELS)}", repr(name))
    before = _overrides.get(name)
    _overrides[name] = replacement
    _chosen.clear()
    try:
        yield
    finally:
        _overrides.pop(name)
        if before is not None:
            _overrides[name] = before
        _chosen.clear()


def _choose(name: str, device: bool) -> Callable[..., Any]:
    implementation = _overrides.get(name) or resolve(name, device)[1]
    if device:
        implementation = _naming_the_op(name, implementation)
    _chosen[name, device] = implementation
    return implementation


def _naming_the_op(name: str, implementation: Callable[..., Any]) -> Callable[..., Any]:
    """Say in which kernel a device ran out of memory: CuPy only says how much it wanted."""

    @functools.wraps(implementation)
    def named(*args: Any, **kwargs: Any) -> Any:
        try:
            return implementation(*args, **kwargs)
        except OutOfMemoryError:
            raise
        except MemoryError as error:
            raise OutOfMemoryError(f"{name}: {error}; try: a smaller batch") from error

    return named


def dispatched(declaration: F) -> F:
    """The public kernel for a declaration of the contract: check the arguments, choose, call."""
    name = declaration.__name__
    check = getattr(checks, name)

    @functools.wraps(declaration)
    def kernel(*args: Any, **kwargs: Any) -> Any:
        device = check(*args, **kwargs)
        implementation = _chosen.get((name, device)) or _choose(name, device)
        return implementation(*args, **kwargs)

    return kernel  # type: ignore[return-value]


def on_device(x: Any) -> bool:
    """Whether an array lives on a GPU (is CuPy's)."""
    return not isinstance(x, np.ndarray) and hasattr(x, "__cuda_array_interface__")


KERNELS: dict[str, Callable[..., Any]] = {
    name: function
    for name, function in vars(contract).items()
    if callable(function) and getattr(function, "__module__", "") == contract.__name__
}

switches.observers.append(_chosen.clear)
set_backend(os.environ.get("CNNCORE_BACKEND", "auto"))
