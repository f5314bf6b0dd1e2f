"""Where NVIDIA's compiler is: ``_cuda`` compiles, loads, and says that there is no device.

One architecture, in ``build/cuda-test``, which later runs only bring up to date.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NVCC = os.environ.get("CUDACXX") or shutil.which("nvcc")
BUILD = ROOT / "build" / "cuda-test"

pytestmark = pytest.mark.skipif(NVCC is None, reason="no nvcc on PATH, CUDACXX not set")


def run(*command: str, **variables: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **variables}, check=False
    )
    assert done.returncode == 0, (
        f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    )
    return done.stdout


@pytest.fixture(scope="module")
def folder() -> Path:
    """The folder with a freshly compiled ``_cuda``."""
    pytest.importorskip("pybind11")
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if cmake is None:
        pytest.skip("no cmake")
    options = {
        "Python_EXECUTABLE": sys.executable,
        "CNNCORE_CUDA": "ON",
        "CNNCORE_CUDA_ARCHITECTURES": "90-real",
        "CNNCORE_OUTPUT_DIR": str(BUILD / "modules"),
    }
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    defines = [f"-D{name}={value}" for name, value in options.items()]
    run(cmake, "-S", str(ROOT), "-B", str(BUILD), *generator, *defines)
    run(cmake, "--build", str(BUILD), "--target", "_cuda", "-j", "2")
    return BUILD / "modules"


def load(folder: Path, program: str) -> str:
    """Run Python with this ``_cuda`` as ``cnncore._cuda``."""
    before = (
        f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "import _cuda; sys.modules['cnncore._cuda'] = _cuda\n"
    )
    return run(sys.executable, "-c", before + program)


def test_it_holds_every_kernel_of_the_host_build(folder):
    program = (
        "import importlib\n"
        "host = importlib.import_module('cnncore._cuda_host')\n"
        "print(sorted(set(vars(host)) - set(vars(_cuda))), _cuda.compiled_architectures())"
    )
    pytest.importorskip("cnncore._cuda_host")
    assert load(folder, program).strip() == "[] ['90-real']"


def test_the_absence_of_a_device_is_reported_as_such(folder):
    program = """
import numpy as np, strict_arrays
if _cuda.device_count():
    print("a device is here")
    raise SystemExit
import cnncore
from cnncore.errors import CudaError
from cnncore.kernels import cuda, dispatch
from cnncore.kernels.cuda import runtime
assert not cuda.AVAILABLE
assert _cuda.absence_reason() and _cuda.absence_reason() in cuda.REASON, cuda.REASON
text = cnncore.info()
line = " ".join(("CUDA kernels no:", cuda.REASON))
assert line in " ".join(text.split()) and "90-real" in text, text
try:
    cnncore.set_backend("cuda")
except cnncore.errors.BackendError as error:
    assert _cuda.absence_reason() in str(error)
else:
    raise AssertionError("a backend without a device was accepted")
# A launch fails with its op and CUDA's reason, and leaves the process as it was.
x = strict_arrays.asarray(np.ones(5, np.float32))
for _ in range(2):
    try:
        runtime.call("pointwise", strict_arrays, x, 0, 0.0, 0.0, 0, None, x)
    except CudaError as error:
        assert str(error).startswith("pointwise: "), error
    else:
        raise AssertionError("a kernel started without a device")
assert cnncore.ops.relu(np.ones(2)).shape == (2,)
print("as it should be")
"""
    assert load(folder, program).strip() in ("as it should be", "a device is here")
