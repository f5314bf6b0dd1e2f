"""Whole networks on the device give the outputs, losses and gradients that they give on the CPU."""

from __future__ import annotations

import sys

import device_support as support
import numpy as np
import pytest

from cnncore import models, nn, tensor
from cnncore.autograd import Tensor
from cnncore.nn import init
from cnncore.train.registry import make_task
from cnncore.train.tasks import images_of

pytestmark = [support.needs_device_code]
# name, side of the image, settings; a GPU runs more of them, at sizes closer to their own
SMALL = [
    ("lenet5", 32, {}),
    ("unet", 16, {"base": 4, "depth": 2}),
    ("mobilenet_v2", 32, {}),
    ("resnet18", 32, {}),
]
LARGE = [
    (name, side, {})
    for name, side in (("resnet50", 96), ("densenet121", 64), ("googlenet", 96), ("unet", 64))
]
NETWORKS = [*SMALL, *(LARGE if support.REAL else [])]


@pytest.fixture
def device(monkeypatch):
    if not support.REAL:
        monkeypatch.setitem(sys.modules, "cupy", support.array_module())
    with support.hosted():
        yield "cuda"


def close(actual, expected, what, rtol):
    """Relative in the Euclidean norm: rounding differs, and adds up over the layers."""
    error = np.linalg.norm(actual - expected)
    assert np.isfinite(actual).all(), what
    assert error <= rtol * (np.linalg.norm(expected) + 1e-3), (what, error)


def gradients(net):
    return {name: p.grad.numpy() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "side", "settings"), NETWORKS)
def test_network(device, name, side, settings):
    channels = 1 if name == "lenet5" else 3
    x = np.random.default_rng(0).normal(size=(2, channels, side, side)).astype(np.float64)
    init.seed(0)
    net = models.create(name, num_classes=5, **settings).to(np.float64).eval()
    results = []
    for place in ("cpu", device):
        net.to(place)
        y = net(tensor(x, device=place))
        y = next(iter(y.values())) if isinstance(y, dict) else y[0] if isinstance(y, tuple) else y
        assert y.device == place
        (y * y).mean().backward()
        results.append({"y": y.numpy(), **gradients(net)})
    assert results[0].keys() == results[1].keys()
    for key, value in results[0].items():
        close(results[1][key], value, f"{name} {key}", 1e-9)


def test_a_training_step_of_mask_rcnn(device):
    task = make_task("maskrcnn_small")
    batch = next(iter(task.batches(0)))
    results = []
    for place in ("cpu", device):
        task.model.to(place)
        assert task.model.device == place
        terms = task.loss(batch, np.random.default_rng(0), 1.0)
        total = sum(terms.values(), start=Tensor(np.zeros((), np.float32)).to(place))
        total.backward()
        results.append({**{k: v.numpy() for k, v in terms.items()}, **gradients(task.model)})
    for key, value in results[0].items():
        close(results[1][key], value, key, 2e-3)
    found = task.predict(batch[:2])
    assert len(found) == 2
    assert isinstance(found[0].boxes, np.ndarray)
    assert images_of(batch).device == "cpu"  # data stays on the host until a model asks for it
    assert isinstance(task.model, nn.Module)


def test_segmentation_and_classification_losses(device):
    """Pictures, labels and class weights, made on the host, follow the network."""
    rng = np.random.default_rng(0)
    logits, maps = rng.normal(size=(2, 3, 4, 4)), rng.integers(0, 3, (2, 8, 8))
    net = models.create("unet", num_classes=3, base=4, depth=2)
    losses = []
    for place in ("cpu", device):
        terms = net.loss(tensor(logits, device=place), list(maps), class_weights=[1.0, 2.0, 0.5])
        losses.append(float(terms["cross_entropy"]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)
    task = make_task("lenet5")
    batch = next(iter(task.batches(0)))[:4]
    values = []
    for place in ("cpu", device):
        task.model.to(place)
        values.append(float(task.loss(batch, np.random.default_rng(0), 1.0)["entropy"]))
        assert len(task.predict(batch)) == 4
    assert values[1] == pytest.approx(values[0], rel=1e-4)
