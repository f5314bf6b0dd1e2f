"""Optimisers and default initial values against their PyTorch namesakes."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore import Tensor, nn
from cnncore.nn import Parameter
from cnncore.optim import SGD, Adam, AdamW

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SGD", {"lr": 0.05}),
        ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
        ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
        ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
        ("AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    ],
)
def test_ten_steps_agree_with_pytorch(name, settings) -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(3, 4)), rng.normal(size=(10, 3, 4))
    ours = Parameter(start)
    theirs = torch.nn.Parameter(torch.tensor(start))
    mine = {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}[name]([ours], **settings)
    reference = getattr(torch.optim, name)([theirs], **settings)
    for gradient in gradients:
        ours.grad, theirs.grad = Tensor(gradient), torch.tensor(gradient)
        mine.step()
        reference.step()
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-12, atol=1e-14)


LAYERS = [
    ("Conv2d", (3, 6, 3, 2, 1)),
    ("ConvTranspose2d", (4, 6, 3, 2, 1, 1, 2)),
    ("Linear", (5, 7)),
    ("BatchNorm2d", (4,)),
    ("GroupNorm", (2, 4)),
    ("LayerNorm", ((4, 5),)),
    ("PReLU", (3,)),
]


@pytest.mark.parametrize(("name", "arguments"), LAYERS, ids=[name for name, _ in LAYERS])
def test_layers_have_the_same_state_and_take_each_others(name, arguments) -> None:
    ours, theirs = getattr(nn, name)(*arguments), getattr(torch.nn, name)(*arguments)
    state = {key: value.numpy() for key, value in theirs.state_dict().items()}
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in state.items()
    }
    ours.load_state_dict(state)
    shapes = {"Linear": (2, 5), "LayerNorm": (2, 4, 5), "Conv2d": (2, 3, 6, 5), "PReLU": (2, 3, 4)}
    x = np.random.default_rng(0).normal(size=shapes.get(name, (2, 4, 6, 5))).astype(np.float32)
    expected = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours(x).numpy(), expected, rtol=1e-4, atol=1e-5)
    for key, value in theirs.state_dict().items():  # running statistics moved alike
        np.testing.assert_allclose(ours.state_dict()[key], value.numpy(), rtol=1e-5, atol=1e-6)
