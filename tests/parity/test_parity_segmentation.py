"""Whole segmentation networks against the implementations whose weights they load, in float64.

As in test_parity_classification.py: random weights loaded unchanged, then logits (auxiliary ones,
too) and the gradients of one training step must agree to 1e-8.
"""

from __future__ import annotations

import numpy as np
import pytest
from reference_networks import imported, randomise, torch, without_chance

from cnncore import models, no_grad

TOLERANCE = 1e-8
CLASSES = {"ternausnet11": 1, "ternausnet16": 1}
NAMES = [
    "fcn_resnet50",
    "deeplabv3_resnet50",
    pytest.param("fcn_resnet101", marks=pytest.mark.slow),
    pytest.param("deeplabv3_resnet101", marks=pytest.mark.slow),
    "ternausnet11",
    "ternausnet16",
]


def reference(name):
    if name.startswith("ternausnet"):
        imported("torchvision.models")  # with its operators declared
        package = imported("ternausnet.models")
        if package is None:
            pytest.skip("ternausnet is not installed")
        if name == "ternausnet11":
            return package.UNet11(pretrained=False)
        return package.UNet16(num_classes=1, pretrained=False)
    package = imported("torchvision.models")
    if package is None:
        pytest.skip("torchvision is not installed")
    return package.get_model(
        name, weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    )


def pair(name):
    """Reference and ours with the same weights, in float64."""
    theirs = randomise(reference(name)).double()
    ours = models.create(name, num_classes=CLASSES.get(name, 21)).to("float64")
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def heads(outputs):
    return dict(outputs) if isinstance(outputs, dict) else {"out": outputs}


def images(count):
    return np.random.default_rng(1).normal(size=(count, 3, 64, 96))


@pytest.mark.parametrize("name", NAMES)
def test_logits_agree(name):
    ours, theirs = pair(name)
    x = images(1)
    with no_grad(), torch.no_grad():
        expected, found = heads(theirs.eval()(torch.tensor(x))), heads(ours.eval()(x))
    assert expected.keys() == found.keys()
    for head, y in expected.items():
        error = np.abs(found[head].numpy() - y.numpy()).max()
        assert error < TOLERANCE * float(y.abs().max()), head


@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_agrees(name):
    ours, theirs = pair(name)
    without_chance(theirs.train())
    for module in ours.train().modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0
    x = images(2)
    expected, found = heads(theirs(torch.tensor(x))), heads(ours(x))
    weight = {head: np.random.default_rng(2).normal(size=y.shape) for head, y in expected.items()}
    sum((y * torch.tensor(weight[head])).sum() for head, y in expected.items()).backward()
    total = None
    for head, y in found.items():
        term = (y * weight[head]).sum()
        total = term if total is None else total + term
    total.backward()
    gradients = {key: p.grad for key, p in theirs.named_parameters()}
    largest = max(float(g.abs().max()) for g in gradients.values())
    compared = 0
    for key, parameter in ours.named_parameters():
        if key not in gradients:  # a weight that both list under several names
            continue
        error = np.abs(parameter.grad.numpy() - gradients[key].numpy()).max()
        assert error < TOLERANCE * max(float(gradients[key].abs().max()), 1e-3 * largest), key
        compared += 1
    assert compared == len(gradients)
