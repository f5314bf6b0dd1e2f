"""Pascal VOC's folders: pictures, boxes in XML, label maps as palette pictures.

    FOLDER/JPEGImages/NAME.jpg              the picture
           Annotations/NAME.xml             its objects: name, bndbox, difficult
           SegmentationClass/NAME.png       the class of every pixel, 255 where nobody knows
           SegmentationObject/NAME.png      the number of the object of every pixel
           ImageSets/Main/SET.txt           names of the pictures, one a line
           ImageSets/Segmentation/SET.txt   those that have label maps
           classes.txt                      names of the classes, if they are not VOC's (our own)

VOC counts pixels from 1 and names the last one inside; boxes here are edges: ``xmin − 1 .. xmax``.

Letters: ``H W`` image, ``R`` objects.

Source: Everingham et al., "The Pascal visual object classes challenge: a retrospective", 2015, and
its development kit.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnncore.data.errors import DataError, broken
from cnncore.data.scenes import IGNORE, Sample
from cnncore.errors import ArgumentError, require
from cnncore.io import atomic_write
from cnncore.vision import boxes_of_masks, read_image, to_picture

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
TASKS = ("segmentation", "detection")
_SUFFIXES = (".jpg", ".jpeg", ".png")


class _Objects(NamedTuple):
    boxes: NDArray[np.float32]  # (R, 4)
    labels: NDArray[np.int64]  # (R,)
    difficult: NDArray[np.bool_]  # (R,)


class Voc:
    """The pictures of one image set of a VOC folder, as ``Sample``.

    ``task="segmentation"``: label maps from ``SegmentationClass``, objects from
    ``SegmentationObject`` where it is (else none), boxes measured on the masks.
    ``task="detection"``: boxes from the XML files; their masks are the filled boxes, so that
    augmentation can move them, and every pixel of the label map is ``IGNORE``.  Difficult objects
    are left out; with ``keep_ignored`` they stay, flagged in ``Sample.ignored``.

    ``class_names``: without background; by default those of ``classes.txt``, else VOC's twenty.
    Raises ``DataError`` naming file and field.
    """

    ignore_index: int | None = IGNORE

    def __init__(
        self,
        folder: str | os.PathLike[str],
        image_set: str = "train",
        task: str = "segmentation",
        class_names: Sequence[str] | None = None,
        keep_ignored: bool = False,
    ) -> None:
        if task not in TASKS:
            raise ArgumentError("task", f"one of {TASKS}", repr(task))
        self.folder, self.task, self.keep_ignored = Path(folder), task, keep_ignored
        if not (self.folder / "JPEGImages").is_dir():
            hint = "the folder that holds JPEGImages, say VOCdevkit/VOC2012"
            raise ArgumentError("folder", "a VOC folder", os.fspath(folder), hint)
        self.class_names = _class_names(self.folder, class_names)
        kind = "Segmentation" if task == "segmentation" else "Main"
        self.image_names = _names(self.folder / "ImageSets" / kind / f"{image_set}.txt")

    def __len__(self) -> int:
        return len(self.image_names)

    def __getitem__(self, index: int, /) -> Sample:
        name = self.image_names[index]
        picture = read_image(self._picture_path(name))
        image = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / np.float32(255)
        if self.task == "segmentation":
            return self._segmented(name, image)
        return self._boxed(name, image)

    def _picture_path(self, name: str) -> Path:
        for suffix in _SUFFIXES:
            path = self.folder / "JPEGImages" / (name + suffix)
            if path.is_file():
                return path
        path = self.folder / "JPEGImages" / f"{name}.jpg"
        raise DataError(f"{path}: the picture of {name!r} is not there")

    def _segmented(self, name: str, image: NDArray[np.float32]) -> Sample:
        size = image.shape[1:]
        path = self.folder / "SegmentationClass" / f"{name}.png"
        semantic = read_label_map(path, size)
        known = np.unique(semantic[semantic != IGNORE])
        if len(known) and known[-1] > len(self.class_names):
            expected = f"classes 0..{len(self.class_names)} or {IGNORE}"
            raise broken(path, "pixels", expected, int(known[-1]))
        objects = self.folder / "SegmentationObject" / f"{name}.png"
        numbers = read_label_map(objects, size) if objects.is_file() else np.zeros(size, np.int64)
        # An object's pixels may be of no class where the two maps disagree at its rim.
        inside = (numbers > 0) & (numbers != IGNORE) & (semantic > 0) & (semantic != IGNORE)
        present = np.unique(numbers[inside])
        masks = (numbers == present[:, None, None]) & inside
        labels = [int(np.bincount(semantic[mask]).argmax()) - 1 for mask in masks]
        boxes = boxes_of_masks(masks)
        return Sample(image, boxes, np.array(labels, np.int64), masks, semantic)

    def _boxed(self, name: str, image: NDArray[np.float32]) -> Sample:
        size = image.shape[1:]
        path = self.folder / "Annotations" / f"{name}.xml"
        found = read_annotation(path, self.class_names, size)
        kept = np.full(len(found.labels), True) if self.keep_ignored else ~found.difficult
        boxes = found.boxes[kept]
        return Sample(
            image,
            boxes,
            found.labels[kept],
            filled_boxes(boxes, size),
            np.full(size, IGNORE, np.int64),
            ignored=found.difficult[kept],
        )


def _class_names(folder: Path, names: Sequence[str] | None) -> tuple[str, ...]:
    if names is not None:
        return tuple(names)
    path = folder / "classes.txt"
    return (
        tuple(path.read_text(encoding="utf-8").split("\n")[:-1]) if path.is_file() else VOC_CLASSES
    )


def _names(path: Path) -> tuple[str, ...]:
    """The first word of every line; sets of one class have a second one, 1, 0 or −1."""
    if not path.is_file():
        there = sorted(p.stem for p in path.parent.glob("*.txt"))
        got = f"no file {path}"
        raise ArgumentError("image_set", f"one of {there}", got, there[0] if there else "")
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    names = []
    for number, words in enumerate(lines, 1):
        if not words:
            continue
        if os.path.basename(words[0]) != words[0]:
            raise broken(path, f"line {number}", "the name of a picture", repr(words[0]))
        if words[1:] not in ([], ["1"], ["0"], ["-1"]):
            raise broken(path, f"line {number}", "a name, then nothing, 1, 0 or -1", words[1:])
        if words[1:] != ["-1"]:
            names.append(words[0])
    return tuple(names)


def filled_boxes(boxes: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Masks ``(R, H, W)`` of the pixels that boxes touch."""
    masks = np.zeros((len(boxes), *size), np.bool_)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.tolist(), strict=True):
        left, top = max(0, int(np.floor(x1))), max(0, int(np.floor(y1)))
        mask[top : int(np.ceil(y2)), left : int(np.ceil(x2))] = True
    return masks


def read_label_map(path: str | os.PathLike[str], size: tuple[int, ...]) -> NDArray[np.int64]:
    """The palette indices ``(H, W)`` of a picture with a palette (or of a grey one)."""
    module = require("PIL.Image", "vision")
    try:
        with module.open(path) as picture:
            mode, values = picture.mode, np.array(picture)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DataError(f"{os.fspath(path)}: no readable label map ({error})") from None
    if mode not in ("P", "L"):
        raise broken(path, "mode", "a palette (P) or grey (L) picture of indices", repr(mode))
    if values.shape != size:
        raise broken(path, "size", f"the picture's, {size}", values.shape)
    return values.astype(np.int64)


# --- annotations ----------------------------------------------------------------------------------


def read_annotation(
    path: str | os.PathLike[str], class_names: Sequence[str], size: tuple[int, ...]
) -> _Objects:
    """Boxes, labels and difficulty of the objects in one XML file."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{os.fspath(path)}: no readable annotation ({error})") from None
    declared = root.find("size")
    if declared is not None:
        written = tuple(int(_number(path, declared, n, "size")) for n in ("height", "width"))
        if written != size:
            raise broken(path, "size", f"the picture's, (height, width) = {size}", written)
    boxes, labels, difficult = [], [], []
    for number, node in enumerate(root.findall("object")):
        field = f"object[{number}]"
        name = (node.findtext("name") or "").strip()
        if name not in class_names:
            raise broken(path, f"{field}/name", f"one of {tuple(class_names)}", repr(name))
        labels.append(tuple(class_names).index(name))
        flag = (node.findtext("difficult") or "0").strip()
        if flag not in ("0", "1"):
            raise broken(path, f"{field}/difficult", "0 or 1", repr(flag))
        difficult.append(flag == "1")
        boxes.append(_box(path, node, field, size))
    return _Objects(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(difficult, np.bool_),
    )


def _box(path: Any, node: Any, field: str, size: tuple[int, ...]) -> list[float]:
    frame = node.find("bndbox")
    if frame is None:
        raise broken(path, f"{field}/bndbox", "xmin, ymin, xmax, ymax", "nothing")
    names = ("xmin", "ymin", "xmax", "ymax")
    x1, y1, x2, y2 = (_number(path, frame, n, f"{field}/bndbox") for n in names)
    height, width = size
    if not (1 <= x1 <= x2 <= width and 1 <= y1 <= y2 <= height):
        expected = f"1 <= xmin <= xmax <= {width} and 1 <= ymin <= ymax <= {height}"
        raise broken(path, f"{field}/bndbox", expected, (x1, y1, x2, y2))
    return [x1 - 1, y1 - 1, x2, y2]


def _number(path: Any, node: Any, name: str, field: str) -> float:
    text = node.findtext(name)
    try:
        return float(text)
    except (TypeError, ValueError):
        raise broken(path, f"{field}/{name}", "a number", repr(text)) from None


# --- writing --------------------------------------------------------------------------------------


def voc_palette() -> NDArray[np.uint8]:
    """VOC's 256 colours ``(256, 3)``: bit ``3 j + c`` of the index is bit ``7 − j`` of channel c.

    >>> voc_palette()[[1, 15, 255]].tolist()
    [[128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    index = np.arange(256)[:, None]
    channels = np.arange(3)
    bits = [((index >> (3 * j + channels)) & 1) << (7 - j) for j in range(8)]
    colors: NDArray[np.uint8] = np.sum(bits, 0).astype(np.uint8)
    return colors


def write_voc(
    folder: str | os.PathLike[str],
    samples: Sequence[Sample],
    class_names: Sequence[str],
    image_set: str = "train",
    names: Sequence[str] | None = None,
    suffix: str = ".jpg",
) -> None:
    """Write samples as a VOC folder that ``Voc`` and other tools read, for both tasks.

    ``names``: of the pictures, by default ``000000``, ….  ``suffix=".png"`` keeps the pixels
    exactly, which JPEG does not, but other tools expect ``.jpg``.  Boxes are rounded outwards to
    whole pixels, as VOC counts them.  An image set is replaced, other sets stay.
    """
    if suffix not in _SUFFIXES:
        raise ArgumentError("suffix", f"one of {_SUFFIXES}", repr(suffix))
    root = Path(folder)
    names = [f"{i:06}" for i in range(len(samples))] if names is None else names
    if len(names) != len(samples):
        raise ArgumentError("names", f"one a sample, {len(samples)}", len(names))
    for name, sample in zip(names, samples, strict=True):
        _write_image(root / "JPEGImages" / (name + suffix), to_picture(sample.image))
        _write_label_map(root / "SegmentationClass" / f"{name}.png", sample.semantic)
        numbers = np.where(sample.semantic == IGNORE, IGNORE, 0)
        for number, mask in enumerate(sample.masks, 1):
            numbers[mask] = number
        _write_label_map(root / "SegmentationObject" / f"{name}.png", numbers)
        _write_text(
            root / "Annotations" / f"{name}.xml", _annotation(name + suffix, sample, class_names)
        )
    for kind in ("Main", "Segmentation"):
        listed = "".join(f"{name}\n" for name in names)
        _write_text(root / "ImageSets" / kind / f"{image_set}.txt", listed)
    _write_text(root / "classes.txt", "".join(f"{name}\n" for name in class_names))


def _annotation(filename: str, sample: Sample, class_names: Sequence[str]) -> str:
    root = ElementTree.Element("annotation")

    def add(parent: Any, **values: object) -> None:
        for key, value in values.items():
            ElementTree.SubElement(parent, key).text = str(value)

    height, width = sample.semantic.shape
    add(root, filename=filename)
    add(ElementTree.SubElement(root, "size"), width=width, height=height, depth=3)
    add(root, segmented=1)
    flags = np.zeros(len(sample.labels), bool) if sample.ignored is None else sample.ignored
    for box, label, flag in zip(sample.boxes, sample.labels, flags, strict=True):
        x1, y1 = (int(v) + 1 for v in np.floor(box[:2]))
        x2, y2 = (int(v) for v in np.ceil(box[2:]))
        node = ElementTree.SubElement(root, "object")
        add(node, name=class_names[int(label)], pose="Unspecified", truncated=0)
        add(node, difficult=int(flag))
        add(ElementTree.SubElement(node, "bndbox"), xmin=x1, ymin=y1, xmax=x2, ymax=y2)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())


def _write_label_map(path: Path, labels: NDArray[np.int64]) -> None:
    if labels.size and not 0 <= labels.min() <= labels.max() <= 255:
        raise ArgumentError("samples", "label maps in 0..255", f"{labels.min()}..{labels.max()}")
    picture = require("PIL.Image", "vision").fromarray(labels.astype(np.uint8), mode="P")
    picture.putpalette(voc_palette().tobytes())
    with atomic_write(path) as file:
        picture.save(file, format="PNG")


def _write_image(path: Path, picture: NDArray[np.uint8]) -> None:
    image = require("PIL.Image", "vision").fromarray(picture)
    with atomic_write(path) as file:
        if path.suffix == ".png":
            image.save(file, format="PNG")
        else:
            image.save(file, format="JPEG", quality=95)
