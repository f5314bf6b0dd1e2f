"""Image files of any kind as plain RGB bytes; needs the extra ``vision``.

Cameras turn pictures by a note in the file, scanners write sixteen bits, icons have palettes and
transparency: here all become ``(H, W, 3)`` uint8, upright, on white.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, CnncoreError, require
from cnncore.vision.draw import Picture

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
# Photographs that scikit-image carries, by name.
PHOTOGRAPHS = frozenset(("astronaut", "cat", "chelsea", "coffee", "motorcycle", "rocket"))


class ImageError(CnncoreError, OSError):
    """A file that is no image, is damaged, or is too large to be one."""


def read_image(path: str | os.PathLike[str]) -> Picture:
    """An image file as ``(H, W, 3)`` uint8, turned as its Exif orientation says.

    Grey becomes three equal channels; transparency is laid on white; 16-bit values are divided by
    257, floats in 0..1 multiplied by 255; of an animation it is the first picture.

    Raises ``ImageError`` naming the file.
    """
    module, operations = require("PIL.Image", "vision"), require("PIL.ImageOps", "vision")
    try:
        with module.open(path) as image:
            image.load()
            upright = operations.exif_transpose(image)
            return _rgb(module, upright)
    except (OSError, ValueError, SyntaxError, EOFError, module.DecompressionBombError) as error:
        # Pillow reports damaged files with all of these.
        raise ImageError(f"{os.fspath(path)}: no readable image ({error})") from None


def _rgb(module: Any, image: Any) -> Picture:
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(_bytes(np.asarray(image))[..., None], 3, 2)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = module.new("RGBA", layer.size, "white")
        image = module.alpha_composite(white, layer)
    return np.array(image.convert("RGB"), np.uint8)


def _bytes(values: Any) -> Any:
    """Grey values of more than eight bits, or floats, as bytes."""
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError("NaN or Inf")
    largest = wide.max(initial=0.0)
    if values.dtype.kind == "f":
        scale = 255.0 if largest <= 1 else 1.0
    else:
        scale = 1.0 / 257.0 if largest > 255 or values.dtype == np.uint16 else 1.0
    return np.rint(wide * scale).clip(0, 255).astype(np.uint8)


def find_images(patterns: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The image files that paths, folders and globs (``**`` for all depths) name, in order.

    A folder stands for the images directly in it, by name.  A pattern without any match is an
    error; a path is passed on whether or not it can be read.
    """
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise ArgumentError("path", "a folder with images", str(path), f"{path}/**")
            found += inside
        elif path.is_file() or not glob.has_magic(str(pattern)):
            found.append(path)
        else:
            matches = sorted(Path(m) for m in glob.glob(str(pattern), recursive=True))
            images = [m for m in matches if m.is_file() and m.suffix.lower() in SUFFIXES]
            if not images:
                raise ArgumentError("path", "a pattern that images match", str(pattern))
            found += images
    return list(dict.fromkeys(found))


def photograph(name: str) -> Picture:
    """One of scikit-image's own photographs (``PHOTOGRAPHS``) as ``(H, W, 3)`` uint8."""
    if name not in PHOTOGRAPHS:
        raise ArgumentError("name", f"one of {sorted(PHOTOGRAPHS)}", repr(name))
    data = require("skimage.data", "vision")
    if name == "motorcycle":  # half of a stereo pair, which a download would bring
        return np.array(data.stereo_motorcycle()[0], np.uint8)
    return np.array(getattr(data, name)(), np.uint8)
