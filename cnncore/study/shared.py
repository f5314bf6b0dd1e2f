"""What the studies share: scenes made once, one way to train, one way to measure time."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from cnncore.data import Items, Loader, Sample, Scenes, SceneSettings, digits
from cnncore.nn import Module
from cnncore.study.experiment import Settings
from cnncore.train import History, Recipe, fit

KEPT = 4  # results that ``remembered`` keeps


@functools.cache
def first_digits(split: str, count: int) -> Items:
    """The digits 0 … ``count − 1`` of a split."""
    every = digits(split)
    kept = every.labels < count
    return Items(
        every.images[kept], every.labels[kept], every.class_names[:count], every.source[kept]
    )


@functools.lru_cache(maxsize=16)
def scenes(
    split: str, count: int, seed: int, classes: int, look: SceneSettings
) -> tuple[Sample, ...]:
    """Scenes of the first digits, made once: all conditions of a seed train on the same."""
    source = Scenes(split, count, seed, first_digits(split, classes), look)
    return tuple(source[index] for index in range(count))


def look_of(settings: Settings) -> SceneSettings:
    """Up to three digits of ``digit_pixels`` (least, most) on faint textures."""
    size, (least, most) = settings["size"], settings["digit_pixels"]
    return SceneSettings((size, size), objects=(1, 3), item_side=(least, most), texture=0.5)


def train(
    model: Module,
    loss: Callable[[Any, Any, float], Mapping[str, Any]],
    samples: Sequence[Any],
    settings: Settings,
    seed: int,
) -> History:
    """AdamW with warm-up and cosine decay over ``steps`` batches in a seeded order.

    ``loss(batch, rng, progress)`` as for ``train.fit``; ``settings`` has ``steps``, ``batch_size``
    and ``learning_rate``.
    """
    recipe = Recipe(
        steps=settings["steps"],
        batch_size=min(settings["batch_size"], len(samples)),
        learning_rate=settings["learning_rate"],
        warmup_steps=min(20, settings["steps"] // 4),
        seed=seed,
    )

    def batches(step: int) -> Any:
        loader = Loader(samples, recipe.batch_size, seed=seed, drop_last=True)
        return (batch for _, _, batch in loader.forever(*divmod(step, len(loader))))

    history = fit(model, loss, batches, recipe, progress=False)
    if history.steps < recipe.steps:  # the first Ctrl-C ends training early, and quietly
        raise KeyboardInterrupt
    return history


def fastest(run: Callable[[], Any], repeats: int) -> float:
    """Seconds of the best of several calls."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


T = TypeVar("T")


def remembered(function: Callable[[Settings, int], T]) -> Callable[[Settings, int], T]:
    """The same, with its last results kept by settings and seed: conditions share what is slow."""
    kept: dict[str, T] = {}

    def wrapper(settings: Settings, seed: int) -> T:
        key = repr((sorted(settings.items()), seed))
        if key not in kept:
            while len(kept) >= KEPT:
                del kept[next(iter(kept))]
            kept[key] = function(settings, seed)
        return kept[key]

    return wrapper
