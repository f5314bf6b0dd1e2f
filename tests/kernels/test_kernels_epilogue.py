"""The epilogue of the convolutions: f(y + residual), on every backend, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnncore import kernels, set_backend
from cnncore.errors import ArgumentError
from cnncore.geometry import Window2d
from cnncore.kernels import native
from cnncore.kernels.epilogue import Epilogue

WINDOW = Window2d.make(3, 2, 1)
RNG = np.random.default_rng(0)
X, WEIGHT, BIAS = RNG.normal(size=(2, 3, 6, 7)), RNG.normal(size=(4, 3, 3, 3)), RNG.normal(size=4)


@pytest.fixture(params=["array", "native"], autouse=True)
def each_backend(request: pytest.FixtureRequest) -> Any:
    if request.param == "native" and not native.AVAILABLE:
        pytest.skip(native.REASON)
    set_backend(request.param)
    yield
    set_backend("auto")


@pytest.mark.parametrize("algorithm", ["im2col", "implicit_gemm", "auto"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_residual_and_activation(algorithm: str, dtype: Any) -> None:
    x, weight, bias = (a.astype(dtype) for a in (X, WEIGHT, BIAS))
    plain = kernels.conv2d(x, weight, bias, WINDOW, 1, algorithm)
    residual = RNG.normal(size=plain.shape).astype(dtype)
    expected = np.clip(plain + residual, -0.5, 1.5)
    epilogue = Epilogue(residual, "hardtanh", (-0.5, 1.5))
    y = kernels.conv2d(x, weight, bias, WINDOW, 1, algorithm, epilogue)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-12)
    assert y.dtype == dtype


def test_the_transposed_convolution_has_one_too() -> None:
    y = kernels.conv2d(X, WEIGHT, None, WINDOW)
    plain = kernels.conv_transpose2d(y, WEIGHT, None, (6, 7), WINDOW)
    fused = kernels.conv_transpose2d(y, WEIGHT, None, (6, 7), WINDOW, epilogue=Epilogue(X, "relu"))
    np.testing.assert_allclose(fused, np.maximum(plain + X, 0), atol=1e-12)


@pytest.mark.parametrize(
    ("epilogue", "argument"),
    [
        (Epilogue(residual=np.zeros((2, 4, 3, 3))), "residual"),
        (Epilogue(residual=np.zeros((2, 4, 3, 4), np.float32)), "residual"),
        (Epilogue(activation="no such"), "kind"),
        (Epilogue(activation="leaky_relu"), "params"),
    ],
)
def test_refused(epilogue: Epilogue, argument: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{argument}"):
        kernels.conv2d(X, WEIGHT, None, WINDOW, epilogue=epilogue)
