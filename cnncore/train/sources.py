"""What ``--data`` names: where samples to train and to score on come from.

    scenes                       scenes of handwritten digits
    fashion                      scenes of clothes (Fashion-MNIST)
    nuclei                       one microscope image, cut into regions
    voc:FOLDER                   a Pascal VOC folder; splits are its image sets
    coco:ANNOTATIONS:IMAGES      a COCO file and its folder of pictures; it is one split

Letters: ``H W`` image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cnncore.data import IGNORE, Coco, Dataset, Sample, Scenes, Voc, augment, nuclei
from cnncore.data.augment import Affine, Augmented, Compose, Crop, Elastic, Flip
from cnncore.data.nuclei import CLASS_NAMES as NUCLEUS
from cnncore.errors import ArgumentError

TRAIN_SAMPLES = 100_000  # made when they are drawn; this many differ
FORMS = ("scenes", "fashion", "nuclei", "voc:FOLDER", "coco:ANNOTATIONS:IMAGES")


@dataclass(frozen=True)
class Source:
    """Samples by split, and what is known of all of them."""

    text: str  # as ``--data`` names it
    class_names: tuple[str, ...]  # of labels, so without background
    training_set: Callable[[int], Dataset[Sample]]  # from a seed
    split: Callable[[str, bool], Dataset[Sample]]  # all of a split, ignored objects too if wanted
    held_out: str | None = "test"  # the split to score on; None: there is none
    ignore_index: int | None = None  # in label maps
    noun: str = "scenes"
    boxes_only: bool = False  # masks are filled boxes, label maps unknown

    @property
    def num_classes(self) -> int:
        """Of label maps: background counts."""
        return len(self.class_names) + 1

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the values of label maps."""
        return ("background", *self.class_names)


def open_source(text: str, crop: int = 128, boxes: bool = False) -> Source:
    """The source that a text names; ``crop``: pixels of the windows that pictures are trained on.

    ``boxes``: of a VOC folder, the boxes of its XML files instead of its label maps.

    >>> open_source("scenes").num_classes
    11
    """
    kind, _, rest = text.partition(":")
    if text in ("scenes", "fashion"):
        return _scenes(text)
    if text == "nuclei":
        return _nuclei(crop)
    if kind == "voc" and rest:
        return _voc(text, rest, crop, boxes)
    if kind == "coco" and rest.count(":") >= 1:
        file, images = rest.split(":", 1)
        return _coco(text, file, images, crop)
    raise ArgumentError("data", f"one of {', '.join(FORMS)}", repr(text))


def first(dataset: Dataset[Sample], count: int | None) -> list[Sample]:
    """The first samples, or all of them."""
    number = len(dataset) if count is None else min(count, len(dataset))
    return [dataset[index] for index in range(number)]


def _scenes(items: str) -> Source:
    kind = "digits" if items == "scenes" else "fashion"

    def training_set(seed: int) -> Dataset[Sample]:
        return Scenes("train", TRAIN_SAMPLES, seed, kind)

    def split(name: str, _: bool = False) -> Dataset[Sample]:
        return Scenes(name, 300, 0, kind)

    return Source(items, Scenes("validation", 1, 0, kind).class_names, training_set, split)


def _nuclei(crop: int) -> Source:
    # Cut out with room around, moved and deformed, then cut to the window: deforming needs what
    # lies beyond it.  Crops may end at the region's rim, where nothing is known.
    room = crop + 32
    change = Compose(
        (
            Crop(room, beyond=IGNORE),
            Flip(),
            Affine((0.8, 1.25), (-180, 180), beyond=IGNORE),
            Elastic(4.0, beyond=IGNORE),
            Crop(crop, beyond=IGNORE),
            augment.Colour(0.1, 0.2, 0.0),
            augment.Noise(0.03),
        )
    )

    def training_set(seed: int) -> Dataset[Sample]:
        return Augmented([nuclei("train")], change, TRAIN_SAMPLES, seed)

    def split(name: str, _: bool = False) -> Dataset[Sample]:
        return [nuclei(name)]

    return Source(
        *("nuclei", NUCLEUS, training_set, split), ignore_index=IGNORE, noun="regions of nuclei"
    )


def _pictures(dataset: Dataset[Sample], crop: int, seed: int) -> Dataset[Sample]:
    """Windows of pictures of any size, mirrored and scaled."""
    steps = (Crop(2 * crop, beyond=IGNORE), Flip(), Affine((0.5, 1.5), beyond=IGNORE))
    change = Compose((*steps, Crop(crop, beyond=IGNORE), augment.Colour()))
    return Augmented(dataset, change, TRAIN_SAMPLES, seed)


def _voc(text: str, folder: str, crop: int, boxes: bool) -> Source:
    sets = {"train": "train", "validation": "val"}

    def split(name: str, ignored: bool = False) -> Voc:
        task = "detection" if boxes else "segmentation"
        return Voc(folder, sets.get(name, name), task, keep_ignored=ignored)

    names = split("train").class_names
    return Source(
        *(text, names, lambda seed: _pictures(split("train"), crop, seed), split, "val", IGNORE),
        noun="pictures",
        boxes_only=boxes,
    )


def _coco(text: str, file: str, images: str, crop: int) -> Source:
    names = Coco(file, images).class_names

    def split(_: str, ignored: bool = False) -> Dataset[Sample]:
        return Coco(file, images, keep_ignored=ignored)

    return Source(
        *(text, names, lambda seed: _pictures(split(""), crop, seed), split, None, IGNORE),
        noun="pictures",
    )
