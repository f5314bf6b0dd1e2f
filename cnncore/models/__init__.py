"""Layer 6: networks by name.

>>> list_models("vgg16")
['ssd300_vgg16', 'ssd512_vgg16', 'vgg16', 'vgg16_bn']
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable
from typing import Any

from cnncore import io
from cnncore.errors import ArgumentError
from cnncore.models.classification import VARIANTS
from cnncore.models.convolutional import to_fully_convolutional
from cnncore.models.detection import DETECTORS
from cnncore.models.segmentation import SEGMENTERS
from cnncore.models.shapes import outline, output_shapes, state_shapes
from cnncore.nn import Module

# name -> constructor(num_classes, **settings)
MODELS: dict[str, Callable[..., Module]] = {
    **DETECTORS,
    **SEGMENTERS,
    **VARIANTS,
}


def create(
    name: str,
    num_classes: int = 1000,
    weights: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Any:
    """A network by name, with new weights or those of a file or of a public checkpoint.

    ``weights``: a path, or a name in ``cnncore.io.CHECKPOINTS``.  ``num_classes``: detectors count
    real classes (their background is their own business), segmentation counts all, background too.
    ``settings`` go to the constructor.  New weights are drawn from the package's generator:
    ``cnncore.nn.init.seed(n)`` first to repeat them.

    >>> create("unet", num_classes=2, base=4, depth=2).num_parameters()
    7554
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, 1)
        hint = repr(near[0]) if near else "cnncore.models.list_models()"
        raise ArgumentError("name", "a model's name", repr(name), hint)
    published = io.CHECKPOINTS.get(str(weights))
    if published is not None and published.model != name:
        raise ArgumentError("weights", f"a checkpoint of {name}", f"one of {published.model}")
    model = MODELS[name](num_classes, **settings)
    vars(model)["created_as"] = {"name": name, "num_classes": num_classes, "settings": settings}
    if weights is not None:
        model.load_state_dict(io.load(io.find_weights(weights)))
    return model


def save(path: str | os.PathLike[str], model: Module) -> None:
    """Write a network of ``create``: its weights, and its name and settings as metadata.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/net.npz", create("unet", num_classes=2, base=4, depth=2))
    ...     load(f"{folder}/net.npz").num_parameters()
    7554
    """
    made = vars(model).get("created_as")
    if made is None:
        raise ArgumentError(
            "model",
            "a network made by cnncore.models.create",
            type(model).__name__,
            "cnncore.io.save(path, model.state_dict())",
        )
    try:
        json.dumps(made)
    except TypeError as error:
        raise ArgumentError("model", "settings that JSON can hold", str(error)) from error
    io.save(path, model.state_dict(), {"model": made})


def load(path: str | os.PathLike[str]) -> Any:
    """The network that ``save`` wrote."""
    made = io.load_metadata(path).get("model")
    if not isinstance(made, dict) or set(made) != {"name", "num_classes", "settings"}:
        raise ArgumentError(
            "path",
            "a file of cnncore.models.save",
            os.fspath(path),
            "create(name, num_classes, weights=path)",
        )
    # JSON has no tuples.
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in made["settings"].items()}
    return create(made["name"], made["num_classes"], weights=path, **settings)


def list_models(contains: str = "") -> list[str]:
    """The names that ``create`` knows, in alphabetical order; those with ``contains`` in them."""
    return sorted(name for name in MODELS if contains in name)


__all__ = [
    "MODELS",
    "create",
    "list_models",
    "load",
    "outline",
    "output_shapes",
    "save",
    "state_shapes",
    "to_fully_convolutional",
]
