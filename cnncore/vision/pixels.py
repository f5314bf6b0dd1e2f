"""Image files read where they are needed, so that they need not fit in memory.

TIFF files are mapped into memory where they are stored plainly, and otherwise decoded strip by
strip into a temporary file; ``.npy`` files are mapped.  Other formats (PNG, JPEG, …) can only be
decoded whole, three bytes a pixel, and are refused where a stated limit does not allow that.

Letters: ``H W`` image.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.errors import require
from cnncore.vision.images import ImageError, read_image


class Pixels:
    """An image ``(3, H, W)`` of bytes, of which parts are read when asked for.

    ``stored``: ``(H, W)`` grey or ``(H, W, 3 or 4)``, bytes or 16-bit numbers, in memory or on
    disk.  Indexing with slices gives an array: ``pixels[:, 10:20, 30:40]``.

    >>> Pixels(np.zeros((4, 5), np.uint8))[:, 1:3, :].shape
    (3, 2, 5)
    """

    ndim = 3

    def __init__(self, stored: NDArray[Any], name: str = "image", keep: Any = None) -> None:
        channels = stored.shape[2] if stored.ndim == 3 else 1
        if stored.ndim not in (2, 3) or channels not in (1, 3, 4):
            raise ImageError(f"{name}: expected (H, W) or (H, W, 3), got {stored.shape}")
        if stored.dtype not in (np.uint8, np.uint16):
            raise ImageError(f"{name}: expected bytes or 16-bit numbers, got {stored.dtype}")
        self.stored = stored
        self.shape = (3, *stored.shape[:2])
        self._keep = keep  # a temporary file that lives as long as this

    def __getitem__(self, index: tuple[slice, slice, slice]) -> NDArray[np.uint8]:
        channels, rows, columns = index
        part = self.stored[rows, columns]
        if part.ndim == 2:
            part = part[..., None]
        if part.dtype == np.uint16:
            part = np.rint(part / 257.0).astype(np.uint8)
        if part.shape[2] == 4:  # on white
            opacity = part[..., 3:] / np.float32(255)
            part = np.rint(255 + opacity * (part[..., :3] - np.float32(255))).astype(np.uint8)
        whole: NDArray[np.uint8] = np.broadcast_to(part, (*part.shape[:2], 3)).transpose(2, 0, 1)
        return np.ascontiguousarray(whole[channels])


def open_pixels(path: str | os.PathLike[str], limit: int, folder: Path | None = None) -> Pixels:
    """The pixels of a file; never more than ``limit`` bytes of them in memory at a time.

    ``folder``: for temporary files, by default the system's.
    """
    place = Path(path)
    if place.suffix.lower() == ".npy":
        try:
            return Pixels(np.load(place, mmap_mode="r", allow_pickle=False), str(place))
        except (OSError, ValueError) as error:
            raise ImageError(f"{place}: no readable array ({error})") from None
    if place.suffix.lower() in (".tif", ".tiff"):
        return _tiff(place, folder)
    module = require("PIL.Image", "vision")
    try:
        with module.open(place) as image:
            width, height = image.size
    except (OSError, ValueError, SyntaxError, module.DecompressionBombError) as error:
        raise ImageError(f"{place}: no readable image ({error})") from None
    if 3 * width * height > limit:
        raise ImageError(
            f"{place}: {width}×{height} pixels of this format must be decoded at once, which takes "
            f"{3 * width * height / 2**20:.0f} MiB of {limit / 2**20:.0f}; try: a TIFF file, or "
            "more memory"
        )
    return Pixels(read_image(place), str(place))


def _tiff(path: Path, folder: Path | None) -> Pixels:
    module = require("tifffile", "vision")
    try:
        with module.TiffFile(path) as file:
            page = file.pages[0]
            shape = page.shape if len(page.shape) == 2 else page.shape[:3]
            if page.tags.get("Orientation") is not None and page.tags["Orientation"].value != 1:
                raise ImageError(f"{path}: is stored turned; try: an upright copy")
            if page.photometric.name not in ("MINISBLACK", "RGB") or page.planarconfig != 1:
                kind = f"{page.photometric.name}, planes {page.planarconfig}"
                raise ImageError(f"{path}: expected grey or interleaved RGB, got {kind}")
            if page.is_memmappable:
                return Pixels(module.memmap(path, page=0, mode="r"), str(path))
            # Closed, and so removed, with the Pixels that keep it.
            scratch = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            decoded: NDArray[Any] = np.memmap(scratch, page.dtype, "w+", shape=shape)
            for part, place, _ in page.segments():
                if part is None:
                    continue  # a segment left out is zero
                y, x = place[-3:-1]  # (…, row, column, sample)
                values = part[0]  # tiles at the rim reach beyond the image
                target = decoded[y : y + values.shape[0], x : x + values.shape[1]]
                values = values[: target.shape[0], : target.shape[1]]
                target[...] = values if decoded.ndim == 3 else values[..., 0]
            return Pixels(decoded, str(path), scratch)
    except (OSError, ValueError, LookupError, module.TiffFileError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path}: no readable TIFF file ({error})") from None
