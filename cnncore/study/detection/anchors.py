"""Anchors before any training: how well boxes of a few scales and ratios cover the objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.data import SceneSettings
from cnncore.study.experiment import Expectation, Experiment, Measures, Settings
from cnncore.study.figures import draw_lines, pyplot
from cnncore.study.results import Results
from cnncore.study.shared import scenes
from cnncore.vision import AnchorSettings, box_iou, make_anchors

COUNTS = (1, 2, 3)  # of scales, and of ratios
STRIDES = (4, 8, 16)
OCTAVES: dict[str, Any] = {"sizes": (16.0, 32.0, 64.0), "ratios": (0.5, 1.0, 2.0)}
Floats = NDArray[np.float64]


def boxes_of(split: str, settings: Settings, seed: int) -> Floats:
    """The true boxes ``(R, 4)`` of all scenes of a split."""
    size, pixels = settings["size"], settings["digit_pixels"]
    look = SceneSettings((size, size), item_side=(pixels[0], pixels[1]))
    found = scenes(split, settings["scenes"], seed, 10, look)
    return np.concatenate([scene.boxes for scene in found]).astype(np.float64)


def spread_over(values: Floats, count: int) -> tuple[float, ...]:
    """``count`` numbers, each standing for as many of the values: quantiles.

    >>> spread_over(np.arange(1.0, 10), 3)
    (2.33, 5.0, 7.67)
    """
    places = (np.arange(count) + 0.5) / count
    return tuple(float(round(q, 2)) for q in np.quantile(values, places))


def chosen(settings: Settings, seed: int) -> AnchorSettings:
    """Given sizes and ratios, or so many of each, fitted to the boxes of training scenes."""
    if "sizes" in settings:
        sizes, ratios = tuple(settings["sizes"]), tuple(settings["ratios"])
    else:
        sides = np.diff(boxes_of("train", settings, seed).reshape(-1, 2, 2), axis=1)[:, 0]
        sizes = spread_over(np.sqrt(sides.prod(1)), settings["scale count"])
        ratios = spread_over(sides[:, 1] / sides[:, 0], settings["ratio count"])
    return AnchorSettings((sizes,), ratios, offset=0.5, rounded=False)


def coverage(anchors: NDArray[Any], boxes: NDArray[Any]) -> dict[str, float]:
    """How anchors ``(A, 4)`` cover true boxes ``(R, 4)``."""
    overlap = box_iou(boxes, anchors)
    best = overlap.max(1)
    return {
        "anchors": float(len(anchors)),
        "recall, IoU 0.5": float((best >= 0.5).mean()),
        "recall, IoU 0.7": float((best >= 0.7).mean()),
        "mean best IoU": float(best.mean()),
        "anchors an object": float((overlap >= 0.5).sum(1).mean()),
    }


def _run(settings: Settings, seed: int) -> Measures:
    stride, side = settings["stride"], -(-settings["size"] // settings["stride"])
    (anchors,) = make_anchors(chosen(settings, seed), [(side, side)], [stride])
    return coverage(anchors, boxes_of(settings["split"], settings, seed))


def _name(scales: int, ratios: int, stride: int = 8) -> str:
    words = f"{scales} scale{'s' * (scales > 1)}, {ratios} ratio{'s' * (ratios > 1)}"
    return words if stride == 8 else f"{words}, stride {stride}"


def _draw(results: Results) -> Any:
    figure, panels = pyplot().subplots(
        1, 2, figsize=(9.6, 3.6), layout="constrained", sharey=True, squeeze=False
    )
    scales, strides = panels[0]
    lines = {
        f"{ratios} ratio{'s' * (ratios > 1)}": [(float(k), _name(k, ratios)) for k in COUNTS]
        for ratios in COUNTS
    }
    draw_lines(scales, results, "recall, IoU 0.7", lines)
    scales.set(xlabel="scales", xticks=COUNTS, title="stride 8")
    points = [(float(stride), _name(3, 3, stride)) for stride in STRIDES]
    for colour, measure in enumerate(("recall, IoU 0.5", "recall, IoU 0.7")):
        draw_lines(strides, results, measure, {measure: points}, colours=("#444", "#999")[colour:])
    strides.set(xlabel="stride", title="3 scales, 3 ratios", xscale="log", ylabel="recall")
    strides.set_xticks(STRIDES, [str(stride) for stride in STRIDES])
    strides.minorticks_off()
    for axes in panels[0]:
        axes.legend(fontsize="small")
    return figure


ANCHORS = Experiment(
    name="anchors",
    title="Anchors: recall against scales and ratios",
    claim="Anchors of several scales and ratios cover objects better than one box a place; several "
    "scales are worth more than several ratios, and with three scales ratios add little.",
    source="Ren et al., 2017, table 8 (by the detector's average precision)",
    method="No training. Digits scaled to 16 to 56 pixels in scenes of 128×128; anchors on one "
    "map, their scales and ratios the quantiles of training scenes' boxes. Of every true box of "
    "test scenes the best IoU with an anchor: 0.7 is what the paper's proposal network calls an "
    "object. Anchors an object: those with IoU 0.5 or more. Besides: scales of octaves (16, 32, "
    "64) with ratios ½, 1, 2, which nobody fitted; and the place, through the stride.",
    measures={
        "anchors": ",.0f",
        "recall, IoU 0.5": ".3f",
        "recall, IoU 0.7": ".3f",
        "mean best IoU": ".3f",
        "anchors an object": ".1f",
    },
    run=_run,
    settings={
        "size": 128, "digit_pixels": (16, 56), "scenes": 200, "split": "test", "stride": 8,
    },
    conditions={
        **{
            _name(k, r): {"scale count": k, "ratio count": r} for k in COUNTS for r in COUNTS
        },
        "5 scales, 5 ratios": {"scale count": 5, "ratio count": 5},
        "octaves, ratios ½ 1 2": OCTAVES,
        **{
            _name(3, 3, stride): {"scale count": 3, "ratio count": 3, "stride": stride}
            for stride in STRIDES if stride != 8
        },
    },
    expected=[
        Expectation("recall, IoU 0.7", better, worse)
        for better, worse in (
            (_name(1, 3), _name(1, 1)),
            (_name(3, 1), _name(1, 1)),
            (_name(3, 1), _name(1, 3)),
            (_name(3, 3), _name(3, 1)),
            (_name(3, 3), "octaves, ratios ½ 1 2"),
            (_name(3, 3, 4), _name(3, 3)),
            (_name(3, 3), _name(3, 3, 16)),
        )
    ],
    draw=_draw,
)  # fmt: skip
