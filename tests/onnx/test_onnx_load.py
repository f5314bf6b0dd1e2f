"""Reading models: where weights may lie, what becomes of them, what is refused in which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import helper, numpy_helper  # noqa: E402
from onnx_models import model_of, one_node  # noqa: E402

import cnncore  # noqa: E402
from cnncore import explain, io, nn, tensor  # noqa: E402
from cnncore.errors import ArgumentError, DTypeError, ShapeError  # noqa: E402
from cnncore.onnx import ModelError, NodeError, UnsupportedOperator, load  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 6, 5)).astype(np.float32)
W = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)


def array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def small_network(**settings) -> onnx.ModelProto:
    """Conv, batch norm, Relu, mean, Gemm; the filter of the Conv is a Constant node."""
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(W)),
        helper.make_node("Conv", ["x", "w"], ["a"], name="/body/conv1", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "s", "b", "m", "v"], ["n"], name="bn"),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("ReduceMean", ["r", "axes"], ["p"], keepdims=0),
        helper.make_node("Gemm", ["p", "fc", "fcb"], ["y"], transB=1),
    ]
    weights = {
        "s": np.float32([1, 2, 0.5, 1]),
        "b": np.float32([0, 1, 0, -1]),
        "m": np.float32([0, 0.1, -0.2, 0]),
        "v": np.float32([1, 2, 0.5, 1]),
        "axes": np.int64([2, 3]),
        "fc": array(2, 4),
        "fcb": np.float32([1, -1]),
    }
    return model_of(nodes, {"x": X}, ["y"], weights, **settings)


# --- what becomes of a graph ----------------------------------------------------------------------


def test_weights_are_parameters_under_the_names_of_the_operators_definition() -> None:
    model = load(small_network())
    assert [name for name, _ in model.named_parameters()] == [
        "body.conv1.W",
        "bn.scale",
        "bn.B",
        "Gemm_4.B",
        "Gemm_4.C",
    ]
    assert [name for name, _ in model.named_buffers()] == [
        "bn.input_mean",
        "bn.input_var",
        "ReduceMean_3.axes",
    ]
    assert not model.training
    np.testing.assert_array_equal(model.weight("w").numpy(), W)


def test_run_and_call_agree_with_the_layers_written_out() -> None:
    proto = small_network()
    w = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    ops = cnncore.ops
    y = ops.conv2d(X, W, padding=1)
    y = ops.relu(ops.batch_norm(y, w["m"], w["v"], w["s"], w["b"]))
    expected = ops.linear(y.mean((2, 3)), w["fc"], w["fcb"]).numpy()
    model = load(proto)
    for outputs in (model.run({"x": X})[0], model(X).numpy(), model(x=tensor(X)).numpy()):
        np.testing.assert_allclose(outputs, expected, rtol=1e-6, atol=1e-6)
    inner = model.run({"x": X}, ["r", "y"])
    assert inner[0].shape == (2, 4, 6, 5)
    np.testing.assert_allclose(inner[1], expected, rtol=1e-6, atol=1e-6)


def test_it_learns_and_batch_norm_moves_in_training_only() -> None:
    model = load(small_network())
    mean = model.state_dict()["bn.input_mean"]
    optimizer = cnncore.optim.SGD(model.parameters(), lr=0.1)
    target = np.float32([[1, 0], [0, 1]])
    losses = []
    model.train()
    for _ in range(50):
        loss = cnncore.ops.mse_loss(model(X), target)
        model.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    moved = model.state_dict()["bn.input_mean"]
    assert np.abs(moved - mean).max() > 1e-3
    model.eval()
    model(X)
    np.testing.assert_array_equal(model.state_dict()["bn.input_mean"], moved)


def test_it_is_saved_and_loaded_like_any_module(tmp_path: Path) -> None:
    model, other = load(small_network()), load(small_network())
    for parameter in other.parameters():
        parameter.data[...] = 0
    io.save(tmp_path / "w.npz", model.state_dict())
    other.load_state_dict(io.load(tmp_path / "w.npz"))
    np.testing.assert_array_equal(other(X).numpy(), model(X).numpy())


def test_costs_name_the_nodes() -> None:
    table = explain.cost(load(small_network()), (3, 6, 5), batch=2)
    rows = {row.name: row for row in table.rows}
    conv = rows["body.conv1"]
    assert (conv.kind, conv.parameters) == ("Conv", W.size)
    assert conv.multiply_adds == 2 * 4 * 6 * 5 * 3 * 9
    assert rows["Gemm_4"].parameters == 10


def test_a_weight_that_two_nodes_share_is_one_parameter() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("MatMul", ["a", "w"], ["y"], name="second"),
    ]
    model = load(model_of(nodes, {"x": array(2, 3)}, ["y"], {"w": array(3, 3)}))
    assert [name for name, _ in model.named_parameters()] == ["first.B"]
    model(array(2, 3)).sum().backward()
    assert model.weight("w").grad is not None


def test_names_that_a_module_has_already() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="forward"),
        helper.make_node("Neg", ["a"], ["b"], name="same"),
        helper.make_node("Abs", ["b"], ["y"], name="same"),
    ]
    model = load(model_of(nodes, {"x": X}, ["y"]))
    np.testing.assert_array_equal(model(X).numpy(), np.maximum(X, 0))
    assert list(model.children()) == ["forward_", "same", "same_"]


def test_initialisers_that_are_also_inputs_may_be_given_or_not() -> None:
    node = helper.make_node("Add", ["x", "w"], ["y"])
    w = array(6, 5)
    proto = model_of([node], {"x": X, "w": w}, ["y"], {"w": w})
    model = load(proto)
    assert model.input_names == ["x"]
    np.testing.assert_array_equal(model.run({"x": X})[0], X + w)
    np.testing.assert_array_equal(model.run({"x": X, "w": 2 * w})[0], X + 2 * w)


def test_sizes_are_those_of_an_example_but_rank_and_type_are_not() -> None:
    model = load(one_node("Relu", [X]))
    assert model(array(1, 1, 9, 2)).shape == (1, 1, 9, 2)
    with pytest.raises(ShapeError, match="4 axes"):
        model(array(3, 3))
    with pytest.raises(DTypeError, match="float32"):
        model(X.astype(np.float64))
    with pytest.raises(ArgumentError, match=r"no \['i0'\]"):
        model()
    with pytest.raises(ArgumentError, match="also"):
        model.run({"i0": X, "i1": X})
    with pytest.raises(ArgumentError, match="values that the graph computes"):
        model.run({"i0": X}, ["nothing"])


def test_half_precision_is_computed_in_float32() -> None:
    x, w = array(1, 600).astype(np.float16), array(600, 2).astype(np.float16)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = load(model_of([node], {"x": x}, ["y"], {"w": w}))
    y = model.run({"x": x})[0]
    assert y.dtype == np.float16
    exact = x.astype(np.float64) @ w.astype(np.float64)
    np.testing.assert_array_equal(y, exact.astype(np.float32).astype(np.float16))
    model(x).to("float32").sum().backward()
    assert model.weight("w").grad.dtype == np.float16


def test_functions_of_a_model_are_run() -> None:
    body = helper.make_function(
        "local",
        "ScaledRelu",
        ["x"],
        ["y"],
        [
            helper.make_node("Relu", ["x"], ["r"]),
            onnx.parser.parse_node("k = Constant<value_float: float = @scale>()"),
            helper.make_node("Mul", ["r", "k"], ["y"]),
        ],
        [helper.make_opsetid("", 18)],
        ["scale"],
    )
    node = helper.make_node("ScaledRelu", ["x"], ["y"], domain="local", scale=3.0)
    more = [helper.make_opsetid("local", 1)]
    proto = model_of([node], {"x": X}, ["y"], opset=18, more_opsets=more, functions=[body])
    np.testing.assert_array_equal(load(proto).run({"x": X})[0], 3 * np.maximum(X, 0))


# --- where weights may lie ------------------------------------------------------------------------


def external(tmp_path: Path, location: str, **more: int) -> Path:
    """A model in ``tmp_path/model`` whose weight is said to lie at ``location``."""
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    proto = model_of([helper.make_node("Add", ["x", "w"], ["y"])], {"x": X}, ["y"], {"w": W[0, 0]})
    (weight,) = proto.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        weight.external_data.add(key=key, value=str(value))
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


def test_external_weights(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin", offset=8, length=36)
    (path.parent / "weights.bin").write_bytes(bytes(8) + W[0, 0].tobytes() + b"more")
    np.testing.assert_array_equal(load(path).weight("w").numpy(), W[0, 0])
    content = path.read_bytes()
    np.testing.assert_array_equal(load(content, path.parent).weight("w").numpy(), W[0, 0])
    with pytest.raises(ModelError, match="no folder"):
        load(content)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "a/../../secret.bin", "{tmp}/secret.bin", "link", ""]
)
def test_external_weights_never_come_from_outside_the_folder(tmp_path: Path, location: str) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(36))
    path = external(tmp_path, location.format(tmp=tmp_path))
    if location == "link":
        (path.parent / "link").symlink_to(secret)
    with pytest.raises(ModelError, match="inside the model's folder"):
        load(path)


@pytest.mark.parametrize(
    "more", [{"length": 35}, {"offset": 4}, {"offset": -4}, {"length": 2**40}, {"offset": "a"}]
)
def test_external_weights_have_the_size_of_their_shape(tmp_path: Path, more: dict) -> None:
    path = external(tmp_path, "weights.bin", **more)
    (path.parent / "weights.bin").write_bytes(bytes(36))
    with pytest.raises(ModelError, match=r"weights\.bin"):
        load(path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such file"):
        load(external(tmp_path, "weights.bin"))
    with pytest.raises(ModelError, match="there is no such file"):
        load(tmp_path / "none.onnx")


# --- what is refused, and how ---------------------------------------------------------------------


def test_operators_that_are_not_supported_are_named_before_anything_runs() -> None:
    lstm = helper.make_node("LSTM", ["x", "w", "r"], ["", "y"], name="memory", hidden_size=2)
    proto = model_of([lstm], {"x": X[0], "w": X[0], "r": X[0]}, ["y"], opset=14)
    with pytest.raises(UnsupportedOperator, match=r"LSTM of opset 14 .*\(node 'memory'\)"):
        load(proto)
    other = helper.make_node("FusedConv", ["x"], ["y"], domain="com.microsoft")
    more = [helper.make_opsetid("com.microsoft", 1)]
    with pytest.raises(UnsupportedOperator, match=r"com\.microsoft\.FusedConv of opset 1"):
        load(model_of([other], {"x": X}, ["y"], more_opsets=more))


def test_a_node_that_fails_is_named() -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="stem")
    model = load(model_of([conv], {"x": X}, ["y"], {"w": array(4, 2, 3, 3)}, opset=13))
    with pytest.raises(NodeError, match=r"Conv of opset 13 \(node 'stem'\).*C/groups = 3"):
        model(X)
    gather = helper.make_node("Gather", ["x", "i"], ["y"], name="pick")
    model = load(model_of([gather], {"x": X}, ["y"], {"i": np.int64([7])}))
    with pytest.raises(NodeError, match=r"Gather.*pick.*index outside an axis of size 2"):
        model(X)


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        load(b"\xff\xff no model")
    with pytest.raises(ArgumentError, match="source"):
        load(3)
    proto = one_node("Relu", [X])
    proto.opset_import[0].version = 9999
    with pytest.raises(ModelError, match="opset 9999"):
        load(proto)
    proto = model_of([helper.make_node("Neg", ["w"], ["y"])], {}, ["y"], {"w": W})
    proto.graph.initializer[0].raw_data = b"short"
    with pytest.raises(ModelError, match="'w'"):
        load(proto)


def test_the_package_is_imported_without_onnx() -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "import cnncore.onnx\n"
        "from cnncore.errors import MissingDependencyError\n"
        "try: cnncore.onnx.load(b'')\n"
        "except MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "cnncore[onnx]"' in done.stdout


def test_nodes_show_their_type_and_attributes() -> None:
    model = load(small_network())
    assert "body.conv1: Conv(pads=(1, 1, 1, 1))" in repr(model)
    assert isinstance(model, nn.Module)
