"""Export: the file is checked by the ONNX package, and run by the ONNX project's own evaluator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx_models import one_node  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "models" / "segmentation"))
from test_segmentation_systems import SMALL as SMALL_SEGMENTERS  # noqa: E402

import cnncore  # noqa: E402
from cnncore import models, nn, ops  # noqa: E402
from cnncore.autograd import Function  # noqa: E402
from cnncore.errors import ArgumentError  # noqa: E402
from cnncore.models.classification import VARIANTS  # noqa: E402
from cnncore.onnx import ExportError, export, load, to_proto  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 6, 8)).astype(np.float32)
VECTOR = RNG.normal(size=(2, 5)).astype(np.float32)


def array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


class Applied(nn.Module):
    """A function as a module without parameters."""

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.training = False

    def forward(self, *inputs):
        return self.function(*inputs)


STATISTICS = np.float32([0.1, 0.2, -0.3, 0]), np.float32([1, 2, 0.5, 3])
AFFINE = np.float32([1, -1, 2, 0.5]), np.float32([0, 1, -1, 3])

CASES: dict[str, Callable] = {
    "conv": lambda x: ops.conv2d(
        x, W_CONV, AFFINE[0], stride=(2, 1), padding=((1, 0), (2, 1)), dilation=(1, 2), groups=2
    ),
    "transposed conv": lambda x: ops.conv_transpose2d(
        x, W_CONV, stride=(2, 3), padding=1, output_padding=(1, 2)
    ),
    "linear": lambda x: ops.linear(x.flatten(1), W_LINEAR, VECTOR[0]),
    "max pool": lambda x: ops.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "max pool, dilated": lambda x: ops.max_pool2d(x, 2, 1, dilation=2),
    "max unpool": lambda x: ops.max_unpool2d(*ops.max_pool2d(x, 2, return_indices=True), 2),
    "max unpool, overlapping": lambda x: ops.max_unpool2d(
        *ops.max_pool2d(x, 3, 2, 1, ceil_mode=True, return_indices=True),
        *(3, 2, 1),
        output_size=x.shape[2:],
    ),
    "mean pool": lambda x: ops.avg_pool2d(x, (3, 2), 2, 1, count_include_pad=False),
    "mean pool, padding counted": lambda x: ops.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    "mean pool, divisor": lambda x: ops.avg_pool2d(x, 2, divisor_override=3),
    "every second pixel": lambda x: ops.avg_pool2d(ops.pad(x, (-1, 1, -1, 1)), 1, 2),
    "global mean": lambda x: ops.adaptive_avg_pool2d(x, 1),
    "adaptive mean": lambda x: ops.adaptive_avg_pool2d(x, (3, 4)),
    "adaptive mean, overlapping": lambda x: ops.adaptive_avg_pool2d(x, (4, 3)),
    "adaptive maximum": lambda x: ops.adaptive_max_pool2d(x, (2, 4)),
    "global maximum": lambda x: ops.adaptive_max_pool2d(x, 1),
    "nearest, doubled": lambda x: ops.interpolate(x, scale_factor=2),
    "nearest, size": lambda x: ops.interpolate(x, size=(9, 5)),
    "nearest exact": lambda x: ops.interpolate(x, size=(9, 5), mode="nearest-exact"),
    "bilinear": lambda x: ops.interpolate(x, size=(9, 5), mode="bilinear"),
    "bilinear, corners": lambda x: ops.interpolate(
        x, size=(11, 20), mode="bilinear", align_corners=True
    ),
    "bilinear, factor": lambda x: ops.interpolate(x, scale_factor=(1.7, 0.6), mode="bilinear"),
    "bicubic": lambda x: ops.interpolate(x, size=(9, 5), mode="bicubic"),
    "area": lambda x: ops.interpolate(x, size=(4, 5), mode="area"),
    "blocks": lambda x: ops.unpool_nearest(x, (2, 3)),
    "nails": lambda x: ops.unpool_bed_of_nails(x, (2, 3)),
    "batch norm": lambda x: ops.batch_norm(x, *STATISTICS, *AFFINE, eps=1e-3),
    "batch norm without scale": lambda x: ops.batch_norm(x, *STATISTICS),
    "instance norm": lambda x: ops.instance_norm(x, weight=AFFINE[0], bias=AFFINE[1]),
    "group norm": lambda x: ops.group_norm(x, 2, *AFFINE),
    "layer norm": lambda x: ops.layer_norm(x, (6, 8), W_PLANE, W_PLANE),
    "local response": lambda x: ops.local_response_norm(x, 3, 0.1, 0.5, 2.0),
    "local response, even": lambda x: ops.local_response_norm(x, 4, 0.1),
    "softmax": lambda x: ops.softmax(x, 1),
    "log softmax": lambda x: ops.log_softmax(x, -1),
    "arithmetic": lambda x: (x + 1) * 2 - x / 3 + (x * x + 1) ** 0.5 + 2 / (ops.exp(x) + 1),
    "functions": lambda x: ops.log(ops.abs(x) + 1) + ops.sqrt(x * x + 1) + ops.sin(x) - ops.cos(x),
    "limits": lambda x: ops.clamp(x, -0.5, 0.7) + ops.clamp(x, min=0.1) + ops.maximum(x, -x * 0.3),
    "smallest": lambda x: ops.minimum(x, -x),
    "prelu": lambda x: ops.prelu(x, AFFINE[0]),
    "means": lambda x: x.mean((2, 3), keepdim=True) + x.sum(1, keepdim=True) + x.max(0),
    "variance": lambda x: ops.var(x, (1, 3)) + ops.amin(x, (1, 3)),
    "total": lambda x: x.sum(),
    "shapes": lambda x: x.permute(0, 2, 3, 1).flatten(2).transpose(1, 2).unsqueeze(1).squeeze(1),
    "spread": lambda x: x[:, :, :1, :1].expand(2, 4, 3, 5),
    "slices": lambda x: x[:, 1:4:2, ..., -3:] + x[:, :1, :, 2][..., None],
    "selection": lambda x: x[:, [3, 0, 0]],
    "mirrored": lambda x: ops.flip(x, (1, 3)),
    "joined": lambda x: ops.cat([x[:, :2], x, x * 2], 1),
    "stacked": lambda x: ops.stack(list(ops.split(x, 2, 1)), 1),
    "shuffled": lambda x: x.reshape(2, 2, 2, 6, 8).transpose(1, 2).reshape(2, 4, 6, 8),
    "padded": lambda x: ops.pad(x, (1, -2, 0, 3), value=0.0),
    "padded with a value": lambda x: ops.pad(x, (1, 2), value=7.0),
    "reflected": lambda x: ops.pad(x, (1, 2, 3, 0), "reflect"),
    "replicated": lambda x: ops.pad(x, (1, 2, 3, 0), "replicate"),
    "constants": lambda x: x * ops.softmax(cnncore.tensor(VECTOR), 1).sum(),
    "unchanged": lambda x: x,
}
W_CONV, W_LINEAR, W_PLANE = array(4, 2, 3, 2), array(5, 192), array(6, 8)
for _name in (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid"),
    *("log_sigmoid", "hardsigmoid", "hardswish", "hardtanh", "tanh", "softplus", "softsign"),
):
    CASES[_name] = getattr(ops, _name)
CASES["gelu, tanh"] = lambda x: ops.gelu(x, "tanh")
CASES["softplus, beta"] = lambda x: ops.softplus(x, beta=2.0)

OTHER = {"linear": "batch", "total": "batch", "spread": "batch", "shuffled": "batch"}


def evaluated(proto: onnx.ModelProto, inputs: list[np.ndarray]) -> list[np.ndarray]:
    names = [v.name for v in proto.graph.input]
    return ReferenceEvaluator(proto).run(None, dict(zip(names, inputs, strict=True)))


@pytest.mark.parametrize("case", CASES)
def test_every_op(case: str) -> None:
    model = Applied(CASES[case])
    proto = to_proto(model, X)
    onnx.checker.check_model(proto, full_check=True)
    x = array(*X.shape)
    (y,) = evaluated(proto, [x])
    expected = model(cnncore.tensor(x)).numpy()
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_the_batch_stays_open_where_the_network_allows_it() -> None:
    def first_axis(case: str):
        return to_proto(Applied(CASES[case]), X).graph.input[0].type.tensor_type.shape.dim[0]

    for case in ("conv", "linear", "global mean", "softmax", "local response", "bilinear"):
        assert first_axis(case).dim_param == "N", case
    for case in ("shuffled", "spread"):  # their shapes are written in the code
        assert first_axis(case).dim_value == 2, case
    proto = to_proto(Applied(CASES["linear"]), X)
    assert load(proto)(array(5, 4, 6, 8)).shape == (5, 5)


def test_float64_stays_float64() -> None:
    model = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).to(np.float64).eval()
    x = X.astype(np.float64)
    (y,) = evaluated(to_proto(model, x), [x])
    np.testing.assert_allclose(y, model(x).numpy(), rtol=1e-12, atol=1e-12)


def test_names() -> None:
    nn.init.seed(0)
    model = nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU()).eval()
    proto = to_proto(model, X, input_names=["image"], output_names=["map"])
    assert [t.name for t in proto.graph.initializer] == ["0.weight", "0.bias"]
    assert [n.name for n in proto.graph.node if n.name] == ["0/Conv", "1/Relu"]
    assert [v.name for v in (*proto.graph.input, *proto.graph.output)] == ["image", "map"]
    with pytest.raises(ArgumentError, match="input_names"):
        to_proto(model, X, input_names=["a", "b"])


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    model = Applied(lambda x, y: {"sum": x + y, "both": (x * y, x * y)})
    export(model, [X, 2 * X], tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    assert [v.name for v in proto.graph.input] == ["input_0", "input_1"]
    outputs = evaluated(proto, [X, X])
    for y, expected in zip(outputs, (2 * X, X * X, X * X), strict=True):
        np.testing.assert_allclose(y, expected, rtol=1e-6)


SMALL = [
    *("lenet5", "resnet18", "mobilenet_v1", "mobilenet_v2", "efficientnet_b0"),
    *("efficientnet_lite0", "googlenet", "bn_inception", "nasnet_mobile", "unet"),
]


@pytest.mark.parametrize("name", SMALL)
def test_models(name: str) -> None:
    """Traced, written, checked, read back and compared on other numbers, all by ``to_proto``."""
    nn.init.seed(0)
    if name == "unet":
        model, shape = models.create(name, num_classes=3, base=4, depth=2), (1, 3, 30, 44)
    else:
        model, shape = models.create(name), (1, *VARIANTS[name].input_shape)
    proto = to_proto(model.eval(), array(*shape))
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    held = {t.name for t in proto.graph.initializer}
    convolutions = [
        k for k, p in model.named_parameters() if p.ndim == 4 and not k.startswith("aux")
    ]
    assert set(convolutions) <= held


@pytest.mark.parametrize("name", SMALL_SEGMENTERS)
def test_segmenters(name: str) -> None:
    nn.init.seed(0)
    model = models.create(name, num_classes=3, **SMALL_SEGMENTERS[name]).eval()
    x = array(1, 3, 64, 96)
    proto = to_proto(model, x)
    onnx.checker.check_model(proto, full_check=True)
    # The interleaving of a sliding window is written with the example's sizes.
    batch = "" if name == "sliding_window" else "N"
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == batch


def test_a_model_read_from_onnx_is_written_back_with_its_present_weights(tmp_path: Path) -> None:
    nn.init.seed(0)
    model = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).eval()
    export(model, X, tmp_path / "a.onnx")
    read = load(tmp_path / "a.onnx").train()
    before = read(X).numpy()
    for parameter in read.parameters():
        parameter.data *= 2
    with pytest.raises(ArgumentError, match="eval"):
        export(read, X, tmp_path / "b.onnx")
    export(read.eval(), X, tmp_path / "b.onnx")
    again = load(tmp_path / "b.onnx")
    np.testing.assert_array_equal(again(X).numpy(), read(X).numpy())
    assert np.abs(again(X).numpy() - before).max() > 0.1
    export(load(one_node("Gelu", [X])), X, tmp_path / "c.onnx")  # nothing to trace here


# --- what is refused ------------------------------------------------------------------------------


class Twice(Function):
    """An op that the exporter has never heard of."""

    def forward(self, x):
        return 2 * x


def test_ops_without_a_form_in_onnx_are_named_with_their_layer(tmp_path: Path) -> None:
    model = nn.Sequential({"stem": nn.ReLU(), "odd": Applied(lambda x: Twice()(x))}).eval()
    with pytest.raises(ExportError, match="Twice in layer 'odd'"):
        export(model, X, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
    with pytest.raises(ExportError, match="adaptive max pooling"):
        to_proto(Applied(lambda x: ops.adaptive_max_pool2d(x, 5)), X)
    indices = np.arange(2 * 4 * 6 * 8).reshape(X.shape) % 48
    for pooled in (
        lambda x: ops.max_unpool2d(x, indices, 1),  # of no pooling
        lambda x: ops.max_unpool2d(
            *ops.max_pool2d(x, 2, return_indices=True), 2, output_size=(7, 8)
        ),
    ):
        with pytest.raises(ExportError, match="max unpooling"):
            to_proto(Applied(pooled), X)
    with pytest.raises(ExportError, match="statistics of the batch"):
        to_proto(Applied(lambda x: ops.batch_norm(x, None, None, training=True)), X)


def test_models_that_decide_by_values_are_refused() -> None:
    with pytest.raises(ArgumentError):
        to_proto(Applied(lambda x: x * 2 if (x.data == X).all() else x - 1), X)
    with pytest.raises(ArgumentError):
        to_proto(Applied(lambda x: x * cnncore.tensor(x.data.mean())), X)


def test_models_in_training_mode_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"model\.eval\(\)"):
        to_proto(nn.Sequential(nn.ReLU()), X)


def test_a_wrong_file_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from cnncore.onnx.exporter import writers

    monkeypatch.setitem(writers.WRITERS, "Add", lambda b, op, x, node: b.node("Sub", *x))
    with pytest.raises(ExportError, match="does not compute"):
        to_proto(Applied(lambda x: x + 1), X)
