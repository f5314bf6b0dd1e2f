"""Any classifier as the body of a detector: its maps of strides 4, 8, 16 and 32, its head left off.

    image ─ … ─ stride 4 ─┬─ … ─ stride 8 ─┬─ … ─ stride 16 ─┬─ … ─ stride 32
                          └ level 2        └ level 3         └ level 4   └ level 5

Level ``l`` is the last map of stride ``2**l``: the one that knows most.  Keys of weights stay those
of the classifier, so its public files load with ``allow`` for the head.

Windows of odd size that their network does not pad (Inception) are padded here, so that a map's
cells tile the image: 128 pixels are 16 cells of stride 8, not 13.  The weights fit unchanged; only
the borders see zeros.
Source: Huang et al., "Speed/accuracy trade-offs for modern convolutional object detectors", 2017,
section 3.2, which compares detectors on six such bodies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnncore.autograd import Event, Tensor, observe
from cnncore.errors import ArgumentError
from cnncore.models.backbones.resnet import ResNetBody, ResNetSettings
from cnncore.models.shapes import blank, shapes_of
from cnncore.nn import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    Sequential,
)

PROBE = 256  # side of the image that levels are found with; a multiple of every stride
LEVELS = (2, 3, 4, 5)


@dataclass(frozen=True)
class ClassifierBody:
    """A classifier by name, and settings of its constructor as pairs: ``(("width", 0.5),)``."""

    name: str = "vgg16"
    settings: tuple[tuple[str, Any], ...] = ()


Body = ResNetSettings | ClassifierBody


def make_body(body: Body, levels: Sequence[int] = LEVELS) -> tuple[Module, tuple[int, ...]]:
    """A module from images ``(N, 3, H, W)`` to the maps of ``levels``, and their channels.

    A ``ResNetSettings`` gives all four maps, as a ``ResNetBody`` does.
    """
    if isinstance(body, ResNetSettings):
        return ResNetBody(body), body.channels
    from cnncore.models import create  # which imports the detectors that import this

    made = FeatureLevels(create(body.name, num_classes=1, **dict(body.settings)), levels)
    return made, made.channels


class FeatureLevels(Module):
    """The maps of a classifier at some of its levels, finest first.

    ``classifier`` is taken apart: its modules belong to this one afterwards.  It must run its parts
    one after the other up to its pooling over the whole map, or offer ``levels(x)``, the maps of
    strides 4 to 32, and ``head``, the names of what follows them.

    >>> from cnncore.models import outline
    >>> body = FeatureLevels(outline("mobilenet_v2", num_classes=1))
    >>> body.channels
    (24, 32, 96, 1280)
    """

    def __init__(self, classifier: Module, levels: Sequence[int] = LEVELS) -> None:
        self.levels = tuple(levels)
        if not self.levels or sorted(set(self.levels)) != list(self.levels):
            raise ArgumentError("levels", "rising numbers such as (2, 3, 4, 5)", self.levels)
        pad_windows(classifier)
        self.whole: Module | None = None  # a classifier that knows its levels itself
        self.steps: list[str] = []
        self.ends: list[int] = []  # after how many steps each level is complete
        if hasattr(classifier, "levels"):
            for name in classifier.head:  # type: ignore[attr-defined]
                delattr(classifier, name)
            self.whole = classifier
            self.channels = self._channels_of_whole(classifier)
            return
        steps = chain_of(classifier)
        self.channels = self._choose(steps)
        modules = dict(classifier.named_modules())
        for name in self.steps:
            _place(self, name, modules[name])

    def _choose(self, steps: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[int, ...]:
        """Steps up to the last level that is wanted; the channels of each level."""
        reached = [math.log2(PROBE / shape[2]) for _, shape in steps]
        channels = []
        for level in self.levels:
            if level not in reached:
                got = f"levels {sorted({int(r) for r in reached})}"
                raise ArgumentError("levels", f"level {level} of the classifier", got)
            last = len(reached) - 1 - reached[::-1].index(level)
            self.ends.append(last + 1)
            channels.append(steps[last][1][1])
        self.steps = [name for name, _ in steps[: self.ends[-1]]]
        return tuple(channels)

    def _channels_of_whole(self, classifier: Module) -> tuple[int, ...]:
        with shapes_of(classifier):
            maps = classifier.levels(blank(classifier, (1, 3, PROBE, PROBE)))  # type: ignore[attr-defined]
        return tuple(maps[level - LEVELS[0]].shape[1] for level in self.levels)

    def forward(self, x: Any) -> list[Tensor]:
        """``(N, 3, H, W)`` to ``(N, C_l, ⌈H / 2**l⌉, ⌈W / 2**l⌉)`` for every level asked for."""
        if self.whole is not None:
            maps = self.whole.levels(x)  # type: ignore[attr-defined]
            return [maps[level - LEVELS[0]] for level in self.levels]
        parts, found = dict(self.named_modules()), []
        for number, name in enumerate(self.steps, 1):
            x = parts[name](x)
            if number in self.ends:
                found.append(x)
        return found


class OneLevel(Module):
    """One of the maps of a body."""

    shown = ("index",)

    def __init__(self, body: Module, index: int) -> None:
        self.body, self.index = body, index

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, C, H_l, W_l)``"""
        y: Tensor = self.body(x)[self.index]
        return y


def body_at(body: Body, level: int) -> tuple[Module, int]:
    """A body's one map of a level, and its channels."""
    made, channels = make_body(body, (level,))
    index = level - LEVELS[0] if len(channels) > 1 else 0
    return OneLevel(made, index), channels[index]


def _place(root: Module, name: str, module: Module) -> None:
    """Hang a module into a tree under a dotted name, making what is between."""
    *path, last = name.split(".")
    for part in path:
        if part not in root.children():
            setattr(root, part, Sequential())
        root = root.children()[part]
    setattr(root, last, module)


def pad_windows(model: Module) -> None:
    """Pad convolutions and poolings of odd windows that have no padding by half a window."""
    windowed: Any = (Conv2d, MaxPool2d, AvgPool2d)
    module: Any
    for module in model.modules():
        if isinstance(module, windowed):
            kernel, padding = _pair(module.kernel_size), _pair(module.padding)
            if padding == (0, 0) and max(kernel) > 1 and all(k % 2 for k in kernel):
                module.padding = (kernel[0] // 2, kernel[1] // 2)
            # A window cut off at the far edge gave an odd map one cell more already.
            if isinstance(module, MaxPool2d) and max(kernel) % 2:
                module.ceil_mode = False


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def chain_of(classifier: Module) -> list[tuple[str, tuple[int, ...]]]:
    """The modules that a classifier runs one after the other, with the shapes they give.

    Up to the first that pools over everything, flattens or is dense.  Plain ``Sequential``s are
    taken apart.
    """
    names: dict[int, str] = {}

    def split(prefix: str, module: Module) -> None:
        for key, child in module.children().items():
            name = f"{prefix}.{key}" if prefix else key
            if type(child) is Sequential:
                split(name, child)
            else:
                names[id(child)] = name

    split("", classifier)
    steps: list[tuple[str, tuple[int, ...]]] = []
    with shapes_of(classifier):
        image = blank(classifier, (1, 3, PROBE, PROBE))
        current: list[Any] = [image]
        done: list[str] = []  # why the chain ended

        def note(event: Event) -> None:
            name = names.get(id(event.subject))
            if event.kind != "leave_module" or name is None or done:
                return
            if len(event.inputs) != 1 or event.inputs[0] is not current[0]:
                done.append(f"{name}, which does not read just what the module before it gives")
            elif isinstance(event.subject, (AdaptiveAvgPool2d, Flatten, Linear)):
                done.append("")
            else:
                current[0] = event.outputs[0]
                steps.append((name, current[0].shape))

        with observe(note):
            classifier(image)
    if not done or done[0] or not steps:
        raise ArgumentError(
            "classifier",
            "modules one after the other up to a pooling over the whole map",
            done[0] if done and done[0] else "none such",
            "a method levels(x) and names in head",
        )
    return steps


__all__ = ["Body", "ClassifierBody", "FeatureLevels", "body_at", "make_body", "pad_windows"]
