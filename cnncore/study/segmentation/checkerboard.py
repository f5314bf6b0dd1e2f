"""Checkerboards: what the overlap count of a transposed convolution says before any training.

Letters: ``N C H W`` images; kernel ``k``, stride ``s``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore import ops
from cnncore.autograd import Tensor, no_grad
from cnncore.data import Loader, Sample
from cnncore.explain import overlap_count, unevenness
from cnncore.nn import Conv2d, ConvTranspose2d, Module, ReLU, Sequential, Upsample, init
from cnncore.study.experiment import Expectation, Experiment, Measures, Settings
from cnncore.study.figures import COLOURS, pyplot
from cnncore.study.results import Results
from cnncore.study.shared import look_of, scenes
from cnncore.train import Recipe, fit
from cnncore.train.tasks import images_of

WIDTH = 16
PLANE = 24  # pixels of the random layer's input each way
EDGE = 3  # of these are left out at every border


def enlargement(kernel: int, stride: int, channels: int, out: int) -> Module:
    """``stride`` times as large: a transposed convolution, or bilinear (kernel 0) and 3×3."""
    if kernel == 0:
        up = Upsample(scale_factor=stride, mode="bilinear")
        return Sequential(up, Conv2d(channels, out, 3, padding=1))
    return ConvTranspose2d(channels, out, kernel, stride)


def centred(x: Tensor, size: int) -> Tensor:
    """The middle ``size`` by ``size`` pixels."""
    top, left = ((n - size) // 2 for n in x.shape[2:])
    part: Tensor = x[:, :, top : top + size, left : left + size]
    return part


def predicted(kernel: int, stride: int) -> float:
    """Unevenness of the overlap count away from the border; 3×3 after bilinear is even."""
    if kernel == 0:
        return 0.0
    return unevenness(_inner(overlap_count((PLANE, PLANE), kernel, stride), stride), stride)


def _inner(plane: NDArray[Any], stride: int) -> NDArray[Any]:
    """Without what the border's missing neighbours reach."""
    edge = EDGE * stride
    return plane[..., edge : PLANE * stride - edge, edge : PLANE * stride - edge]


def random_layer(kernel: int, stride: int, rng: np.random.Generator) -> float:
    """Unevenness of a layer's mean squared output: noise through many random filters."""
    layer = enlargement(kernel, stride, WIDTH, 64)
    for name, parameter in layer.named_parameters():
        draw = rng.normal(size=parameter.shape) if name.endswith("weight") else 0.0
        parameter.data = np.zeros(parameter.shape, np.float32) + np.float32(draw)
    x = rng.normal(size=(8, WIDTH, PLANE, PLANE)).astype(np.float32)
    with no_grad():
        y = layer(Tensor(x)).numpy()
    return unevenness(_inner(y, stride) ** 2, stride)


def strided_gradient(kernel: int, stride: int, rng: np.random.Generator) -> float:
    """The same of the gradient that a strided convolution of that kernel gives its input.

    It is the transposed convolution of the gradient above: the artefact of training, too.  The
    bilinear row has a 3×3 of stride 1 after a mean over ``stride`` pixels.
    """
    size = (PLANE - 1) * stride + max(kernel, stride)
    x = Tensor(np.zeros((4, WIDTH, size, size), np.float32), requires_grad=True)
    side, step = (kernel, stride) if kernel else (3, 1)
    weight = rng.normal(size=(WIDTH, WIDTH, side, side)).astype(np.float32)
    y = ops.conv2d(x if kernel else ops.avg_pool2d(x, stride), Tensor(weight), stride=step)
    (y * Tensor(rng.normal(size=y.shape).astype(np.float32))).sum().backward()
    assert x.grad is not None
    return unevenness(_inner(x.grad.numpy(), stride) ** 2, stride)


def decoder(kernel: int, stride: int) -> Module:
    """An image from one ``stride`` times as small: 3×3, ReLU, the enlargement."""
    first = Conv2d(3, WIDTH, 3, padding=1)
    return Sequential(first, ReLU(), enlargement(kernel, stride, WIDTH, 3))


def flat_pattern(model: Module, stride: int, rng: np.random.Generator) -> float:
    """The pattern on images of one colour each: deviation between phases, root mean square.

    In units of pixels of −1 … 1; anything but 0 was put there by the decoder.
    """
    colours = rng.uniform(-0.8, 0.8, (64, 3, 1, 1)).astype(np.float32)
    with no_grad():
        y = model(Tensor(np.broadcast_to(colours, (64, 3, PLANE, PLANE)).copy())).numpy()
    inner = _inner(y, stride)
    side = inner.shape[-1] // stride
    phases = inner.reshape(64, 3, side, stride, side, stride).mean((2, 4))
    return float(np.sqrt(phases.var((2, 3)).mean()))


def trained_decoder(settings: Settings, samples: Sequence[Sample], seed: int) -> Module:
    """A decoder that has learned to enlarge scenes, mean squared error."""
    kernel, stride, size = settings["kernel"], settings["stride"], settings["size"]
    model = decoder(kernel, stride)
    recipe = Recipe(settings["steps"], learning_rate=settings["learning_rate"], seed=seed)

    def loss(batch: Sequence[Sample], rng: Any, progress: float) -> dict[str, Tensor]:
        images = images_of(batch)
        y = centred(model(ops.avg_pool2d(images, stride)), size)
        return {"error": ops.mse_loss(y, images)}

    def batches(step: int) -> Any:
        loader = Loader(samples, recipe.batch_size, seed=seed, drop_last=True)
        return (batch for _, _, batch in loader.forever(*divmod(step, len(loader))))

    if fit(model, loss, batches, recipe, progress=False).steps < recipe.steps:
        raise KeyboardInterrupt
    return model


def _run(settings: Settings, seed: int) -> Measures:
    kernel, stride = settings["kernel"], settings["stride"]
    rng = np.random.default_rng(seed)
    init.seed(seed)
    untrained = flat_pattern(decoder(kernel, stride), stride, rng)
    samples = scenes("train", settings["train_scenes"], seed, 10, look_of(settings))
    return {
        "overlap count": predicted(kernel, stride),
        "random layer": random_layer(kernel, stride, rng),
        "gradient": strided_gradient(kernel, stride, rng),
        "flat, untrained": untrained,
        "flat, trained": flat_pattern(trained_decoder(settings, samples, seed), stride, rng),
    }


def _name(kernel: int, stride: int) -> str:
    return f"{kernel}×{kernel} by {stride}" if kernel else f"bilinear by {stride}, 3×3"


GRID = [(k, 2) for k in (2, 3, 4, 5, 6, 0)] + [(k, 3) for k in (3, 4, 5, 6, 7, 0)]


def _correlations(results: Results) -> list[str]:
    """Over all layers: what the count says beside what came out."""
    names = [name for name in results.experiment.conditions if results.values(name, "gradient")]
    said = [results.mean(name, "overlap count") for name in names]
    lines = []
    for measure in ("random layer", "gradient", "flat, untrained", "flat, trained"):
        values = [results.mean(name, measure) for name in names]
        if np.ptp(said) > 0 and np.ptp(values) > 0:
            r = float(np.corrcoef(said, values)[0, 1])
            lines.append(f"correlation of the overlap count with “{measure}”: {r:.3f}")
    return lines


def _draw(results: Results) -> Any:
    figure, panels = pyplot().subplots(1, 4, figsize=(13, 3.4), layout="constrained")
    for axes, (kernel, stride) in zip(panels, ((3, 2), (4, 2)), strict=False):
        count = overlap_count((8, 8), kernel, stride)
        axes.imshow(count, cmap="viridis", vmin=0)
        axes.set(title=f"times painted: {_name(kernel, stride)}", xticks=[], yticks=[])
    names = list(results.experiment.conditions)
    for axes, measures in zip(
        panels[2:], (("random layer", "gradient"), ("flat, untrained", "flat, trained")),
        strict=True,
    ):  # fmt: skip
        for colour, measure in zip(COLOURS, measures, strict=False):
            xs = [results.mean(name, "overlap count") for name in names]
            ys = [results.mean(name, measure) for name in names]
            axes.plot(xs, ys, "o", color=colour, label=measure, alpha=0.8)
        axes.set_xlabel("unevenness of the overlap count")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    panels[2].axline((0, 0), slope=1, color="#999", linewidth=0.8)
    panels[2].set_ylabel("unevenness, mean square")
    panels[3].set_ylabel("pattern on flat colours")
    return figure


CHECKERBOARD = Experiment(
    name="checkerboard",
    title="Checkerboards: the overlap count predicts the artefact",
    claim="Where the stride does not divide the kernel, a transposed convolution paints some "
    "pixels more often than others, and they show; resizing and convolving has no such pattern.",
    source="Odena, Dumoulin & Olah, 2016",
    method="Of each layer: how uneven the overlap count is (deviation between the places within a "
    "stride, by the mean); how uneven the mean square of its output is for noise and random "
    "weights, and that of the gradient of a strided convolution; and what pattern a decoder lays "
    "on flat colours (root mean square, pixels of −1 … 1), untrained and after learning to enlarge "
    "scenes.",
    measures={
        "overlap count": ".3f",
        "random layer": ".3f",
        "gradient": ".3f",
        "flat, untrained": ".4f",
        "flat, trained": ".4f",
    },
    run=_run,
    settings={
        "size": 48,
        "digit_pixels": (16, 24),
        "train_scenes": 256,
        "steps": 150,
        "learning_rate": 0.01,
    },
    conditions={_name(k, s): {"kernel": k, "stride": s} for k, s in GRID},
    expected=[
        Expectation(measure, _name(uneven, stride), _name(even, stride))
        for measure in ("random layer", "gradient", "flat, trained")
        for uneven, even, stride in ((3, 4, 2), (5, 6, 2), (4, 6, 3), (5, 6, 3))
    ],
    conclude=_correlations,
    draw=_draw,
)
