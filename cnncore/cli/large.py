"""``cnncore predict`` on images that memory does not hold: label maps tile by tile, onto disk."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

from cnncore.cli.predictors import LabelPredictor, Prediction
from cnncore.errors import ArgumentError, require
from cnncore.evaluate.dense import bands, choose_tiling, label_image
from cnncore.vision import label_colors
from cnncore.vision.pixels import Pixels, open_pixels


def large_image(
    predict: Any, name: str, options: argparse.Namespace, names: Any
) -> Prediction | None:
    """The label map of an image that ``--memory`` does not hold; None where it does.

    The picture is a TIFF file of the classes' colours, written band by band.
    """
    path = Path(name)
    if not isinstance(predict, LabelPredictor) or not path.is_file():
        return None
    budget = options.memory * 2**20
    if budget <= 0:
        raise ArgumentError("memory", "MiB above 0", options.memory)
    pixels = open_pixels(path, budget // 4)
    dense, size = predict.dense, (pixels.shape[1], pixels.shape[2])
    tiling = choose_tiling(dense, size, budget)
    if tiling is None:
        return None
    target: Path = names.next(name, ".tif")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        picture = require("tifffile", "vision").memmap(
            part, shape=(*size, 3), dtype=np.uint8, photometric="rgb"
        )
        counts = _label_bands(predict, pixels, picture, tiling, budget, target, options)
        picture.flush()
        del picture
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    prediction = predict.summary(counts)
    prediction.record |= {"picture": str(target), "tile": tiling.tile, "overlap": tiling.overlap}
    prediction.lines.append(
        f"in tiles of {tiling.tile} pixels, {tiling.context} shown around them, "
        f"{tiling.overlap} faded into the next"
    )
    return prediction


def _label_bands(
    predict: LabelPredictor,
    pixels: Pixels,
    picture: Any,
    tiling: Any,
    budget: int,
    target: Path,
    options: argparse.Namespace,
) -> Any:
    """Fill the picture; how many pixels each class has."""
    height, width = picture.shape[:2]
    place = target.with_name(f".{target.name}.labels")
    labels = np.memmap(place, np.uint8, "w+", shape=(height, width))
    try:
        shown = not (options.json or options.quiet)
        label_image(predict.dense, pixels, labels, tiling, budget, target.parent, shown)
        colors = label_colors(predict.classes)
        counts = np.zeros(predict.classes, np.int64)
        for rows in bands(height, width):
            band = labels[rows]
            picture[rows] = colors[band]
            counts += np.bincount(band.reshape(-1), minlength=predict.classes)
        return counts
    finally:
        del labels
        place.unlink(missing_ok=True)
