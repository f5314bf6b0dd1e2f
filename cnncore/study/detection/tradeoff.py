"""Speed against accuracy: systems, bodies, image sizes, numbers of proposals."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnncore.autograd import no_grad
from cnncore.data import Sample
from cnncore.errors import ArgumentError
from cnncore.explain.cost import record_cost
from cnncore.models import detection as systems
from cnncore.models.backbones import ResNetSettings
from cnncore.models.detection import Detector, FasterRcnn, small
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
from cnncore.study.shared import fastest, remembered
from cnncore.train.tasks import images_of
from cnncore.vision import AnchorSettings

BASE = 64  # pixels: settings of the small systems fit objects of 20 to 40 pixels
PROPOSALS = 48
COUNTED = 10  # scenes whose multiply-adds are counted


def body_of(width: float, **changes: Any) -> ResNetSettings:
    """The small systems' body, ``width`` times as wide."""
    widths = tuple(int(w * width) for w in small.BODY.widths)
    stem = int(small.BODY.stem_channels * width)
    return replace(small.BODY, stem_channels=stem, widths=widths, **changes)  # type: ignore[arg-type]


def larger(anchors: AnchorSettings, scale: float) -> AnchorSettings:
    """Anchors of ``scale`` times the sides."""
    sizes = tuple(tuple(size * scale for size in level) for level in anchors.sizes)
    return replace(anchors, sizes=sizes)


def faster(classes: int, width: float, size: int) -> Detector:
    """Faster R-CNN whose anchors and levels fit the size of images."""
    scale, plain = size / BASE, small.SMALL_FASTER
    rule = plain.roi.levels
    return systems.fasterrcnn_small(
        classes,
        body=body_of(width),
        rpn=replace(plain.rpn, anchors=larger(plain.rpn.anchors, scale)),
        roi=replace(plain.roi, levels=replace(rule, canonical_size=rule.canonical_size * scale)),
    )


def rfcn(classes: int, width: float, size: int) -> Detector:
    """R-FCN, likewise."""
    rpn = small.SMALL_RFCN.rpn
    return systems.rfcn_small(
        classes,
        body=body_of(width, stride=8),
        rpn=replace(rpn, anchors=larger(rpn.anchors, size / BASE)),
    )


def ssd(classes: int, width: float, size: int) -> Detector:
    """SSD, whose boxes are parts of the image whatever its size."""
    return systems.ssd_small(classes, body=body_of(width))


def yolo(classes: int, width: float, size: int) -> Detector:
    """YOLO with cells of 16 pixels and convolutions of its own."""
    layers = tuple(
        (layer[0], int(layer[1] * width), *layer[2:]) if layer else layer
        for layer in small.SMALL_YOLO.layers
    )
    return systems.yolo_small(classes, layers=layers, grid=size // 16)


SYSTEMS: dict[str, Callable[[int, float, int], Detector]] = {
    "Faster R-CNN": faster,
    "R-FCN": rfcn,
    "SSD": ssd,
    "YOLO": yolo,
}


@remembered
def trained(settings: Settings, seed: int) -> Detector:
    """The detector of these settings, which say nothing of how it is asked."""
    init.seed(seed)
    model = SYSTEMS[settings["system"]](settings["digits"], settings["width"], settings["size"])
    train(model, train_set(settings, seed), settings, seed)
    return model


def asked(settings: Settings, seed: int) -> Detector:
    """That detector, with as many proposals as settings say."""
    model = trained({k: v for k, v in settings.items() if k != "proposals"}, seed)
    if isinstance(model, FasterRcnn):
        test = replace(model.settings.rpn.test, post_nms=settings["proposals"])
        model.settings = replace(model.settings, rpn=replace(model.settings.rpn, test=test))
    return model


def work_of(model: Detector, samples: Sequence[Sample]) -> float:
    """Multiply-adds of an image, up to the detections, mean."""
    with record_cost(model) as table:
        for sample in samples:
            detections(model, [sample])
    return table.total("multiply_adds") / max(1, len(samples))


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which of ``(cost, score)`` no other beats: cheaper and no worse, or better and no dearer.

    >>> front([(1.0, 0.3), (2.0, 0.2), (3.0, 0.9), (3.0, 0.8)])
    [0, 2]
    """
    return [
        i
        for i, (cost, score) in enumerate(points)
        if not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
    ]


def _accuracy(settings: Settings, seed: int) -> Measures:
    model, unseen = asked(settings, seed), test_set(settings)
    found = scores(detections(model, unseen), unseen)
    return {
        "AP": found["AP"],
        "AP50": found["AP50"],
        "M multiply-adds": work_of(model, unseen[:COUNTED]) / 1e6,
        "parameters": float(sum(p.size for p in model.parameters())),
    }


def _name(system: str, width: float = 1.0, size: int = BASE, proposals: int = PROPOSALS) -> str:
    words = [system]
    if width != 1:
        words.append("half as wide")
    if size != BASE:
        words.append(f"{size}×{size}")
    if proposals != PROPOSALS:
        words.append(f"{proposals} proposals")
    return ", ".join(words)


FEWER = (12, 4)  # proposals, instead of PROPOSALS
LARGE = 80
BY_SIZE = {BASE: (20, 40), LARGE: (25, 50)}  # digits: the same part of the image
CONDITIONS: dict[str, dict[str, Any]] = {}
for _system in SYSTEMS:
    _plain = {"system": _system, "width": 1.0, "proposals": PROPOSALS}
    CONDITIONS[_name(_system)] = _plain
    if _system in ("Faster R-CNN", "R-FCN"):
        for _count in FEWER:
            CONDITIONS[_name(_system, proposals=_count)] = {**_plain, "proposals": _count}
    CONDITIONS[_name(_system, 0.5)] = {**_plain, "width": 0.5}
    _grown = {"size": LARGE, "digit_pixels": BY_SIZE[LARGE]}
    CONDITIONS[_name(_system, size=LARGE)] = {**_plain, **_grown}


def _on_front(results: Results, cost: str) -> list[str]:
    names = list(results.experiment.conditions)
    known = [n for n in names if results.spread(n, "AP") is not None]
    points = [(results.mean(n, cost), results.mean(n, "AP")) for n in known]
    return sorted((known[i] for i in front(points)), key=lambda n: results.mean(n, cost))


def _conclude(results: Results) -> list[str]:
    chain = "; ".join(_on_front(results, "M multiply-adds"))
    return [f"on the Pareto front of mean AP and multiply-adds, cheapest first: {chain}"]


MARKS = {"half": "v", "×": "^", "proposals": "s"}


def _plain_tick(value: float, _: Any) -> str:
    text = f"{value:g}"
    return text if text.strip("0.")[:1] in ("1", "2", "3", "5") else ""


def _scatter(axes: Any, accuracy: Results, costs: Results, measure: str) -> None:
    """Mean AP over a cost, a bar from least to most, the front as a line."""
    names = [
        name for name in accuracy.experiment.conditions
        if accuracy.spread(name, "AP") is not None and costs.spread(name, measure) is not None
    ]  # fmt: skip
    points = [(costs.mean(n, measure), accuracy.mean(n, "AP")) for n in names]
    for (x, y), name in zip(points, names, strict=True):
        spread = accuracy.spread(name, "AP")
        assert spread is not None
        system = name.split(",")[0]
        mark = next((m for word, m in MARKS.items() if word in name), "o")
        colour = COLOURS[list(SYSTEMS).index(system)]
        axes.plot([x, x], [spread.least, spread.most], color=colour, linewidth=1)
        label = system if name == system else None
        axes.plot(x, y, mark, color=colour, markersize=6, label=label)
    best = sorted(points[i] for i in front(points))
    axes.plot(*zip(*best, strict=True), color="#888", linewidth=1, zorder=0)
    axes.set(xlabel=measure, ylabel="AP", xscale="log")
    axes.xaxis.set_major_formatter(_plain_tick)
    axes.xaxis.set_minor_formatter(_plain_tick)
    axes.grid(alpha=0.3)


def _draw(results: Results) -> Any:
    """Over multiply-adds, and over time where that experiment has run, too."""
    costs = [(results, "M multiply-adds")]
    with contextlib.suppress(ArgumentError):  # runs of other settings: without them
        times = Results.open(DETECTOR_TIME, results.path.parent)
        if times.runs:
            costs.append((times, "ms an image"))
    figure, panels = pyplot().subplots(
        1, len(costs), figsize=(5.2 * len(costs), 4), layout="constrained", sharey=True,
        squeeze=False,
    )  # fmt: skip
    for axes, (found, measure) in zip(panels[0], costs, strict=True):
        _scatter(axes, results, found, measure)
    others = {"half as wide": "v", f"{LARGE}×{LARGE}": "^", "fewer proposals": "s"}
    for label, mark in others.items():
        panels[0][0].plot([], [], mark, color="#888", label=label)
    panels[0][0].legend(fontsize="small")
    return figure


METHOD = (
    "The small systems of this package on scenes of 64×64 with up to three digits: on their own "
    "body (SSD, Faster R-CNN and R-FCN share a ResNet of one block a stage, YOLO has its own "
    "convolutions) and on one half as wide; and on scenes of 80×80 in which everything is a "
    "quarter larger, anchors too, and YOLO has more cells. Faster R-CNN and R-FCN are also asked "
    "with 12 and 4 proposals instead of 48, after the same training."
)

SPEED_ACCURACY = Experiment(
    name="speed_accuracy",
    title="Speed against accuracy: systems, bodies, image sizes, numbers of proposals",
    claim="Systems that look at regions are more accurate and dearer than those of one stage; "
    "larger images and wider bodies are dearer and better; Faster R-CNN with fewer proposals is "
    "much cheaper and hardly worse, while to R-FCN they make little difference.",
    source="Huang et al., 2017, sections 4.1.1 to 4.1.5 and figures 2 and 6",
    method=f"{METHOD} Multiply-adds: of an image, up to the detections. The figure's second panel "
    "is over the time that `detector_time` measures.",
    measures={
        "AP": ".3f",
        "AP50": ".3f",
        "M multiply-adds": ",.1f",
        "parameters": ",.0f",
    },
    run=_accuracy,
    settings={**TRAINING, "steps": 250},
    conditions=CONDITIONS,
    expected=[
        *(
            Expectation("AP", better, worse)
            for better in ("Faster R-CNN", "R-FCN")
            for worse in ("SSD", "YOLO")
        ),
        *(Expectation("AP", _name(s, size=LARGE), s) for s in SYSTEMS),
        *(Expectation("AP", s, _name(s, 0.5)) for s in SYSTEMS),
        *(
            Expectation("AP", s, _name(s, proposals=count))
            for s in ("Faster R-CNN", "R-FCN")
            for count in FEWER
        ),
        Expectation("M multiply-adds", "Faster R-CNN", "R-FCN"),
    ],
    conclude=_conclude,
    draw=_draw,
)


def _time(settings: Settings, seed: int) -> Measures:
    model, unseen = asked(settings, seed), test_set(settings)
    model.eval()
    images = [images_of([sample]) for sample in unseen]
    with no_grad():
        apart = [
            fastest(lambda x=x: model.decode(model(x)), settings["repeats"])  # type: ignore[misc]
            for x in images
        ]
    return {"ms an image": 1e3 * float(np.mean(apart))}


DETECTOR_TIME = Experiment(
    name="detector_time",
    title="Speed against accuracy: the time of an image",
    claim="Systems of one stage are faster; with fewer proposals Faster R-CNN comes near them.",
    source="Huang et al., 2017, section 4.1.1 and figure 6",
    method=f"{METHOD} One image at a time, from its pixels to the detections: the best of several "
    "calls, mean over scenes. The networks have trained for a few steps only, so that post-"
    "processing has more boxes to look at than it would have later.",
    measures={"ms an image": ".2f"},
    run=_time,
    settings={**TRAINING, "train_scenes": 64, "test_scenes": 8, "steps": 20, "repeats": 5},
    conditions=CONDITIONS,
    expected=[
        *(
            Expectation("ms an image", slower, quicker)
            for slower in ("Faster R-CNN", "R-FCN")
            for quicker in ("SSD", "YOLO")
        ),
        Expectation("ms an image", "Faster R-CNN", "R-FCN"),
        *(
            Expectation("ms an image", s, _name(s, proposals=count))
            for s in ("Faster R-CNN", "R-FCN")
            for count in FEWER
        ),
    ],
)
