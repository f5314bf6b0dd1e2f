"""Reference implementations of whole networks: torchvision, timm, Cadene, Keras, lukemelas.

Each is used where it is installed and skipped where it is not.  torchvision's wheel is built for
CUDA; beside a CPU build of PyTorch its compiled operators do not load.  Classifiers need none of
them, so they are declared (never defined), which is all that importing torchvision asks for.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import warnings

import pytest

torch = pytest.importorskip("torch")


@functools.cache
def imported(name):
    """A module, or None where it (or something it needs) is missing."""
    if name.split(".")[0] in ("torchvision", "timm", "pretrainedmodels"):
        _declare_operators_of_torchvision()
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError:
        return None


@functools.cache
def _declare_operators_of_torchvision():
    try:
        return importlib.import_module("torchvision")
    except ImportError:
        return None
    except RuntimeError:
        for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[module]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        return importlib.import_module("torchvision"), library  # the library must stay alive


def _torchvision(name):
    models = imported("torchvision.models")
    if models is None:
        pytest.skip("torchvision is not installed")
    extra = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, **extra)


def _timm(name):
    timm = imported("timm")
    if timm is None:
        pytest.skip("timm is not installed")
    return timm.create_model(name, pretrained=False)


def _cadene(name):
    package = imported("pretrainedmodels")
    if package is None:
        pytest.skip("pretrainedmodels is not installed")
    model = getattr(package, name)(num_classes=1000, pretrained=None)
    for attribute in ("avg_pool", "global_pool"):  # 7×7 windows in place of the mean of everything
        if hasattr(model, attribute):
            setattr(model, attribute, torch.nn.AdaptiveAvgPool2d(1))
    return model


def _package(name):
    lite = imported("efficientnet_lite_pytorch")
    if lite is None:
        pytest.skip("efficientnet-lite-pytorch is not installed")
    return lite.EfficientNet.from_name("efficientnet-lite0")


SOURCES = {
    "torchvision": _torchvision, "timm": _timm, "Cadene": _cadene, "package": _package
}  # fmt: skip


def reference(layout):
    """The PyTorch network that a ``Variant.layout`` names."""
    source, _, name = layout.partition(" ")
    return SOURCES[source](name)


def randomise(model, seed=0):
    """Give batch norms statistics and factors of their own, so that swapping any two shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1  # the one that is slower is compared all the same
            for tensor, low, high in (
                (module.weight, 0.8, 1.2),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.6, 1.4),
            ):
                tensor.data.uniform_(low, high, generator=generator)
    return model


def without_chance(model):
    """Dropout and stochastic depth off, whatever they are called."""
    for module in model.modules():
        if "Dropout" in type(module).__name__:
            module.p = 0.0
        if type(module).__name__ in ("StochasticDepth", "DropPath"):
            module.p = module.drop_prob = 0.0
        if hasattr(module, "drop_rate"):
            module.drop_rate = 0.0
        if hasattr(module, "_global_params"):
            module._global_params = module._global_params._replace(
                dropout_rate=0.0, drop_connect_rate=0.0
            )
    return model
