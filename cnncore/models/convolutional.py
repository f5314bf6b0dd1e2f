"""A classifier as a sliding window: dense layers are convolutions over everything they see.

A dense layer on a ``(C, h, w)`` map is a convolution with an h×w kernel that fits once.  Written
that way the network takes larger images, and its score map is the classifier run on every window,
with everything that neighbouring windows share computed once.

Source: Sermanet et al., "OverFeat", 2014, section 3.5; Long, Shelhamer & Darrell, "Fully
Convolutional Networks for Semantic Segmentation", 2015, section 3.1.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from cnncore.autograd import Event, observe
from cnncore.errors import ArgumentError, CnncoreError
from cnncore.models.shapes import blank, shapes_of
from cnncore.nn import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    Conv2d,
    Flatten,
    Identity,
    Linear,
    Module,
    Parameter,
    shapes_only,
)
from cnncore.nn.shapes import is_hollow

Shape = tuple[int, ...]


def to_fully_convolutional(model: Module, input_shape: Sequence[int]) -> Module:
    """A copy of a classifier that gives a map of scores for images larger than it was made for.

    ``input_shape`` ``(C, H, W)`` is the window, the image that the classifier takes.  The copy maps
    ``(N, C, H', W')`` to ``(N, K, OH, OW)``; entry (i, j) belongs to the window that begins at
    (i, j) times the product of the network's strides.  ``Flatten`` goes, ``Linear`` becomes
    ``Conv2d``, a mean over everything becomes a mean over what it was made for.

    The scores equal the classifier's on each window exactly where nothing inside the network is
    padded, and approximately elsewhere: at the window's edge the classifier sees zeros where the
    map sees the image.  (A window that is larger than what its network reads, because some layer
    rounds down, gives more scores than windows fit: the map uses every pixel.)

    Errors: ``ArgumentError`` for a network that flattens or multiplies outside of modules.

    >>> import numpy as np
    >>> from cnncore import models
    >>> net = to_fully_convolutional(models.create("lenet5", 10, variant="modern"), (1, 32, 32))
    >>> net(np.zeros((1, 1, 64, 40), np.float32)).shape
    (1, 10, 9, 3)
    """
    plan = _watch(model, input_shape)
    # NumPy would give hollow parameters memory.
    shared = [p.data for p in model.parameters() if is_hollow(p.data)]
    result = copy.deepcopy(model, {id(array): array for array in shared})
    modules = dict(result.named_modules())
    for name, (given, made) in plan.items():
        parent, _, attribute = name.rpartition(".")
        setattr(modules[parent], attribute, _replacement(name, modules[name], given, made))
    try:
        with shapes_of(result):
            shape = result(blank(result, (1, *input_shape))).shape
    except CnncoreError as error:
        raise _refusal(f"one that does more: {error}") from error
    if len(shape) != 4 or shape[2:] != (1, 1):
        raise _refusal(f"one whose scores for a single window have shape {shape}")
    return result


def _refusal(got: str) -> ArgumentError:
    return ArgumentError("model", "a network of windows, Flatten and Linear modules", got)


def _watch(model: Module, input_shape: Sequence[int]) -> dict[str, tuple[Shape, Shape]]:
    """The modules to replace with the shapes they saw and gave; a Linear's is the map it reads."""
    names = {id(module): name for name, module in model.named_modules()}
    plan: dict[str, tuple[Shape, Shape]] = {}
    flattened: list[Shape] = []  # the map that the next dense layer reads

    def note(event: Event) -> None:
        module = event.subject
        if event.kind != "leave_module" or not isinstance(
            module, (Flatten, Linear, AdaptiveAvgPool2d)
        ):
            return
        given, made = event.inputs[0].shape, event.outputs[0].shape
        if isinstance(module, Flatten):
            flattened.append(given)
        elif isinstance(module, Linear):
            if not flattened:
                raise _refusal(f"{names[id(module)]}, a Linear without a Flatten before")
            given = flattened[-1]
            flattened[-1] = (1, module.out_features, 1, 1)
        plan[names[id(module)]] = given, made

    with shapes_of(model), observe(note):
        model(blank(model, (1, *input_shape)))
    return plan


def _replacement(name: str, module: Module, given: Shape, made: Shape) -> Module:
    if isinstance(module, Linear):
        return _convolution(name, module, given)
    if isinstance(module, Flatten):
        return Identity()
    if given[2:] == made[2:]:
        return Identity()
    if made[2:] == (1, 1):
        return AvgPool2d(given[2:], 1)
    raise _refusal(f"{name}, which pools {given[2:]} to {made[2:]}")


def _convolution(name: str, dense: Linear, given: Shape) -> Conv2d:
    channels, kernel = given[1], given[2:]
    if channels * kernel[0] * kernel[1] != dense.in_features:
        raise _refusal(f"{name}, which does not read the whole map {given[1:]}")
    with shapes_only():  # no memory, no random draw: the values come from the dense layer
        conv = Conv2d(channels, dense.out_features, kernel, bias=dense.bias is not None)
    conv.weight = Parameter(dense.weight.data.reshape(dense.out_features, channels, *kernel))
    conv.bias = None if dense.bias is None else Parameter(dense.bias.data)
    return conv
