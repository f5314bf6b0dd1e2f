"""The networks of the benchmark, compiled and as they are, on small pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnncore
from cnncore import models, nn
from cnncore.kernels import native


def drawn(name: str) -> nn.Module:
    nn.init.seed(0)
    model: nn.Module = models.create(name, num_classes=10)
    rng = np.random.default_rng(4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.data[...] = rng.normal(size=module.num_features) * 0.1
            module.running_var.data[...] = rng.uniform(0.7, 1.5, size=module.num_features)
    return model.eval()


def differences(model: nn.Module, x: np.ndarray) -> tuple[Any, float]:
    """The compiled network, and how far its results are from the model's, of the largest value."""
    compiled = cnncore.compile(model, x)
    with cnncore.no_grad():
        wanted = model(cnncore.tensor(x))
    got = compiled(x)
    pairs = zip(got, wanted, strict=True) if isinstance(got, (list, tuple)) else [(got, wanted)]
    errors = [float(np.abs(g.data - w.data).max() / np.abs(w.data).max()) for g, w in pairs]
    return compiled, max(errors)


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "efficientnet_b0"])
@pytest.mark.parametrize("precision", ["strict", "fast"])
@pytest.mark.parametrize("size", [(96, 64), (128, 96)])
def test_classifiers(name: str, precision: str, size: tuple[int, int]) -> None:
    before = cnncore.get_precision()
    cnncore.set_precision(precision)
    try:
        x = np.random.default_rng(1).normal(size=(2, 3, *size)).astype(np.float32)
        compiled, error = differences(drawn(name), x)
    finally:
        cnncore.set_precision(before)
    # The error of one float32 product grows with the root of some fifty layers.
    assert error < 1e-4
    report = compiled.report()
    assert report.ops > 2 * len(report.steps)
    # On the smaller one the kernels' working space, of each thread, is more than ResNet-50's maps.
    exempt = (name, size) == ("resnet50", (96, 64))
    if native.AVAILABLE and native.memory_stats()["enabled"] and not exempt:
        assert report.peak_after < report.peak_before


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0"])
def test_float64(name: str) -> None:
    x = np.random.default_rng(2).normal(size=(1, 3, 64, 64))
    model = drawn(name).to(np.float64)
    assert differences(model, x)[1] < 1e-11


def test_a_network_read_from_onnx() -> None:
    """An inverted residual, a pyramid with a transposed convolution, two heads, as ONNX says it."""
    onnx = pytest.importorskip("onnx")
    helper, rng, constants, nodes = onnx.helper, np.random.default_rng(3), [], []

    def conv(kind: str, x: str, y: str, *shape: int, **settings: Any) -> None:
        weight = rng.normal(size=shape) / np.sqrt(shape[1] * shape[2] * shape[3])
        constants.append(onnx.numpy_helper.from_array(weight.astype(np.float32), f"w{y}"))
        nodes.append(helper.make_node(kind, [x, f"w{y}"], [y], kernel_shape=shape[2:], **settings))

    def relu(x: str, y: str) -> None:
        nodes.append(helper.make_node("Relu", [x], [y]))

    conv("Conv", "x", "a", 16, 3, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1])
    relu("a", "b")
    conv("Conv", "b", "c", 96, 16, 1, 1)
    relu("c", "d")
    conv("Conv", "d", "e", 96, 1, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1], group=96)
    relu("e", "f")
    conv("Conv", "f", "g", 24, 96, 1, 1)
    conv("ConvTranspose", "g", "h", 24, 16, 2, 2, strides=[2, 2])
    nodes.append(helper.make_node("Add", ["h", "b"], ["i"]))
    conv("Conv", "i", "j", 16, 16, 3, 3, pads=[1, 1, 1, 1])
    relu("j", "k")
    conv("Conv", "k", "heat", 1, 16, 1, 1)
    nodes.append(helper.make_node("Sigmoid", ["heat"], ["heatmap"]))
    conv("Conv", "k", "scale", 2, 16, 1, 1)
    kind, shape = onnx.TensorProto.FLOAT, [1, 3, 128, 160]
    graph = helper.make_graph(
        nodes, "face", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(y, kind, None) for y in ("heatmap", "scale")], constants,
    )  # fmt: skip
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model = cnncore.onnx.load(file.SerializeToString()).eval()
    x = rng.normal(size=shape).astype(np.float32)
    compiled, error = differences(model, x)
    assert error < 1e-5
    if native.AVAILABLE:
        joined = [step.parts for step in compiled.report().steps if len(step.parts) == 5]
        assert joined == [("Conv2d", "Relu", "Conv2d", "Relu", "Conv2d")]
