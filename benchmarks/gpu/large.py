"""Arrays of more than 2³¹ elements: indices that wrapped would show at the far end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.gpu.clock import Device
from benchmarks.gpu.record import Record
from cnncore.geometry import Window2d
from cnncore.kernels import cuda

BEYOND = 2**31 + 2**20 + 3


def checks(device: Device) -> Iterator[tuple[str, str, Callable[[], bool]]]:
    """(kernel, shape, whether it is right) for one large array each."""
    xp, many = device.xp, 5000 if device.tiny else BEYOND

    def ends() -> Any:
        """Zeros but for a few numbers at both ends."""
        x = xp.zeros(many, np.float32)
        x[:3], x[-3:] = 2.0, xp.asarray(np.array([-1.0, 3.0, 5.0], np.float32))
        return x

    def relu() -> bool:
        y = cuda.pointwise(ends(), "relu")
        return y[-3:].get().tolist() == [0, 3, 5] and float(y[:5].sum()) == 6

    def total() -> bool:
        return float(cuda.reduce_sum(ends(), (0,))) == 13

    def best() -> bool:
        value, index = cuda.reduce_max(ends(), 0)
        return float(value) == 5 and int(index) == many - 1

    def linear() -> bool:
        width = (many - 3) // 5 if device.tiny else 2**20
        x = xp.zeros((-(-many // width), width), np.float32)
        x[-1, -1] = 3
        rows = xp.ones(x.shape[0], np.float32)
        y = cuda.row_linear(x, 2 * rows, rows)
        return float(y[-1, -1]) == 7 and float(y[0, 0]) == 1

    def pool() -> bool:
        side = 16 if device.tiny else 1024
        x = xp.zeros((2, many // (2 * side * side) + 1, side, side), np.float32)
        x[-1, -1, -1, -1] = 4
        y, index = cuda.max_pool2d(x, Window2d.make(2, 2), (side // 2, side // 2))
        return float(y[-1, -1, -1, -1]) == 4 and int(index[-1, -1, -1, -1]) == side * side - 1

    def convolve() -> bool:
        side = 16 if device.tiny else 1024
        x = xp.zeros((many // (side * side) + 1, 1, side, side), np.float32)
        x[-1, 0, -1, -1] = 4
        weight = xp.ones((1, 1, 3, 3), np.float32)
        y = cuda.conv2d(x, weight, None, Window2d.make(3, 1, 1))
        return float(y[-1].sum()) == 16 and float(y[0].sum()) == 0

    def step() -> bool:
        param, grad = ends(), ends()
        cuda.sgd_update(param, grad, None, 0.5)
        return param[-3:].get().tolist() == [-0.5, 1.5, 2.5]

    for kernel, check in (
        ("pointwise", relu), ("reduce_sum", total), ("reduce_max", best), ("row_linear", linear),
        ("max_pool2d", pool), ("conv2d", convolve), ("sgd_update", step),
    ):  # fmt: skip
        yield kernel, f"{many:,} elements and more", check


def run(device: Device, record: Record, seconds_left: Callable[[], float]) -> str:
    wrong = []
    for kernel, shape, check in checks(device):
        if not hasattr(cuda, kernel):
            record.add("large", name=kernel, shape=shape, outcome="no kernel of its own")
            continue
        if seconds_left() < 5:
            record.add("large", name=kernel, shape=shape, outcome="no time left")
            continue
        start = time.perf_counter()
        try:
            outcome = "right" if check() else "WRONG"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"[:200]
        if outcome != "right":
            wrong.append(kernel)
        device.release()
        seconds = time.perf_counter() - start
        record.add("large", name=kernel, shape=shape, outcome=outcome, seconds=seconds)
    return f"wrong: {', '.join(wrong)}" if wrong else "all right"
