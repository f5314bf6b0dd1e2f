"""PyTorch's weight files (``.pth``, ``.pt``), read without PyTorch and without executing anything.

Such a file is a pickle, a program that may call anything, with the numbers beside it.  Here the
program runs on a machine of our own (``pickle_machine``), which knows no imports and a handful of
calls (``tensors``), all of which only write down what a tensor is: which storage, which part of it.
Then the storages are read (``layouts``), and every tensor becomes a view of its storage.

Memory: at most ``NUMBERS_FACTOR`` bytes for each byte of numbers in the file (1 in fact, but for
bfloat16, which becomes float32) and ``DESCRIPTION_FACTOR`` for each byte of everything else, which
is little (a pickle has at most a million steps), and 1 MB.  Nothing in the file can change that:
sizes are compared with what is there before anything is allocated, no entry may be compressed, and
tensors that share a storage share it in memory, too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cnncore.errors import ArgumentError
from cnncore.io.errors import FileFormatError
from cnncore.io.torch_file.layouts import Fetch, read_legacy, read_zip
from cnncore.io.torch_file.pickle_machine import Name, Ordered, damaged, describe, refuse
from cnncore.io.torch_file.tensors import (
    ELEMENTS,
    Array,
    Blank,
    TensorMeaning,
    TensorRecord,
    finished,
)

NUMBERS_FACTOR, DESCRIPTION_FACTOR = 3, 256
MAX_DEPTH = 50  # dictionaries in lists in dictionaries ...
# Where training scripts put the weights among other things; the first of these wins.
USUAL_ENTRIES = ("state_dict", "model_state_dict", "model")


def read_torch(path: str | os.PathLike[str]) -> Any:
    """All that a ``.pth`` or ``.pt`` file holds, tensors as arrays.

    Dictionaries, lists, tuples, numbers, text and ``None`` come as such; types (``torch.float32``)
    as their names.  bfloat16 becomes float32.  Arrays share memory where the tensors share a
    storage (tied weights), so copy before you write into one of them.

    Raises ``FileFormatError`` for a damaged file, ``RefusedError`` (a kind of it) for one that
    holds anything else, which is named.  ``cnncore.io.load`` takes the weights out of the value.
    """
    if not Path(path).is_file():
        raise ArgumentError("path", "a file that exists", os.fspath(path))
    try:
        return _value(Path(path))
    except FileFormatError as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None


def _value(path: Path) -> Any:
    with path.open("rb") as file:
        return read_stream(file, os.fstat(file.fileno()).st_size)


def read_stream(file: BinaryIO, size: int) -> Any:
    """``read_torch`` for an open file of ``size`` bytes."""
    head = file.read(512)
    file.seek(0)
    if head[:4] == b"PK\x03\x04":
        value, meaning, order, fetch = read_zip(file, size)
    elif head[257:262] == b"ustar":
        refuse("a tar archive, the layout of PyTorch before 0.1.10")
    elif head[:1] == b"\x80":
        value, meaning, order, fetch = read_legacy(file, size)
    else:
        damaged("not a file of PyTorch (neither a zip archive nor a pickle)")
    return _Result(_storages(meaning, order, fetch)).of(value)


def _storages(meaning: TensorMeaning, order: str, fetch: Fetch) -> dict[str, Array]:
    """The storages that tensors look at, each with the element type they take it for."""
    return {
        key: _typed(fetch(meaning.storages[key]), element, order)
        for key, element in meaning.elements.items()
    }


def _typed(content: Array, element: str, order: str) -> Array:
    dtype = np.dtype(ELEMENTS[element]).newbyteorder("<" if order == "little" else ">")
    values = content[: content.size // dtype.itemsize * dtype.itemsize].view(dtype)
    if element == "bfloat16":  # the upper half of a float32
        wide = np.left_shift(values, 16, dtype=np.uint32)
        return np.asarray(wide.view(np.float32))
    if element == "bool":
        if values.size and values.max() > 1:
            damaged("a bool that is neither 0 nor 1")
        return np.asarray(values.view(np.bool_))
    return np.asarray(values, dtype.newbyteorder("="))  # a copy only if the order is not ours


class _Result:
    """The value with arrays in place of descriptions; what is shared stays shared."""

    def __init__(self, storages: dict[str, Array]) -> None:
        self.storages = storages
        self.done: dict[int, Any] = {}

    def of(self, value: Any, depth: int = 0) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) is Name:
            return value.text
        if depth > MAX_DEPTH:  # also what contains itself
            damaged(f"values nested deeper than {MAX_DEPTH}")
        if id(value) not in self.done:
            self.done[id(value)] = self._convert(value, depth + 1)
        return self.done[id(value)]

    def _convert(self, value: Any, depth: int) -> Any:
        if type(value) in (dict, Ordered):
            return {key: self.of(item, depth) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.of(item, depth) for item in value)
        if type(value) is Blank and value.tensor is None:
            damaged(f"a {value.kind} that was begun and not finished")
        if type(value) in (Blank, TensorRecord):
            return self._array(finished(value))
        refuse(f"{describe(value)} where a tensor is expected")

    def _array(self, tensor: TensorRecord) -> Array:
        storage = self.storages[tensor.key]
        if 0 in tensor.shape:
            return np.empty(tensor.shape, storage.dtype)
        width = storage.dtype.itemsize
        strides = tuple(step * width for step in tensor.strides)
        # NumPy checks the bounds of the view once more.
        offset = tensor.offset * width
        view: Array = np.ndarray(tensor.shape, storage.dtype, storage.data, offset, strides)
        return view


# --- for cnncore.io.load --------------------------------------------------------------------------


def read_state(path: Path) -> tuple[dict[str, Array], str]:
    """The weights of a file, and its numbers and texts as JSON."""
    value = _value(path)
    if type(value) is not dict:
        raise FileFormatError(
            f"holds a {type(value).__name__}, not a dictionary; try: cnncore.io.read_torch(path)"
        )
    state, prefix = _state_of(value)
    others = {key: item for key, item in value.items() if _is_plain(key, item)}
    if not all(type(key) is str for key in state):
        raise FileFormatError("weights named by numbers; try: cnncore.io.read_torch(path)")
    lost = [k for k, v in state.items() if not isinstance(v, np.ndarray) and not _is_plain(k, v)]
    if lost:
        raise FileFormatError(
            f"among the weights{prefix}: {lost[0]!r}, a {type(state[lost[0]]).__name__}; "
            "try: cnncore.io.read_torch(path)"
        )
    arrays = {key: item for key, item in state.items() if isinstance(item, np.ndarray)}
    return arrays, json.dumps(others) if others else ""


def _state_of(value: dict[Any, Any]) -> tuple[dict[Any, Any], str]:
    """The dictionary of weights in a file: all of it, or the entry that is usual."""
    inside = [key for key, item in value.items() if type(item) is dict and _has_array(item)]
    for key in USUAL_ENTRIES:
        if key in inside:
            return value[key], f" in {key!r}"
    if not inside:
        return value, ""
    if len(inside) == 1 and not _has_array(value):
        return value[inside[0]], f" in {inside[0]!r}"
    raise FileFormatError(
        f"holds several dictionaries of weights: {', '.join(map(repr, inside[:10]))}; "
        "try: cnncore.io.read_torch(path)[...]"
    )


def _has_array(item: dict[Any, Any]) -> bool:
    return any(isinstance(value, np.ndarray) for value in item.values())


def _is_plain(key: Any, value: Any) -> bool:
    return type(key) is str and (value is None or type(value) in (bool, int, float, str))
