"""Scenes: real items at random places on textured backgrounds, with exact truth for detection.

A scene is a pure function of ``(seed, split, index)``: nothing is stored, there are as many as you
like, and the same one always comes back.  Items of one split never appear in a scene of another.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnncore.data.digits import digits
from cnncore.data.fashion_mnist import fashion_mnist
from cnncore.data.items import Items, check_split
from cnncore.errors import ArgumentError
from cnncore.geometry import as_int, as_pair

Floats = NDArray[np.float32]
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_SOFT = 0.2  # opacity runs from none to full within this much ink of the mask's edge
IGNORE = 255  # in a label map: nobody knows, so it counts neither in a loss nor in a score
_PLACES = 20  # tries before an object is given up


@dataclass(frozen=True)
class SceneSettings:
    """What scenes look like.

    The defaults make digits 2.5 to 5 times as large as they come.
    """

    image_size: tuple[int, int] = (128, 128)  # (H, W) pixels
    objects: tuple[int, int] = (1, 5)  # fewest and most, unless the scene is empty
    empty: float = 0.08  # share of scenes without any object
    item_side: tuple[int, int] = (20, 40)  # pixels an item's picture is scaled to
    max_hidden: float = 0.25  # share of an object that later ones may cover
    contrast: float = 0.3  # least difference of luminance, object to background
    ink: float = 0.45  # an item's pixel belongs to its mask above this
    texture: float = 1.0  # strength of noise, stripes and blotches; 0 is plain

    def __post_init__(self) -> None:
        as_pair("image_size", self.image_size, 1)
        for name in ("objects", "item_side"):
            low, high = as_pair(name, getattr(self, name), 1)
            if low > high:
                raise ArgumentError(name, "(least, most) in this order", (low, high))
        for name, least in (("empty", 0.0), ("max_hidden", 0.0), ("ink", _SOFT)):
            if not least <= getattr(self, name) <= 1:
                raise ArgumentError(name, f"a number in {least:g}..1", getattr(self, name))
        if not 0 <= self.contrast <= 0.45:
            hint = "0.3; a mid-grey background cannot give more than 0.5"
            raise ArgumentError("contrast", "a number in 0..0.45", self.contrast, hint)
        if not 0 <= self.texture <= 2:
            raise ArgumentError("texture", "a number in 0..2", self.texture)
        if self.objects[1] > 250:
            raise ArgumentError("objects", "at most 250", self.objects)


@dataclass(frozen=True)
class Sample:
    """One picture and all that is true of it; ``R = 0`` objects is legal."""

    image: NDArray[np.float32]  # (3, H, W) in 0..1
    boxes: NDArray[np.float32]  # (R, 4) xyxy, tight around the visible mask
    labels: NDArray[np.int64]  # (R,), 0 for the first real class
    masks: NDArray[np.bool_]  # (R, H, W), visible pixels; no two overlap
    semantic: NDArray[np.int64]  # (H, W), 0 background, else label + 1; perhaps IGNORE
    points: NDArray[np.float32] | None = None  # (R, P, 2) xy, where objects have points
    # (R,), objects that are neither to be found nor wrong to find: crowds, difficult ones
    ignored: NDArray[np.bool_] | None = None


class Scenes:
    """``count`` scenes of one split, made when asked for.

    ``items`` is ``"digits"``, ``"fashion"`` or ``Items`` of one's own (then they should belong to
    the split: the class cannot know).  Same arguments, same scene, whatever was asked before.

    >>> scenes = Scenes("train", 1000, seed=7)
    >>> scenes[3].image.shape
    (3, 128, 128)
    """

    ignore_index: int | None = None  # every pixel of a scene is known

    def __init__(
        self,
        split: str,
        count: int,
        seed: int = 0,
        items: str | Items = "digits",
        settings: SceneSettings = SceneSettings(),
    ) -> None:
        self._split = check_split(split)
        self._count = as_int("count", count, 0)
        self.seed = as_int("seed", seed, 0)
        self.settings = settings
        if isinstance(items, str):
            if items not in ("digits", "fashion"):
                raise ArgumentError("items", '"digits", "fashion" or Items', repr(items))
            items = digits(split) if items == "digits" else fashion_mnist(split)
        if not len(items):
            raise ArgumentError("items", "at least one item", "none")
        self.items = items
        room = min(settings.image_size)
        native = items.images.shape[1]
        largest = settings.item_side[1] + 2 * (-(-settings.item_side[1] // native))
        if largest > room:
            hint = "a larger image_size or smaller item_side"
            got = f"items up to {largest} pixels in images of {settings.image_size}"
            raise ArgumentError("settings", "items that fit into the image", got, hint)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label."""
        return self.items.class_names

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        place = index + self._count if index < 0 else index
        if not 0 <= place < self._count:
            raise IndexError(f"scene {index} of {self._count}")
        rng = np.random.default_rng([self.seed, self._split, place])
        return compose(rng, self.items, self.settings)


def compose(rng: np.random.Generator, items: Items, settings: SceneSettings) -> Sample:
    """One scene drawn from a random generator."""
    image, ground = _background(rng, settings)
    # owner[y, x] is the number of the object seen at a pixel, counted from 1; 0 is background.
    owner = np.zeros(settings.image_size, np.uint8)
    labels: list[int] = []
    full: list[int] = [0]  # pixels of each object's mask before others came; entry 0 is background
    wanted = 0
    if rng.random() >= settings.empty:
        wanted = int(rng.integers(settings.objects[0], settings.objects[1] + 1))
    for _ in range(wanted):
        item = int(rng.integers(len(items)))
        side = int(rng.integers(settings.item_side[0], settings.item_side[1] + 1))
        ink = _scaled(items.images[item], side, settings.ink - _SOFT)
        mask = ink > settings.ink
        if not mask.any():
            continue  # an item too faint to have a mask
        place = _free_place(rng, mask, owner, full, settings.max_hidden)
        if place is None:
            continue  # too crowded
        window = tuple(slice(p, p + n) for p, n in zip(place, mask.shape, strict=True))
        _paint(image, window, ink, _object_color(rng, ground, settings.contrast), settings.ink)
        labels.append(int(items.labels[item]))
        full.append(int(np.count_nonzero(mask)))
        owner[window][mask] = len(labels)
    np.clip(image, 0, 1, out=image)
    return _truth(image, owner, labels)


def _truth(image: Floats, owner: NDArray[np.uint8], labels: list[int]) -> Sample:
    classes = np.array(labels, np.int64)
    masks = owner == np.arange(1, len(labels) + 1, dtype=np.uint8)[:, None, None]
    boxes = np.zeros((len(labels), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    semantic = np.concatenate([np.zeros(1, np.int64), classes + 1])[owner]
    return Sample(image, boxes, classes, masks, semantic)


# --- items ----------------------------------------------------------------------------------------


@functools.cache
def _bicubic(length: int, side: int) -> Floats:
    """The matrix that scales ``length`` pixels to ``side``, with the edge faded into zeros.

    Row ``i`` holds Keys' cubic weights (a = -1/2) around ``(i + 1/2) length / side - 1/2``; what
    reaches out of the picture is dropped, that is, zero.  One source pixel of margin at both ends
    keeps the fade inside.
    Source: Keys, "Cubic convolution interpolation", 1981, equation 15.
    """
    scale = side / length
    margin = int(np.ceil(scale))
    centre = (np.arange(-margin, side + margin) + 0.5) / scale - 0.5
    d = np.abs(centre[:, None] - np.arange(length))
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0)).astype(np.float32)


def _scaled(picture: Floats, side: int, faint: float) -> Floats:
    """Ink of an item scaled to ``side`` pixels plus a margin, cut to the part above ``faint``."""
    rows, columns = _bicubic(picture.shape[0], side), _bicubic(picture.shape[1], side)
    ink: Floats = rows @ picture @ columns.T
    seen = ink > faint
    down, across = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(down):
        return ink[:0, :0]
    return ink[down[0] : down[-1] + 1, across[0] : across[-1] + 1]


def _free_place(
    rng: np.random.Generator,
    mask: NDArray[np.bool_],
    owner: NDArray[np.uint8],
    full: list[int],
    max_hidden: float,
) -> tuple[int, int] | None:
    """A random corner where ``mask`` covers no earlier object beyond ``max_hidden`` of it."""
    height, width = mask.shape
    places = rng.integers(
        (owner.shape[0] - height + 1, owner.shape[1] - width + 1), size=(_PLACES, 2)
    )
    if len(full) == 1:
        return int(places[0, 0]), int(places[0, 1])
    seen_now = np.bincount(owner.reshape(-1), minlength=len(full))
    allowed = np.maximum(seen_now - (1 - max_hidden) * np.array(full), 0)
    allowed[0] = np.inf
    for y, x in places.tolist():
        covered = np.bincount(owner[y : y + height, x : x + width][mask], minlength=len(full))
        if (covered <= allowed).all():
            return y, x
    return None


def _paint(
    image: Floats, window: tuple[slice, ...], ink: Floats, color: Floats, edge: float
) -> None:
    """Lay colour on the image where there is ink, half of it exactly at the mask's edge."""
    opacity = np.clip((ink - edge) / (2 * _SOFT) + 0.5, 0, 1)
    part = image[:, window[0], window[1]]
    part += opacity * (color[:, None, None] - part)


# --- colours and textures -------------------------------------------------------------------------


def _object_color(rng: np.random.Generator, ground: Floats, contrast: float) -> Floats:
    """A random colour whose luminance differs from the background's by at least ``contrast``."""
    candidates = rng.random((24, 3), np.float32)
    far = np.abs((candidates - ground) @ LUMINANCE) >= contrast
    if far.any():
        color: Floats = candidates[int(far.argmax())]
        return color
    return np.full(3, 0.0 if ground @ LUMINANCE > 0.5 else 1.0, np.float32)


def _background(rng: np.random.Generator, settings: SceneSettings) -> tuple[Floats, Floats]:
    """A coloured plane with blotches, stripes and grain, ``(3, H, W)``, and its base colour."""
    height, width = settings.image_size
    ground = rng.random(3, np.float32) * np.float32(0.8) + np.float32(0.1)
    image = np.empty((3, height, width), np.float32)
    image[:] = ground[:, None, None]
    if settings.texture == 0:
        return image, ground
    strength = rng.random(3, np.float32) * np.array([0.10, 0.12, 0.12], np.float32)
    blotches, stripes, grain = (strength * np.float32(settings.texture)).tolist()
    coarse = (rng.random((3, 6, 6), np.float32) - np.float32(0.5)) * np.float32(2 * blotches)
    image += _stretch(6, height) @ coarse @ _stretch(6, width).T
    image += _stripes(rng, height, width) * (
        rng.random((3, 1, 1), np.float32) * np.float32(stripes)
    )
    # Grain: bytes are several times cheaper than normal numbers and look the same.
    noise = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    image += noise * np.float32(2 * grain / 255)
    image -= np.float32(grain)
    return image, ground


def _stripes(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Parallel waves ``sin(a y + b x + phase)`` of random direction, 6 to 40 pixels long."""
    angle, phase = rng.random(2) * (2 * np.pi)
    pace = 2 * np.pi / (6 + 34 * rng.random())
    y = np.arange(height) * (pace * np.sin(angle)) + phase
    x = np.arange(width) * (pace * np.cos(angle))
    # sin(y + x) = sin y cos x + cos y sin x: a product of two thin matrices, not H·W sines.
    left = np.stack([np.sin(y), np.cos(y)], 1).astype(np.float32)
    right = np.stack([np.cos(x), np.sin(x)]).astype(np.float32)
    waves: Floats = left @ right
    return waves


@functools.cache
def _stretch(length: int, side: int) -> Floats:
    """Bilinear weights that spread ``length`` values evenly over ``side`` pixels."""
    away = np.abs(np.linspace(0, length - 1, side)[:, None] - np.arange(length))
    weights: Floats = np.maximum(0, 1 - away).astype(np.float32)
    return weights
