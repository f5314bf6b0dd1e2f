"""One real microscope image with 125 labelled nuclei, cut into regions to train and to test on.

It is read from the installed package ``stardist``, of which only this file is wanted:
``pip install --no-deps stardist==0.9.2`` (BSD-3 licence).  The package itself is not imported.

Source: Schmidt, Weigert, Broaddus & Myers, "Cell detection with star-convex polygons", 2018, whose
implementation carries the image.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.data.errors import DataError
from cnncore.data.items import check_split
from cnncore.data.scenes import Sample
from cnncore.errors import MissingDependencyError, require
from cnncore.vision import boxes_of_masks

PACKAGE = "stardist==0.9.2"
SIDE = 512
# Columns of the image: half of it to learn from.  Never change it: scores are about these columns.
REGIONS = {"train": (0, 256), "validation": (256, 352), "test": (352, 512)}
CLASS_NAMES = ("nucleus",)


def installed_folder() -> Path | None:
    """Where the package put its images, if it is installed."""
    spec = importlib.util.find_spec("stardist")  # finds it without importing it
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / "data" / "images"
        if (folder / "img2d.tif").is_file() and (folder / "mask2d.tif").is_file():
            return folder
    return None


@functools.lru_cache(maxsize=4)
def nuclei(split: str, folder: str | os.PathLike[str] | None = None) -> Sample:
    """The region of a split: ``"train"``, ``"validation"`` or ``"test"``, columns ``REGIONS``.

    The image is ``(3, 512, w)`` with three equal channels, the square root of brightness over 255:
    what is dim becomes visible, and noise of counted photons even.  Each object is what the region
    shows of a nucleus; the label map has 1 where there is one.  ``folder`` overrides where
    ``img2d.tif`` and ``mask2d.tif`` are looked for.

    Raises ``MissingDependencyError`` where the package is not installed.
    """
    check_split(split)
    place = Path(folder) if folder is not None else installed_folder()
    if place is None:
        raise MissingDependencyError(
            f"the image of nuclei is in the package stardist; try: pip install --no-deps {PACKAGE}"
        )
    first, last = REGIONS[split]
    bright, numbers = (_read(place / f"{n}.tif")[:, first:last] for n in ("img2d", "mask2d"))
    grey = np.sqrt(bright.clip(0, 255) / np.float32(255)).astype(np.float32)
    present = np.unique(numbers[numbers > 0])
    masks = numbers == present[:, None, None]
    sample = Sample(
        np.repeat(grey[None], 3, 0),
        boxes_of_masks(masks),
        np.zeros(len(present), np.int64),
        masks,
        (numbers > 0).astype(np.int64),
    )
    for array in (sample.image, sample.masks, sample.semantic, sample.boxes, sample.labels):
        array.flags.writeable = False  # shared by all callers
    return sample


def _read(path: Path) -> NDArray[Any]:
    try:
        with require("PIL.Image", "vision").open(path) as picture:
            values = np.array(picture, np.float32)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: no readable picture ({error})") from None
    if values.shape != (SIDE, SIDE):
        raise DataError(f"{path}: expected {SIDE}×{SIDE} pixels, got {values.shape}")
    return values
