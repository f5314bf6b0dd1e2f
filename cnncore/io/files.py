"""Weight files: named arrays and JSON metadata as ``.npz`` or ``.safetensors``.

PyTorch's ``.pth`` and ``.pt`` are read, too.  Nothing in a file is ever executed.  The same arrays
give the same bytes.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError, DTypeError, require
from cnncore.io.atomic import atomic_write
from cnncore.io.errors import FileFormatError
from cnncore.io.torch_file import read_state

Arrays = dict[str, np.ndarray[Any, Any]]
Metadata = dict[str, Any]
PathLike = str | os.PathLike[str]

METADATA_KEY = "__metadata__"  # entry of an .npz that holds JSON text as bytes
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the time stamp of every zip entry: equal content, equal bytes


def save(
    path: PathLike, state: Mapping[str, Any], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write named arrays (or tensors) so that a crash leaves the old file or the new one.

    The suffix chooses: ``.npz`` (NumPy alone) or ``.safetensors`` (needs the extra ``pretrained``).
    ``metadata`` is anything JSON can hold.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a.npz", {"x": np.arange(3)}, {"epoch": 1})
    ...     load(f"{folder}/a.npz")["x"].tolist(), load_metadata(f"{folder}/a.npz")
    ([0, 1, 2], {'epoch': 1})
    """
    form = _format_of(path)
    if form.write is None:
        raise ArgumentError("path", "a name that ends in .npz or .safetensors", os.fspath(path))
    arrays = {str(name): _as_array(name, value) for name, value in state.items()}
    if METADATA_KEY in arrays:
        raise ArgumentError("state", f"no entry named {METADATA_KEY!r}", "one", "metadata=...")
    text = "" if metadata is None else json.dumps(dict(metadata))
    with atomic_write(path) as file:
        form.write(file, arrays, text)


def load(path: PathLike) -> Arrays:
    """The named arrays of a file.

    Of a ``.pth`` or ``.pt`` file, which can hold anything: the dictionary of tensors, or if there
    are others beside it, its entry ``state_dict``, ``model_state_dict`` or ``model``, or the only
    entry that is one.  ``cnncore.io.read_torch`` returns all that is in it.
    """
    return _read(path)[0]


def load_metadata(path: PathLike) -> Metadata:
    """The metadata of a file, ``{}`` if it has none (of PyTorch's: its numbers and texts)."""
    text = _read(path)[1]
    metadata = json.loads(text) if text else {}
    return metadata if isinstance(metadata, dict) else {}


def _read(path: PathLike) -> tuple[Arrays, str]:
    form = _format_of(path)
    if not Path(path).is_file():
        raise ArgumentError("path", "a file that exists", os.fspath(path))
    try:
        return form.read(Path(path))
    except FileFormatError as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise FileFormatError(
            f"{os.fspath(path)}: cannot be read as {Path(path).suffix} ({error}); "
            "try: download or save it again"
        ) from error


def _as_array(name: str, value: Any) -> np.ndarray[Any, Any]:
    array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"state[{name!r}]", "an array of numbers", str(array.dtype))
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    # ascontiguousarray would give a scalar an axis.
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


# --- the formats ----------------------------------------------------------------------------------


def _write_npz(file: BinaryIO, arrays: Arrays, text: str) -> None:
    if text:
        arrays = {METADATA_KEY: np.frombuffer(text.encode(), np.uint8), **arrays}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def _read_npz(path: Path) -> tuple[Arrays, str]:
    with np.load(path, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array, not an archive")
        arrays = {name: archive[name] for name in archive.files}
    text = arrays.pop(METADATA_KEY, np.zeros(0, np.uint8))
    return arrays, text.tobytes().decode()


def _write_safetensors(file: BinaryIO, arrays: Arrays, text: str) -> None:
    library = require("safetensors.numpy", "pretrained")
    file.write(library.save(arrays, {"cnncore": text} if text else None))


def _read_safetensors(path: Path) -> tuple[Arrays, str]:
    library = require("safetensors", "pretrained")
    try:
        with library.safe_open(str(path), framework="np") as archive:
            arrays = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
            metadata = archive.metadata() or {}
    except library.SafetensorError as error:
        raise ValueError(str(error)) from error
    # A file from elsewhere may have metadata of its own, strings by name.
    foreign = json.dumps(metadata) if metadata and "cnncore" not in metadata else ""
    return arrays, metadata.get("cnncore", foreign)


@dataclass(frozen=True)
class _Format:
    write: Callable[[BinaryIO, Arrays, str], None] | None
    read: Callable[[Path], tuple[Arrays, str]]


FORMATS = {
    ".npz": _Format(_write_npz, _read_npz),
    ".safetensors": _Format(_write_safetensors, _read_safetensors),
    ".pt": _Format(None, read_state),
    ".pth": _Format(None, read_state),
}


def _format_of(path: PathLike) -> _Format:
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ArgumentError(
            "path", f"a name that ends in one of {sorted(FORMATS)}", os.fspath(path)
        )
    return FORMATS[suffix]
