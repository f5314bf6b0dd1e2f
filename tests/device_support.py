"""Run device kernels where there is no device: compiled for the host, on the stand-in for CuPy.

``on_device(kernel)`` is a kernel of NumPy arrays that moves them to the device and the result back,
so that every test of a kernel is a test of the device code too.  On a machine with a GPU,
``CNNCORE_TEST_DEVICE=cuda`` makes it CuPy and ``cnncore._cuda`` instead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os

import numpy as np
import pytest
import strict_arrays

from cnncore import kernels
from cnncore.kernels import cuda, dispatch
from cnncore.kernels.cuda import runtime
from cnncore.kernels.epilogue import Epilogue, Gate

REAL = os.environ.get("CNNCORE_TEST_DEVICE") == "cuda"
DEVICE = "cuda" if REAL else "cuda on the host"


def host_module():
    """The device kernels compiled for the host, or None where they were not built."""
    try:
        return importlib.import_module("cnncore._cuda_host")
    except ImportError:
        return None


AVAILABLE = cuda.AVAILABLE if REAL else host_module() is not None
needs_device_code = pytest.mark.skipif(not AVAILABLE, reason="the device code was not built")


@contextlib.contextmanager
def hosted():
    """``kernels.cuda`` calls the module of the host (on a GPU: the real one)."""
    if REAL:
        yield runtime.compiled
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "compiled", host_module())
        patch.setattr(cuda, "AVAILABLE", True)
        patch.setattr(cuda, "REASON", "")
        dispatch._chosen.clear()
        yield runtime.compiled
    dispatch._chosen.clear()


@contextlib.contextmanager
def host_order(max_blocks=0, reverse=False, wide=False):
    """Play the grid with few blocks, backwards, or with 64-bit indices."""
    module = host_module()
    module.set_host_order(max_blocks, reverse, wide)
    try:
        yield
    finally:
        module.set_host_order(0, False, False)


def array_module():
    return importlib.import_module("cupy") if REAL else strict_arrays


def brought_in(value):
    """The array on the device, in native byte order, with the strides it has here."""
    if isinstance(value, Epilogue):
        return dataclasses.replace(value, residual=brought_in(value.residual))
    if isinstance(value, Gate):
        return dataclasses.replace(value, y=brought_in(value.y))
    if isinstance(value, tuple):
        return tuple(map(brought_in, value))
    if type(value) is not np.ndarray:
        return value
    native = np.require(value, value.dtype.newbyteorder("="), ["ALIGNED"])
    if not REAL:
        return strict_arrays.Array(native)
    xp = array_module()
    if native.size > 2**26:  # a view of one number, made to be refused: no device has such room
        return xp.broadcast_to(xp.asarray(native.flat[0]), native.shape)
    moved = xp.ascontiguousarray(xp.asarray(np.ascontiguousarray(native)))
    if native.flags.f_contiguous and not native.flags.c_contiguous:
        return xp.asfortranarray(moved)
    return moved


def taken_out(value):
    """The numbers of a result, which must be the device's (a mixture would slip through)."""
    if isinstance(value, tuple):
        return tuple(map(taken_out, value))
    assert value is None or dispatch.on_device(value), type(value)
    return None if value is None else value.get()


def on_device(kernel):
    """The kernel with its arrays moved to the device and back, updates in place included."""

    def moved(*args, **kwargs):
        there = [brought_in(a) for a in args]
        there_named = {name: brought_in(a) for name, a in kwargs.items()}
        result = taken_out(kernel(*there, **there_named))
        if result is None:
            for here, copy in zip(args, there, strict=True):
                if isinstance(here, np.ndarray) and here.flags.writeable:
                    here[...] = copy.get()
        return result

    return moved


@contextlib.contextmanager
def everything_on_device():
    """Every ``kernels.NAME(…)`` moves its arrays to the device and its result back."""
    with pytest.MonkeyPatch.context() as patch, hosted():
        for name in dispatch.KERNELS:
            patch.setattr(kernels, name, on_device(getattr(kernels, name)))
        yield


def backends():
    """The backends that tests run on; the device code stands for ``cuda``."""
    found = [name for name in ("array", "native") if dispatch.BACKENDS[name].AVAILABLE]
    return [*found, *([DEVICE] if AVAILABLE else [])]


@contextlib.contextmanager
def using(name):
    """One of ``backends``, active in a ``with`` block; NumPy arrays may be passed to all."""
    with everything_on_device() if name == DEVICE else dispatch.use_backend(name):
        yield
