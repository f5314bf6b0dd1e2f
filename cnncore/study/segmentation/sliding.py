"""A classifier run on every window of an image, and the same as one score map.

Weights and pixels here are small integers in float64: every sum is exact whatever its order, so
"equal" means equal bit by bit.

Letters: ``C H W`` images, ``K`` classes; windows are ``WINDOW`` pixels high and wide, ``STEP``
apart, which is the product of the network's strides.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore import models
from cnncore.autograd import Tensor, no_grad
from cnncore.explain.cost import cost
from cnncore.nn import Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential
from cnncore.study.experiment import Expectation, Experiment, Measures, Settings
from cnncore.study.figures import COLOURS, draw_lines, pyplot
from cnncore.study.results import Results
from cnncore.study.shared import fastest

WINDOW, STEP = 32, 4
Array = NDArray[Any]


def windows(image: Array, size: int = WINDOW, step: int = STEP) -> Array:
    """All windows of ``(C, H, W)``: ``(OH, OW, C, size, size)``, a view."""
    every = np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(1, 2))
    found: Array = every[:, ::step, ::step].transpose(1, 2, 0, 3, 4)
    return found


def in_their_places(scores: Array, shape: Sequence[int]) -> Array:
    """``(OH·OW, K)`` as ``(K, OH, OW)``."""
    found: Array = scores.T.reshape(-1, *shape[:2])
    return found


def window_scores(classifier: Module, image: Array) -> Array:
    """The classifier run on every window: ``(K, OH, OW)``."""
    every = windows(image)
    scores = classifier(Tensor(every.reshape(-1, *every.shape[2:]))).numpy()
    return in_their_places(scores, every.shape)


def small_classifier(padding: int, channels: int = 1) -> Sequential:
    """Two convolutions of 5×5, each with ReLU and pooling, two dense layers; ten classes."""
    side = WINDOW
    for _ in range(2):
        side = (side + 2 * padding - 4) // 2
    return Sequential(
        *(Conv2d(channels, 8, 5, padding=padding), ReLU(), MaxPool2d(2)),
        *(Conv2d(8, 16, 5, padding=padding), ReLU(), MaxPool2d(2)),
        *(Flatten(), Linear(16 * side * side, 32), ReLU(), Linear(32, 10)),
    )


def with_integers(model: Module, rng: np.random.Generator) -> Module:
    """The model with weights −2 … 2 in float64, for evaluation."""
    for parameter in model.parameters():
        parameter.data = rng.integers(-2, 3, parameter.shape).astype(np.float64)
    return model.eval()


def _speed(settings: Settings, seed: int) -> Measures:
    rng, size = np.random.default_rng(seed), settings["size"]
    classifier = with_integers(models.create("lenet5", 10, variant="modern"), rng)
    network = models.to_fully_convolutional(classifier, (1, WINDOW, WINDOW))
    image = rng.integers(0, 4, (1, size, size)).astype(np.float64)
    shapes = (1, WINDOW, WINDOW), (1, size, size)
    work = [
        cost(model, shape, backward=False).total("multiply_adds")
        for model, shape in zip((classifier, network), shapes, strict=True)
    ]
    with no_grad():
        apart = np.abs(network(Tensor(image[None])).numpy()[0] - window_scores(classifier, image))
        for model in (classifier, network):
            for parameter in model.parameters():
                parameter.data = (parameter.data / 8).astype(np.float32)
        x = Tensor(image[None].astype(np.float32))
        every = windows(x.numpy()[0])
        crops = Tensor(np.ascontiguousarray(every).reshape(-1, 1, WINDOW, WINDOW))
        slow = fastest(lambda: classifier(crops), settings["repeats"])
        fast = fastest(lambda: network(x), settings["repeats"])
    return {
        "windows": crops.shape[0],
        "largest difference": float(apart.max()),
        "ms, every window": slow * 1e3,
        "ms, score map": fast * 1e3,
        "times faster": slow / fast,
        "multiply-adds saved": crops.shape[0] * work[0] / work[1],
    }


SIZES = (32, 48, 64, 96, 128, 192, 256)


def _draw_speed(results: Results) -> Any:
    figure, axes = pyplot().subplots(figsize=(5.6, 3.6), layout="constrained")
    names = list(results.experiment.conditions)
    points = [(results.mean(name, "windows"), name) for name in names]
    draw_lines(axes, results, "multiply-adds saved", {"multiply-adds": points})
    draw_lines(axes, results, "times faster", {"time": points}, colours=COLOURS[1:])
    axes.set_ylabel("every window / score map")
    axes.legend()
    axes.set(xlabel="windows", xscale="log", yscale="log")
    return figure


SLIDING_WINDOW = Experiment(
    name="sliding_window",
    title="A score map is the classifier on every window, computed once",
    claim="Dense layers as convolutions give the scores of all windows at once, and what windows "
    "share is computed once: the more windows, the larger the gain.",
    source="Sermanet et al., 2014, section 3.5; Long, Shelhamer & Darrell, 2015, section 3.1",
    method="LeNet-5 (no padding) on windows of 32 pixels, 4 apart. Scores are compared in float64 "
    "with integers for weights and pixels, so that no sum rounds: a difference of 0 is equality "
    "bit by bit. Times are those of float32, the best of several calls; cutting the windows out "
    "is not counted.",
    measures={
        "windows": ",.0f",
        "largest difference": ".3g",
        "ms, every window": ".2f",
        "ms, score map": ".2f",
        "times faster": ".1f",
        "multiply-adds saved": ".1f",
    },
    run=_speed,
    settings={"repeats": 5},
    conditions={f"{size}×{size}": {"size": size} for size in SIZES},
    expected=[
        Expectation("times faster", f"{b}×{b}", f"{a}×{a}") for a, b in itertools.pairwise(SIZES)
    ],
    draw=_draw_speed,
)


def _padded(settings: Settings, seed: int) -> Measures:
    """Differences on windows so far inside that none of them sees the image's edge."""
    rng, size = np.random.default_rng(seed), settings["size"]
    classifier = with_integers(small_classifier(settings["padding"]), rng)
    network = models.to_fully_convolutional(classifier, (1, WINDOW, WINDOW))
    image = rng.integers(0, 4, (1, size, size)).astype(np.float64)
    margin, context = settings["margin"], settings["context"]
    with no_grad():
        inside = image[:, margin : size - margin, margin : size - margin]
        cut = slice(margin // STEP, -(margin // STEP) or None)
        whole = network(Tensor(image[None])).numpy()[0][:, cut, cut]
        found = _scores_in_context(network, image, inside.shape[1:], margin, context)
    return {
        "windows": found[0].size,
        "largest difference": float(np.abs(whole - found).max()),
        "difference / deviation": float(np.abs(whole - found).mean() / whole.std()),
        "same class": float((whole.argmax(0) == found.argmax(0)).mean()),
    }


def _scores_in_context(
    network: Module, image: Array, inside: Sequence[int], margin: int, context: int
) -> Array:
    """The network on windows with ``context`` pixels around them; the score of the middle each."""
    begin = margin - context
    part = image[:, begin : margin + inside[0] + context, begin : margin + inside[1] + context]
    every = windows(part, WINDOW + 2 * context)
    scores = network(Tensor(every.reshape(-1, *every.shape[2:]))).numpy()
    return in_their_places(scores[:, :, context // STEP, context // STEP], every.shape)


def _conclude_padding(results: Results) -> list[str]:
    names = list(results.experiment.conditions)
    exact = [n for n in names if results.mean(n, "largest difference") == 0]
    return [f"equal bit by bit: {', '.join(exact) or 'nowhere'}"]


WINDOW_PADDING = Experiment(
    name="window_padding",
    title="Padding inside the network, and why scores then differ",
    claim="With zero padding inside, a window alone sees zeros where the score map sees the "
    "image: scores agree approximately. Give each window the pixels around it, and they agree "
    "exactly.",
    source="follows from Long, Shelhamer & Darrell, 2015, section 3.1",
    method="Two convolutions of 5×5 with poolings, two dense layers, float64 with integers. The "
    "score map of the image beside each window run alone, with 0, 4 or 8 pixels of the image "
    "around it; 6 pixels around a window reach its scores. Windows near the image's own edge are "
    "left out.",
    measures={
        "windows": ",.0f",
        "largest difference": ".4g",
        "difference / deviation": ".3f",
        "same class": ".3f",
    },
    plotted=("difference / deviation", "same class"),
    run=_padded,
    settings={"size": 80, "margin": 8},
    conditions={
        "no padding": {"padding": 0, "context": 0},
        "padding 2": {"padding": 2, "context": 0},
        "padding 2, 4 pixels around": {"padding": 2, "context": 4},
        "padding 2, 8 pixels around": {"padding": 2, "context": 8},
    },
    conclude=_conclude_padding,
)
