"""Peak memory of a training step, measured in the same way for us and for PyTorch.

A fresh process imports everything, runs one small operation, and notes its resident memory; then it
builds the network and trains three steps.  The most that was resident meanwhile, minus what it
began with, is the peak: weights, gradients, the optimiser's state, everything kept for backward,
and whatever the allocator holds on to.  Linux only (``/proc``).

    python -m cnncore.bench.memory resnet50 "torch channels_last" 2
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
STEPS = 3


def peak_of_step(network: str, who: str, threads: int) -> float | None:
    """Bytes, or None where they cannot be measured."""
    if not RESET.exists():
        return None
    done = subprocess.run(
        [sys.executable, "-m", "cnncore.bench.memory", network, who, str(threads)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {who} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def _resident(word: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (the most so far), in bytes."""
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(word):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{STATUS} has no {word}")


def main(name: str, who: str, threads: int) -> None:
    """Print the peak in bytes."""
    from cnncore import kernels
    from cnncore.bench import networks
    from cnncore.geometry import Window2d
    from cnncore.kernels import native

    native.set_num_threads(threads)
    (network,) = (n for n in networks.NETWORKS if n.name == name)
    x = np.ones((1, 8, 8, 8), np.float32)
    weight = np.ones((8, 8, 3, 3), np.float32)
    kernels.conv2d(x, weight, None, Window2d.make(3))
    if who == "cnncore":
        before = _start()
        side: networks.Ours | networks.Theirs = networks.Ours(network)
    else:
        import torch

        torch.set_num_threads(threads)
        torch.conv2d(torch.from_numpy(x), torch.from_numpy(weight))
        # Our own network is needed for its weights; it stays, and is not counted.
        ours = networks.Ours(network)
        before = _start()
        side = networks.Theirs(ours, who.removeprefix("torch "))
    side.prepare("training")
    for _ in range(STEPS):
        side.step()
    print(_resident("VmHWM") - before)


def _start() -> int:
    RESET.write_text("5", encoding="ascii")  # the most so far begins anew
    return _resident("VmRSS")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
