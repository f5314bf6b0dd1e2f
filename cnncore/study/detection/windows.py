"""Detection by a classifier on every window of a pyramid, and by score maps."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, no_grad
from cnncore.explain.cost import cost
from cnncore.models.detection import SlidingWindow, WindowSettings
from cnncore.nn import init
from cnncore.study.experiment import Expectation, Experiment, Measures, Settings
from cnncore.study.figures import COLOURS, draw_lines, pyplot
from cnncore.study.results import Results
from cnncore.study.segmentation.sliding import STEP, WINDOW, small_classifier, windows
from cnncore.study.shared import fastest

CLASSES = 9  # and background
SIZES = (48, 64, 96, 128)
STEPS = (8, 16, 32)  # of windows only: the score map's is that of the network


def detector(shared: bool = True) -> SlidingWindow:
    """A classifier of colour windows, untrained, at every place and scale."""
    settings = WindowSettings(window=(WINDOW, WINDOW), shared=shared, resize=None)
    return SlidingWindow(small_classifier(0, channels=3), CLASSES, settings).eval()


def pyramid(model: SlidingWindow, x: Tensor) -> list[Tensor]:
    """``(1, 3, H, W)`` at all sizes at which a window fits."""
    size = x.shape[2], x.shape[3]
    return [
        x if scale == size else ops.interpolate(x, size=scale, mode="bilinear")
        for scale in model.scales(size)
    ]


def crops_of(model: SlidingWindow, x: Tensor, step: int) -> Tensor:
    """All windows of all scales, ``(R, 3, WINDOW, WINDOW)``; finest scale first, then by row."""
    every = [windows(scaled.numpy()[0], step=step) for scaled in pyramid(model, x)]
    return Tensor(np.concatenate([w.reshape(-1, *w.shape[2:]) for w in every]))


def work(model: SlidingWindow, size: int, count: int) -> tuple[float, float]:
    """Multiply-adds of ``count`` windows, and of the score maps of all scales."""
    window = cost(model.classifier, (3, WINDOW, WINDOW), backward=False).total("multiply_adds")
    maps = [
        cost(model.dense, (3, *scale), backward=False).total("multiply_adds")
        for scale in model.scales((size, size))
    ]
    return count * window, sum(maps)


def _run(settings: Settings, seed: int) -> Measures:
    rng, size, repeats = np.random.default_rng(seed), settings["size"], settings["repeats"]
    init.seed(seed)
    model = detector()
    x = Tensor(rng.normal(size=(1, 3, size, size)).astype(np.float32))
    with no_grad():
        crops = crops_of(model, x, settings["step"])
        every = settings["step"] // STEP  # of the score map's places one is a window
        logits = np.concatenate(
            [y.numpy()[0, :, ::every, ::every].reshape(1 + CLASSES, -1).T for y in model(x).logits]
        )
        apart = float(np.abs(logits - model.classifier(crops).numpy()).max())
        rows = [crops[i : i + 1] for i in range(len(crops))]
        single = fastest(lambda: [model.classifier(row) for row in rows], repeats)
        batch = fastest(lambda: model.classifier(crops), repeats)
        maps = fastest(lambda: model(x), repeats)
    each, once = work(model, size, len(crops))
    return {
        "windows": len(crops),
        "largest difference": apart / float(np.abs(logits).max()),
        "M multiply-adds, windows": each / 1e6,
        "M multiply-adds, score maps": once / 1e6,
        "multiply-adds saved": each / once,
        "ms, one by one": single * 1e3,
        "ms, in one batch": batch * 1e3,
        "ms, score maps": maps * 1e3,
        "times faster": batch / maps,
    }


def _name(size: int, step: int = STEP) -> str:
    return f"{size}×{size}" if step == STEP else f"{size}×{size}, windows {step} apart"


def _draw(results: Results) -> Any:
    figure, panels = pyplot().subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    names = list(results.experiment.conditions)
    sized = [(results.mean(n, "windows"), n) for n in names if "apart" not in n]
    stepped = sorted((results.mean(n, "windows"), n) for n in names if n.startswith("96×96"))
    for colour, measure in zip(
        COLOURS, ("ms, one by one", "ms, in one batch", "ms, score maps"), strict=False
    ):
        draw_lines(panels[0], results, measure, {measure.removeprefix("ms, "): sized}, [colour])
    panels[0].set(ylabel="ms", title="images of 48 to 128 pixels", xscale="log", yscale="log")
    measures = {"multiply-adds saved": "multiply-adds", "times faster": "time, in one batch"}
    for colour, (measure, label) in zip(COLOURS, measures.items(), strict=False):
        draw_lines(panels[1], results, measure, {label: stepped}, [colour])
    panels[1].axhline(1, color="#999", linewidth=0.8)
    panels[1].set(title="one image of 96×96", ylabel="windows / score maps")
    panels[1].set(xscale="log", yscale="log")
    for axes, points in zip(panels, (sized, stepped), strict=True):
        axes.set_xlabel("windows")
        axes.minorticks_off()
        axes.set_xticks([count for count, _ in points], [f"{count:.0f}" for count, _ in points])
        axes.legend(fontsize="small")
    return figure


DETECTION_WINDOWS = Experiment(
    name="detection_windows",
    title="A detector as score maps against a window at a time",
    claim="At test time a network applied to all windows is a convolution: what overlapping "
    "windows share is computed once, so cost hardly grows with their number.",
    source="Sermanet et al., 2014, section 3.5",
    method="A classifier of windows of 32 pixels (two convolutions of 5×5, two dense layers, no "
    "padding; untrained) at every fourth pixel of an image at all scales from 1 down in steps of "
    "√2. The windows run one by one, all in one batch, or as score maps; cutting them out is not "
    "counted, scaling is counted with the score maps. Largest difference: of the scores, by the "
    "largest score. Then windows of one image 8, 16 and 32 pixels apart beside score maps that "
    "stay as they are: how many windows they must replace to pay. Times: the best of several "
    "calls.",
    measures={
        "windows": ",.0f",
        "largest difference": ".0e",
        "M multiply-adds, windows": ",.1f",
        "M multiply-adds, score maps": ",.1f",
        "multiply-adds saved": ".1f",
        "ms, one by one": ".2f",
        "ms, in one batch": ".2f",
        "ms, score maps": ".2f",
        "times faster": ".1f",
    },
    run=_run,
    settings={"repeats": 5, "step": STEP},
    conditions={
        **{_name(size): {"size": size} for size in SIZES},
        **{_name(96, step): {"size": 96, "step": step} for step in STEPS},
    },
    expected=[
        Expectation(measure, better, worse)
        for measure in ("multiply-adds saved", "times faster")
        for better, worse in (
            *((_name(b), _name(a)) for a, b in itertools.pairwise(SIZES)),
            *((_name(96, a), _name(96, b)) for a, b in itertools.pairwise((STEP, *STEPS))),
        )
    ],
    draw=_draw,
)
