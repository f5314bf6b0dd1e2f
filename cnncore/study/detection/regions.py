"""From R-CNN to Faster R-CNN: what each step gained in accuracy, work and time.

Letters: ``R`` regions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnncore import models
from cnncore.autograd import Tensor, no_grad
from cnncore.explain.cost import record_cost
from cnncore.models.detection import Detector, FasterRcnn, FastRcnn
from cnncore.models.detection.region_stage import StagedDetector
from cnncore.models.detection.roi_heads import Regions
from cnncore.nn import init
from cnncore.study import shared
from cnncore.study.detection.training import TRAINING, scores, test_set, train_set
from cnncore.study.experiment import Expectation, Experiment, Measures, Settings
from cnncore.study.figures import COLOURS, pyplot
from cnncore.study.results import Results
from cnncore.study.shared import fastest, remembered
from cnncore.train import History
from cnncore.train.detection import SEARCH, Proposed, ProposedScenes
from cnncore.train.tasks import images_of
from cnncore.vision import Objects, proposal_recall
from cnncore.vision.boxes import FloatArray

SYSTEMS = {
    "R-CNN": "rcnn_small",
    "SPP-net": "sppnet_small",
    "Fast R-CNN": "fastrcnn_small",
    "Faster R-CNN": "fasterrcnn_small",
}
BEFORE = {"sppnet_small": "rcnn_small"}  # whose convolutions it takes
PARTS = ("proposals", "features", "regions", "post-processing")
COUNTED = 10  # scenes whose multiply-adds are counted


@remembered
def training_proposals(settings: Settings, seed: int) -> tuple[Proposed, ...]:
    """The scenes of a seed with selective search's boxes."""
    found = ProposedScenes(train_set(settings, seed))
    return tuple(found[index] for index in range(len(found)))


@remembered
def unseen_proposals(settings: Settings, seed: int) -> tuple[Proposed, ...]:
    """Those that runs are scored on."""
    found = ProposedScenes(test_set(settings))
    return tuple(found[index] for index in range(len(found)))


def scene_settings(settings: Settings) -> Settings:
    """Those that decide what the scenes are."""
    names = ("size", "digits", "digit_pixels", "train_scenes", "test_scenes", "split")
    return {name: settings[name] for name in names}


def outputs_of(model: Detector, batch: Sequence[Proposed]) -> Any:
    """What the network says, with proposals from outside or without."""
    x = images_of([scene for scene, _ in batch])
    inside = isinstance(model, FasterRcnn)
    return model(x) if inside else model(x, [boxes for _, boxes in batch])


def train(
    name: str, settings: Settings, seed: int, steps: int | None = None
) -> tuple[Detector, History, float]:
    """A trained system, the history of its network, and seconds of its support vector machines."""
    init.seed(seed)
    model: Any = models.create(name, num_classes=settings["digits"])
    if name in BEFORE:
        model.continue_from(trained(BEFORE[name], settings, seed, steps))
    samples = training_proposals(scene_settings(settings), seed)

    def loss(batch: Sequence[Proposed], rng: Any, progress: float) -> dict[str, Tensor]:
        outputs = outputs_of(model, batch)
        terms: dict[str, Tensor] = model.loss(outputs, [scene for scene, _ in batch], rng)
        return terms

    changed = {**settings, "steps": steps or settings["steps"]}
    history = shared.train(model, loss, samples, changed, seed)
    start = time.perf_counter()
    if isinstance(model, StagedDetector):
        some = samples[: settings["stage_scenes"]]
        with no_grad():
            model.eval()
            model.fit_stage([(outputs_of(model, [one]), [one.sample]) for one in some])
    seconds = time.perf_counter() - start
    model.eval()
    return model, history, seconds


def trained(name: str, settings: Settings, seed: int, steps: int | None = None) -> Detector:
    """The network only; that of the last settings and seed is kept."""
    plain = {**settings, "system": name, "steps": steps or settings["steps"]}
    return _kept(plain, seed)


@remembered
def _kept(settings: Settings, seed: int) -> Detector:
    return train(settings["system"], settings, seed)[0]


def work_of(model: Detector, batch: Sequence[Proposed]) -> float:
    """Multiply-adds of an image, from images to detections, mean."""
    with no_grad(), record_cost(model) as table:
        for one in batch:
            model.decode(outputs_of(model, [one]))
    return table.total("multiply_adds") / max(1, len(batch))


def regions_of(model: Detector, batch: Sequence[Proposed]) -> list[FloatArray]:
    """The boxes that the second stage looks at, of each image."""
    if not isinstance(model, FasterRcnn):
        return [one.proposals for one in batch]
    found = []
    with no_grad():
        for one in batch:
            outputs, rpn = outputs_of(model, [one]), model.rpn
            found += rpn.propose(outputs.rpn, outputs.image_sizes, rpn.settings.test)
    return [proposals.boxes for proposals in found]


def _accuracy(settings: Settings, seed: int) -> Measures:
    model = trained(SYSTEMS[settings["system"]], settings, seed)
    unseen = unseen_proposals(scene_settings(settings), 0)
    found: list[Objects] = []
    with no_grad():
        for one in unseen:
            found += model.decode(outputs_of(model, [one]))
    samples = [one.sample for one in unseen]
    boxes, truth = regions_of(model, unseen), [sample.boxes for sample in samples]
    box_scores = scores(found, samples)
    return {
        "AP50": box_scores["AP50"],
        "AP": box_scores["AP"],
        "proposals": float(np.mean([len(b) for b in boxes])),
        "their recall": float(proposal_recall(boxes, truth, (10_000,))[0]),
        "M multiply-adds": work_of(model, unseen[:COUNTED]) / 1e6,
        "parameters": float(sum(p.size for p in model.parameters())),
    }


SETTINGS = {**TRAINING, "train_scenes": 256, "steps": 400, "stage_scenes": 100}
METHOD = (
    "The small systems of this package on scenes with up to three digits. The first three look at "
    "what selective search proposes (two trees). R-CNN and SPP-net: support vector machines and "
    "ridge regressions after the network; SPP-net's convolutions are those of the R-CNN beside it, "
    "trained before, and stay as they are."
)

REGION_DETECTORS = Experiment(
    name="region_detectors",
    title="R-CNN, SPP-net, Fast R-CNN, Faster R-CNN: accuracy and work",
    claim="Computing one map an image instead of one network a region saves most of the work; "
    "training it with the regions, and then the proposals, too, makes detection better as well.",
    source="He et al., 2014, section 4; Girshick, 2015, sections 4 and 5; Ren et al., 2015, "
    "section 4",
    method=f"{METHOD} All train for as many steps of 8 scenes. Recall: true boxes that a proposal "
    "overlaps by 0.5. Multiply-adds: of an image, up to the detections, without selective search "
    "and the support vector machines.",
    measures={
        "AP50": ".3f",
        "AP": ".3f",
        "proposals": ".1f",
        "their recall": ".3f",
        "M multiply-adds": ",.1f",
        "parameters": ",.0f",
    },
    plotted=("AP50", "AP", "M multiply-adds"),
    run=_accuracy,
    settings=SETTINGS,
    conditions={name: {"system": name} for name in SYSTEMS},
    expected=[
        *(
            Expectation("AP50", better, worse)
            for better, worse in (
                ("Fast R-CNN", "R-CNN"),
                ("Fast R-CNN", "SPP-net"),
                ("Faster R-CNN", "Fast R-CNN"),
            )
        ),
        Expectation("M multiply-adds", "R-CNN", "SPP-net"),
        Expectation("M multiply-adds", "R-CNN", "Fast R-CNN"),
        Expectation("their recall", "Faster R-CNN", "Fast R-CNN"),
    ],
)


def laps(model: Any, one: Proposed) -> dict[str, Callable[[], Any]]:
    """Calls to time: the parts of an image's way within the network, and ``whole``, all of it."""
    batch, x = [one], images_of([one.sample])
    outputs = outputs_of(model, batch)

    def whole() -> Any:
        return model.decode(outputs_of(model, batch))

    if isinstance(model, FasterRcnn):
        features = model.backbone(x)
        proposals = model.rpn.propose(outputs.rpn, outputs.image_sizes, model.settings.rpn.test)
        regions, _ = Regions.group([p.boxes for p in proposals], model.settings.roi.levels)

        def propose() -> Any:
            said = model.rpn(features, (x.shape[2], x.shape[3]))
            return model.rpn.propose(said, outputs.image_sizes, model.settings.rpn.test)

        return {
            "proposals": propose,
            "features": lambda: model.backbone(x),
            "regions": lambda: model.roi_heads.boxes(features, regions),
            "whole": whole,
        }
    if isinstance(model, FastRcnn):
        regions, _ = Regions.group([one.proposals], model.settings.roi.levels)
        return {
            "whole": whole,
            "features": lambda: model(x, [one.proposals]),
            "regions": lambda: model.roi_heads.boxes(outputs.features, regions),
        }

    def judge() -> Any:
        hidden, pooled = model.regions(outputs, 0, one.proposals)
        return model.stage.scores(hidden), model.stage.deltas(pooled)

    # R-CNN's network begins when regions are known, so here its features are a region's business.
    return {"whole": whole, "features": lambda: model(x, [one.proposals]), "regions": judge}


@remembered
def search_times(settings: Settings, seed: int) -> list[float]:
    """Seconds of selective search on each timed scene, once for all systems that use it."""
    samples = train_set(settings, seed)[: settings["timed_images"]]
    repeats = settings["repeats"]
    return [fastest(lambda s=s: SEARCH(s.image), repeats) for s in samples]  # type: ignore[misc]


def parts_of(times: dict[str, float], searches: bool) -> dict[str, float]:
    """What is left of ``whole`` is post-processing; ``searches``: proposals come before it.

    >>> parts_of({"proposals": 5.0, "features": 2.0, "regions": 1.0, "whole": 4.0}, True)
    {'proposals': 5.0, 'features': 2.0, 'regions': 1.0, 'post-processing': 1.0}
    """
    found = {name: times[name] for name in PARTS[:3]}
    inside = sum(found.values()) - (times["proposals"] if searches else 0.0)
    return found | {"post-processing": max(0.0, times["whole"] - inside)}


def _times(settings: Settings, seed: int) -> Measures:
    name, steps = SYSTEMS[settings["system"]], settings["timed_steps"]
    samples = training_proposals(scene_settings(settings), seed)[: settings["timed_images"]]
    model, history, stage = train(name, settings, seed, steps)
    searches = not isinstance(model, FasterRcnn)
    images: dict[str, list[float]] = {part: [] for part in PARTS}
    plain = {key: value for key, value in settings.items() if key != "system"}
    search = search_times(plain, seed) if searches else [0.0] * len(samples)
    with no_grad():
        for one, before in zip(samples, search, strict=True):
            runs = laps(model, one)
            times = {lap: fastest(run, settings["repeats"]) for lap, run in runs.items()}
            for part, seconds in parts_of({"proposals": before, **times}, searches).items():
                images[part].append(seconds)
    ms = {part: 1e3 * float(np.mean(values)) for part, values in images.items()}
    training = float(np.median(history.seconds)) * settings["steps"] + stage
    if searches:
        training += ms["proposals"] / 1e3 * settings["searched_scenes"]
    return {
        **{f"ms, {part}": value for part, value in ms.items()},
        "ms an image": sum(ms.values()),
        "s, training": training,
        "regions": float(np.mean([len(boxes) for boxes in regions_of(model, samples)])),
    }


def _shares(results: Results) -> list[str]:
    """Where an image's time goes, and what a region costs."""
    lines = []
    for name in results.experiment.conditions:
        if results.spread(name, "regions") is None:
            continue
        whole, count = results.mean(name, "ms an image"), results.mean(name, "regions")
        shares = [
            f"{part} {100 * results.mean(name, f'ms, {part}') / whole:.0f} %" for part in PARTS
        ]
        each = 1e3 * results.mean(name, "ms, regions") / max(count, 1)
        lines.append(f"{name}: {', '.join(shares)}; a region takes {each:.0f} µs")
    return lines


def _draw_times(results: Results) -> Any:
    figure, panels = pyplot().subplots(1, 2, figsize=(10.4, 2.8), layout="constrained")
    names = list(results.experiment.conditions)
    begin = np.zeros(len(names))
    for colour, part in zip(COLOURS, PARTS, strict=False):
        means = np.array([results.mean(name, f"ms, {part}") for name in names])
        panels[0].barh(names, means, left=begin, color=colour, alpha=0.75, label=part)
        begin = begin + means
    panels[1].barh(names, [results.mean(n, "s, training") for n in names], color=COLOURS[5])
    for axes, measure in zip(panels, ("ms an image", "s, training"), strict=True):
        for place, name in enumerate(names):
            values = list(results.values(name, measure).values())
            axes.plot(values, [place] * len(values), "o", color="black", markersize=3)
        axes.set_xlabel(measure)
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper left", ncols=len(PARTS), fontsize="small")
    return figure


REGION_TIME = Experiment(
    name="region_time",
    title="R-CNN, SPP-net, Fast R-CNN, Faster R-CNN: where the time goes",
    claim="R-CNN spends its time on running a network a region, Fast R-CNN on making proposals; "
    "with proposals from the network itself nothing slow is left.",
    source="Girshick, 2015, table 4; Ren et al., 2015, table 5",
    method=f"{METHOD} Features: the network's map, next to nothing for R-CNN, whose network runs "
    "for each region and is counted there; regions: pooling, dense layers, scores and boxes; "
    "post-processing: the rest. The best of several calls, mean over scenes of 128×128. The "
    "networks have trained for a few steps only: what they compute costs the same, but unsure "
    "ones leave more boxes to post-processing. Training: 400 steps by their median time, the "
    "search of 256 scenes, the support vector machines; without the training of the convolutions "
    "that SPP-net takes.",
    measures={
        **{f"ms, {part}": ".2f" for part in PARTS},
        "ms an image": ".2f",
        "s, training": ".1f",
        "regions": ".1f",
    },
    run=_times,
    settings={
        **SETTINGS, "size": 128, "train_scenes": 32, "stage_scenes": 32, "test_scenes": 0,
        "timed_steps": 20, "timed_images": 8, "repeats": 3, "searched_scenes": 256,
    },
    conditions={name: {"system": name} for name in SYSTEMS},
    expected=[
        Expectation("ms, regions", "R-CNN", "SPP-net"),
        Expectation("ms, regions", "R-CNN", "Fast R-CNN"),
        Expectation("ms an image", "R-CNN", "Fast R-CNN"),
        Expectation("ms an image", "Fast R-CNN", "Faster R-CNN"),
        Expectation("s, training", "R-CNN", "Fast R-CNN"),
    ],
    conclude=_shares,
    draw=_draw_times,
)  # fmt: skip
