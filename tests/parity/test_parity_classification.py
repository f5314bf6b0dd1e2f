"""Whole classifiers against the implementations whose weights they load, in float64.

The reference's random weights are loaded unchanged (so keys and shapes are compared too); logits,
the gradients of one training step and the running statistics afterwards must agree to 1e-8.
"""

from __future__ import annotations

import numpy as np
import pytest
from reference_networks import imported, randomise, reference, torch, without_chance

from cnncore import Tensor, models, no_grad, ops
from cnncore.models.classification import VARIANTS
from cnncore.models.classification.resnet_v2 import from_keras

# Small images whose last maps still have several pixels; odd sizes where padding may be uneven.
# The two with TensorFlow's padding agree with their references at even sizes: Cadene pads, then
# crops; lukemelas pads every size as if it were 224.
SIZES = {
    "nasnet_mobile": 96,
    "efficientnet_lite0": 224,
    "inception_v3": 299,  # the auxiliary head needs maps of 17×17
}
SIZE, SIZE_OF_INCEPTIONS = 97, 139
TOLERANCE = 1e-8
WITH_REFERENCE = [
    name
    for name, variant in VARIANTS.items()
    if variant.layout.split()[0] in ("torchvision", "timm", "Cadene", "package")
]
# The same code at other depths: enough to compare once a day, not at every change.
HEAVY = {
    *("vgg13", "vgg16", "vgg19", "vgg13_bn", "vgg16_bn", "vgg19_bn", "resnet101", "resnet152"),
    *(f"efficientnet_b{n}" for n in (1, 2, 3, 4, 5, 6, 7)),
}
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in WITH_REFERENCE
]


def images(name, count):
    usual = SIZE_OF_INCEPTIONS if VARIANTS[name].input_shape[1] == 299 else SIZE
    size = SIZES.get(name, usual)
    return np.random.default_rng(1).normal(size=(count, 3, size, size))


def difference(ours, theirs):
    """Largest difference relative to the largest value."""
    theirs = theirs.detach().numpy()
    return np.abs(np.asarray(ours) - theirs).max() / max(np.abs(theirs).max(), 1e-30)


def pair(name):
    """Reference and ours with the same weights, in float64."""
    theirs = randomise(reference(VARIANTS[name].layout)).double()
    ours = models.create(name).to("float64")
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize("name", NAMES)
def test_logits_agree(name):
    ours, theirs = pair(name)
    x = images(name, 1)
    with no_grad(), torch.no_grad():
        expected = theirs.eval()(torch.tensor(x))
        assert difference(ours.eval()(x).numpy(), expected) < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_agrees(name):
    ours, theirs = pair(name)
    without_chance(theirs.train())
    without_chance_ours(ours.train())
    x, labels = images(name, 3), np.array([1, 7, 3])
    outputs = theirs(torch.tensor(x))
    target = torch.tensor(labels)
    if hasattr(ours, "all_logits"):
        mine = ours.all_logits(x)
        weight, smoothing = (0.3, 0.0) if name == "googlenet" else (0.4, 0.1)
        entropy = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
        main, *others = outputs
        loss = entropy(main, target) + sum(weight * entropy(other, target) for other in others)
        mine = ours.loss(mine, labels)
    else:
        loss = torch.nn.functional.cross_entropy(outputs, target)
        mine = ops.cross_entropy(ours(x), labels)
    assert difference(mine.numpy(), loss) < TOLERANCE
    loss.backward()
    mine.backward()
    gradients = {key: p.grad for key, p in theirs.named_parameters()}
    largest = max(float(g.abs().max()) for g in gradients.values())
    for key, parameter in ours.named_parameters():
        # Relative to the largest gradient of the network: a bias before batch norm has none.
        error = np.abs(parameter.grad.numpy() - gradients[key].numpy()).max()
        scale = max(float(gradients[key].abs().max()), 1e-3 * largest)
        assert error < TOLERANCE * scale, key
    statistics = dict(theirs.named_buffers())
    for key, buffer in ours.named_buffers():
        assert difference(buffer.numpy(), statistics[key].double()) < TOLERANCE, key


def without_chance_ours(model):
    for module in model.modules():
        if type(module).__name__ in ("Dropout", "StochasticDepth"):
            module.p = 0.0


KERAS = ["resnet50_v2", pytest.param("resnet101_v2", marks=pytest.mark.slow)]


def keras_pair(name, monkeypatch):
    """Reference and ours with the same weights, in float64; and a map from its weights to ours."""
    keras = imported("keras")
    if keras is None:
        pytest.skip("keras is not installed")
    # Its batch norm and its means would compute in float32 whatever the policy says.
    for place in ("keras.src.backend", "keras.src.backend.common.dtypes"):
        monkeypatch.setattr(f"{place}.result_type", lambda *types: "float64")
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    constructor = {"resnet50_v2": "ResNet50V2", "resnet101_v2": "ResNet101V2"}[name]
    theirs = getattr(keras.applications, constructor)(
        weights=None, classifier_activation=None, input_shape=(64, 64, 3)
    )
    rng = np.random.default_rng(0)
    weights = {}
    for variable in theirs.weights:
        if not variable.path.endswith("kernel"):
            low, high = (0.6, 1.4) if variable.path.endswith(("gamma", "variance")) else (-0.2, 0.2)
            variable.assign(rng.uniform(low, high, variable.shape))
        weights[variable.path] = np.asarray(variable.value.detach())  # as rounded by assign
    ours = models.create(name).to("float64")
    ours.load_state_dict(from_keras(ours, weights))
    return ours, theirs, weights


@pytest.mark.parametrize("name", KERAS)
def test_logits_agree_with_keras(name, monkeypatch):
    ours, theirs, _ = keras_pair(name, monkeypatch)
    x = np.random.default_rng(1).normal(size=(1, 3, 64, 64))
    with no_grad(), torch.no_grad():
        expected = theirs(x.transpose(0, 2, 3, 1), training=False)
        assert difference(ours.eval()(Tensor(x)).numpy(), expected) < TOLERANCE


@pytest.mark.parametrize("name", KERAS)
def test_a_training_step_agrees_with_keras(name, monkeypatch):
    ours, theirs, weights = keras_pair(name, monkeypatch)
    x, labels = np.random.default_rng(1).normal(size=(3, 3, 64, 64)), np.array([1, 7, 3])
    logits = theirs(x.transpose(0, 2, 3, 1), training=True)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
    mine = ops.cross_entropy(ours.train()(x), labels)
    assert difference(mine.numpy(), loss) < TOLERANCE
    loss.backward()
    mine.backward()
    found = {path: np.zeros_like(weight) for path, weight in weights.items()}
    found |= {v.path: np.asarray(v.value.grad) for v in theirs.trainable_variables}
    gradients = from_keras(ours, found)
    largest = max(np.abs(g).max() for g in gradients.values())
    for key, parameter in ours.named_parameters():
        error = np.abs(parameter.grad.numpy() - gradients[key]).max()
        assert error < TOLERANCE * max(np.abs(gradients[key]).max(), 1e-3 * largest), key
