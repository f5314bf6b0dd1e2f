"""The two layouts of PyTorch's files: where the description is and where the bytes of storages are.

A zip archive (since 2020): ``name/data.pkl`` describes, ``name/data/KEY`` are the storages, stored,
not compressed.  The older layout: five pickles in a row (a magic number, a version, facts on the
machine, the description, the list of keys), then for each key a count and the bytes.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast

import numpy as np

from cnncore.io.errors import FileFormatError
from cnncore.io.torch_file.pickle_machine import Machine, Meaning, Source, damaged, refuse
from cnncore.io.torch_file.tensors import Array, Storage, TensorMeaning

MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
CHUNK = 1 << 18
MAX_DIRECTORY = 8 << 20  # bytes of a zip archive's list of entries: 100,000 of them
MAX_PICKLE = 64 << 20  # bytes of a description; those of public files have 0.1 MB

Fetch = Callable[[Storage], Array]  # the bytes of a whole storage


def read_zip(file: BinaryIO, size: int) -> tuple[Any, TensorMeaning, str, Fetch]:
    """The value of a zip file's pickle, its meaning, the byte order and a way to the storages."""
    with _zip_errors():
        archive = zipfile.ZipFile(cast(IO[bytes], _Directory(file)))
    entries = _checked_entries(archive, size)
    roots = [name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl")]
    roots = [root for root in roots if root.count("/") == 1]
    if len(roots) != 1:
        damaged(f"a zip archive with {len(roots)} entries NAME/data.pkl, not one")
    root = roots[0]

    order = "little"
    if f"{root}byteorder" in entries:
        order = _content(archive, entries[f"{root}byteorder"], 16).decode("ascii", "replace")
        if order not in ("little", "big"):
            damaged(f"byte order {order!r}")

    meaning = TensorMeaning()
    content = _content(archive, entries[f"{root}data.pkl"], MAX_PICKLE)
    source = Source(io.BytesIO(content), len(content))
    value = Machine(source, meaning).run()
    if source.left:
        damaged("data.pkl goes on after its end")

    def fetch(storage: Storage) -> Array:
        entry = entries.get(f"{root}data/{storage.key}")
        if entry is None:
            damaged(f"storage {storage.key[:40]!r} is missing")
        if entry.file_size != storage.total * storage.item_size():
            damaged(
                f"storage {storage.key[:40]!r} has {entry.file_size} bytes, "
                f"not {storage.total * storage.item_size()} as described"
            )
        with _zip_errors(), archive.open(entry) as stream:
            return _read_array(stream, entry.file_size)

    return value, meaning, order, fetch


def _checked_entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """All entries by name: none is compressed, and together they are no larger than the file."""
    entries: dict[str, zipfile.ZipInfo] = {}
    total = 0
    if any(entry.filename.endswith("/constants.pkl") for entry in archive.infolist()):
        refuse("a TorchScript program", "where PyTorch is: torch.save(module.state_dict(), path)")
    for entry in archive.infolist():
        name = entry.orig_filename
        if name in entries:
            damaged(f"two entries named {name[:80]!r}")
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
            refuse(f"an entry named {name[:80]!r}, which looks like a path out of the archive")
        if entry.flag_bits & 1:
            refuse(f"an encrypted entry {name[:80]!r}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            refuse(
                f"a compressed entry {name[:80]!r}, which PyTorch does not write",
                "pack it again without compression (zip -0)",
            )
        total += entry.file_size
        entries[name] = entry
    if total > size:  # entries that lie over one another: few bytes would become many
        damaged(f"entries of {total} bytes in a file of {size}")
    return entries


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    if entry.file_size > limit:
        damaged(f"{entry.file_size} bytes in {entry.filename[:80]!r}")
    with _zip_errors():
        return archive.read(entry)


@contextmanager
def _zip_errors() -> Iterator[None]:
    """What Python's zip reader raises on nonsense depends on the version of Python."""
    try:
        yield
    except FileFormatError:
        raise
    except (
        *(zipfile.BadZipFile, struct.error, ValueError, EOFError, OSError, RuntimeError),
        *(IndexError, KeyError, OverflowError),
    ) as error:
        damaged(f"a damaged zip archive ({error})")


class _Directory:
    """A file that refuses to be read in one piece: a directory can claim to be gigabytes long."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.seek, self.tell, self.close = file.seek, file.tell, lambda: None

    def read(self, count: int = -1) -> bytes:
        content = self.file.read(min(count, MAX_DIRECTORY + 1) if count >= 0 else MAX_DIRECTORY + 1)
        if len(content) > MAX_DIRECTORY:
            damaged(f"a zip archive whose directory has more than {MAX_DIRECTORY} bytes")
        return content

    def seekable(self) -> bool:
        return True


def read_legacy(file: BinaryIO, size: int) -> tuple[Any, TensorMeaning, str, Fetch]:
    """The same for the older layout."""
    source, meaning = Source(file, size), TensorMeaning()
    if Machine(source, Meaning(), max_steps=10).run() != MAGIC:
        damaged("no magic number of PyTorch")
    version = Machine(source, Meaning(), max_steps=10).run()
    if version != LEGACY_VERSION:
        refuse("a file of an unknown version of PyTorch")
    Machine(source, Meaning(), max_steps=1000).run()  # sizes of C types: they do not matter
    value = Machine(source, meaning).run()
    keys = Machine(source, Meaning()).run()
    if type(keys) is not list or any(type(key) is not str for key in keys):
        damaged("a list of storages that is none")
    if len(set(keys)) != len(keys) or set(keys) != set(meaning.storages):
        damaged(f"{len(keys)} storages, of which the pickle describes {len(meaning.storages)}")

    content: dict[str, Array] = {}
    for key in keys:
        storage = meaning.storages[key]
        (count,) = struct.unpack("<q", source.take(8))
        if count != storage.total:
            damaged(f"storage {key[:40]!r} has {count} elements, not {storage.total} as described")
        length = count * storage.item_size()
        if length > source.left:
            damaged(f"storage {key[:40]!r} ends {length - source.left} bytes too early")
        content[key] = _read_array(file, length)
        source.left -= length
    if source.left:
        damaged(f"{source.left} bytes after the last storage")
    return value, meaning, "little", lambda storage: content.pop(storage.key)


def _read_array(stream: IO[bytes], size: int) -> Array:
    """Bytes in memory of their own, aligned as NumPy likes it."""
    content = np.empty(size, np.uint8)
    view, done = memoryview(content.data), 0
    while done < size:
        piece = stream.read(min(CHUNK, size - done))
        if not piece:
            damaged(f"ends {size - done} bytes too early")
        view[done : done + len(piece)] = piece
        done += len(piece)
    return content
