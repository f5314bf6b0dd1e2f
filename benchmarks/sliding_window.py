"""How much faster a score map is than running the classifier on every window.

    python benchmarks/sliding_window.py [SIZE ...]

The classifier is LeNet-5 (32×32 windows, total stride 4, nothing padded), so both give the same
scores; the script refuses to print a factor for scores that differ.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from cnncore import Tensor, models, no_grad

WINDOW, STRIDE = 32, 4


def seconds(run: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """The best of a few runs, and the last result."""
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - start)
    return best, result


def compare(size: int) -> None:
    """Print one line for an image of ``size`` by ``size`` pixels."""
    classifier = models.create("lenet5", 10, variant="modern").eval()
    network = models.to_fully_convolutional(classifier, (1, WINDOW, WINDOW))
    image = np.random.default_rng(0).normal(size=(1, 1, size, size)).astype(np.float32)
    starts = range(0, size - WINDOW + 1, STRIDE)
    crops = np.stack([image[0, :, i : i + WINDOW, j : j + WINDOW] for i in starts for j in starts])
    with no_grad():
        once, scores = seconds(lambda: network(Tensor(image)).numpy())
        batch, expected = seconds(lambda: classifier(Tensor(crops)).numpy())
    np.testing.assert_allclose(
        scores[0], expected.T.reshape(10, len(starts), len(starts)), rtol=1e-3, atol=1e-5
    )
    print(
        f"{size:5}×{size:<5} {len(crops):7,} windows  every window {batch * 1e3:9.1f} ms  "
        f"score map {once * 1e3:7.1f} ms  {batch / once:5.1f} times faster"
    )


def main() -> None:
    """Run for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sizes", nargs="*", type=int, default=[64, 128, 256, 512])
    for size in parser.parse_args().sizes:
        compare(size)


if __name__ == "__main__":
    main()
