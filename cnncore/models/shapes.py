"""What a network looks like without its numbers: parameters, keys, shapes of features."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cnncore.autograd import Event, Tensor, no_grad, observe
from cnncore.nn import Module, shapes_only
from cnncore.nn.shapes import hollow

Shape = tuple[int, ...]


@contextlib.contextmanager
def shapes_of(model: Module) -> Iterator[None]:
    """Run ``model`` for its shapes inside a ``with`` block: in evaluation, changing nothing."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()  # batch norm would update its statistics
    try:
        with shapes_only(), no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def blank(model: Module, shape: Sequence[int]) -> Tensor:
    """A hollow image of the type that the network computes in."""
    kinds = (parameter.dtype for parameter in model.parameters())
    return Tensor(hollow(shape, next(kinds, np.dtype(np.float32))))


def outline(name: str, **settings: Any) -> Module:
    """A network by name whose parameters have shapes and take no memory; in evaluation mode.

    >>> outline("vgg19").num_parameters()
    143667240
    """
    from cnncore.models import create

    with shapes_only():
        model: Module = create(name, **settings)
    return model.eval()


def state_shapes(model: Module) -> dict[str, Shape]:
    """The shape of every entry of the state dict."""
    return {key: tensor.shape for key, tensor in model._state().items()}


def output_shapes(model: Module, input_shape: Sequence[int]) -> dict[str, Shape]:
    """The shape that each module gives, by name in the order of their ends; "" is the network.

    Nothing is computed or changed; ``model`` may be an outline or have weights.  A module that runs
    several times is listed with its last result.

    >>> shapes = output_shapes(outline("resnet18"), (1, 3, 224, 224))
    >>> shapes["layer4"], shapes[""]
    ((1, 512, 7, 7), (1, 1000))
    """
    names = {id(module): name for name, module in model.named_modules()}
    shapes: dict[str, Shape] = {}

    def note(event: Event) -> None:
        result = event.outputs[0] if event.outputs else None
        if event.kind == "leave_module" and isinstance(result, Tensor):
            shapes[names[id(event.subject)]] = result.shape

    with shapes_of(model), observe(note):
        model(blank(model, input_shape))
    return shapes
