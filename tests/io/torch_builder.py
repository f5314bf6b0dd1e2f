"""Files as PyTorch writes them, and as it never would: assembled opcode by opcode, without PyTorch.

``tests/parity/test_torch_files.py`` lets PyTorch itself read what this writes.
"""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
KINDS = {
    **{"float32": "Float", "float64": "Double", "float16": "Half", "bool": "Bool"},
    **{"uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long"},
}


@dataclass
class Global:
    module: str
    name: str


@dataclass
class Call:
    function: Any
    arguments: Any


@dataclass
class Persistent:
    identity: Any


@dataclass
class Raw:
    code: bytes


REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
ORDERED = Call(Global("collections", "OrderedDict"), ())


def encode(value: Any) -> bytes:
    """Opcodes of protocol 2 that leave the value on the stack."""
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        size = value.bit_length() // 8 + 1
        return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode()
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, tuple):
        return b"(" + b"".join(map(encode, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(encode, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(encode(k) + encode(v) for k, v in value.items()) + b"u"
    if isinstance(value, Global):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        return encode(value.function) + encode(value.arguments) + b"R"
    if isinstance(value, Persistent):
        return encode(value.identity) + b"Q"
    assert isinstance(value, Raw)
    return value.code


def dump(value: Any) -> bytes:
    return b"\x80\x02" + encode(value) + b"."


def storage(kind: str, key: str, count: Any, *view: Any) -> Persistent:
    return Persistent(("storage", Global("torch", f"{kind}Storage"), key, "cpu", count, *view))


def tensor(stored: Any, offset: Any, size: Any, stride: Any) -> Call:
    return Call(REBUILD, (stored, offset, size, stride, False, ORDERED))


@dataclass
class Specimen:
    """What a file consists of, before it becomes bytes: pickle, storages and how they are laid out.

    ``storages``: key -> (count that the legacy layout states, bytes).
    """

    layout: str  # "zip" or "legacy"
    pickle: bytes
    storages: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    order: str | None = "little"

    def bytes(self) -> bytes:
        if self.layout == "zip":
            entries = {"data.pkl": self.pickle}
            if self.order is not None:
                entries["byteorder"] = self.order.encode()
            entries |= {f"data/{key}": content for key, (_, content) in self.storages.items()}
            return zip_archive({f"archive/{k}": v for k, v in entries.items()} | VERSION)
        machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
        parts = [dump(MAGIC), dump(1001), dump(machine), self.pickle, dump([*self.storages])]
        for count, content in self.storages.values():
            parts += [struct.pack("<q", count), content]
        return b"".join(parts)


VERSION = {"archive/version": b"3\n"}


def zip_archive(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def specimen(layout: str, arrays: dict[str, np.ndarray], order: str = "little") -> Specimen:
    """A state dict with a storage for each array."""
    entries: dict[str, Any] = {}
    storages: dict[str, tuple[int, bytes]] = {}
    for number, (name, array) in enumerate(arrays.items()):
        key, base = str(number), array.base if array.base is not None else array
        count = base.size
        stored = storage(
            KINDS[array.dtype.name], key, count, *([None] if layout == "legacy" else [])
        )
        strides = tuple(step // array.itemsize for step in array.strides)
        offset = (array.ctypes.data - base.ctypes.data) // array.itemsize
        entries[name] = tensor(stored, offset, array.shape, strides)
        laid = base.astype(base.dtype.newbyteorder("<" if order == "little" else ">"))
        storages[key] = (count, laid.tobytes("K"))
    return Specimen(layout, dump(entries), storages, order)


def with_pickle(layout: str, value: Any, content: bytes = bytes(range(48))) -> bytes:
    """A file whose pickle is ``value`` (or opcodes), with one storage "0" of 12 float32."""
    return Specimen(layout, dump(value), {"0": (len(content) // 4, content)}).bytes()
