"""Losses of overlap against cross-entropy, when foreground is common and when it is rare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore import ops
from cnncore.autograd import Tensor
from cnncore.data import Sample, SceneSettings
from cnncore.models.segmentation import UNet
from cnncore.nn import init
from cnncore.study.experiment import Expectation, Experiment, Measures, Settings
from cnncore.study.figures import draw_lines, pyplot
from cnncore.study.results import Results
from cnncore.study.segmentation.training import TRAINING, probabilities, train
from cnncore.study.shared import scenes

# Fewest and most digits of 10 to 12 pixels for that percentage of foreground in 64×64 (measured on
# test scenes: 1.0, 4.9 and 20 %), so that shares differ and objects do not.
CROWDS = {1: (1, 1), 5: (4, 6), 20: (18, 26)}
DIGIT_PIXELS = (10, 12)
Criterion = Callable[[Tensor, Any], Tensor]


def look_of(settings: Settings) -> SceneSettings:
    """Scenes of which about ``share`` percent are digits."""
    size, (least, most) = settings["size"], settings["digit_pixels"]
    return SceneSettings(
        (size, size),
        objects=CROWDS[settings["share"]],
        empty=0,
        item_side=(least, most),
        max_hidden=0.5,
        texture=0.5,
    )


def crowd(split: str, count: int, seed: int, settings: Settings) -> tuple[Sample, ...]:
    """Scenes whose semantic map says only whether there is a digit."""
    found = scenes(split, count, seed, settings["digits"], look_of(settings))
    return tuple(replace(s, semantic=(s.semantic > 0).astype(np.int64)) for s in found)


def balanced(samples: Sequence[Sample]) -> Criterion:
    """Cross-entropy in which both classes count as much, by their pixels in ``samples``."""
    share = float(np.mean([sample.semantic.mean() for sample in samples]))
    weights = Tensor(np.array([0.5 / (1 - share), 0.5 / share], np.float32))
    return lambda x, truth: ops.cross_entropy(x, truth, weights)


def foreground(loss: Callable[[Tensor, Any], Tensor]) -> Criterion:
    """A loss of foreground's probability, ``(N, 1, H, W)``, and truth likewise."""

    def measure(x: Tensor, truth: Any) -> Tensor:
        return loss(ops.softmax(x, 1)[:, 1:], truth[:, None].astype(x.dtype))

    return measure


LOSSES: dict[str, Criterion | None] = {
    "cross-entropy": None,
    "balanced cross-entropy": None,  # needs the training scenes: ``balanced``
    "Dice": foreground(ops.dice_loss),
    "BCE − ln Dice": foreground(ops.bce_dice_loss),
    "Lovász": lambda x, truth: ops.lovasz_softmax(ops.softmax(x, 1), truth, classes=[1]),
}


def _run(settings: Settings, seed: int) -> Measures:
    init.seed(seed)
    model = UNet(2, base=6, depth=2, norm="batch")
    samples = crowd("train", settings["train_scenes"], seed, settings)
    name = settings["loss"]
    criterion = balanced(samples) if name.startswith("balanced") else LOSSES[name]
    train(model, samples, settings, seed, criterion, background=1.0)
    unseen = crowd(settings["split"], settings["test_scenes"], 0, settings)
    other = crowd("validation", settings["test_scenes"], 1, settings)
    found, tuning = (probabilities(model, part)[:, 1] for part in (unseen, other))
    truth = np.stack([sample.semantic for sample in unseen]) > 0
    chosen = best_threshold(tuning, np.stack([sample.semantic for sample in other]) > 0)
    return {
        "foreground IoU": overlap(found > 0.5, truth),
        "precision": share_of(found > 0.5, truth),
        "recall": share_of(truth, found > 0.5),
        "IoU, best threshold": overlap(found > chosen, truth),
        "foreground %": 100 * float(truth.mean()),
    }


def overlap(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Intersection over union of all pixels together; 0 of nothing."""
    return share_of(found | truth, found & truth)


def share_of(these: NDArray[np.bool_], those: NDArray[np.bool_]) -> float:
    """Which share of these pixels belongs to those; 0 of none."""
    return int((these & those).sum()) / max(1, int(these.sum()))


def best_threshold(found: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """The probability of 0.02, 0.04 … 0.98 above which foreground has the largest IoU."""
    thresholds = np.linspace(0.02, 0.98, 49)
    return float(thresholds[np.argmax([overlap(found > t, truth) for t in thresholds])])


def _name(loss: str, share: int) -> str:
    return f"{loss}, {share} %"


def _draw(results: Results) -> Any:
    measures = ("foreground IoU", "IoU, best threshold")
    figure, panels = pyplot().subplots(
        1, 2, figsize=(9.6, 3.6), layout="constrained", sharey=True, squeeze=False
    )
    lines = {loss: [(float(s), _name(loss, s)) for s in CROWDS] for loss in LOSSES}
    for axes, measure in zip(panels[0], measures, strict=True):
        draw_lines(axes, results, measure, lines)
        axes.set(xscale="log", xlabel="foreground, % of pixels")
        axes.set_xticks(list(CROWDS), [str(share) for share in CROWDS])
        axes.minorticks_off()
    panels[0][0].legend(fontsize="small")
    return figure


RARE_FOREGROUND = Experiment(
    name="rare_foreground",
    title="Dice-type losses help when foreground is rare",
    claim="Losses of overlap do not care how much background there is; cross-entropy finds rare "
    "foreground late or never.",
    source="Milletari, Navab & Ahmadi, 2016, section 3; Berman, Triki & Blaschko, 2018, section 4",
    method="A U-Net of depth 2 tells digits of 10 to 12 pixels from background, one in a scene or "
    "many. All losses train for as many steps. The threshold of 0.5 is also replaced by the best "
    "one on validation scenes: what that mends was a matter of calibration.",
    measures={
        "foreground IoU": ".3f",
        "precision": ".3f",
        "recall": ".3f",
        "IoU, best threshold": ".3f",
        "foreground %": ".1f",
    },
    run=_run,
    settings={
        **TRAINING,
        "digits": 10,
        "digit_pixels": DIGIT_PIXELS,
        "train_scenes": 256,
        "test_scenes": 60,
        "steps": 120,
    },
    conditions={
        _name(loss, share): {"loss": loss, "share": share} for share in CROWDS for loss in LOSSES
    },
    expected=[
        Expectation("foreground IoU", _name(loss, share), _name("cross-entropy", share))
        for share in CROWDS
        for loss in LOSSES
        if loss != "cross-entropy"
    ],
    draw=_draw,
)
