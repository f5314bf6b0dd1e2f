"""A pretrained encoder and little data: U-Net's way down, first taught to name digits."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, no_grad
from cnncore.data import Loader, Sample, SceneSettings
from cnncore.models.segmentation import UNet
from cnncore.nn import AdaptiveAvgPool2d, Flatten, Linear, Module, Sequential, init
from cnncore.study.experiment import Expectation, Experiment, Measures, Settings
from cnncore.study.figures import draw_lines, pyplot
from cnncore.study.results import Results
from cnncore.study.segmentation.training import TRAINING, train_and_score
from cnncore.study.shared import scenes
from cnncore.train import Recipe, fit
from cnncore.train.tasks import standardised

BASE, DEPTH = 8, 3
WAY_DOWN = ("inc", *(f"down{d}" for d in range(1, DEPTH + 1)))
COUNTS = (8, 32)


def unet(classes: int) -> UNet:
    """The network of this experiment."""
    return UNet(classes, base=BASE, depth=DEPTH, norm="batch")


class Classifier(Module):
    """U-Net's way down, the mean over the plane, one dense layer."""

    def __init__(self, classes: int) -> None:
        body = unet(1)
        for name in WAY_DOWN:
            setattr(self, name, getattr(body, name))
        self.head = Sequential(AdaptiveAvgPool2d(1), Flatten(), Linear(BASE * 2**DEPTH, classes))

    def forward(self, x: Any) -> Tensor:
        """``(N, C, H, W) -> (N, K)``"""
        for name in WAY_DOWN:
            x = getattr(self, name)(x)
        y: Tensor = self.head(x)
        return y


def single_digits(
    split: str, count: int, seed: int, size: int, pixels: tuple[int, int]
) -> tuple[Sample, ...]:
    """Scenes of one digit of any kind, for classification."""
    look = SceneSettings((size, size), objects=(1, 1), empty=0, item_side=pixels, texture=0.5)
    return tuple(s for s in scenes(split, count, seed, 10, look) if len(s.labels))


@functools.lru_cache(maxsize=4)
def encoder(
    seed: int, steps: int, size: int, pixels: tuple[int, int]
) -> tuple[dict[str, Any], float]:
    """Weights of a way down that names digits, and the share of unseen digits it names right.

    The seed is not that of the runs that use it, so that weights begun from differ from theirs.
    """
    init.seed(1000 + seed)
    model = Classifier(10)
    samples = single_digits("train", 1024, 1000 + seed, size, pixels)
    recipe = Recipe(steps, batch_size=16, learning_rate=0.005, warmup_steps=20, seed=seed)

    def loss(batch: Sequence[Sample], rng: Any, progress: float) -> dict[str, Tensor]:
        labels = np.array([sample.labels[0] for sample in batch])
        return {"entropy": ops.cross_entropy(model(standardised(batch)), labels)}

    def batches(step: int) -> Any:
        loader = Loader(samples, recipe.batch_size, seed=seed, drop_last=True)
        return (batch for _, _, batch in loader.forever(*divmod(step, len(loader))))

    if fit(model, loss, batches, recipe, progress=False).steps < steps:
        raise KeyboardInterrupt
    unseen = single_digits("validation", 100, 0, size, pixels)
    with no_grad():
        named = model.eval()(standardised(unseen)).numpy().argmax(1)
    right = float(np.mean(named == [sample.labels[0] for sample in unseen]))
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("head.")}
    return state, right


def _run(settings: Settings, seed: int) -> Measures:
    init.seed(seed)
    model = unet(settings["digits"] + 1)
    right = 0.0
    if settings["pretrained"]:
        size, pixels = settings["size"], settings["digit_pixels"]
        state, right = encoder(seed, settings["pretraining_steps"], size, tuple(pixels))
        model.load_state_dict(state, allow=["up*", "outc*"])
    return {**train_and_score(model, settings, seed), "digits named right": right}


def _name(pretrained: bool, count: int) -> str:
    return f"{'pretrained' if pretrained else 'from scratch'}, {count} scenes"


def _draw(results: Results) -> Any:
    figure, panels = pyplot().subplots(
        1, 2, figsize=(9.6, 3.4), layout="constrained", squeeze=False
    )
    lines = {
        word: [(float(count), _name(kind, count)) for count in COUNTS]
        for word, kind in (("pretrained", True), ("from scratch", False))
    }
    for axes, measure in zip(panels[0], ("mean IoU", "boundary F1"), strict=True):
        draw_lines(axes, results, measure, lines)
        axes.set(xscale="log", xlabel="training scenes")
        axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
        axes.minorticks_off()
    panels[0][0].legend()
    return figure


PRETRAINED = Experiment(
    name="pretrained_encoder",
    title="A pretrained encoder helps with little data",
    claim="An encoder that has learned to classify needs fewer labelled maps than one that starts "
    "from nothing; with more data the lead shrinks.",
    source="Iglovikov & Shvets, 2018, section 4; Long, Shelhamer & Darrell, 2015, section 4.1",
    method="U-Net's way down first learns to name single digits (images and labels, no maps), then "
    "the whole network learns maps from few scenes; the same number of steps from scratch beside "
    "it. The encoder has seen all digits of the training split.",
    measures={
        "mean IoU": ".3f",
        "boundary F1": ".3f",
        "parameters": ",.0f",
        "digits named right": ".2f",
    },
    run=_run,
    settings={**TRAINING, "steps": 200, "pretraining_steps": 400},
    conditions={
        _name(kind, count): {"pretrained": kind, "train_scenes": count}
        for count in COUNTS
        for kind in (False, True)
    },
    expected=[Expectation("mean IoU", _name(True, count), _name(False, count)) for count in COUNTS],
    draw=_draw,
)
