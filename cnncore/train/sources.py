"""What ``--data`` names: where samples to train and to score on come from.

    scenes                       scenes of handwritten digits
    large                        the same with one or two large digits
    fashion                      scenes of clothes (Fashion-MNIST)
    nuclei                       one microscope image, cut into regions
    voc:FOLDER                   a Pascal VOC folder; splits are its image sets
    coco:ANNOTATIONS:IMAGES      a COCO file and its folder of pictures; it is one split

Letters: ``H W`` image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cnncore.data import IGNORE, Coco, Dataset, Sample, Scenes, SceneSettings, Voc, augment, nuclei
from cnncore.data.augment import Affine, Augmented, Compose, Crop, Elastic, Flip
from cnncore.data.nuclei import CLASS_NAMES as NUCLEUS
from cnncore.errors import ArgumentError

TRAIN_SAMPLES = 100_000  # made when they are drawn; this many differ
FORMS = ("scenes", "large", "fashion", "nuclei", "voc:FOLDER", "coco:ANNOTATIONS:IMAGES")

# Scenes by name: their items, and how they look.  Large digits suit maps of stride 32, of which one
# place is as large as an ordinary digit.
SCENES = {
    "scenes": ("digits", SceneSettings()),
    "large": ("digits", SceneSettings(objects=(1, 2), item_side=(64, 88))),
    "fashion": ("fashion", SceneSettings()),
}


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
    count: int | None = None  # samples of a split to score on, if not all

    @property
    def num_classes(self) -> int:
        """Of label maps: background counts."""
        return len(self.class_names) + 1

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the values of label maps."""
        return ("background", *self.class_names)

    def scored(self, split: str | None, count: int | None, ignored: bool = False) -> First:
        """The samples of a split to score on; by default of ``held_out``, ``self.count``."""
        name = split or self.held_out
        if name is None:
            raise ArgumentError("split", "data with a part held out", self.text, "evaluate")
        return First(self.split(name, ignored), self.count if count is None else count)

    def about(self) -> dict[str, Any]:
        """What must be known to use a network that learned from here."""
        return {
            "data": self.text,
            "classes": list(self.class_names),
            "ignore_index": self.ignore_index,
        }

    def for_task(self) -> dict[str, Any]:
        """What a ``Task`` takes from here."""

        def held_out(split: str, count: int) -> list[Sample]:
            samples = self.scored(split, count)
            return [samples[index] for index in range(len(samples))]

        return {
            "source": self,
            "training_set": self.training_set,
            "held_out": held_out,
            "held_out_count": self.count or 1000,
            "noun": self.noun,
        }


class First:
    """The first samples of a data set, at most ``count``; made when asked for."""

    def __init__(self, dataset: Dataset[Sample], count: int | None = None) -> None:
        self.dataset = dataset
        self.count = len(dataset) if count is None else min(count, len(dataset))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(f"sample {index} of {self.count}")
        return self.dataset[index]


def open_source(text: str, crop: int = 128, boxes: bool = False) -> Source:
    """The source that a text names; ``crop``: pixels of the windows that pictures are trained on.

    ``boxes``: of a VOC folder, the boxes of its XML files instead of its label maps.

    >>> open_source("scenes").num_classes
    11
    """
    kind, _, rest = text.partition(":")
    if text in SCENES:
        return _scenes(text)
    if text == "nuclei":
        return _nuclei(crop)
    if kind == "voc" and rest:
        return _voc(text, rest, crop, boxes)
    if kind == "coco" and rest.count(":") >= 1:
        file, images = rest.split(":", 1)
        return _coco(text, file, images, crop)
    raise ArgumentError("data", f"one of {', '.join(FORMS)}", repr(text))


def known_source(about: dict[str, Any]) -> Source:
    """The source that ``Source.about`` described; its data is opened only when it is asked for.

    Where the data is gone, a network that learned from it can still be used.
    """
    text = about["data"]
    return Source(
        text,
        tuple(about["classes"]),
        lambda seed: open_source(text).training_set(seed),
        lambda name, ignored: open_source(text).split(name, ignored),
        ignore_index=about["ignore_index"],
    )


def _scenes(text: str) -> Source:
    kind, settings = SCENES[text]

    def training_set(seed: int) -> Dataset[Sample]:
        return Scenes("train", TRAIN_SAMPLES, seed, kind, settings)

    def split(name: str, _: bool = False) -> Dataset[Sample]:
        return Scenes(name, TRAIN_SAMPLES, 0, kind, settings)

    names = Scenes("validation", 1, 0, kind).class_names
    return Source(text, names, training_set, split, count=300)


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
