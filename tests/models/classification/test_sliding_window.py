"""A classifier over a large image is the classifier on every window."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore import Tensor, models, nn, no_grad
from cnncore.errors import ArgumentError
from cnncore.explain import cost
from cnncore.models.shapes import output_shapes


class Unpadded(nn.Module):
    """Windows of 18×14, total stride 4, nothing padded; dense layers over a 3×2 map."""

    def __init__(self, pooled=False):
        self.features = nn.Sequential(
            nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AvgPool2d(2),
        )  # fmt: skip
        self.pool = nn.AdaptiveAvgPool2d(1 if pooled else (3, 2))
        self.flatten = nn.Flatten()
        size = 1 if pooled else 6
        self.head = nn.Sequential(
            nn.Dropout(0.5), nn.Linear(8 * size, 10), nn.ReLU(), nn.Linear(10, 4, bias=False)
        )

    def forward(self, x):
        return self.head(self.flatten(self.pool(self.features(x))))


def randomised(model, rng):
    model.to("float64").eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.data[...] = rng.uniform(0.5, 2, buffer.shape)
    return model


def on_every_window(model, x, window, stride):
    """``(K, OH, OW)``: the classifier run once a window."""
    rows = range(0, x.shape[2] - window[0] + 1, stride)
    columns = range(0, x.shape[3] - window[1] + 1, stride)
    scores = [
        [model(Tensor(x[:, :, i : i + window[0], j : j + window[1]])).numpy()[0] for j in columns]
        for i in rows
    ]
    return np.moveaxis(np.array(scores), -1, 0)


@pytest.mark.parametrize("pooled", [False, True], ids=["dense over a map", "dense over a mean"])
def test_the_score_map_is_the_classifier_on_every_window(pooled):
    rng = np.random.default_rng(4)
    model = randomised(Unpadded(pooled), rng)
    net = models.to_fully_convolutional(model, (2, 18, 14))
    x = rng.normal(size=(1, 2, 47, 38))
    with no_grad():
        expected = on_every_window(model, x, (18, 14), 4)
        assert expected.shape == (4, 8, 7)
        np.testing.assert_allclose(net(Tensor(x)).numpy()[0], expected, rtol=1e-12, atol=1e-13)


def test_lenet_reads_a_whole_line():
    """The field's own example: LeNet-5 over a wide picture ("space displacement", section VII)."""
    rng = np.random.default_rng(5)
    model = randomised(models.create("lenet5", 10, variant="modern"), rng)
    net = models.to_fully_convolutional(model, (1, 32, 32))
    line = rng.normal(size=(1, 1, 32, 200))
    with no_grad():
        scores = net(Tensor(line)).numpy()[0]
        np.testing.assert_allclose(
            scores, on_every_window(model, line, (32, 32), 4), rtol=1e-11, atol=1e-13
        )


def test_how_much_work_is_saved():
    """625 windows of 128×128 share their features: 5.5 times fewer multiply-adds.

    Counted by hand: conv1, conv2, then the dense layers 400 -> 120 -> 84 -> 10.  The time is
    measured by ``benchmarks/sliding_window.py``.
    """
    model = models.create("lenet5", 10, variant="modern").eval()
    net = models.to_fully_convolutional(model, (1, 32, 32))
    dense = 400 * 120 + 120 * 84 + 84 * 10
    window = 28**2 * 6 * 25 + 10**2 * 16 * 150 + dense
    whole = 124**2 * 6 * 25 + 58**2 * 16 * 150 + 25**2 * dense
    assert cost(model, (1, 32, 32), backward=False).total("multiply_adds") == window
    assert cost(net, (1, 128, 128), backward=False).total("multiply_adds") == whole
    assert 625 * window / whole == pytest.approx(5.51, abs=0.01)


def test_padding_breaks_the_equality():
    """The reason why the exact test has an unpadded network: this one must differ."""
    rng = np.random.default_rng(6)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 8 * 8, 2)
    ).to("float64")
    net = models.to_fully_convolutional(model, (1, 8, 8))
    x = rng.normal(size=(1, 1, 10, 10))
    with no_grad():
        difference = net(Tensor(x)).numpy()[0] - on_every_window(model, x, (8, 8), 1)
    assert np.abs(difference).max() > 1e-3


def test_the_original_is_left_alone():
    rng = np.random.default_rng(7)
    model = Unpadded().train()
    model.features.eval()
    before, modes = model.state_dict(), [m.training for m in model.modules()]
    net = models.to_fully_convolutional(model, (2, 18, 14))
    assert [m.training for m in model.modules()] == modes
    assert isinstance(model.head[1], nn.Linear)
    for parameter in net.parameters():
        parameter.data[...] = 7
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    model.eval()
    with no_grad():
        model(Tensor(rng.normal(size=(1, 2, 18, 14)).astype(np.float32)))


@pytest.mark.parametrize(
    ("name", "large", "scores"),
    [
        ("alexnet", (291, 355), (3, 5)),
        ("vgg11", (256, 288), (2, 3)),
        ("resnet18", (256, 224), (2, 1)),
        ("zfnet", (256, 288), (2, 3)),
        ("mobilenet_v2", (320, 224), (4, 1)),
        ("googlenet", (288, 224), (3, 1)),
    ],
)
def test_known_networks_take_larger_images(name, large, scores):
    """One score more for every 32 pixels (their total stride)."""
    channels, height, width = models.classification.VARIANTS[name].input_shape
    with nn.shapes_only():
        net = models.to_fully_convolutional(models.outline(name), (channels, height, width))
    assert output_shapes(net, (1, channels, height, width))[""] == (1, 1000, 1, 1)
    assert output_shapes(net, (1, channels, *large))[""] == (1, 1000, *scores)
    original = models.outline(name)
    assert net.num_parameters() == original.num_parameters()


def test_networks_that_do_more_than_windows_are_refused():
    class Inline(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(16, 2)

        def forward(self, x):
            return self.fc(x.reshape(x.shape[0], -1))

    for model, shape in (
        (Inline(), (1, 4, 4)),
        (models.create("lenet5", 10), (1, 32, 32)),
        (nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(9, 2)), (1, 7, 7)),
        (nn.Conv2d(1, 1, 3), (1, 8, 8)),
    ):
        with pytest.raises(ArgumentError, match="a network of windows, Flatten and Linear"):
            models.to_fully_convolutional(model, shape)
