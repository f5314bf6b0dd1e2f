"""Files that want to do harm: each is refused with its reason, and nothing happens.

The attacks are the published ones on PyTorch's own readers (CVE-2025-32434, CVE-2026-24747), on
pickle, and on zip archives, and what else the format lets one say.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from torch_builder import (
    ORDERED,
    REBUILD,
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
    with_pickle,
    zip_archive,
)
from torch_watch import examine

import cnncore.io
from cnncore.io import FileFormatError, RefusedError
from cnncore.io.torch_file import read_stream
from cnncore.io.torch_file.pickle_machine import OPCODES, REFUSED

STORED = storage("Float", "0", 12)
ONE = tensor(STORED, 0, (12,), (1,))


def refused(content: bytes, message: str, kind: type = RefusedError) -> None:
    """Refused with this reason, under watch and within the bound on memory."""
    with pytest.raises(kind, match=message) as caught:
        read_stream(io.BytesIO(content), len(content))
    assert len(str(caught.value)) < 1000
    assert examine(content) == str(caught.value)


def test_the_watch_sees_what_a_reader_does(tmp_path: Path) -> None:
    """An oracle that cannot ring is no oracle."""
    marker = tmp_path / "marker"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    with pytest.raises(AssertionError, match=r"os\.system"):
        examine(pickle.dumps(Evil(), 2), lambda file, size: pickle.load(file))
    assert marker.exists()
    with pytest.raises(AssertionError, match="open"):
        examine(b"", lambda file, size: Path(__file__).read_text())
    with pytest.raises(AssertionError, match="memory"):
        examine(b"", lambda file, size: np.zeros(1 << 19))
    with pytest.raises(KeyError):
        examine(b"", lambda file, size: {}[0])
    assert examine(with_pickle("zip", {"w": ONE})) == "read"


# --- calls ----------------------------------------------------------------------------------------

CALLS = {
    "os.system": Call(Global("os", "system"), ("echo hello",)),
    "posix.system": Call(Global("posix", "system"), ("echo hello",)),
    "builtins.eval": Call(Global("builtins", "eval"), ("1",)),
    "builtins.getattr": Call(Global("builtins", "getattr"), (REBUILD, "__globals__")),
    "__builtin__.exec": Call(Global("__builtin__", "exec"), ("1",)),
    "subprocess.Popen": Call(Global("subprocess", "Popen"), (["sh"],)),
    "numpy.load": Call(Global("numpy", "load"), ("x",)),
    "torch.load": Call(Global("torch", "load"), ("x",)),
    "torch.hub.load": Call(Global("torch.hub", "load"), ("x", "y")),
    "torch.jit.load": Call(Global("torch.jit", "load"), ("x",)),
    "torch.storage._load_from_bytes": Call(Global("torch.storage", "_load_from_bytes"), ("x",)),
    "torch._utils._rebuild_qtensor": Call(Global("torch._utils", "_rebuild_qtensor"), ()),
    "torch._tensor._rebuild_from_type_v2": Call(
        Global("torch._tensor", "_rebuild_from_type_v2"), (Global("os", "system"), (), (), {})
    ),
    "cnncore.io.save": Call(Global("cnncore.io", "save"), ("x",)),
    "collections.OrderedDict.fromkeys": Call(Global("collections", "OrderedDict.fromkeys"), ("x",)),
    "torch._utils.os.system": Call(Global("torch._utils", "os.system"), ("x",)),
    "torchvision.models.resnet.ResNet": Global("torchvision.models.resnet", "ResNet"),
}


@pytest.mark.parametrize("layout", ["zip", "legacy"])
@pytest.mark.parametrize("name", CALLS)
def test_a_global_that_tensors_do_not_need_is_named(layout: str, name: str) -> None:
    refused(with_pickle(layout, {"w": ONE, "x": CALLS[name]}), f"the global '{name}'")


def test_a_bare_pickle_that_runs_a_command(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'marker'}",)

    path = tmp_path / "weights.pt"
    for protocol, message in [(2, "system'"), (4, "protocol 4"), (5, "protocol 5")]:
        path.write_bytes(pickle.dumps(Evil(), protocol))
        with pytest.raises(RefusedError, match=f"weights.pt: holds .*{message}"):
            cnncore.io.load(path)
    path.write_bytes(pickle.dumps(Evil(), 0))
    with pytest.raises(FileFormatError, match="not a file of PyTorch"):
        cnncore.io.load(path)
    assert os.listdir(tmp_path) == ["weights.pt"]


BLANK = Global("torch", "FloatTensor")
NESTED = {
    "a call of a tensor": Call(ONE, ()),
    "a call of a dictionary": Call(ORDERED, ()),
    "a call of text": Call("os.system", ("x",)),
    "a call of a storage type": Call(Global("torch", "FloatStorage"), (10**9,)),
    "a call of an element type": Call(Global("torch", "float32"), (1,)),
    "an object of a storage type": Raw(encode(Global("torch", "FloatStorage")) + b")\x81"),
    "an object of an element type": Raw(encode(Global("torch", "float32")) + b")\x81"),
    "an object with arguments": Raw(encode(BLANK) + encode((1,)) + b"\x81"),
    "a state for a list": Raw(b"]}b"),
    "a state for a dictionary": Raw(b"}}b"),
    "a state for a type": Raw(encode(REBUILD) + b"}b"),
    "a state for a tensor": Raw(encode(ONE) + encode({"__class__": 1}) + b"b"),
    "a state for a storage": Raw(encode(STORED) + encode((1, 2, 3, 4)) + b"b"),
    "a text for an ordered dictionary's state": Raw(encode(ORDERED) + encode("x") + b"b"),
    "a second state": Raw(encode(BLANK) + b")\x81" + 2 * (encode((STORED, 0, (1,), (1,))) + b"b")),
    "hooks": Call(REBUILD, (STORED, 0, (1,), (1,), False, {"hook": 1})),
    "metadata": Call(REBUILD, (STORED, 0, (1,), (1,), False, ORDERED, {"neg": True})),
    "a storage by itself": STORED,
    "a tensor in place of a storage": tensor(ONE, 0, (1,), (1,)),
    "a parameter of a number": Call(
        Global("torch._utils", "_rebuild_parameter"), (1, True, ORDERED)
    ),
    "another reference": Persistent(("module", "Evil", "file", "source")),
    "a reference by number": Persistent(7),
    "a storage of an unknown type": Persistent(("storage", "Float", "0", "cpu", 12)),
}


@pytest.mark.parametrize("name", NESTED)
def test_calls_states_and_references_that_make_no_tensor(name: str) -> None:
    refused(with_pickle("zip", {"w": NESTED[name]}), "nothing of it was executed")


def test_setting_items_of_what_is_no_dictionary() -> None:
    """CVE-2026-24747: SETITEM on a tensor or a storage wrote out of bounds."""
    for target in (ONE, STORED, [1, 2], (1, 2), "text", REBUILD, 5):
        for code in (encode(2**31 - 1) + encode(1.0) + b"s", b"(" + encode(0) + encode(1) + b"u"):
            refused(
                with_pickle("zip", Raw(encode(target) + code)),
                "sets an item of a|sets an item of '",
            )
    for target in (ONE, STORED, {}, (1, 2), "text"):
        for code in (encode(1) + b"a", b"(" + encode(1) + b"e"):
            refused(with_pickle("zip", Raw(encode(target) + code)), "appends to a")


def test_every_opcode_is_known_or_refused_by_name() -> None:
    for code in {*range(256)} - {ord(".")}:
        known = bytes([code]) in OPCODES
        outcome = examine(with_pickle("zip", Raw(bytes([code, code, code, code, 0, 0, 0, 0]))))
        name = REFUSED.get(bytes([code]), f"0x{code:02x}")
        assert (f"the pickle opcode {name}," in outcome) != known, code


# --- views ----------------------------------------------------------------------------------------

BIG = 2**62
VIEWS = {
    "reaches to element": [
        (0, (13,), (1,)), (12, (1,), (1,)), (13, (), ()), (1, (12,), (1,)), (0, (2, 2), (1, 12)),
        (0, (4, 4), (4, 1)), (BIG, (1,), (1,)), (0, (BIG,), (1,)), (0, (2,), (BIG,)),
        (0, (2**32, 2**32), (2**32, 1)), (0, (2**31, 2**31, 4), (1, 1, 1)), (BIG, (2,), (BIG,)),
        (12, (), ()),
    ],
    "elements overlap": [
        (0, (2,), (0,)), (0, (3, 3), (1, 1)), (0, (12, 1000), (1, 0)), (0, (4, 4), (2, 1)),
        (0, (2**40,), (0,)), (0, (2**31, 2**31), (0, 0)),
    ],
    r"is -\d": [
        (-1, (1,), (1,)), (0, (-1,), (1,)), (5, (2,), (-1,)), (0, (-BIG,), (1,)),
        (11, (3, 2), (-4, 1)),
    ],
    "is 1\\d*": [(0, (1,), (10**30,)), (10**40, (1,), (1,))],
    "is a": [
        (None, (1,), (1,)), (True, (1,), (1,)), (0, (1.0,), (1,)), (0, ("1",), (1,)), (0, 1, 1),
        (0, [1], [1]), (0, None, None), (0, {}, {}),
    ],
    "axes and": [(0, (1,), ()), (0, (), (1,)), (0, (1,) * 40, (1,) * 40)],
    "empty tensor": [
        (13, (0,), (1,)), (BIG, (0, 3), (3, 1)), (0, (0, BIG), (1, 1)),
        (0, (2**30, 2**30, 0), (1, 1, 1)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("layout", ["zip", "legacy"])
@pytest.mark.parametrize(("message", "view"), [(m, v) for m, views in VIEWS.items() for v in views])
def test_a_view_is_checked_before_it_is_made(layout: str, message: str, view: tuple) -> None:
    refused(with_pickle(layout, {"w": tensor(STORED, *view)}), message, FileFormatError)


@pytest.mark.parametrize("seed", range(3))
def test_views_against_a_count_of_their_elements(seed: int) -> None:
    """Any small view: accepted only if all its elements exist and no two are the same one."""
    rng = np.random.default_rng(seed)
    accepted = 0
    for _ in range(400):
        rank = rng.integers(0, 4)
        shape = tuple(map(int, rng.integers(0, 5, rank)))
        strides = tuple(map(int, rng.integers(0, 7, rank)))
        offset = int(rng.integers(0, 14))
        places = [
            offset + sum(i * s for i, s in zip(index, strides, strict=True))
            for index in np.ndindex(shape)
        ]
        sound = max(places, default=offset - 1) < 12 and len(set(places)) == len(places)
        content = with_pickle("zip", {"w": tensor(STORED, offset, shape, strides)})
        outcome = examine(content)
        if not sound:
            assert outcome != "read", (offset, shape, strides)
        elif outcome == "read":
            accepted += 1
            array = read_stream(io.BytesIO(content), len(content))["w"]
            numbers = np.frombuffer(bytes(range(48)), "<f4")
            np.testing.assert_array_equal(array.ravel(), numbers[places])
        else:  # refused although sound: only interleaved axes, which nothing saves
            assert "overlap" in outcome, (offset, shape, strides)
    assert accepted > 40


SIZES = {
    "zip": "bytes, not|is -|do not agree",
    "legacy": "as described|is -|do not agree|too early",
}


@pytest.mark.parametrize("layout", SIZES)
@pytest.mark.parametrize("count", [11, 13, 0, -1, BIG, 2**63 - 1])
def test_a_storage_of_another_size_than_it_says(layout: str, count: int) -> None:
    """CVE-2026-24747: the count in the pickle was believed."""
    one = tensor(storage("Float", "0", count), 0, (0,), (1,))
    refused(with_pickle(layout, {"w": one}), SIZES[layout], FileFormatError)


def test_a_legacy_storage_that_claims_more_than_the_file_has() -> None:
    for count in (13, 2**40, 2**62):
        one = tensor(storage("Float", "0", count), 0, (12,), (1,))
        made = Specimen("legacy", dump({"w": one}), {"0": (count, bytes(48))})
        refused(made.bytes(), "too early", FileFormatError)
    made = Specimen("legacy", dump({"w": ONE}), {"0": (12, bytes(48))})
    refused(made.bytes() + b"\0", "after the last storage", FileFormatError)
    negative = made.bytes().replace(struct.pack("<q", 12), struct.pack("<q", -12))
    refused(negative, "as described", FileFormatError)


def test_one_storage_described_in_two_ways() -> None:
    for other in (storage("Float", "0", 11), storage("Int", "0", 12), storage("Double", "0", 6)):
        value = {"a": ONE, "b": tensor(other, 0, (1,), (1,))}
        refused(with_pickle("zip", value), "do not agree", FileFormatError)
    untyped = Persistent(("storage", Global("torch.storage", "UntypedStorage"), "0", "cpu", 48))
    rebuild = Global("torch._utils", "_rebuild_tensor_v3")

    def typed(dtype: str) -> Call:
        kind = Global("torch", dtype)
        return Call(rebuild, (untyped, 0, (1,), (1,), False, ORDERED, kind))

    value = {"a": typed("uint32"), "b": typed("uint16")}
    refused(with_pickle("zip", value), "'0' as uint16 and as uint32")
    refused(with_pickle("zip", {"a": typed("float8_e4m3fn")}), "torch.float8_e4m3fn")
    refused(with_pickle("zip", {"a": tensor(untyped, 0, (1,), (1,))}), "None", FileFormatError)


@pytest.mark.parametrize("name", ["ComplexFloat", "QInt8", "Evil"])
def test_element_types_that_are_not_served_are_named(name: str) -> None:
    one = tensor(storage(name, "0", 12), 0, (12,), (1,))
    refused(with_pickle("zip", {"w": one}), f"torch.{name}Storage")


def test_a_bool_that_is_neither() -> None:
    one = tensor(storage("Bool", "0", 48), 0, (48,), (1,))
    refused(with_pickle("zip", {"w": one}), "neither 0 nor 1", FileFormatError)


def test_stretches_of_storages() -> None:
    for view in [(0, 13), (12, 1), (-1, 2), (1, -1), (BIG, BIG), (None, 1)]:
        stored = storage("Float", "0", 12, ("v", *view))
        value = {"w": tensor(stored, 0, (0,), (1,))}
        refused(with_pickle("legacy", value), "stretch", FileFormatError)
    kind = Global("torch.storage", "UntypedStorage")
    odd = Persistent(("storage", kind, "0", "cpu", 48, ("v", 1, 8)))
    arguments = (odd, 0, (2,), (1,), False, ORDERED, Global("torch", "float32"))
    value = {"w": Call(Global("torch._utils", "_rebuild_tensor_v3"), arguments)}
    made = Specimen("legacy", dump(value), {"0": (48, bytes(48))})
    refused(made.bytes(), "between two elements", FileFormatError)
    stored = storage("Float", "0", 12, ("v", 4, 4))
    refused(with_pickle("legacy", {"w": tensor(stored, 0, (5,), (1,))}), "reaches", FileFormatError)


def test_storages_and_keys_that_do_not_match() -> None:
    nowhere = tensor(storage("Float", "1", 12), 0, (1,), (1,))
    refused(with_pickle("zip", {"w": nowhere}), "'1' is missing", FileFormatError)
    refused(with_pickle("legacy", {"w": nowhere}), "1 storages", FileFormatError)
    for key in ("../../etc/passwd", "/etc/passwd", "..", "0\0", "x" * 10**5):
        one = tensor(storage("Float", key, 12), 0, (1,), (1,))
        refused(with_pickle("zip", {"w": one}), "is missing", FileFormatError)
    twice = Specimen("legacy", dump({"w": ONE}), {"0": (12, bytes(48))}).bytes()
    twice = twice.replace(dump(["0"]), dump(["0", "0"]))
    refused(twice, "2 storages", FileFormatError)


# --- the pickle's own machinery -------------------------------------------------------------------

DEEP = 50_000


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b")" + b"\x85" * DEEP, "nested deeper"),
        (b"]" * DEEP + b"a" * (DEEP - 1), "nested deeper"),
        (b"]q\x00h\x00a", "nested deeper"),  # a list that contains itself
        (b"}q\x00" + encode("x") + b"h\x00s", "nested deeper"),
        (b"]q\x00(" + b"h\x00" * 1000 + b"e", "nested deeper"),
        (
            b"}" + b")" + b"\x85" * DEEP + b"Ns",
            "a tuple for a key",
        ),  # hash() overflows the stack
        (b"}" + encode(2**61 - 1) + b"Ns", "an? int for a key"),  # all of the same hash
        (b"}" + encode(ONE) + b"Ns", "for a key"),
        (b"}(" + encode("a") + b"u", "no value"),
        (b"h\x05", "recalls number 5"),
        (b"j\xff\xff\xff\xff", "recalls number 4294967295"),
        (b"q\x00", "remembers nothing"),
        (b"(" * DEEP, "ends with 0 values"),
        (b"NN", "ends with 2 values"),
        (b"N(N", "ends with 1 values"),  # and a mark
        (b"", "ends with 0 values"),
        (b"t", "a mark that is not there"),
        (b"N(\x86", "a value that is not there"),  # below the mark
        (b"R", "not there"),
        (b"Q", "not there"),
        (b"b", "not there"),
        (b"s", "not there"),
        (encode(REBUILD) + b"NR", "for arguments"),
        (encode(REBUILD) + encode((1, 2)) + b"R", "2 arguments"),
        (b"X\xff\xff\xff\xffabc", "too early"),
        (b"X\x02\x00\x00\x00\xff\xfe", "not UTF-8"),
        (b"\x8a\xff\x01", "too early"),
        (b"cos", "has no end"),
        (b"c" + b"x" * 10**6 + b"\n" + b"y\n", "has no end"),
        (b"\x80\x05", "protocol 5"),
        (b"N" * 1_000_001, "more than 1000000 steps"),
        (encode(Global("torch", "FloatTensor")) + b")\x81", "begun and not finished"),
        (encode(Call(Global("collections", "OrderedDict"), ([[1]],))), "other than pairs"),
        (encode(Call(Global("collections", "OrderedDict"), (5,))), "of no list"),
    ],
)
def test_abuse_of_stack_memo_and_sizes(code: bytes, message: str) -> None:
    refused(with_pickle("zip", Raw(code)), message, FileFormatError)


def test_a_text_of_gigabytes_is_not_made_room_for(tmp_path: Path) -> None:
    """A file on the disk, unlike one in memory, allocates what it is asked for before it reads."""
    path = tmp_path / "weights.pt"
    path.write_bytes(b"\x80\x02X\xff\xff\xff\x7fabc")
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="bytes too early"):
            cnncore.io.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_thousand_laughs() -> None:
    """Each list holds the one before it twice: 2^40 elements to a reader that copies."""
    code = b"]q\x00"
    for level in range(40):
        code += b"](" + 2 * (b"h" + bytes([level])) + b"eq" + bytes([level + 1])
    code = b"(" + code + b"t"
    assert examine(with_pickle("zip", Raw(code))) == "read"


# --- the container --------------------------------------------------------------------------------

PICKLE = dump({"w": ONE})
FILES = {"a/data.pkl": PICKLE, "a/data/0": bytes(48)}


def test_the_layouts_that_pytorch_once_read_without_care() -> None:
    """CVE-2025-32434: tar archives and TorchScript went past ``weights_only``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            content = dump(Call(Global("os", "system"), ("echo",)))
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    refused(buffer.getvalue(), "a tar archive")
    refused(zip_archive(FILES | {"a/constants.pkl": b"", "a/code/x.py": b"1"}), "TorchScript")


def test_zip_bombs() -> None:
    refused(zip_archive(FILES, zipfile.ZIP_DEFLATED), "compressed entry 'a/data.pkl'")
    refused(zip_archive(FILES | {"a/x": bytes(10**7)}, zipfile.ZIP_DEFLATED), "compressed")
    # Compressed, although it does not say so by its sizes.
    content = bytearray(zip_archive(FILES))
    for at in (8, content.index(b"PK\x01\x02") + 10):
        content[at] = zipfile.ZIP_DEFLATED
    refused(bytes(content), "compressed")
    # Stored entries that lie over one another: a thousand names for the same megabyte.
    content = zip_archive({"a/data.pkl": PICKLE, "a/data/0": bytes(48), "a/data/1": bytes(10**6)})
    end = content.rindex(b"PK\x05\x06")
    (directory,) = struct.unpack_from("<I", content, end + 16)
    last = content.rindex(b"PK\x01\x02")
    record = content[last:end]
    copies = b"".join(record.replace(b"a/data/1", b"a/%06d" % n) for n in range(1000))
    tail = bytearray(content[end:])
    struct.pack_into("<HHI", tail, 8, 1003, 1003, end - directory + len(copies))
    refused(content[:end] + copies + tail, "in a file of", FileFormatError)


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/passwd", "a/../../evil", "a\\..\\evil", "..", "C:\\evil"]
)
def test_entries_with_names_like_paths(name: str) -> None:
    refused(zip_archive(FILES | {name: b"x"}), "looks like a path")


def test_archives_that_contradict_themselves() -> None:
    twice = zip_archive(FILES | {"a/DATA.pkl": PICKLE}).replace(b"a/DATA.pkl", b"a/data.pkl")
    refused(twice, "two entries", FileFormatError)
    refused(zip_archive(FILES | {"b/data.pkl": PICKLE}), "with 2 entries", FileFormatError)
    refused(zip_archive({"a/data/0": b""}), "with 0 entries", FileFormatError)
    refused(zip_archive({"data.pkl": PICKLE}), "with 0 entries", FileFormatError)
    refused(zip_archive(FILES | {"a/byteorder": b"middle"}), "byte order", FileFormatError)
    refused(zip_archive(FILES | {"a/byteorder": b"x" * 99}), "99 bytes", FileFormatError)
    refused(zip_archive({**FILES, "a/data.pkl": PICKLE + b"N."}), "after its end", FileFormatError)
    flag = bytearray(zip_archive(FILES))
    for at in (6, flag.index(b"PK\x01\x02") + 8):
        flag[at] |= 1
    refused(bytes(flag), "encrypted")


def test_a_directory_of_gigabytes() -> None:
    record = b"PK\x01\x02" + struct.pack("<6H3I5H2I", 20, 20, *[0] * 7, 1, *[0] * 6)
    directory = (record + b"x") * 200_000
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 65535, 65535, len(directory), 4, 0)
    refused(b"PK\x03\x04" + directory + end, "directory has more", FileFormatError)


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_every_truncation_is_noticed(layout: str) -> None:
    content = specimen(layout, {"w": np.arange(6.0), "b": np.ones(3, np.float32)}).bytes()
    for length in range(len(content)):
        with pytest.raises(FileFormatError):
            read_stream(io.BytesIO(content[:length]), length)


def test_every_flipped_bit_of_an_archives_numbers_is_noticed() -> None:
    """The zip layout has checksums; the older one has none, there only sizes can be checked."""
    content = specimen("zip", {"w": np.arange(3.0)}).bytes()
    at = content.index(np.arange(3.0).tobytes())
    for bit in range(8 * 24):
        flipped = bytearray(content)
        flipped[at + bit // 8] ^= 1 << bit % 8
        with pytest.raises(FileFormatError, match="CRC"):
            read_stream(io.BytesIO(flipped), len(flipped))


def test_a_file_that_shrinks_while_it_is_read() -> None:
    for layout in ("zip", "legacy"):
        content = with_pickle(layout, {"w": ONE})
        with pytest.raises(FileFormatError):
            read_stream(io.BytesIO(content[:-30]), len(content))


@pytest.mark.parametrize("content", [b"", b"P", b"PK\x03\x04", b"\x80\x02", b"hello", bytes(600)])
def test_files_that_are_nothing(content: bytes) -> None:
    assert examine(content) != "read"
