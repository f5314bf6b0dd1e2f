"""Label maps of images of any size within a stated amount of memory.

The pixels are read where they are needed (``vision.open_pixels``), a tile at a time; the largest
tile that fits is found beforehand from the network's shapes, without computing.  Logits of
overlapping tiles are faded into each other and lie on disk where memory does not hold them.

Letters: ``C H W`` image, ``K`` classes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore import kernels
from cnncore.autograd import Tensor, no_grad
from cnncore.errors import ArgumentError, OutOfMemoryError
from cnncore.explain.memory import MemoryMeter, meter_shapes
from cnncore.models.segmentation import Segmenter
from cnncore.nn.shapes import hollow
from cnncore.vision import predict_tiled
from cnncore.vision.pixels import Pixels

BAND = 2**18  # pixels that are read, or turned into labels, at a time
_MOST_STEPS = 64  # a larger tile saves little


@dataclass(frozen=True)
class Dense:
    """A segmentation network, ready for pixels.

    ``logits``: what it makes of prepared images, ``(1, 3, h, w) -> (1, K, h, w)``.
    ``prepare``: bytes ``(3, h, w)`` to floats, given the whole image's mean and deviation of each
    channel (in 0..255).
    """

    model: Segmenter
    logits: Callable[[Tensor], Tensor]
    prepare: Callable[[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]], Any]
    class_names: tuple[str, ...]  # background among them
    multiple: int = 32  # tiles begin at multiples of it: the network's total stride


@dataclass(frozen=True)
class Tiling:
    """How a large image is cut: pixels kept of a pass, shown around them, faded into neighbours."""

    tile: int
    context: int = 64
    overlap: int = 32


def bands(height: int, width: int) -> Iterator[slice]:
    """Rows, some at a time: about ``BAND`` pixels of an image of this size.

    >>> list(bands(5, 2**17))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    rows = max(1, BAND // max(1, width))
    return (slice(first, first + rows) for first in range(0, height, rows))


def standard(pixels: NDArray[np.uint8], mean: Any, deviation: Any) -> NDArray[np.float32]:
    """As training standardises: mean 0, deviation about 1 a channel, of the whole image."""
    x = (pixels - mean[:, None, None]) / (deviation + 255 * 0.05)[:, None, None]
    return np.asarray(x, np.float32)


def statistics(pixels: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation ``(3,)`` of each channel, read in bands."""
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for rows in bands(*pixels.shape[1:]):
        band = pixels[:, rows, :].astype(np.float64)
        total += band.sum((1, 2))
        squares += (band**2).sum((1, 2))
        count += band.shape[1] * band.shape[2]
    mean = total / max(count, 1)
    return mean, np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0))


def pass_bytes(dense: Dense, size: tuple[int, int]) -> int:
    """Bytes that are held at most while an image of this size passes, the weights among them."""
    meter = MemoryMeter(dense.model)
    with no_grad(), meter_shapes(meter):
        x = Tensor(hollow((1, 3, *size), np.float32))
        meter.enter(x.data)
        dense.logits(x)
    return meter.peak


def choose_tiling(dense: Dense, size: tuple[int, int], budget: int) -> Tiling | None:
    """The largest tiles whose pass stays within half of ``budget`` bytes; None: the whole image.

    The other half is for what is read, kept and written, and for what shapes do not show.
    """
    step, room = dense.multiple, budget // 2
    around = Tiling(0)
    context = -(-around.context // step) * step

    def shown(steps: int) -> tuple[int, int]:
        return (steps * step + 2 * context,) * 2

    def fits(height: int, width: int) -> bool:
        return pass_bytes(dense, (height, width)) <= room

    # The number of steps a tile may have, by bisection, beginning with small ones: to look at
    # shapes takes memory, too, though little.
    fewest = around.overlap // step + 2
    least = pass_bytes(dense, shown(fewest))
    # The logits of the whole image are held, too, where it is not cut.
    kept = 4 * len(dense.class_names) * size[0] * size[1]
    likely = least * size[0] * size[1] // (shown(fewest)[0] ** 2)
    if kept <= room // 2 and likely <= 2 * room and fits(*size):
        return None
    if least > room:
        raise OutOfMemoryError(
            f"the smallest tile needs a budget of {2 * least / 2**20:.0f} MiB, got "
            f"{budget / 2**20:.0f}; try: --memory {-(-2 * least // 2**20)}"
        )
    most = 2 * fewest
    while most < _MOST_STEPS and fits(*shown(most)):
        fewest, most = most, 2 * most
    most = min(most, _MOST_STEPS)
    while fewest < most:
        middle = (fewest + most + 1) // 2
        fewest, most = (middle, most) if fits(*shown(middle)) else (fewest, middle - 1)
    return Tiling(fewest * step, context, around.overlap)


@contextmanager
def _scratch(shape: tuple[int, ...], dtype: Any, limit: int, folder: Path) -> Iterator[Any]:
    """Zeros in memory, or in a file that is removed in the end."""
    nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if nbytes <= limit:
        yield np.zeros(shape, dtype)
        return
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        got = f"{free / 2**30:.1f} GiB free in {folder}"
        raise ArgumentError("output", f"{nbytes / 2**30:.1f} GiB of disk for the logits", got)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".logits") as place:
        array = np.memmap(Path(place) / "logits", dtype, "w+", shape=shape)
        try:
            yield array
        finally:
            del array


@contextmanager
def _small_pool(nbytes: int) -> Iterator[None]:
    """The memory pool keeps at most so many bytes of freed blocks meanwhile."""
    before = kernels.native.memory_stats().get("limit", 0)
    kernels.native.set_memory_limit(nbytes)
    try:
        yield
    finally:
        kernels.native.set_memory_limit(before)


def label_image(
    dense: Dense,
    pixels: Pixels,
    out: NDArray[np.uint8],
    tiling: Tiling | None,
    budget: int,
    scratch: Path,
    progress: bool = False,
) -> None:
    """Write the likeliest class of every pixel into ``out (H, W)``; ``tiling`` None: in one pass.

    ``budget``: bytes; what does not fit goes to files in the folder ``scratch`` meanwhile.
    """
    size = pixels.shape[1:]
    if len(dense.class_names) > 256:
        raise ArgumentError("model", "at most 256 classes", len(dense.class_names))
    mean, deviation = statistics(pixels)

    def predict(part: NDArray[np.uint8]) -> Any:
        x = dense.prepare(part[0], mean, deviation)
        return dense.logits(Tensor(np.ascontiguousarray(x[None]))).numpy()

    dense.model.eval()
    with no_grad():
        if tiling is None:
            out[...] = predict(pixels[:, : size[0], : size[1]][None])[0].argmax(0)
            return
        shape = (len(dense.class_names), *size)
        with (
            _small_pool(budget // 8),
            _scratch(shape, np.float32, budget // 8, scratch) as logits,
        ):
            predict_tiled(
                predict,
                pixels,
                tiling.tile,
                tiling.context,
                tiling.overlap,
                dense.multiple,
                out=logits,
                progress=progress,
            )
            for rows in bands(*size):
                out[rows] = logits[:, rows].argmax(0)
