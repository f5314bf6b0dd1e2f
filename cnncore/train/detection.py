"""Detectors that train on scenes in minutes.

Letters: ``N C H W`` images, ``R`` proposals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from cnncore import models
from cnncore.data import Dataset, Sample, Scenes
from cnncore.models.detection.region_stage import StagedDetector
from cnncore.nn import init
from cnncore.train.loop import LossTerms, Recipe, Rng
from cnncore.train.sources import Source, open_source
from cnncore.train.tasks import Task, Tasks, images_of
from cnncore.vision import Objects, SelectiveSearch, coco_metrics
from cnncore.vision.boxes import FloatArray
from cnncore.vision.regions import MEASURES


def detection_task(recipe: Recipe, source: Source | None = None) -> Task:
    """Mask R-CNN on scenes: boxes, classes and masks of digits; or on another source."""
    source = source or open_source("scenes")
    init.seed(recipe.seed)
    model = models.create("maskrcnn_small", num_classes=len(source.class_names))

    def loss(batch: Sequence[Sample], rng: Rng, progress: float) -> LossTerms:
        terms: LossTerms = model.loss(model(images_of(batch).to(model.device)), batch, rng)
        return terms

    def predict(samples: Sequence[Sample]) -> list[Any]:
        found: list[Any] = model.decode(model(images_of(samples).to(model.device)))
        return found

    def score(predictions: Sequence[Any], samples: Sequence[Sample]) -> dict[str, float]:
        truth = [Objects(s.boxes, s.labels, s.masks) for s in samples]
        scores = {}
        for kind in ("boxes", "masks"):
            for name, value in coco_metrics(predictions, truth, kind).items():
                scores[f"{kind.removesuffix('es').removesuffix('s')} {name}"] = value
        return scores

    headline = ("box AP50", "mask AP50")
    given = source.for_task()
    return Task("maskrcnn_small", model, recipe, loss, predict, score, headline, **given)


def box_scores(predictions: Sequence[Any], samples: Sequence[Sample]) -> dict[str, float]:
    """COCO's numbers for boxes."""
    truth = [Objects(s.boxes, s.labels) for s in samples]
    return {f"box {name}": value for name, value in coco_metrics(predictions, truth).items()}


def box_task(name: str, draws: bool) -> Callable[..., Task]:
    """A detector by name on scenes, boxes and classes of digits; or on another source.

    ``draws``: its loss draws a sample of regions.
    """

    def build(recipe: Recipe, source: Source | None = None) -> Task:
        source = source or open_source("scenes")
        init.seed(recipe.seed)
        model = models.create(name, num_classes=len(source.class_names))

        def loss(batch: Sequence[Sample], rng: Rng, progress: float) -> LossTerms:
            outputs = model(images_of(batch).to(model.device))
            terms: LossTerms = model.loss(outputs, batch, *([rng] if draws else []))
            return terms

        def predict(samples: Sequence[Sample]) -> list[Any]:
            found: list[Any] = model.decode(model(images_of(samples).to(model.device)))
            return found

        given = source.for_task()
        return Task(name, model, recipe, loss, predict, box_scores, ("box AP50",), **given)

    return build


# Two trees a scene instead of the eight of photographs: its objects are few and stand out.
SEARCH = SelectiveSearch(
    colors=("lab",), measures=(MEASURES,), scales=(30.0, 100.0), min_size=30, min_side=10.0
)
PROPOSED_SCENES = 1200  # to train on; proposals take 0.08 s a scene, so they are kept


class Proposed(NamedTuple):
    """A scene and where selective search says that something is."""

    sample: Sample
    proposals: FloatArray  # (R, 4)


def with_proposals(image: FloatArray) -> Proposed:
    """An image ``(3, H, W)`` in 0..1 of which nothing is known, and its proposals."""
    size = image.shape[1:]
    labels, nowhere = np.zeros(0, np.int64), np.zeros((0, *size), np.bool_)
    unknown = Sample(image, np.zeros((0, 4), np.float32), labels, nowhere, np.zeros(size, np.int64))
    return Proposed(unknown, SEARCH(image).boxes)


class ProposedScenes:
    """Samples with their proposals, which are computed once and kept."""

    def __init__(self, samples: Dataset[Sample]) -> None:
        self.samples = samples
        self.kept: dict[int, FloatArray] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int, /) -> Proposed:
        sample = self.samples[index]
        if index not in self.kept:
            self.kept[index] = SEARCH(sample.image).boxes
        return Proposed(sample, self.kept[index])


@cache
def proposed_scenes(split: str, count: int, seed: int) -> ProposedScenes:
    """The same for every network: one that is trained after another finds its proposals."""
    return ProposedScenes(Scenes(split, count, seed=seed))


PROPOSED = ("fastrcnn_small", "rcnn_small", "sppnet_small")
# SPP-net takes the convolutions of a trained classifier of regions and leaves them as they are.
AFTER = {"sppnet_small": "rcnn_small"}
STAGE_SCENES = 200  # that R-CNN's support vector machines are trained on


def proposed_task(name: str, recipe: Recipe) -> Task:
    """A detector on proposals of selective search.

    Support vector machines are trained when the network is first asked for detections.
    """
    before = None
    if name in AFTER:
        build, own = DETECTION[AFTER[name]]
        before = build(recipe.stage_before(DETECTION[name][1], own))
    init.seed(recipe.seed)
    model = models.create(name, num_classes=10)
    training = proposed_scenes("train", PROPOSED_SCENES, recipe.seed)

    def outputs(batch: Sequence[Proposed]) -> Any:
        images = images_of([scene for scene, _ in batch]).to(model.device)
        return model(images, [proposals for _, proposals in batch])

    def loss(batch: Sequence[Proposed], rng: Rng, progress: float) -> LossTerms:
        terms: LossTerms = model.loss(outputs(batch), [scene for scene, _ in batch], rng)
        return terms

    def predict(samples: Sequence[Proposed]) -> list[Any]:
        if isinstance(model, StagedDetector) and model.stage is None:
            scenes = [training[index] for index in range(STAGE_SCENES)]
            model.fit_stage([(outputs([scene]), [scene.sample]) for scene in scenes])
        found: list[Any] = model.decode(outputs(samples))
        return found

    def score(predictions: Sequence[Any], samples: Sequence[Proposed]) -> dict[str, float]:
        return box_scores(predictions, [scene for scene, _ in samples])

    def unseen(split: str, count: int) -> list[Proposed]:
        scenes = proposed_scenes(split, count, 0)
        return [scenes[index] for index in range(count)]

    return Task(
        *(name, model, recipe, loss, predict, score, ("box AP50",)),
        training_set=lambda seed: training,
        held_out=unseen,
        before=before,
    )


DETECTION: Tasks = {
    "fasterrcnn_small": (box_task("fasterrcnn_small", draws=True), Recipe(steps=4000)),
    "fastrcnn_small": (partial(proposed_task, "fastrcnn_small"), Recipe(steps=4000)),
    "maskrcnn_small": (detection_task, Recipe(steps=3000)),
    "rcnn_small": (
        partial(proposed_task, "rcnn_small"),
        Recipe(steps=2000, batch_size=4, learning_rate=0.002),
    ),
    "retinanet_small": (box_task("retinanet_small", draws=False), Recipe(steps=3000)),
    "rfcn_small": (box_task("rfcn_small", draws=True), Recipe(steps=4000)),
    "sppnet_small": (partial(proposed_task, "sppnet_small"), Recipe(steps=1000)),
    "ssd_small": (box_task("ssd_small", draws=False), Recipe(steps=2000)),
    "yolo_small": (box_task("yolo_small", draws=False), Recipe(steps=3000)),
}
