"""Pictures: boxes, masks, labels and scores drawn on an image; needs the extra ``vision``."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnncore.errors import ArgumentError, ShapeError, require
from cnncore.geometry import as_int
from cnncore.vision.boxes import as_boxes, as_labels, as_vector
from cnncore.vision.keypoints import as_keypoints
from cnncore.vision.masks import as_masks

Picture = NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True)
class DrawSettings:
    """How a picture looks."""

    scale: int = 1  # pixels of the picture a pixel of the image
    line_width: int = 2
    font_size: int = 12
    mask_opacity: float = 0.45
    class_names: tuple[str, ...] | None = None  # else the label's number


def distinct_colors(count: int) -> Picture:
    """``count`` bright colours ``(count, 3)``, neighbours in the list far apart in hue.

    Hues advance by the golden ratio, so any first few are spread evenly; brightness alternates.

    >>> distinct_colors(2).shape
    (2, 3)
    """
    colors = [
        colorsys.hsv_to_rgb((0.03 + i * 0.6180339887) % 1, (0.9, 0.6)[i % 2], (1.0, 0.95)[i % 2])
        for i in range(as_int("count", count, 0))
    ]
    table: Picture = np.rint(np.array(colors).reshape(-1, 3) * 255).astype(np.uint8)
    return table


def to_picture(image: ArrayLike) -> Picture:
    """An image ``(3, H, W)`` or ``(1, H, W)`` floating in ``0..1`` as ``(H, W, 3)`` bytes.

    A picture of bytes is passed on unchanged (as a copy).
    """
    array = np.asarray(image)
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        return np.array(array, np.uint8)
    if array.dtype.kind != "f" or array.ndim != 3 or array.shape[0] not in (1, 3):
        got = f"{array.dtype} {array.shape}"
        raise ShapeError("image", "floats (3, H, W) in 0..1, or uint8 (H, W, 3)", got)
    if not np.isfinite(array).all():
        raise ArgumentError("image", "finite values", "NaN or Inf")
    levels = np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(levels, (3, *array.shape[1:])).transpose(1, 2, 0))


def draw_objects(
    image: ArrayLike,
    boxes: ArrayLike,
    labels: ArrayLike | None = None,
    masks: ArrayLike | None = None,
    scores: ArrayLike | None = None,
    settings: DrawSettings = DrawSettings(),
    keypoints: ArrayLike | None = None,
) -> Picture:
    """A picture ``(H·scale, W·scale, 3)`` uint8 of an image with its objects.

    Every label has its own colour (without labels, every object).  boxes ``(R, 4)``, labels
    ``(R,)``, masks ``(R, H, W)``, scores ``(R,)``, keypoints ``(R, J, 3)`` of which those are drawn
    whose third number, visibility or score, is above 0; zero objects give the bare image.
    """
    regions = as_boxes(boxes)
    count = len(regions)
    classes = None if labels is None else as_labels(labels, count)
    values = None if scores is None else as_vector(scores, count, "scores")
    hues = np.arange(count) if classes is None else classes
    if count and hues.min() < 0:
        raise ArgumentError("labels", "0 for the first real class", int(hues.min()))
    colors = distinct_colors(int(hues.max()) + 1)[hues] if count else distinct_colors(0)
    scale = as_int("scale", settings.scale, 1)
    picture = to_picture(image)
    if masks is not None:
        picture = _blend(picture, as_masks(masks), colors, settings.mask_opacity)
    picture = picture.repeat(scale, 0).repeat(scale, 1)
    canvas = require("PIL.Image", "vision").fromarray(picture)
    pen = require("PIL.ImageDraw", "vision").Draw(canvas)
    font = require("PIL.ImageFont", "vision").load_default(settings.font_size)
    for index, (box, color) in enumerate(
        zip((regions * scale).tolist(), colors.tolist(), strict=True)
    ):
        x1, y1, x2, y2 = box
        corners = (x1, y1, max(x1, x2 - 1), max(y1, y2 - 1))  # Pillow draws both ends
        pen.rectangle(corners, outline=tuple(color), width=settings.line_width)
        words = [] if classes is None else [_name(int(classes[index]), settings.class_names)]
        words += [] if values is None else [f"{values[index]:.2f}"]
        if words:
            _write(pen, (x1, y1), " ".join(words), tuple(color), font)
    if keypoints is not None:
        _dots(pen, np.asarray(keypoints), colors, settings)
    return np.array(canvas, np.uint8)


def _dots(pen: Any, keypoints: NDArray[Any], colors: Picture, settings: DrawSettings) -> None:
    """A disc of its object's colour, with a dark edge, on every keypoint that counts."""
    joints = keypoints.shape[1] if keypoints.ndim == 3 else -1
    points, radius = as_keypoints(keypoints, len(colors), joints), settings.line_width + 1
    for row, color in zip(points, colors.tolist(), strict=True):
        for x, y in (row[row[:, 2] > 0, :2] * settings.scale).tolist():
            around = (x - radius, y - radius, x + radius, y + radius)
            pen.ellipse(around, fill=tuple(color), outline="black")


def _name(label: int, names: tuple[str, ...] | None) -> str:
    return names[label] if names is not None and label < len(names) else str(label)


def _blend(picture: Picture, masks: NDArray[np.bool_], colors: Picture, opacity: float) -> Picture:
    if masks.shape != (len(colors), *picture.shape[:2]):
        expected = f"shape {(len(colors), *picture.shape[:2])}: one a box, the image's size"
        raise ShapeError("masks", expected, f"shape {masks.shape}")
    blended = picture.astype(np.float32)
    for mask, color in zip(masks, colors, strict=True):
        blended[mask] += opacity * (color - blended[mask])
    return np.rint(blended).astype(np.uint8)


def _write(
    pen: Any, corner: tuple[float, float], text: str, color: tuple[int, ...], font: Any
) -> None:
    """Text on a bar of the object's colour above its box, pushed inside the picture."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = max(0, min(corner[0], pen.im.size[0] - width))
    y = max(0, corner[1] - height)
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    dark = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] < 110
    pen.text((x + 2 - left, y + 2 - top), text, fill="white" if dark else "black", font=font)


def color_labels(semantic: ArrayLike, num_classes: int) -> Picture:
    """A label map ``(H, W)`` as a picture: 0 (background) black, every class its own colour."""
    labels = np.asarray(semantic)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ShapeError("semantic", "integers (H, W)", f"{labels.dtype} {labels.shape}")
    if labels.size and (labels.min() < 0 or labels.max() > num_classes):
        got = f"{labels.min()}..{labels.max()}"
        raise ArgumentError("semantic", f"0..{num_classes}", got, "num_classes without background")
    table = np.concatenate([np.zeros((1, 3), np.uint8), distinct_colors(num_classes)])
    colored: Picture = table[labels]
    return colored


def titled(picture: Picture, text: str) -> Picture:
    """A picture with a line of text on white above it."""
    font = require("PIL.ImageFont", "vision").load_default(12)
    strip = require("PIL.Image", "vision").new("RGB", (picture.shape[1], 18), "white")
    pen = require("PIL.ImageDraw", "vision").Draw(strip)
    pen.text((1, 1), text, fill="black", font=font)
    return np.concatenate([np.array(strip, np.uint8), picture])


def tile(pictures: Sequence[Picture], columns: int, gap: int = 4) -> Picture:
    """Pictures in rows of ``columns`` on white, ``gap`` pixels apart; sizes may differ."""
    if not len(pictures):
        raise ArgumentError("pictures", "at least one", "none")
    across = min(as_int("columns", columns, 1), len(pictures))
    rows = -(-len(pictures) // across)
    height = max(picture.shape[0] for picture in pictures) + gap
    width = max(picture.shape[1] for picture in pictures) + gap
    sheet = np.full((rows * height + gap, across * width + gap, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        y, x = gap + index // across * height, gap + index % across * width
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet
