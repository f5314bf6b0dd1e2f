"""Blocks of the classifiers against their definitions, written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cnncore import Tensor, models, nn, ops
from cnncore.errors import ArgumentError
from cnncore.models.classification import efficientnet
from cnncore.models.classification.alexnet import AlexNetTwoTower
from cnncore.models.classification.blocks import (
    InvertedResidual,
    Paths,
    SameConv2d,
    SamePool2d,
    SqueezeExcitation,
    StochasticDepth,
    round_channels,
    same_padding,
    separable,
)
from cnncore.models.classification.googlenet import GoogLeNet
from cnncore.models.classification.lenet import C3_TABLE, LeNet5, PartialConv2d
from cnncore.models.classification.mobilenet import InvertedResidualV2
from cnncore.models.classification.resnet import resnet
from cnncore.models.classification.resnet_v2 import ResNetV2
from cnncore.models.classification.se_resnet import SEBottleneck
from cnncore.models.classification.vgg import VGG


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def make(module, rng):
    """A module in float64 with random parameters, biases too."""
    module.to("float64")
    for parameter in module.parameters():
        parameter.data[...] = rng.normal(size=parameter.shape)
        parameter.touched()
    return module


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def windows(x, kernel, stride, fill):
    """``(N, C, OH, OW, k, k)``: TensorFlow's SAME windows, one by one, ``fill`` outside."""
    size = x.shape[2]
    count = -(-size // stride)
    before = max((count - 1) * stride + kernel - size, 0) // 2
    result = np.full((*x.shape[:2], count, count, kernel, kernel), fill)
    for i, j, u, v in np.ndindex(count, count, kernel, kernel):
        h, w = i * stride - before + u, j * stride - before + v
        if 0 <= h < size and 0 <= w < size:
            result[:, :, i, j, u, v] = x[:, :, h, w]
    return result


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (1, 2), (2, 3)])
def test_same_convolution_and_pooling(rng, size, kernel, stride):
    x = rng.normal(size=(2, 3, size, size))
    conv = make(SameConv2d(3, 4, kernel, stride, bias=True), rng)
    expected = np.einsum("ncijuv,ocuv->noij", windows(x, kernel, stride, 0.0), conv.weight.data)
    expected += conv.bias.data[:, None, None]
    np.testing.assert_allclose(conv(x).numpy(), expected, rtol=1e-12, atol=1e-12)
    if kernel < stride:
        return
    seen = windows(x, kernel, stride, np.nan)
    for kind, reduce in (("max", np.nanmax), ("mean", np.nanmean)):
        pooled = SamePool2d(kind, kernel, stride)(Tensor(x)).numpy()
        np.testing.assert_allclose(pooled, reduce(seen, axis=(4, 5)), rtol=1e-12)


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 4))
def test_same_padding_makes_every_window_fit(size, kernel, stride):
    (before, after), _ = same_padding((size, size), (kernel, kernel), (stride, stride))
    assert 0 <= after - before <= 1
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)


def test_squeeze_and_excitation_is_its_formula(rng):
    gate = make(SqueezeExcitation(6, 2), rng)
    x = rng.normal(size=(2, 6, 4, 5))
    w1, w2 = gate.fc1.weight.data[:, :, 0, 0], gate.fc2.weight.data[:, :, 0, 0]
    hidden = np.maximum(x.mean((2, 3)) @ w1.T + gate.fc1.bias.data, 0)
    factor = sigmoid(hidden @ w2.T + gate.fc2.bias.data)
    np.testing.assert_allclose(gate(x).numpy(), x * factor[:, :, None, None], rtol=1e-12)


def test_a_separable_convolution_is_a_dense_one_of_low_rank(rng):
    block = make(separable(3, 5, 3, 2), rng)
    x = rng.normal(size=(2, 3, 9, 9))
    mixing, filters = block.pointwise.weight.data[:, :, 0, 0], block.conv1.weight.data[:, 0]
    full = np.einsum("oc,cuv->ocuv", mixing, filters)
    expected = ops.conv2d(Tensor(x), Tensor(full), None, 2, 1).numpy()
    np.testing.assert_allclose(block(Tensor(x)).numpy(), expected, rtol=1e-11, atol=1e-12)


def test_paths_fork_and_join(rng):
    a, b, c, d = (make(nn.Conv2d(2, 2, 1), rng) for _ in range(4))
    block = Paths({"a": a, "b": b, "c": c, "d": d}, [("a",), ("b", ("c", "d"))])
    x = Tensor(rng.normal(size=(1, 2, 3, 3)))
    after_b = b(x)
    expected = np.concatenate([y.numpy() for y in (a(x), c(after_b), d(after_b))], axis=1)
    np.testing.assert_array_equal(block(x).numpy(), expected)


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean(rng):
    drop = StochasticDepth(0.4)
    nn.init.seed(3)
    x = np.ones((4000, 2, 1, 1))
    y = drop(Tensor(x)).numpy()
    assert set(np.unique(y.round(12))) == {0.0, round(1 / 0.6, 12)}
    np.testing.assert_array_equal(y[:, 0], y[:, 1])
    assert abs(y.mean() - 1) < 5 * np.sqrt(0.4 / 0.6 / 4000)  # five standard deviations
    np.testing.assert_array_equal(drop.eval()(Tensor(x)).numpy(), x)


def test_only_a_block_that_keeps_its_shape_has_a_shortcut(rng):
    for channels, out, stride, has in ((4, 4, 1, True), (4, 6, 1, False), (4, 4, 2, False)):
        settings = InvertedResidual(channels, out, 3, stride, 2, nn.ReLU6)
        block = make(InvertedResidualV2(settings), rng)
        assert [len(part.children()) for part in list(block.conv)[:2]] == [3, 3]
        for parameter in list(block.conv)[-1].parameters():
            parameter.data[...] = 0  # the last norm gives nothing: what is left is the shortcut
        x = rng.normal(size=(2, channels, 6, 6))
        y = block.eval()(Tensor(x)).numpy()
        np.testing.assert_array_equal(y, x if has else np.zeros_like(y))


def test_the_gate_comes_before_the_sum(rng):
    block = make(SEBottleneck(16, 4, 1, "batch"), rng).eval()
    for parameter in (block.se_module.fc2.weight, block.se_module.fc2.bias):
        parameter.data[...] = 0  # sigmoid(0): half of the branch
    x = np.abs(rng.normal(size=(2, 16, 4, 4)))
    branch = block.bn3(block.branch(Tensor(x))).numpy()
    np.testing.assert_allclose(block(Tensor(x)).numpy(), np.maximum(x + branch / 2, 0), rtol=1e-12)
    assert (block.conv1.stride, block.conv2.stride) == (1, 1)
    strided = SEBottleneck(16, 4, 2, "batch")
    assert (strided.conv1.stride, strided.conv2.stride) == (2, 1)


def test_partial_convolution_is_a_dense_one_with_zeros(rng):
    partial = make(PartialConv2d(C3_TABLE, 6), rng)
    dense = np.zeros((16, 6, 5, 5))
    rest = iter(partial.weight.data)
    for output, inputs in enumerate(C3_TABLE):
        for channel in inputs:
            dense[output, channel] = next(rest)
    x = rng.normal(size=(2, 6, 9, 9))
    expected = ops.conv2d(Tensor(x), Tensor(dense), partial.bias).numpy()
    np.testing.assert_allclose(partial(Tensor(x)).numpy(), expected, rtol=1e-12)
    partial(Tensor(x)).sum().backward()
    assert partial.weight.grad.shape == (60, 5, 5)
    assert (np.abs(partial.weight.grad.data) > 0).all()


def test_table_one_of_lenet():
    assert [len(inputs) for inputs in C3_TABLE] == [3] * 6 + [4] * 9 + [6]
    assert all(len(set(inputs)) == len(inputs) for inputs in C3_TABLE)
    assert len(set(C3_TABLE)) == 16
    seen = np.bincount(np.concatenate(C3_TABLE))
    assert seen.tolist() == [10] * 6  # every map of S2 is seen ten times: the table is symmetric


def test_lenets_output_is_minus_the_squared_distance(rng):
    net = make(LeNet5(10), rng)
    prototypes = net.output.prototypes.data
    assert set(np.unique(prototypes)) == {-1.0, 1.0}
    x = rng.normal(size=(3, 84))
    expected = -((x[:, None] - prototypes[None]) ** 2).sum(2)
    np.testing.assert_allclose(net.output(Tensor(x)).numpy(), expected, rtol=1e-12)
    other = LeNet5(12).output.prototypes.numpy()
    np.testing.assert_array_equal(other[:10], prototypes)


def test_the_towers_of_alexnet_see_each_other_in_layer_three_only(rng):
    with nn.shapes_only():
        net = AlexNetTwoTower(10)
    assert [net.children()[f"conv{i}"].groups for i in range(1, 6)] == [1, 2, 1, 2, 2]


def test_auxiliary_heads_train_the_layers_below_them(rng):
    net = models.create("googlenet", 5)
    outputs = net.all_logits(rng.normal(size=(2, 3, 64, 64)).astype(np.float32))
    assert [y.shape for y in (outputs.logits, *outputs.auxiliary)] == [(2, 5)] * 3
    labels = np.array([1, 4])
    entropies = [float(ops.cross_entropy(y, labels).data) for y in (outputs[0], *outputs[1])]
    loss = net.loss(outputs, labels)
    assert float(loss.data) == pytest.approx(entropies[0] + 0.3 * sum(entropies[1:]), rel=1e-6)
    ops.cross_entropy(outputs.auxiliary[0], labels).backward()
    assert net.inception4a.branch1.conv.weight.grad is not None  # aux1 hangs on 4a …
    assert net.inception4b.branch1.conv.weight.grad is None  # … and knows nothing of 4b
    assert not hasattr(GoogLeNet(5, auxiliary=False), "aux1")


def test_channels_are_rounded_to_the_nearest_multiple_but_not_far_down():
    assert [round_channels(c) for c in (3, 12, 11.9, 36.4, 88.0, 120.5)] == [8, 16, 16, 40, 88, 120]


def test_compound_scaling_is_near_the_released_coefficients():
    """The paper's equation and the released table describe the same networks."""
    for phi, row in enumerate(efficientnet.COEFFICIENTS):
        width, depth, resolution = efficientnet.compound_scaling(phi)
        assert row.width == pytest.approx(width, rel=0.1)
        assert row.depth == pytest.approx(depth, rel=0.2)
        assert row.resolution == pytest.approx(resolution, rel=0.15)
        size = models.classification.VARIANTS[f"efficientnet_b{phi}"].input_shape
        assert size == (3, row.resolution, row.resolution)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("lenet5", {"variant": "1999"}, "variant: expected one of"),
        ("vgg11", {"dropout": 2.0}, "p: expected a probability"),
        ("resnet50", {"num_classes": 0}, "expected an integer >= 1"),
        ("resnet51", {}, "name: expected a model's name, got 'resnet51'; try: 'resnet50'"),
    ],
)
def test_what_cannot_be_made_is_refused(name, settings, words):
    with pytest.raises(ArgumentError, match=words.replace("(", r"\(")):
        models.create(name, **settings)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (VGG, {"depth": 12}),
        (resnet, {"depth": 33}),
        (ResNetV2, {"depth": 7}),
        (efficientnet.efficientnet, {"number": 8}),
    ],
)
def test_sizes_that_no_paper_has_are_refused(make, settings):
    (name,) = settings
    with pytest.raises(ArgumentError, match=f"{name}: expected"):
        make(**settings)
