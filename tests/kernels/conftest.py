"""Every test here that asks for ``backend`` runs on each one this machine has."""

from __future__ import annotations

import device_support
import numpy as np
import pytest

from cnncore.kernels import dispatch


@pytest.fixture(params=["array", "native", device_support.DEVICE])
def backend(request):
    """The backend under test, active while the test runs; nothing falls back.

    Device code runs on a GPU, or compiled for the host: see ``device_support``.
    """
    if request.param not in device_support.backends():
        module = dispatch.BACKENDS.get(request.param)
        pytest.skip(module.REASON if module else "the device code was not built")
    with device_support.using(request.param):
        yield request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)
