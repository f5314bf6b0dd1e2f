"""Layers call the op they should with the settings they hold; initial values have their law."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from cnncore import Tensor, autograd, nn, ops, tensor
from cnncore.errors import ArgumentError
from cnncore.nn import init
from cnncore.nn.stateless import OpModule

X = np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32)
CASES = [
    (nn.MaxPool2d(3, 2, 1), lambda x: ops.max_pool2d(x, 3, 2, 1)),
    (nn.MaxPool2d(2, ceil_mode=True), lambda x: ops.max_pool2d(x, 2, ceil_mode=True)),
    (nn.AvgPool2d(2), lambda x: ops.avg_pool2d(x, 2)),
    (nn.AdaptiveAvgPool2d(1), lambda x: ops.adaptive_avg_pool2d(x, 1)),
    (nn.AdaptiveMaxPool2d((2, 3)), lambda x: ops.adaptive_max_pool2d(x, (2, 3))),
    (nn.Upsample(scale_factor=2), lambda x: ops.interpolate(x, scale_factor=2)),
    (nn.Flatten(), lambda x: ops.flatten(x, 1)),
    (nn.LocalResponseNorm(3, k=2.0), lambda x: ops.local_response_norm(x, 3, k=2.0)),
    (nn.LeakyReLU(0.3), lambda x: ops.leaky_relu(x, 0.3)),
    (nn.Softmax(1), lambda x: ops.softmax(x, 1)),
    (nn.GELU("tanh"), lambda x: ops.gelu(x, "tanh")),
]


@pytest.mark.parametrize(("layer", "expected"), CASES, ids=[type(c[0]).__name__ for c in CASES])
def test_layers_without_parameters_are_their_op(layer, expected) -> None:
    np.testing.assert_array_equal(layer(X).numpy(), expected(Tensor(X)).numpy())


def every_op_module() -> list[type[OpModule]]:
    return [c for c in vars(nn).values() if isinstance(c, type) and issubclass(c, OpModule)]


@pytest.mark.parametrize("layer", every_op_module(), ids=lambda c: c.__name__)
def test_every_line_of_the_table_names_an_op_and_arguments_it_has(layer) -> None:
    if layer is OpModule:
        return
    accepted = inspect.signature(getattr(ops, layer.op)).parameters
    assert set(layer.shown) <= set(accepted)
    for name, setting in layer.settings.parameters.items():
        default = accepted[name].default
        if default is not inspect.Parameter.empty and layer not in (nn.Flatten,):
            assert setting.default == default, name


def test_a_wrong_setting_names_the_layer_and_its_settings() -> None:
    with pytest.raises(ArgumentError, match=r"LeakyReLU.*negative_slope"):
        nn.LeakyReLU(slope=1)
    with pytest.raises(ArgumentError, match="MaxPool2d"):
        nn.MaxPool2d()


def test_unpooling_takes_the_size_of_a_single_call() -> None:
    x = Tensor(X[:, :, :5, :5].copy())
    y, switches = nn.MaxPool2d(2, return_indices=True)(x)
    assert nn.MaxUnpool2d(2)(y, switches, output_size=(5, 5)).shape == x.shape


def test_convolution_settings_reach_the_op() -> None:
    layer = nn.Conv2d(4, 6, (3, 1), (2, 1), (1, 0), (1, 2), groups=2)
    expected = ops.conv2d(X, layer.weight, layer.bias, (2, 1), (1, 0), (1, 2), 2)
    np.testing.assert_array_equal(layer(X).numpy(), expected.numpy())
    assert layer.weight.shape == (6, 2, 3, 1)


def test_transposed_convolution_settings_reach_the_op() -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2)
    assert layer.weight.shape == (4, 3, 3, 3)
    assert layer.bias.shape == (6,)
    assert layer(X).shape == (2, 6, 12, 12)
    assert layer(X, output_size=(11, 12)).shape == (2, 6, 11, 12)


def test_channels_that_groups_do_not_divide_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"out_channels.*multiple of groups"):
        nn.Conv2d(4, 5, 1, groups=2)
    with pytest.raises(ArgumentError, match="multiple of num_groups"):
        nn.GroupNorm(3, 4)


def test_batch_norm_counts_and_averages_batches() -> None:
    usual, plain = nn.BatchNorm2d(4), nn.BatchNorm2d(4, momentum=None)
    batches = [X, 3 * X + 1]
    for batch in batches:
        usual(batch)
        plain(batch)
    means = [b.mean((0, 2, 3)) for b in batches]
    np.testing.assert_allclose(plain.running_mean.data, np.mean(means, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        usual.running_mean.data, 0.09 * means[0] + 0.1 * means[1], rtol=1e-5, atol=1e-6
    )
    assert int(usual.num_batches_tracked.data) == 2
    before = usual.running_mean.data.copy()
    usual.eval()(X)
    np.testing.assert_array_equal(usual.running_mean.data, before)


class Watched(nn.BatchNorm2d):
    """A subclass: it may do anything, so nothing is fused to it."""


@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6, nn.SiLU])
def test_a_row_of_layers_fuses_batch_norm_with_its_activation(act) -> None:
    """In training one op, the same numbers as layer by layer, and layer by layer for observers."""
    rng = np.random.default_rng(3)
    x = (3 * rng.normal(size=(4, 3, 5, 5))).astype(np.float64)
    init.seed(1)
    nets = [nn.Sequential(kind(3), act(), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))
            for kind in (nn.BatchNorm2d, Watched)]  # fmt: skip
    nets[1].load_state_dict(nets[0].state_dict())
    gradients = []
    for net, fused in zip(nets, (act is not nn.SiLU, False), strict=True):
        net.to(np.float64)
        given = tensor(x, requires_grad=True)
        y = net(given)
        names = autograd.describe(y)
        assert (f"Normalize{act.__name__.capitalize()}" in names) == fused
        (y * y).sum().backward()
        gradients.append([given.grad, *(p.grad for p in net.parameters())])
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-10, atol=1e-10)
    for one, other in zip(*(net.buffers() for net in nets), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    entered: list[str] = []
    with autograd.observe(
        lambda e: entered.append(type(e.subject).__name__) if e.kind == "enter_module" else None
    ):
        nets[0](tensor(x))
    assert entered == ["Sequential", "BatchNorm2d", act.__name__, "Conv2d", "BatchNorm2d"]


def test_activated_in_evaluation_and_without_fusing() -> None:
    norm, x = nn.BatchNorm2d(2).eval(), tensor(np.arange(16.0).reshape(2, 2, 2, 2) - 8)
    norm.to(np.float64)
    expected = ops.relu(norm(x) + x)
    got = nn.activated(norm, ops.relu, x, x)
    np.testing.assert_array_equal(got.numpy(), expected.numpy())
    assert got.node.name == "NormalizeRelu"
    grouped = nn.GroupNorm(1, 2).to(np.float64)
    got = nn.activated(grouped, nn.Tanh(), x, x)
    np.testing.assert_array_equal(got.numpy(), ops.tanh(grouped(x) + x).numpy())
    for trains in (norm.train(), grouped):
        trained = nn.activated(trains, ops.relu, tensor(x.data, requires_grad=True), x)
        assert trained.node.name == "NormalizeRelu"
        np.testing.assert_allclose(trained.numpy(), ops.relu(trains(x) + x).numpy(), rtol=1e-12)


def test_frozen_batch_norm_is_batch_norm_in_evaluation() -> None:
    norm = nn.BatchNorm2d(4)
    norm(X)
    frozen = nn.FrozenBatchNorm2d(4)
    frozen.load_state_dict(norm.state_dict())
    np.testing.assert_array_equal(frozen.train()(X).numpy(), norm.eval()(X).numpy())


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
def test_normalised_output_has_mean_0_and_variance_1(norm) -> None:
    y = nn.norm_layer(norm, 4)(5 * X + 3).numpy()
    assert abs(y.mean()) < 1e-5
    assert abs(y.var() - 1) < 1e-3
    with pytest.raises(ArgumentError, match="norm"):
        nn.norm_layer("none", 4)


def test_dropout_is_seeded_and_off_in_evaluation() -> None:
    layer = nn.Dropout(0.5)
    init.seed(3)
    first = layer(X).numpy()
    init.seed(3)
    np.testing.assert_array_equal(layer(X).numpy(), first)
    assert 0.35 < (first == 0).mean() < 0.65
    np.testing.assert_array_equal(layer.eval()(X).numpy(), X)


# --- initial values -------------------------------------------------------------------------------


def test_seed_repeats_and_differs() -> None:
    init.seed(1)
    first, second = nn.Linear(3, 3).weight.data, nn.Linear(3, 3).weight.data
    init.seed(1)
    np.testing.assert_array_equal(nn.Linear(3, 3).weight.data, first)
    assert not np.array_equal(first, second)


LAWS = [
    # function, arguments, standard deviation for fan_in 32·9 = 288, fan_out 64·9 = 576
    (init.kaiming_normal_, {"nonlinearity": "relu"}, math.sqrt(2 / 288)),
    (init.kaiming_normal_, {"nonlinearity": "relu", "mode": "fan_out"}, math.sqrt(2 / 576)),
    (init.kaiming_uniform_, {"a": math.sqrt(5)}, math.sqrt(2 / 6 / 288)),
    (init.xavier_normal_, {}, math.sqrt(2 / (288 + 576))),
    (init.xavier_uniform_, {"gain": 2.0}, 2 * math.sqrt(2 / (288 + 576))),
    (init.normal_, {"std": 0.3}, 0.3),
]


@pytest.mark.parametrize(("function", "arguments", "std"), LAWS)
def test_initial_values_have_the_standard_deviation_of_their_law(function, arguments, std) -> None:
    weight = nn.Parameter(np.zeros((64, 32, 3, 3), np.float32))
    function(weight, rng=np.random.default_rng(0), **arguments)
    # 18,432 samples: the sample deviation is within 2 % (four of its standard errors).
    assert abs(weight.data.std() / std - 1) < 0.02
    assert abs(weight.data.mean()) < 0.05 * std
    if "uniform" in function.__name__:
        bound = math.sqrt(3) * std
        assert 0.99 * bound < np.abs(weight.data).max() <= bound


def test_layers_start_like_pytorchs() -> None:
    layer = nn.Conv2d(8, 400, 3, rng=np.random.default_rng(0))
    bound = 1 / math.sqrt(8 * 9)
    for values in (layer.weight.data, layer.bias.data):
        assert 0.98 * bound < np.abs(values).max() <= bound


def test_bilinear_weight_interpolates_a_ramp_exactly() -> None:
    layer = nn.ConvTranspose2d(2, 2, 4, 2, 1, bias=False)
    init.bilinear_(layer.weight)
    ramp = np.stack([np.tile(np.arange(5.0), (5, 1)), np.zeros((5, 5))]).astype(np.float32)
    y = layer(ramp[None]).numpy()[0]
    np.testing.assert_allclose(y[0, 4, 2:8], np.arange(0.75, 3.5, 0.5), atol=1e-6)
    assert not y[1].any()  # channels are not mixed


def test_what_has_no_fan_is_refused() -> None:
    with pytest.raises(ArgumentError, match="at least 2 axes"):
        init.kaiming_normal_(nn.Parameter([1.0]))
    with pytest.raises(ArgumentError, match="nonlinearity"):
        init.calculate_gain("sine")
