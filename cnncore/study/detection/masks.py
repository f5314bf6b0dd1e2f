"""Mask R-CNN and what belongs to it: the mask branch, and how regions are pooled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cnncore.models.detection import SMALL, FasterRcnn, MaskRcnn
from cnncore.nn import init
from cnncore.study.detection.training import (
    TRAINING,
    detections,
    scores,
    test_set,
    train,
    train_set,
)
from cnncore.study.experiment import Expectation, Experiment, Measures, Settings
from cnncore.study.figures import COLOURS, pyplot
from cnncore.study.results import Results

METHOD = (
    "Mask R-CNN of 0.9 million parameters on a pyramid of strides 4 to 32, from scratch, on "
    "digits of 20 to 40 pixels"
)


def detector(settings: Settings, seed: int) -> FasterRcnn:
    """Small Mask R-CNN, or the same without its mask head; weights of what both have are equal."""
    roi = replace(
        SMALL.roi,
        pooling=settings.get("pooling", "align"),
        levels=replace(SMALL.roi.levels, canonical_level=settings.get("level", 2)),
        masks=settings.get("masks", True),
    )
    init.seed(seed)
    kind = MaskRcnn if roi.masks else FasterRcnn
    return kind(settings["digits"], replace(SMALL, roi=roi))


def _branch(settings: Settings, seed: int) -> Measures:
    model = detector(settings, seed)
    train(model, train_set(settings, seed), settings, seed)
    unseen = test_set(settings)
    found = scores(detections(model, unseen), unseen)
    return {f"box {name}": found[name] for name in ("AP", "AP50", "AP75")}


MASK_BRANCH = Experiment(
    name="mask_branch",
    title="Training the mask branch changes box AP",
    claim="Learning masks beside boxes makes the boxes better, though at test time the mask branch "
    "has no say in them.",
    source="He et al., 2017, section 4.1 and table 3: box AP 38.2 with masks, 37.3 without",
    method=f"{METHOD}; and the same without the mask head. Both begin with equal weights in all "
    "that they share and draw equal regions as long as their proposals are equal.",
    measures={"box AP": ".3f", "box AP50": ".3f", "box AP75": ".3f"},
    run=_branch,
    settings=TRAINING,
    conditions={"with masks": {"masks": True}, "boxes only": {"masks": False}},
    expected=[
        Expectation(measure, "with masks", "boxes only") for measure in ("box AP", "box AP75")
    ],
)


POOLINGS = {"RoI Align": "align", "RoI pooling": "max"}
LEVELS = {"": 2, ", a level coarser": 3}
SIZES = ("small", "medium", "large")
KINDS = ("box", "mask")


def _pooling(settings: Settings, seed: int) -> Measures:
    model = detector(settings, seed)
    train(model, train_set(settings, seed), settings, seed)
    unseen = test_set(settings)
    predicted = detections(model, unseen)
    measures: dict[str, float] = {}
    for kind, plural in zip(KINDS, ("boxes", "masks"), strict=True):
        found = scores(predicted, unseen, plural)
        names = ("AP", "AP75", *(f"AP_{size}" for size in SIZES))
        measures |= {f"{kind} {name.replace('_', ' ')}": found[name] for name in names}
    return measures


def _draw_pooling(results: Results) -> Any:
    figure, panels = pyplot().subplots(
        1, 2, figsize=(9.6, 3.4), layout="constrained", sharey=True, squeeze=False
    )
    every = list(results.experiment.conditions)
    names = [name for name in every if results.spread(name, "box AP") is not None]
    width = 0.8 / max(1, len(names))
    for axes, kind in zip(panels[0], KINDS, strict=True):
        for number, name in enumerate(names):
            which = every.index(name)
            for place, size in enumerate(("AP", *(f"AP {s}" for s in SIZES))):
                measure = f"{kind} {size}"
                values = list(results.values(name, measure).values())
                x = place + width * (number - (len(names) - 1) / 2)
                axes.bar(
                    x, results.mean(name, measure), width * 0.95, color=COLOURS[which % 2],
                    alpha=0.75 if which < 2 else 0.4, label=name if place == 0 else None,
                )  # fmt: skip
                axes.plot([x] * len(values), values, "o", color="black", markersize=2.5)
        axes.set_xticks(range(1 + len(SIZES)), ["all", *SIZES])
        axes.set(ylabel=f"{kind} AP", xlabel="objects")
        axes.grid(axis="y", alpha=0.3)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(names), fontsize="small")
    return figure


ROI_POOLING = Experiment(
    name="roi_pooling",
    title="RoI Align against RoI pooling, by object size",
    claim="Pooling that rounds a region to whole cells loses places; sampling it where it is "
    "improves boxes and, more, masks. The coarser the map, the more.",
    source="He et al., 2017, section 4.2 and table 2 (c, d); by size: no claim of theirs",
    method=f"{METHOD}; regions are pooled from the level of stride 4 (from 56 pixels on: 8), or "
    "from one level coarser. Both poolings have equal parameters. Small, medium and large "
    "are the thirds of the test scenes' objects by area of box or mask.",
    measures={
        f"{kind} {name}": ".3f"
        for kind in KINDS
        for name in ("AP", "AP75", *(f"AP {size}" for size in SIZES))
    },
    run=_pooling,
    settings={**TRAINING, "steps": 200},
    conditions={
        f"{name}{words}": {"pooling": pooling, "level": level}
        for words, level in LEVELS.items()
        for name, pooling in POOLINGS.items()
    },
    expected=[
        Expectation(f"{kind} {name}", f"RoI Align{words}", f"RoI pooling{words}")
        for words in LEVELS
        for kind in KINDS
        for name in ("AP", *(f"AP {size}" for size in SIZES))
    ],
    draw=_draw_pooling,
)
