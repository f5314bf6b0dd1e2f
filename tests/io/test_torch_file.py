"""Files of PyTorch, in both layouts, and what is taken out of them."""

from __future__ import annotations

import contextlib
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from torch_builder import (
    ORDERED,
    Call,
    Global,
    Persistent,
    Raw,
    Specimen,
    dump,
    encode,
    specimen,
    storage,
    tensor,
)

from cnncore import io, models
from cnncore.errors import ArgumentError
from cnncore.io.torch_file import DESCRIPTION_FACTOR
from cnncore.models.backbones import ResNetSettings
from cnncore.models.detection import RoiSettings, RpnSettings

LAYOUTS = ["zip", "legacy"]
BASE = np.arange(60, dtype=np.float32)
STATE = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7,
    "double": np.array([1.5, -2.5, np.inf]),
    "half": np.array([0.1, 65504, -0.0], np.float16),
    "steps": np.array(7, np.int64),
    "bytes": np.array([[0, 255]], np.uint8),
    "small": np.array([-128, 127], np.int8),
    "short": np.array([-(2**15), 300], np.int16),
    "int": np.array([-(2**31), 70000], np.int32),
    "flags": np.array([True, False, True]),
    "empty": np.zeros((0, 4), np.float32),
    "transposed": BASE[:12].reshape(3, 4).T,
    "inside": BASE[7:39].reshape(4, 8)[1:, ::2],
}


@pytest.fixture(params=LAYOUTS)
def layout(request) -> str:
    return request.param


def write(folder: Path, content: bytes, name: str = "weights.pth") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_every_array_comes_back(tmp_path: Path, layout: str) -> None:
    loaded = io.load(write(tmp_path, specimen(layout, STATE).bytes()))
    assert list(loaded) == list(STATE)
    for name, value in STATE.items():
        assert loaded[name].dtype == value.dtype
        assert loaded[name].shape == value.shape
        assert loaded[name].tobytes() == value.tobytes()  # bits: −0 and inf, too
        assert loaded[name].flags.aligned


def test_a_big_endian_archive(tmp_path: Path) -> None:
    loaded = io.load(write(tmp_path, specimen("zip", STATE, order="big").bytes()))
    for name, value in STATE.items():
        np.testing.assert_array_equal(loaded[name], value)
        assert loaded[name].dtype == value.dtype


def test_an_archive_from_before_byte_orders_were_written(tmp_path: Path) -> None:
    made = specimen("zip", STATE)
    made.order = None
    np.testing.assert_array_equal(io.load(write(tmp_path, made.bytes()))["double"], STATE["double"])


def test_bfloat16_becomes_float32(tmp_path: Path, layout: str) -> None:
    exact = np.array([1, -2.5, 3.140625, np.inf, 2.0**-130], np.float32)  # 8 bits suffice
    content = (exact.view(np.uint32) >> 16).astype("<u2").tobytes()
    view = [None] if layout == "legacy" else []
    value = {"x": tensor(storage("BFloat16", "0", 5, *view), 1, (2, 2), (2, 1))}
    loaded = io.load(write(tmp_path, Specimen(layout, dump(value), {"0": (5, content)}).bytes()))
    assert loaded["x"].dtype == np.float32
    np.testing.assert_array_equal(loaded["x"], exact[1:].reshape(2, 2))


def test_unsigned_types_on_untyped_storages(tmp_path: Path, layout: str) -> None:
    """PyTorch 2 writes the types that have no storage class of their own this way."""
    content = np.array([1, 2, 65535], "<u2")
    stored = Persistent(
        ("storage", Global("torch.storage", "UntypedStorage"), "0", "cpu", 6)
        + ((None,) if layout == "legacy" else ())
    )
    rebuild = Global("torch._utils", "_rebuild_tensor_v3")
    value = {"x": Call(rebuild, (stored, 1, (2,), (1,), False, ORDERED, Global("torch", "uint16")))}
    made = Specimen(layout, dump(value), {"0": (6, content.tobytes())})
    loaded = io.load(write(tmp_path, made.bytes()))
    assert loaded["x"].dtype == np.uint16
    assert loaded["x"].tolist() == [2, 65535]


FLOATS = {"0": (3, np.array([1, 2, 3], "<f4").tobytes())}


def test_parameters_and_the_forms_of_2017(tmp_path: Path) -> None:
    stored = storage("Float", "0", 3, None)
    plain = Call(Global("torch._utils", "_rebuild_tensor"), (stored, 0, (3,), (1,)))
    parameter = Call(Global("torch._utils", "_rebuild_parameter"), (plain, True, ORDERED))

    def built(kind: Global, state: object) -> Raw:
        return Raw(encode(kind) + b")\x81" + encode(state) + b"b")

    blank = built(Global("torch", "FloatTensor"), (stored, 1, (2,), (1,)))
    old = built(Global("torch.nn.parameter", "Parameter"), (blank, None, None, True, None))
    pairs = Call(Global("collections", "OrderedDict"), ([["a", plain], ["b", parameter]],))
    stretch = storage("Float", "0", 3, ("1", 1, 2))
    view = tensor(stretch, 1, (1,), (1,))
    for value, expected in [
        (pairs, {"a": [1, 2, 3], "b": [1, 2, 3]}),
        ({"c": blank, "d": old}, {"c": [2, 3], "d": [2, 3]}),
        ({"e": view}, {"e": [3]}),
    ]:
        path = write(tmp_path, Specimen("legacy", dump(value), FLOATS).bytes())
        assert {k: v.tolist() for k, v in io.load(path).items()} == expected


def test_tied_weights_stay_tied(tmp_path: Path, layout: str) -> None:
    view = [None] if layout == "legacy" else []
    one = tensor(storage("Float", "0", 3, *view), 0, (3,), (1,))
    two = tensor(storage("Float", "0", 3, *view), 1, (2,), (1,))
    path = write(tmp_path, Specimen(layout, dump({"a": one, "b": two}), FLOATS).bytes())
    loaded = io.load(path)
    assert np.shares_memory(loaded["a"], loaded["b"])
    loaded["a"][1] = 9
    assert loaded["b"].tolist() == [9, 3]


# --- which of the file's values are the weights ---------------------------------------------------

ONE = tensor(storage("Float", "0", 3), 0, (3,), (1,))


def made(folder: Path, value: object) -> Path:
    return write(folder, Specimen("zip", dump(value), FLOATS).bytes())


def test_weights_among_other_things(tmp_path: Path) -> None:
    for value in (
        {"epoch": 3, "state_dict": {"w": ONE}, "best": ONE, "note": None},
        {"epoch": 3, "net": {"w": ONE}, "optimizer": {"state": {0: {"m": ONE}}}, "note": None},
        {"epoch": 3, "w": ONE, "note": None},
    ):
        path = made(tmp_path, value)
        assert io.load(path)["w"].tolist() == [1, 2, 3]
        assert io.load_metadata(path) == {"epoch": 3, "note": None}
    assert list(io.load(made(tmp_path, {"model": {"a": ONE}, "ema": {"b": ONE}}))) == ["a"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"net": {"w": ONE}, "ema": {"w": ONE}}, "several .*'net', 'ema'"),
        ({"w": ONE, "ema": {"w": ONE}}, "several"),
        ([ONE], "a list, not"),
        (ONE, "a ndarray, not"),
        ({0: ONE}, "named by numbers"),
        ({"w": ONE, "also": [ONE]}, "'also', a list"),
    ],
)
def test_what_is_not_clearly_the_weights_is_asked_about(tmp_path, value, message) -> None:
    path = made(tmp_path, value)
    with pytest.raises(io.FileFormatError, match=f"weights.pth: .*{message}.*read_torch"):
        io.load(path)
    io.read_torch(path)


def test_all_that_a_file_holds(tmp_path: Path) -> None:
    value = {
        "a": [1, -(2**40), 2.5, "ü", None, True, (ONE, ())],
        "type": Global("torch", "float32"),
        "size": Call(Global("torch", "Size"), ((2, 3),)),
        3: {},
    }
    loaded = io.read_torch(made(tmp_path, value))
    assert loaded["a"][6][0].tolist() == [1, 2, 3]
    loaded["a"][6] = "array"
    assert loaded == {
        "a": [1, -(2**40), 2.5, "ü", None, True, "array"],
        "type": "torch.float32",
        "size": (2, 3),
        3: {},
    }


def test_attributes_of_a_state_dict_are_left_out(tmp_path: Path) -> None:
    """PyTorch writes each module's version as an attribute of the dictionary."""
    body = encode(ORDERED) + encode("w") + encode(ONE) + b"s"
    path = made(tmp_path, Raw(body + encode({"_metadata": ORDERED}) + b"b"))
    assert list(io.load(path)) == ["w"]


def test_errors_of_use(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="exists"):
        io.read_torch(tmp_path / "none.pth")
    for name in ("a.pth", "a.pt"):
        with pytest.raises(ArgumentError, match=r"ends in \.npz or \.safetensors"):
            io.save(tmp_path / name, {})


# --- memory ---------------------------------------------------------------------------------------


CHUNKS = 1 << 20  # what is on its way from the file


def peak_of(path: Path) -> int:
    tracemalloc.start()
    try:
        kept = io.read_torch(path)
        peak = tracemalloc.get_traced_memory()[1]
        del kept
    finally:
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize(("kind", "width", "factor"), [("Float", 4, 1), ("BFloat16", 2, 3)])
def test_memory_of_the_numbers(tmp_path, layout: str, kind: str, width: int, factor: int) -> None:
    count = 4 << 20
    view = [None] if layout == "legacy" else []
    # Fifty names for the same storage cost nothing either.
    one = tensor(storage(kind, "0", count, *view), 0, (count,), (1,))
    value = dict.fromkeys(map(str, range(50)), one)
    pickle = dump(value)
    path = write(tmp_path, Specimen(layout, pickle, {"0": (count, bytes(count * width))}).bytes())
    assert peak_of(path) <= factor * count * width + DESCRIPTION_FACTOR * len(pickle) + CHUNKS


# Programs that make as many objects out of few bytes as they can.
MANY = 50_000
MULTIPLIERS = {
    "dictionaries": b"](" + b"}" * MANY + b"e",
    "lists in a tuple": b"(" + b"]" * MANY + b"t",
    "marks": b"(" * MANY,
    "nested tuples": b")" + b"\x85" * MANY,
    "nested lists": b"]" * MANY + b"a" * (MANY - 1),
    "memo": b"N" + b"".join(b"r" + n.to_bytes(4, "little") for n in range(MANY)),
    "tensors": b"](" + encode(ONE) + b"q\0" + b"h\0" * MANY + b"e",
}


@pytest.mark.parametrize("name", MULTIPLIERS)
def test_memory_of_the_description(tmp_path: Path, layout: str, name: str) -> None:
    content = Specimen(layout, dump(Raw(MULTIPLIERS[name])), FLOATS).bytes()
    path = write(tmp_path, content)
    tracemalloc.start()
    try:
        with contextlib.suppress(io.FileFormatError):  # read or refused: both within the bound
            io.read_torch(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= DESCRIPTION_FACTOR * len(content)


def test_a_public_detector_file_gives_its_weights_by_path(tmp_path: Path) -> None:
    """Every key of torchvision's file under its names of 2019, in the layout of that year."""
    full = models.outline("maskrcnn_resnet50_fpn", num_classes=90)
    thin = {
        "body": ResNetSettings(stem_channels=8, widths=(8, 8, 8, 8), norm="frozen_exact"),
        "fpn_channels": 8,
        "rpn": RpnSettings(channels=8),
        "roi": RoiSettings(box_channels=16, mask_channels=8),
    }
    rng = np.random.default_rng(0)
    model = models.create("maskrcnn_resnet50_fpn", num_classes=90, **thin)
    state = {k: rng.random(v.shape).astype(v.dtype) for k, v in model.state_dict().items()}
    assert list(state) == list(full.state_dict())
    old = {}
    for key, value in state.items():
        key = re.sub(r"(fpn\.\w+_blocks\.\d|rpn\.head\.conv)\.0(?:\.0)?\.", r"\1.", key)
        key = re.sub(r"mask_head\.(\d)\.0", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}", key)
        old[key] = value
    assert {"backbone.fpn.inner_blocks.0.weight", "rpn.head.conv.bias",
            "roi_heads.mask_head.mask_fcn1.weight"} <= set(old)  # fmt: skip
    path = write(tmp_path, specimen("legacy", old).bytes(), "maskrcnn_resnet50_fpn_coco.pth")
    loaded = models.create("maskrcnn_resnet50_fpn", num_classes=90, weights=path, **thin)
    for key, value in loaded.state_dict().items():
        np.testing.assert_array_equal(value, state[key], err_msg=key)
    with pytest.raises(ArgumentError, match="cls_score"):  # 20 classes do not fit
        models.create("maskrcnn_resnet50_fpn", num_classes=20, weights=path, **thin)
