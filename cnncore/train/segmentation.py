"""Segmenters that learn the semantic map of scenes in minutes.

Letters: ``N C H W`` images, ``K`` classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cnncore import models, ops
from cnncore.autograd import Tensor, beside
from cnncore.data import IGNORE, Sample
from cnncore.models.backbones import ResNetSettings
from cnncore.models.segmentation import Criterion, Segmenter, SlidingWindow
from cnncore.nn import init
from cnncore.train.loop import LossTerms, Recipe, Rng
from cnncore.train.sources import Source, open_source
from cnncore.train.tasks import Task, Tasks, standardised
from cnncore.vision import class_iou, confusion_matrix, mean_iou, pixel_accuracy

CLASSES = 11  # background and ten digits
DIGITS = tuple("0123456789")
NO_PIXEL = -100  # an index to ignore that no label map has


@dataclass(frozen=True)
class System:
    """One network to train: a row of ``SYSTEMS``.

    ``scale``: the network sees images reduced by this factor (means of that many pixels each way),
    and its answer is enlarged again.  ``after``: the row whose trained network this one continues.
    ``criterion``: instead of the weighted cross-entropy.  ``auxiliary``: what the loss of an
    auxiliary head counts (deep supervision), where the network has some.  ``data``: what it learns
    from unless told otherwise.  ``background``: the weight of background's pixels at first and in
    the end: a coarse map is right about less than half of the pixels that it calls ink, and would
    with a weight of 1 better call none so.
    """

    network: str  # in models.MODELS
    settings: Mapping[str, Any]
    recipe: Recipe
    scale: int = 1
    after: str | None = None
    criterion: Criterion | None = None
    auxiliary: float = 0.5
    data: str = "scenes"
    background: tuple[float, float] = (0.1, 1.0)

    def model(self, num_classes: int = CLASSES) -> Segmenter:
        """The network with fresh weights."""
        made = models.create(self.network, num_classes=num_classes, **self.settings)
        assert isinstance(made, Segmenter)
        made.auxiliary_weight = self.auxiliary
        return made


def annealed_weights(
    progress: float, classes: int = CLASSES, least: float = 0.1, last: float = 1.0
) -> Any:
    """Class weights ``(K)``: background's is ``least`` for 60 % of the steps, grows to ``last``.

    Background covers 95 % of the pixels of scenes: without that, a network says "background" for
    minutes.
    """
    weights = np.ones(classes, np.float32)
    weights[0] = least + (last - least) * max(0.0, (progress - 0.6) / 0.4) ** 2
    return weights


def map_scores(
    predictions: Sequence[Any],
    samples: Sequence[Sample],
    names: Sequence[str] = DIGITS,
    ignore_index: int | None = None,
) -> dict[str, float]:
    """Mean IoU, pixel accuracy and the IoU of each class, over all pixels of all samples."""
    K = len(names) + 1
    confusion = np.zeros((K, K), np.int64)
    for prediction, sample in zip(predictions, samples, strict=True):
        confusion += confusion_matrix(sample.semantic, prediction, K, ignore_index)
    scores = {"mean IoU": mean_iou(confusion), "pixel accuracy": pixel_accuracy(confusion)}
    per_class = class_iou(confusion)
    scores["IoU background"] = float(per_class[0])
    return scores | {f"IoU {name}": float(per_class[k]) for k, name in enumerate(names, 1)}


def reduced(samples: Sequence[Sample], scale: int) -> Tensor:
    """Images ``(N, 3, H / scale, W / scale)``, each channel of each with mean 0 and deviation 1.

    That takes away the colour of a scene's background.
    """
    x = standardised(samples)
    return ops.avg_pool2d(x, scale) if scale > 1 else x


def segmentation_task(
    name: str,
    system: System,
    recipe: Recipe,
    loss: Callable[[Segmenter, Sequence[Sample], Rng, float], LossTerms] | None = None,
    source: Source | None = None,
) -> Task:
    """Train ``system`` on semantic maps, scored at full resolution.

    ``loss(model, batch, rng, progress)`` instead of the model's own on whole images.  ``source``
    instead of the system's own data.
    """
    before = None
    source = source or open_source(system.data)
    ignored = NO_PIXEL if source.ignore_index is None else source.ignore_index
    if system.after is not None:
        first = SYSTEMS[system.after]
        earlier = recipe.stage_before(system.recipe, first.recipe)
        before = segmentation_task(system.after, first, earlier, source=source)
    init.seed(recipe.seed)
    model = system.model(source.num_classes)

    def outputs(samples: Sequence[Sample]) -> Any:
        return answer(reduced(samples, system.scale))

    def answer(x: Tensor) -> Any:
        if model.margin:  # mirrored pixels, so that the answer covers the image
            x = ops.pad(x, (model.margin,) * 4, "reflect")
        return model(x.to(model.device))

    def own_loss(batch: Sequence[Sample], rng: Rng, progress: float) -> LossTerms:
        if loss is not None:
            return loss(model, batch, rng, progress)
        weights = annealed_weights(progress, source.num_classes, *system.background)
        return model.loss(
            outputs(batch),
            batch,
            class_weights=weights,
            ignore_index=ignored,
            criterion=system.criterion,
        )

    def predict(samples: Sequence[Sample]) -> list[Any]:
        labels: list[Any] = model.decode(outputs(samples), samples[0].semantic.shape)
        return labels

    def score(predictions: Sequence[Any], samples: Sequence[Sample]) -> dict[str, float]:
        return map_scores(predictions, samples, source.class_names, source.ignore_index)

    def logits(x: Tensor) -> Tensor:
        size = x.shape[2:]
        return model.logits(
            answer(ops.avg_pool2d(x, system.scale) if system.scale > 1 else x), size
        )

    headline = ("mean IoU",)
    return Task(
        *(name, model, recipe, own_loss, predict, score, headline),
        **source.for_task(),
        before=before,
        logits=logits,
    )


def patch_loss(model: Segmenter, batch: Sequence[Sample], rng: Rng, progress: float) -> LossTerms:
    """Cross-entropy of a ``SlidingWindow`` on 16 patches of each image, half of them on digits.

    Drawing half of the patches from background, which covers 95 % of the pixels, changes how often
    a class comes; the weights grow to those that undo it, as ``annealed_weights`` do.
    """
    assert isinstance(model, SlidingWindow)
    places, labels, scale = [], [], 2
    for n, sample in enumerate(batch):
        ink = np.argwhere((sample.semantic > 0) & (sample.semantic != IGNORE))
        ground = np.argwhere(sample.semantic == 0)
        for among in (ink if len(ink) else ground, ground if len(ground) else ink):
            if not len(among):  # nothing is known of this image: patches that will not count
                among = np.argwhere(sample.semantic == IGNORE)
            chosen = among[rng.integers(len(among), size=8)]
            places += [(n, i // scale, j // scale) for i, j in chosen.tolist()]
            labels += sample.semantic[tuple(chosen.T)].tolist()
    x = reduced(batch, scale).to(model.device)
    logits = model.classifier(model.patches(x, places))
    weights = np.ones(model.num_classes, np.float32)
    weights[0] = 1 + 18 * max(0.0, (progress - 0.6) / 0.4) ** 2
    return {
        "cross_entropy": ops.cross_entropy(
            logits, beside(logits, np.array(labels)), beside(logits, weights), IGNORE
        )
    }


# A residual network of 10 layers; with shortcuts, group norm and four images a step are enough.
BODY = ResNetSettings(16, 3, (16, 32, 64, 64), (1, 1, 1, 1), "basic", "group")
# VGG's five blocks; stride 32 of 128 pixels leaves few places, so little padding and a small fc6.
VGG = (8, 16, 32, 64, 64)
# Plain chains of layers learn several times faster with batch norm over eight images a step.
FCN: dict[str, Any] = {
    "widths": VGG, "dense": 64, "fc6": 3, "padding": 17, "norm": "batch", "dropout": 0.1,
}  # fmt: skip
# An encoder and its mirror image, of few layers.
MIRRORED: dict[str, Any] = {"widths": (16, 32, 64), "depths": (1, 1, 2)}


SYSTEMS: dict[str, System] = {
    "sliding_window": System(
        "sliding_window",
        {},
        Recipe(steps=2000, batch_size=4, learning_rate=0.003),
        scale=2,
    ),
    "fcn32s": System(
        "fcn32s",
        FCN,
        Recipe(steps=2600, batch_size=8, learning_rate=0.003),
        data="large",
        background=(0.2, 0.5),
    ),
    "fcn16s": System(
        "fcn16s",
        FCN,
        Recipe(steps=400, batch_size=8, learning_rate=0.002),
        after="fcn32s",
        data="large",
        background=(0.5, 0.7),
    ),
    "fcn8s": System(
        "fcn8s",
        FCN,
        Recipe(steps=500, batch_size=8, learning_rate=0.002),
        after="fcn16s",
        data="large",
        background=(0.7, 1.0),
    ),
    "fcn8s_at_once": System(
        "fcn8s",
        FCN,
        Recipe(steps=2000, batch_size=8, learning_rate=0.003),
        background=(0.1, 0.6),
    ),
    "fcn_alexnet": System(
        "fcn_alexnet",
        {**FCN, "widths": (32, 64, 96, 96, 64), "fc6": 2, "padding": 20},
        Recipe(steps=3500, batch_size=8, learning_rate=0.003),
        data="large",
        background=(0.2, 0.5),
    ),
    "fcn_resnet": System(
        "fcn_resnet50",
        {"body": BODY, "width": 64},
        Recipe(steps=2000, batch_size=4, learning_rate=0.004),
    ),
    "deeplabv3": System(
        "deeplabv3_resnet50",
        {"body": BODY, "width": 64, "rates": (2, 4, 6)},
        Recipe(steps=2000, batch_size=4, learning_rate=0.004),
    ),
    "deconvnet": System(
        "deconvnet",
        {**MIRRORED, "dense": 128, "fc6": 3},
        Recipe(steps=3500, batch_size=8, learning_rate=0.003),
        scale=2,
    ),
    "segnet": System(
        "segnet",
        {**MIRRORED, "widths": (16, 32, 64, 64), "depths": (1, 1, 1, 1), "norm": "group"},
        Recipe(steps=8000, batch_size=4, learning_rate=0.003),
        scale=2,
    ),
    "segnet_basic": System(
        "segnet_basic",
        {"width": 16},
        Recipe(steps=3500, batch_size=8, learning_rate=0.0015),
        scale=2,
    ),
    "unet": System(
        "unet",
        {"base": 16, "depth": 4, "norm": "group"},
        Recipe(steps=6000, batch_size=4, learning_rate=0.004),
        scale=2,
    ),
    "unet_nuclei": System(
        "unet",
        {"base": 16, "depth": 3, "norm": "group"},
        Recipe(steps=400, batch_size=4, learning_rate=0.003),
        data="nuclei",
        background=(1.0, 1.0),
    ),
    "unet_valid": System(  # the paper's form: nothing is padded but the image, by mirroring
        "unet",
        {"base": 16, "depth": 2, "norm": "group", "padding": 0},
        Recipe(steps=2000, batch_size=4, learning_rate=0.004),
        scale=2,
    ),
    "ternausnet11": System(
        "ternausnet11",
        {"filters": 8, "widths": (16, 32, 64, 64, 64)},
        Recipe(steps=7000, batch_size=4, learning_rate=0.002),
        scale=2,
    ),
    "ternausnet16": System(
        "ternausnet16",
        {"filters": 8, "widths": (16, 32, 64, 64, 64)},
        Recipe(steps=6000, batch_size=4, learning_rate=0.002),
        scale=2,
    ),
    "fpn": System(
        "fpn_resnet50",
        {"body": BODY, "out_channels": 32, "width": 32},
        Recipe(steps=2000, batch_size=4, learning_rate=0.004),
    ),
    "unet_fpn": System(
        "unet_fpn",
        {"base": 16, "depth": 3, "norm": "group", "out_channels": 32, "width": 32},
        Recipe(steps=1500, batch_size=4, learning_rate=0.004),
        scale=2,
    ),
}

LOSSES = {"sliding_window": patch_loss}  # of the systems that do not learn from whole images

SEGMENTATION: Tasks = {
    name: (partial(segmentation_task, name, system, loss=LOSSES.get(name)), system.recipe)
    for name, system in SYSTEMS.items()
}
