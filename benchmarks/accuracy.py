"""Errors of the convolution algorithms against float64, as a table: ``docs/accuracy.md``.

    python benchmarks/accuracy.py            # print the table
    python benchmarks/accuracy.py --write    # and write the file

A 3x3 layer of N channels in and out on two images of 28x28, numbers drawn from a normal
distribution.  The right answer is ``im2col`` in float64 on the same float32 numbers.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from cnncore import inspect, kernels
from cnncore.geometry import Window2d
from cnncore.kernels import native
from cnncore.kernels.array import winograd

CHANNELS = (64, 256, 512)
ALGORITHMS = {
    1: ("im2col", "implicit_gemm", "winograd_2x2", "winograd_4x4"),
    2: ("im2col", "implicit_gemm", "winograd_phases_3x3", "winograd_phases_4x4"),
}
DIRECTIONS = {"output": "output", "input": "gradient towards x", "weight": "gradient of the weight"}
SIZE = (28, 28)
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"

Array = Any


def results(channels: int, stride: int, algorithm: str, dtype: Any) -> dict[str, Array]:
    """The three directions of the layer, computed in ``dtype``."""
    rng = np.random.default_rng(channels)
    window = Window2d.make(3, stride, 1)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape, np.float32).astype(dtype)

    x, gy = draw(2, channels, *SIZE), draw(2, channels, *window.output_size(SIZE))
    weight = draw(channels, channels, 3, 3)
    return {
        "output": kernels.conv2d(x, weight, None, window, 1, algorithm),
        "input": kernels.conv_transpose2d(gy, weight, None, SIZE, window, 1, algorithm),
        "weight": kernels.conv2d_weight(x, gy, window, 1, algorithm),
    }


def rows(stride: int) -> list[str]:
    """Lines of the table of a stride."""
    algorithms = ALGORITHMS[stride]
    lines = [
        "| computed | channels | " + " | ".join(f"`{a}`" for a in algorithms) + " |",
        "|---|---|" + "---|" * len(algorithms),
    ]
    right = {c: results(c, stride, "im2col", np.float64) for c in CHANNELS}
    found = {(c, a): results(c, stride, a, np.float32) for c in CHANNELS for a in algorithms}
    for direction, title in DIRECTIONS.items():
        for channels in CHANNELS:
            exact = right[channels][direction]
            cells = []
            for algorithm in algorithms:
                error = found[channels, algorithm][direction] - exact
                worst = np.abs(error).max() / np.abs(exact).max()
                rms = np.sqrt(np.mean(error**2) / np.mean(exact**2))
                cells.append(f"{worst:.1e}; {rms:.1e}")
            lines.append(f"| {title} | {channels} | " + " | ".join(cells) + " |")
    return lines


def points() -> str:
    """What the choice of points is worth: the plain form in float32 with either."""
    rng = np.random.default_rng(0)
    x, taps = rng.standard_normal((64, 100_000, 6)), rng.standard_normal((64, 1, 3))
    x, taps = (a.astype(np.float32) for a in (x, taps))
    exact = sum(x[..., u : u + 4].astype(float) * taps[..., u, None] for u in range(3)).sum(0)
    errors = []
    for chosen in ((0.0, 1.0, -1.0, 2.0, -2.0), winograd.POINTS[4, 3]):
        A, B, G = (m.astype(np.float32) for m in winograd.toom_cook(chosen, 4))
        products = ((x @ B) * (taps @ G.T)).sum(0)
        errors.append(np.sqrt(np.mean((products @ A - exact) ** 2) / np.mean(exact**2)))
    usual, ours = errors
    return (
        "  Along one axis, 64 channels, root mean square of the errors / of the values:\n"
        f"  {ours:.1e}, with the usual points {usual:.1e}."
    )


TEXT = """# Accuracy of the convolution algorithms

Every algorithm computes the same sums in another order; Winograd's forms also pass them through
transforms, whose rounding errors grow with the size of a tile. Measured by
`python benchmarks/accuracy.py --write` on {machine}:
a 3x3 layer with as many channels out as in, two images of 28x28, normally distributed float32
numbers, against the same computation in float64. A cell is *largest error / largest value; root
mean square of the errors / of the values*.

{one}

The same layer with stride 2, 14x14 results:

{two}

Half a unit in the last place of float32 is 6.0e-08 of a value.

- `cnncore.set_precision("fast")`, the default, lets `"auto"` take `winograd_4x4`;
  `cnncore.set_precision("strict")` keeps it out, for comparing networks digit by digit (it may end
  with a `with` block). `cnncore.explain.why(layer, shape)` says what is chosen.
- `winograd_4x4` has its points at 0, ±√½, ±√2 and infinity instead of the usual 0, ±1, ±2: the
  same number of operations, and no constant is far from 1.
{points}
- With stride 2, `winograd_phases_3x3` has the points 0, ±1 and infinity, `winograd_phases_4x4` has
  ±2/5, ±5/4 and infinity: about as exact as `implicit_gemm`, so that `"strict"` allows both.
- All algorithms give the same bits for any number of threads. Another instruction set or another
  algorithm rounds differently.
- **NaN and infinity.** A plain sum spreads a NaN in x over the 3x3 results that read it. A
  Winograd form spreads it over all results of every tile that reads it (of the size in its name),
  and turns an infinity into NaN there, because the transforms subtract. Other tiles are untouched.
"""


def main() -> None:
    """Measure, print, and write with ``--write``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write docs/accuracy.md")
    write = parser.parse_args().write
    if not native.AVAILABLE:
        raise SystemExit(f"the compiled kernels are needed: {native.REASON}")
    one, two = ("\n".join(rows(stride)) for stride in (1, 2))
    print(one, two, sep="\n\n")
    if write:
        text = TEXT.format(machine=inspect.machine(), one=one, two=two, points=points())
        DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
