"""Our kernels beside PyTorch's in one run: each result is verified before anything is timed.

    python -m benchmarks.run [--rounds 20] [--only conv]

Ours and the peer alternate, with a pause after each peer call (its threads spin for a while), and
the table gives medians and their ratio.  Written to ``benchmarks/results/<cpu>.md``.
"""

from __future__ import annotations

import argparse
import datetime
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import cnncore
from cnncore import kernels
from cnncore.geometry import Window2d
from cnncore.inspect import machine

PAUSE = 0.01  # seconds in which a peer's spinning threads go to sleep
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Case:
    """Two ways to the same array, and the floating-point operations one takes (0: memory-bound)."""

    name: str
    ours: Callable[[], Any]
    peer: Callable[[], Any]
    operations: float = 0.0
    tolerance: float = 1e-4  # of the largest value


def conv_cases() -> list[Case]:
    """The convolutions of the demo's network and of a ResNet, three directions each."""
    shapes = [  # N, C, H, W, O, kernel, stride, padding
        (8, 3, 128, 128, 16, 7, 2, 3),
        (8, 32, 32, 32, 32, 3, 1, 1),
        (8, 128, 8, 8, 128, 3, 1, 1),
        (8, 64, 32, 32, 128, 1, 1, 0),
        (80, 32, 14, 14, 32, 3, 1, 1),
        (4, 64, 56, 56, 64, 3, 1, 1),
        (4, 256, 14, 14, 256, 3, 1, 1),
        (4, 128, 56, 56, 128, 3, 2, 1),
    ]
    return [case for shape in shapes for case in _directions(*shape)]


def _directions(
    n: int, c: int, h: int, w: int, o: int, k: int, stride: int, padding: int
) -> list[Case]:
    rng = np.random.default_rng(0)
    window = Window2d.make(k, stride, padding)
    x = rng.normal(size=(n, c, h, w)).astype(np.float32)
    weight = (rng.normal(size=(o, c, k, k)) / np.sqrt(c * k * k)).astype(np.float32)
    oh, ow = window.output_size((h, w))
    gy = rng.normal(size=(n, o, oh, ow)).astype(np.float32)
    tx, tw, tg = (torch.from_numpy(a) for a in (x, weight, gy))
    arguments = (None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)

    def backward(*mask: bool) -> Callable[[], Any]:
        wanted = mask.index(True)
        run = torch.ops.aten.convolution_backward
        return lambda: run(tg, tx, tw, *arguments, list(mask))[wanted].numpy()

    operations = 2.0 * n * o * oh * ow * c * k * k
    label = f"{n}×{c}×{h}×{w} → {o}, {k}×{k} s{stride}"
    return [
        Case(
            f"conv2d {label}",
            lambda: kernels.conv2d(x, weight, None, window),
            lambda: functional.conv2d(tx, tw, None, stride, padding).numpy(),
            operations,
        ),
        Case(
            f"conv2d input gradient {label}",
            lambda: kernels.conv_transpose2d(gy, weight, None, (h, w), window),
            backward(True, False, False),
            operations,
        ),
        Case(
            f"conv2d weight gradient {label}",
            lambda: kernels.conv2d_weight(x, gy, window),
            backward(False, True, False),
            operations,
        ),
    ]


def other_cases() -> list[Case]:
    """Matrix product, pooling, normalisation, activation."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(1024, 1024)).astype(np.float32) for _ in range(2))
    x = rng.normal(size=(4, 64, 112, 112)).astype(np.float32)
    tx, window = torch.from_numpy(x), Window2d.make(3, 2, 1)
    size = window.output_size((112, 112))
    logits = rng.normal(size=(8, 21, 64 * 64)).astype(np.float32)
    return [
        Case(
            "matmul 1024×1024×1024",
            lambda: kernels.matmul(a, b),
            lambda: (torch.from_numpy(a) @ torch.from_numpy(b)).numpy(),
            2.0 * 1024**3,
        ),
        Case(
            "max_pool2d with switches 4×64×112×112, 3×3 s2",
            lambda: kernels.max_pool2d(x, window, size)[0],
            lambda: functional.max_pool2d(tx, 3, 2, 1, return_indices=True)[0].numpy(),
        ),
        Case(
            "relu 4×64×112×112",
            lambda: kernels.pointwise(x, "relu"),
            lambda: torch.relu(tx).numpy(),
        ),
        Case(
            "softmax 8×21×4096",
            lambda: kernels.softmax(logits),
            lambda: torch.softmax(torch.from_numpy(logits), 1).numpy(),
        ),
    ]


def measure(case: Case, rounds: int) -> tuple[float, float]:
    """Median seconds (ours, peer), after checking that both give the same array."""
    ours, peer = np.asarray(case.ours()), np.asarray(case.peer())
    if ours.shape != peer.shape:
        raise AssertionError(f"{case.name}: shapes {ours.shape} and {peer.shape} differ")
    error = float(np.abs(ours - peer).max() / np.abs(peer).max())
    if not error < case.tolerance:
        raise AssertionError(f"{case.name}: results differ by {error:.2e} of the largest value")
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, record in zip((case.ours, case.peer), times, strict=True):
            start = time.perf_counter()
            run()
            record.append(time.perf_counter() - start)
            time.sleep(PAUSE)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    """Print the table as it grows and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(cnncore.get_num_threads())
    cases = [c for c in conv_cases() + other_cases() if options.only in c.name]
    lines = [
        f"# {machine()}",
        "",
        f"{datetime.date.today()}, cnncore {cnncore.__version__}, PyTorch {torch.__version__} "
        f"(contiguous NCHW), NumPy {np.__version__}; medians of {options.rounds} interleaved "
        "rounds, float32; ratio above 1: cnncore is faster.",
        "",
        "| case | cnncore ms | PyTorch ms | ratio | cnncore GFLOP/s |",
        "|---|---:|---:|---:|---:|",
    ]
    print("\n".join(lines))
    for case in cases:
        ours, peer = measure(case, options.rounds)
        rate = f"{case.operations / ours / 1e9:.0f}" if case.operations else ""
        lines.append(
            f"| {case.name} | {ours * 1e3:.3f} | {peer * 1e3:.3f} | {peer / ours:.2f} | {rate} |"
        )
        print(lines[-1], flush=True)
    if not options.only:
        RESULTS.mkdir(exist_ok=True)
        name = re.sub(r"[^a-z0-9]+", "-", machine().lower()).strip("-")
        path = RESULTS / f"{name}.md"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"written to {path.relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
