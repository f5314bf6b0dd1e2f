"""Layer 6: networks by name.

>>> list_models()
['maskrcnn_small', 'unet']
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from typing import Any

from cnncore import io
from cnncore.errors import ArgumentError
from cnncore.models.detection import maskrcnn_small
from cnncore.models.segmentation import UNet
from cnncore.nn import Module

# name -> constructor(num_classes, **settings)
MODELS: dict[str, Callable[..., Module]] = {
    "maskrcnn_small": maskrcnn_small,
    "unet": UNet,
}


def create(
    name: str,
    num_classes: int,
    weights: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Any:
    """A network by name, with new weights or those of a file.

    ``num_classes``: detectors count real classes (their background is their own business),
    segmentation counts all, background too.  ``settings`` go to the constructor.  New weights are
    drawn from the package's generator: ``cnncore.nn.init.seed(n)`` first to repeat them.

    >>> create("unet", num_classes=2, base=4, depth=2).num_parameters()
    7554
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, 1)
        hint = repr(near[0]) if near else "cnncore.models.list_models()"
        raise ArgumentError("name", "a model's name", repr(name), hint)
    model = MODELS[name](num_classes, **settings)
    if weights is not None:
        model.load_state_dict(io.load(weights))
    return model


def list_models(contains: str = "") -> list[str]:
    """The names that ``create`` knows, in alphabetical order; those with ``contains`` in them."""
    return sorted(name for name in MODELS if contains in name)


__all__ = ["MODELS", "create", "list_models"]
