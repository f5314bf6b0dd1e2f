"""Blocks of the classifiers beside the same blocks written in plain ``torch.nn``.

The references are stated here from the papers' figures and need PyTorch alone; whole networks are
in ``test_parity_classification.py``.  Results, input gradients and parameter gradients agree in
float64, in training and in evaluation.
"""

from __future__ import annotations

import numpy as np
import pytest

from cnncore import Tensor, nn
from cnncore.models.backbones import BasicBlock, Bottleneck
from cnncore.models.classification import blocks, googlenet, inception_v3, resnet_v2, xception
from cnncore.models.classification.efficientnet import MBConv
from cnncore.models.classification.inception_resnet_v2 import block35
from cnncore.models.classification.mobilenet import InvertedResidualV2
from cnncore.models.classification.se_resnet import SEBottleneck

torch = pytest.importorskip("torch")
F = torch.nn.functional
TOLERANCE = 1e-8


class Weights:
    """The entries of our state as torch tensors, and the few operations that references use."""

    def __init__(self, model, training):
        self.training = training
        self.tensors = {
            key: torch.tensor(
                value, requires_grad=value.dtype == np.float64 and "running" not in key
            )
            for key, value in model.state_dict().items()
        }

    def conv(self, x, name, stride=1, padding=0, groups=1):
        bias = self.tensors.get(f"{name}.bias")
        return F.conv2d(x, self.tensors[f"{name}.weight"], bias, stride, padding, 1, groups)

    def norm(self, x, name, eps=1e-5):
        part = [
            self.tensors[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")
        ]
        return F.batch_norm(x, *part, self.training, 0.1, eps)

    def unit(self, x, name, stride=1, padding=0):
        """Convolution, norm, ReLU as the Inception family names them."""
        return F.relu(self.norm(self.conv(x, f"{name}.conv", stride, padding), f"{name}.bn", 1e-3))

    def gate(self, x, name, act):
        squeezed = act(self.conv(x.mean((2, 3), keepdim=True), f"{name}.fc1"))
        return x * torch.sigmoid(self.conv(squeezed, f"{name}.fc2"))


def basic(w, x):
    y = F.relu(w.norm(w.conv(x, "conv1", 2, 1), "bn1"))
    y = w.norm(w.conv(y, "conv2", 1, 1), "bn2")
    return F.relu(y + w.norm(w.conv(x, "downsample.0", 2), "downsample.1"))


def bottleneck(w, x):
    y = F.relu(w.norm(w.conv(x, "conv1"), "bn1"))
    y = F.relu(w.norm(w.conv(y, "conv2", 2, 1), "bn2"))
    y = w.norm(w.conv(y, "conv3"), "bn3")
    return F.relu(y + w.norm(w.conv(x, "downsample.0", 2), "downsample.1"))


def se_bottleneck(w, x):
    y = F.relu(w.norm(w.conv(x, "conv1"), "bn1"))
    y = F.relu(w.norm(w.conv(y, "conv2", 1, 1), "bn2"))
    y = w.norm(w.conv(y, "conv3"), "bn3")
    return F.relu(w.gate(y, "se_module", F.relu) + x)


def pre_activation(w, x):
    eps = 1.001e-5
    active = F.relu(w.norm(x, "preact_bn", eps))
    y = F.relu(w.norm(w.conv(active, "conv1"), "bn1", eps))
    y = F.relu(w.norm(w.conv(y, "conv2", 2, 1), "bn2", eps))
    return x[:, :, ::2, ::2] + w.conv(y, "conv3")


def inception(w, x):
    pooled = F.max_pool2d(x, 3, 1, 1)
    paths = [
        w.unit(x, "branch1"),
        w.unit(w.unit(x, "branch2.0"), "branch2.1", 1, 1),
        w.unit(w.unit(x, "branch3.0"), "branch3.1", 1, 1),
        w.unit(pooled, "branch4.1"),
    ]
    return torch.cat(paths, 1)


def inception_fork(w, x):
    """Figure 7 of "Rethinking the Inception Architecture"."""

    def fork(y, name):
        tall = w.unit(y, f"{name}b", 1, (1, 0))
        return torch.cat([w.unit(y, f"{name}a", 1, (0, 1)), tall], 1)

    double = w.unit(w.unit(x, "branch3x3dbl_1"), "branch3x3dbl_2", 1, 1)
    pooled = F.avg_pool2d(x, 3, 1, 1)
    paths = [
        w.unit(x, "branch1x1"),
        fork(w.unit(x, "branch3x3_1"), "branch3x3_2"),
        fork(double, "branch3x3dbl_3"),
        w.unit(pooled, "branch_pool"),
    ]
    return torch.cat(paths, 1)


def scaled_residual(w, x):
    y = w.unit(w.unit(x, "branch2.0"), "branch2.1", 1, 1)
    paths = [
        w.unit(x, "branch0"),
        w.unit(w.unit(x, "branch1.0"), "branch1.1", 1, 1),
        w.unit(y, "branch2.2", 1, 1),
    ]
    return F.relu(x + 0.17 * w.conv(torch.cat(paths, 1), "conv2d"))


def inverted_residual(w, x):
    y = F.relu6(w.norm(w.conv(x, "conv.0.0"), "conv.0.1"))
    y = F.relu6(w.norm(w.conv(y, "conv.1.0", 1, 1, y.shape[1]), "conv.1.1"))
    return x + w.norm(w.conv(y, "conv.2"), "conv.3")


def mbconv(w, x):
    y = F.silu(w.norm(w.conv(x, "block.0.0"), "block.0.1"))
    y = F.silu(w.norm(w.conv(y, "block.1.0", 2, 2, y.shape[1]), "block.1.1"))
    y = w.gate(y, "block.2", F.silu)
    return w.norm(w.conv(y, "block.3.0"), "block.3.1")


def xception_block(w, x):
    y = x
    for index in (1, 4):
        y = F.relu(y)
        y = w.conv(y, f"rep.{index}.conv1", 1, 1, y.shape[1])
        y = w.norm(w.conv(y, f"rep.{index}.pointwise"), f"rep.{index + 1}")
    shortcut = w.norm(w.conv(x, "skip", 2), "skipbn")
    return F.max_pool2d(y, 3, 2, 1) + shortcut


def same_convolution(w, x):
    """Even sizes: nothing before, one row after; odd ones: one and one."""
    bottom, right = 1, 1
    top, left = x.shape[2] % 2, x.shape[3] % 2
    return F.conv2d(F.pad(x, (left, right, top, bottom)), w.tensors["weight"], None, 2)


def mb_settings(**settings):
    return blocks.InvertedResidual(expansion=3, **settings)


# name: (ours, reference, shape of the input)
CASES = {
    "basic": (lambda: BasicBlock(4, 6, 2, "batch"), basic, (2, 4, 9, 8)),
    "bottleneck": (lambda: Bottleneck(4, 3, 2, "batch"), bottleneck, (2, 4, 9, 8)),
    "squeeze and excitation": (
        lambda: SEBottleneck(16, 4, 1, "batch"), se_bottleneck, (2, 16, 5, 6)
    ),
    "pre-activation": (
        lambda: resnet_v2.PreActivationBottleneck(8, 2, 2, False), pre_activation, (2, 8, 6, 8)
    ),
    "inception": (
        lambda: googlenet._module(5, (3, 2, 4, 2, 3, 4), True), inception, (2, 5, 6, 7)
    ),
    "inception, forked": (lambda: inception_v3.module_c(6), inception_fork, (2, 6, 4, 5)),
    "inception, residual": (block35, scaled_residual, (2, 320, 3, 4)),
    "inverted residual": (
        lambda: InvertedResidualV2(
            mb_settings(channels=4, out=4, kernel=3, stride=1, act=nn.ReLU6)
        ),
        inverted_residual, (2, 4, 6, 5),
    ),
    "MBConv": (
        lambda: MBConv(
            mb_settings(channels=4, out=6, kernel=5, stride=2, act=nn.SiLU, squeezed=2), 0.0
        ),
        mbconv, (2, 4, 7, 8),
    ),
    "separable": (lambda: xception.XceptionBlock(4, (6, 6), 2), xception_block, (2, 4, 8, 9)),
    "SAME padding": (
        lambda: blocks.SameConv2d(3, 4, 3, 2, bias=False), same_convolution, (2, 3, 8, 7)
    ),
}  # fmt: skip


def assert_agree(ours, theirs, what):
    theirs = theirs.detach().numpy()
    error = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1.0)
    assert error < TOLERANCE, f"{what}: {error:.2e}"


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("name", CASES)
def test_a_block_is_what_its_figure_says(name, training):
    make, reference, shape = CASES[name]
    rng = np.random.default_rng(2)
    model = make().to("float64").train(training)
    for key, tensor in model._state().items():
        if tensor.dtype.kind == "f":
            low, high = (0.5, 1.5) if key.endswith("running_var") else (-0.7, 0.7)
            tensor.data[...] = rng.uniform(low, high, tensor.shape)
    weights = Weights(model, training)
    x = rng.normal(size=shape)
    mine, their_x = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, expected = model(mine), reference(weights, their_x)
    assert_agree(y.numpy(), expected, "result")
    direction = rng.normal(size=y.shape)
    (y * Tensor(direction)).sum().backward()
    (expected * torch.tensor(direction)).sum().backward()
    assert_agree(mine.grad.numpy(), their_x.grad, "gradient of x")
    for key, parameter in model.named_parameters():
        assert_agree(parameter.grad.numpy(), weights.tensors[key].grad, key)
    for key, buffer in model.named_buffers():
        if key.endswith(("running_mean", "running_var")):
            assert_agree(buffer.numpy(), weights.tensors[key], key)
