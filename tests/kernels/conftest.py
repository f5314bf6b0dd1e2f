"""Every test here that asks for ``backend`` runs on each one this machine has."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore.kernels import dispatch


@pytest.fixture(params=["array", "native"])
def backend(request):
    """The backend under test, active while the test runs; nothing falls back."""
    module = dispatch.BACKENDS[request.param]
    if not module.AVAILABLE:
        pytest.skip(module.REASON)
    with dispatch.use_backend(request.param):
        yield request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(20240607)
