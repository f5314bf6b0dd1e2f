"""Networks of shapes: as many parameters, the same shapes, no memory, no arithmetic."""

from __future__ import annotations

import numpy as np

from cnncore import Tensor, nn, ops
from cnncore.nn.shapes import hollow, is_hollow


def build():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.Sigmoid(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, 5),
    )  # fmt: skip


def test_a_network_has_the_same_keys_and_shapes():
    real = build()
    with nn.shapes_only():
        outline = build()
        for mode in (True, False):
            assert outline.train(mode)(hollow((2, 3, 20, 30))).shape == (2, 5)
    one = {name: p.shape for name, p in outline.named_parameters()}
    assert one == {name: p.shape for name, p in real.named_parameters()}
    assert all(is_hollow(p.data) for p in outline.parameters())
    assert outline.num_parameters() == real.num_parameters()


def test_what_is_built_outside_runs_inside_and_stays_as_it_was():
    model = build().eval()
    before = model.state_dict()
    x = np.random.default_rng(0).normal(size=(2, 3, 20, 30)).astype(np.float32)
    y = model(x).numpy()
    with nn.shapes_only():
        assert is_hollow(model(x).data)
    np.testing.assert_array_equal(model(x).numpy(), y)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_no_random_number_is_drawn():
    state = nn.init.generator().bit_generator.state
    with nn.shapes_only():
        build()
        nn.init.xavier_normal_(nn.Parameter(np.zeros((2, 2))))
    assert nn.init.generator().bit_generator.state == state


def test_backward_has_shapes_too():
    x = Tensor(np.zeros((1, 2, 5, 5), np.float32), requires_grad=True)
    with nn.shapes_only():
        conv = nn.Conv2d(2, 3, 3)
        ops.relu(conv(x)).sum().backward()
    assert x.grad.shape == x.shape
    assert conv.weight.grad.shape == (3, 2, 3, 3)
