"""The peers of ``benchmarks/gpu`` compute what our kernels do: checked on the CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.gpu.cases import convolution_cases, memory_cases  # noqa: E402
from benchmarks.gpu.clock import Device, Torch  # noqa: E402
from benchmarks.gpu.run_cases import difference  # noqa: E402
from cnncore.kernels import array  # noqa: E402


class TorchOnTheCpu(Torch):
    def __init__(self, device):
        self.device, self.torch, self.vision = device, torch, None
        try:
            import torchvision
        except (ImportError, RuntimeError):  # its compiled ops may not fit this PyTorch
            return
        self.vision = torchvision

    def wait(self):
        pass

    def shared(self, value):
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


DEVICE = Device(np, dry=True)
TORCH = TorchOnTheCpu(DEVICE)
CASES = [*memory_cases(DEVICE, TORCH), *convolution_cases(DEVICE, TORCH)]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.label or c.kernel} {c.shape}")
def test_the_peer_is_the_same_function(case):
    if case.peer is None:
        pytest.skip("no peer here")

    def ours(*inputs):
        return getattr(array, case.kernel)(*case.arguments(*inputs))

    assert difference(case, ours, case.peer, DEVICE, TORCH) <= 1e-5
