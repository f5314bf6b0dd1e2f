"""Label maps for the eye: over the image, beside the truth, with a legend; needs ``vision``.

Letters: ``H W`` image, ``K`` classes, background (0) among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnncore.errors import ArgumentError, ShapeError, require
from cnncore.vision.draw import Picture, distinct_colors, titled, to_picture

UNKNOWN = np.array([255, 255, 255], np.uint8)  # the colour of what nobody knows
_ROW = 20  # pixels a line of the legend takes


def label_colors(num_classes: int) -> Picture:
    """The colour of each class ``(K, 3)``: background black, then ``distinct_colors``."""
    return np.concatenate([np.zeros((1, 3), np.uint8), distinct_colors(max(0, num_classes - 1))])


def overlay_labels(
    image: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    opacity: float = 0.5,
    ignore_index: int | None = None,
) -> Picture:
    """The image with every class but background in its colour over it ``(H, W, 3)`` uint8.

    Pixels of ``ignore_index`` are whitened.

    >>> image = np.zeros((1, 1, 2), np.float32)
    >>> overlay_labels(image, [[0, 1]], 2, opacity=1.0).tolist()
    [[[0, 0, 0], [255, 71, 26]]]
    """
    picture = to_picture(image)
    found = np.asarray(labels)
    if found.shape != picture.shape[:2] or found.dtype.kind not in "iu":
        expected = f"integers {picture.shape[:2]}, the image's size"
        raise ShapeError("labels", expected, f"{found.dtype} {found.shape}")
    unknown = np.zeros(found.shape, np.bool_) if ignore_index is None else found == ignore_index
    used = np.where(unknown, 0, found)
    if used.size and (used.min() < 0 or used.max() >= num_classes):
        got = f"{used.min()}..{used.max()}"
        raise ArgumentError("labels", f"0..{num_classes - 1}", got, "ignore_index=…")
    colors = np.where(unknown[..., None], UNKNOWN, label_colors(num_classes)[used])
    covered = ((used > 0) | unknown)[..., None]
    blended = np.where(covered, picture + opacity * (colors - picture.astype(np.float64)), picture)
    result: Picture = np.rint(blended).astype(np.uint8)
    return result


def legend(
    names: Sequence[str], which: Sequence[int] | None = None, unknown: bool = False
) -> Picture:
    """Colours and names of the classes, one under the other; ``which``: of these only."""
    chosen = list(range(len(names))) if which is None else [int(k) for k in which]
    colors = label_colors(len(names))
    rows = [(tuple(colors[k].tolist()), names[k]) for k in chosen]
    if unknown:
        rows.append(((255, 255, 255), "not labelled"))
    font = require("PIL.ImageFont", "vision").load_default(12)
    width = 30 + max((int(font.getlength(name)) + 1 for _, name in rows), default=0)
    module = require("PIL.Image", "vision")
    canvas = module.new("RGB", (width, max(1, _ROW * len(rows)) + 4), "white")
    pen = require("PIL.ImageDraw", "vision").Draw(canvas)
    for number, (color, name) in enumerate(rows):
        y = 4 + number * _ROW
        pen.rectangle((2, y, 18, y + _ROW - 6), fill=color, outline="black")
        pen.text((24, y), name, fill="black", font=font)
    return np.array(canvas, np.uint8)


def compare_labels(
    image: ArrayLike,
    maps: Sequence[tuple[str, ArrayLike]],
    names: Sequence[str],
    ignore_index: int | None = None,
    scale: int = 1,
) -> Picture:
    """Image, label maps over it with a word above each (truth, prediction, …), and the legend.

    Maps lie on a grey image, so that only classes have a colour.  The legend has the classes that
    occur in a map.
    """
    pictures = [("image", to_picture(image))]
    grey = pictures[0][1].mean(2, keepdims=True) * 0.7
    faint = np.repeat(np.rint(grey).astype(np.uint8), 3, 2)
    seen: set[int] = set()
    for word, labels in maps:
        drawn = overlay_labels(faint, labels, len(names), 0.8, ignore_index)
        pictures.append((word, drawn))
        seen |= set(np.unique(np.asarray(labels)).tolist())
    unknown = ignore_index is not None and ignore_index in seen
    which = sorted(k for k in seen if k != ignore_index)
    panels = [titled(p.repeat(scale, 0).repeat(scale, 1), word) for word, p in pictures]
    return beside([*panels, legend(names, which, unknown)])


def beside(pictures: Sequence[Picture], gap: int = 4) -> Picture:
    """Pictures in one row on white, upper edges in line."""
    height = max(p.shape[0] for p in pictures)
    width = sum(p.shape[1] + gap for p in pictures) + gap
    row: NDArray[np.uint8] = np.full((height + 2 * gap, width, 3), 255, np.uint8)
    x = gap
    for picture in pictures:
        row[gap : gap + picture.shape[0], x : x + picture.shape[1]] = picture
        x += picture.shape[1] + gap
    return row


def above(pictures: Sequence[Picture]) -> Picture:
    """Pictures one under the other on white."""
    width = max(p.shape[1] for p in pictures)
    rows = [
        np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures
    ]
    return np.concatenate(rows)
