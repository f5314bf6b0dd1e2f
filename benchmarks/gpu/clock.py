"""Time on the device: events, medians, inputs rotated past the cache; the ceilings to compare with.

``Device`` hides whether CuPy or, in a dry run, the stand-in of the tests is at work.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = Any


class Device:
    """An array module with a way to time what runs on it."""

    def __init__(self, xp: Any, dry: bool = False, tiny: bool = False) -> None:
        self.xp, self.dry, self.tiny = xp, dry, dry or tiny
        self.runs = 3 if dry else 30
        self.rng = np.random.default_rng(0)

    @property
    def cache_bytes(self) -> int:
        if self.dry:
            return 2**10
        return int(self.xp.cuda.Device().attributes.get("L2CacheSize", 2**26))

    def random(self, *shape: int, dtype: Any = np.float32, low: float = -1.0) -> Array:
        """Numbers drawn on the device (large ones), uniform in ``low .. 1``."""
        if self.dry:
            return self.xp.asarray(self.rng.uniform(low, 1, shape).astype(dtype))
        drawn = self.xp.random.random_sample(shape, dtype=dtype)
        return drawn * (1 - low) + dtype(low)

    def whole(self, array: np.ndarray[Any, Any]) -> Array:
        return self.xp.asarray(array)

    def wait(self) -> None:
        if not self.dry:
            self.xp.cuda.Device().synchronize()

    def comparable(self, value: Any) -> Array:
        """A tensor of PyTorch or a result as an array of one module (the host's in a dry run)."""
        if not self.dry:
            return value if isinstance(value, self.xp.ndarray) else self.xp.from_dlpack(value)
        if isinstance(value, np.ndarray):
            return value
        return value.get() if hasattr(value, "get") else value.numpy()

    def release(self) -> None:
        """Give unused memory back, so that PyTorch and large arrays find room."""
        if not self.dry:
            self.wait()
            self.xp.get_default_memory_pool().free_all_blocks()

    def sets(self, make: Callable[[], tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """So many input sets that one round of them cannot stay in the cache."""
        first = make()
        size = sum(int(a.nbytes) for a in first if hasattr(a, "nbytes"))
        wanted = min(16, max(2, -(-4 * self.cache_bytes // max(1, size))))
        return [first, *(make() for _ in range(wanted - 1))]

    def median(self, call: Callable[..., Any], sets: Sequence[tuple[Any, ...]]) -> float:
        """Median seconds of one call, by events on the current stream.

        The calls queue up behind a long copy, so that the device never waits for the host.
        """
        for inputs in sets[:3]:
            call(*inputs)
        self.wait()
        if self.dry:
            return self._host_median(call, sets)
        cuda = self.xp.cuda
        marks = [(cuda.Event(), cuda.Event()) for _ in range(self.runs)]
        self._keep_busy()
        for number, (start, stop) in enumerate(marks):
            start.record()
            call(*sets[number % len(sets)])
            stop.record()
        self.wait()
        times = [cuda.get_elapsed_time(start, stop) / 1e3 for start, stop in marks]
        return statistics.median(times)

    def _host_median(self, call: Callable[..., Any], sets: Sequence[tuple[Any, ...]]) -> float:
        times = []
        for number in range(self.runs):
            start = time.perf_counter()
            call(*sets[number % len(sets)])
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def _keep_busy(self) -> None:
        """Some ten milliseconds of copies ahead of what is timed."""
        if not hasattr(self, "_ballast"):
            self._ballast = self.xp.zeros((2, 2**28), np.float32)
        for _ in range(20):
            self._ballast[0] = self._ballast[1]

    def copy_rate(self) -> float:
        """Bytes a second, read and written, of a large copy."""
        count = 2**12 if self.dry else 2**29
        pairs = [(self.random(count), self.xp.empty(count, np.float32)) for _ in range(2)]

        def copy(x: Array, y: Array) -> None:
            y[...] = x

        return 8 * count / self.median(copy, pairs)


class Torch:
    """PyTorch on the same memory, or nothing where it is not installed."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.torch: Any = None
        self.vision: Any = None
        if device.dry:
            return
        try:
            import torch

            self.torch = torch if torch.cuda.is_available() else None
        except ImportError:
            return
        try:
            import torchvision

            self.vision = torchvision
        except (ImportError, RuntimeError):  # its compiled ops may not fit this PyTorch
            pass
        if self.torch is not None:
            torch.backends.cudnn.benchmark = True
            self.tf32(False)

    def tf32(self, allowed: bool) -> None:
        self.torch.backends.cudnn.allow_tf32 = allowed
        self.torch.backends.cuda.matmul.allow_tf32 = allowed

    def wait(self) -> None:
        self.torch.cuda.synchronize()

    def shared(self, value: Any) -> Any:
        """The same memory as a tensor."""
        return self.torch.from_dlpack(value) if hasattr(value, "__dlpack__") else value

    def median(self, call: Callable[..., Any], sets: Sequence[tuple[Any, ...]]) -> float:
        """As ``Device.median``, on PyTorch's stream."""
        torch = self.torch
        for inputs in sets[:3]:
            call(*inputs)
        torch.cuda.synchronize()
        marks = [
            tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))
            for _ in range(self.device.runs)
        ]
        stream = self.device.xp.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)
        with stream:
            self.device._keep_busy()
        for number, (start, stop) in enumerate(marks):
            start.record()
            call(*sets[number % len(sets)])
            stop.record()
        torch.cuda.synchronize()
        return statistics.median(start.elapsed_time(stop) / 1e3 for start, stop in marks)

    def matrix_rate(self, tf32: bool) -> float:
        """Operations a second of a large product, as cuBLAS does it through PyTorch."""
        torch, size = self.torch, 8192
        self.tf32(tf32)
        pairs = [tuple(torch.randn(size, size, device="cuda") for _ in range(2)) for _ in range(2)]
        seconds = self.median(torch.matmul, pairs)
        self.tf32(False)
        return 2.0 * size**3 / seconds
