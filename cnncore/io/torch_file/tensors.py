"""What the globals of a weight file mean: storages, and tensors that are views of them.

Here a tensor is five numbers' worth of description; nothing is allocated or viewed before all of it
was checked against the storage that it claims to look at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cnncore.io.torch_file.pickle_machine import (
    Meaning,
    Name,
    Ordered,
    checked_key,
    damaged,
    describe,
    refuse,
)

Array = np.ndarray[Any, Any]

# PyTorch's element types -> NumPy's, as they lie in the file (little-endian or as it says).
ELEMENTS = {
    **{"float32": "f4", "float64": "f8", "float16": "f2", "bfloat16": "u2", "bool": "u1"},
    **{"uint8": "u1", "int8": "i1", "int16": "i2", "int32": "i4", "int64": "i8"},
    **{"uint16": "u2", "uint32": "u4", "uint64": "u8"},
}
_OLD_NAMES = {
    **{"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16"},
    **{"Byte": "uint8", "Char": "int8", "Short": "int16", "Int": "int32", "Long": "int64"},
    "Bool": "bool",
}
# Global -> element type of its storage; None: bytes, whose meaning the tensor knows.
STORAGES: dict[str, str | None] = {
    **{f"torch.{old}Storage": element for old, element in _OLD_NAMES.items()},
    "torch.storage.UntypedStorage": None,
    "torch.UntypedStorage": None,
}
TENSORS = {f"torch.{old}Tensor" for old in _OLD_NAMES} | {"torch.nn.parameter.Parameter"}
DTYPES = {f"torch.{element}": element for element in ELEMENTS}

MAX_RANK = 32
MAX_ELEMENTS = 2**48  # of a shape with a zero in it: no array has as many


@dataclass(frozen=True)
class Storage:
    """A stretch of a storage in the file: ``count`` elements from ``start``.

    ``total`` is the size of the whole; elements are bytes if ``element`` is None.
    """

    key: str
    element: str | None
    total: int
    start: int
    count: int

    def item_size(self) -> int:
        return 1 if self.element is None else item_size(self.element)


@dataclass(frozen=True)
class TensorRecord:
    """A checked description: the view of a storage with this shape, in elements."""

    key: str
    element: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class Blank:
    """A tensor whose description comes later (as PyTorch wrote them in early 2017)."""

    kind: str
    tensor: TensorRecord | None = None


def item_size(element: str) -> int:
    """Bytes of one element in the file."""
    return np.dtype(ELEMENTS[element]).itemsize


@dataclass
class TensorMeaning(Meaning):
    """The globals of a PyTorch file, and the storages that its pickle mentions."""

    storages: dict[str, Storage] = field(default_factory=dict)
    elements: dict[str, str] = field(default_factory=dict)  # what tensors take a storage for

    def name(self, name: str) -> Any:
        name = "torch.nn.parameter.Parameter" if name == "torch.nn.Parameter" else name
        if name in CALLS or name in STORAGES or name in DTYPES or name in TENSORS:
            return Name(name)
        return super().name(name)

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        if type(function) is not Name or function.text not in CALLS:
            return super().call(function, arguments)
        maker, fewest, most = CALLS[function.text]
        if not fewest <= len(arguments) <= most:
            damaged(f"{function.text} with {len(arguments)} arguments")
        return maker(self, *arguments)

    def new(self, kind: Any, arguments: tuple[Any, ...]) -> Any:
        if type(kind) is not Name or kind.text not in TENSORS or arguments:
            return super().new(kind, arguments)
        return Blank(kind.text)

    def build(self, value: Any, state: Any) -> None:
        if type(value) is Ordered and type(state) in (dict, Ordered):
            return  # attributes of a state dict: versions of modules, which nothing here needs
        if type(value) is Blank and value.tensor is None and type(state) is tuple:
            if len(state) == 4:  # a tensor: storage, offset, size, stride
                value.tensor = self.tensor(*state)
                return
            if len(state) == 5:  # a parameter: data, and what training had to say about it
                value.tensor = finished(state[0])
                return
        super().build(value, state)

    def persistent(self, identity: Any) -> Any:
        """A storage: ``("storage", type, key, device, count)`` and in old files a stretch of it."""
        if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
            refuse("a reference to something that is no storage")
        _, kind, key, device, total, *rest = identity
        if type(kind) is not Name or kind.text not in STORAGES:
            refuse(f"a storage of type {describe(kind)}")
        if type(key) is not str or type(device) is not str:
            damaged("a storage without a name or a device")
        total = natural(total, f"the size of storage {key[:40]!r}")
        storage = Storage(key, STORAGES[kind.text], total, 0, total)
        known = self.storages.setdefault(key, storage)
        if known != storage:
            damaged(f"two descriptions of storage {key[:40]!r} that do not agree")
        return stretch(storage, rest[0]) if rest and rest[0] is not None else storage

    def tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, element: Any = None
    ) -> TensorRecord:
        """Check a view of a storage, in exact integers."""
        if type(storage) is not Storage:
            refuse(f"a tensor whose storage is {describe(storage)}")
        offset = natural(offset, "a tensor's offset")
        shape, strides = naturals(size, "a tensor's shape"), naturals(stride, "a tensor's strides")
        if len(shape) != len(strides) or len(shape) > MAX_RANK:
            damaged(f"a tensor with {len(shape)} axes and {len(strides)} strides")
        element = storage.element if element is None else element
        if element is None or storage.element not in (element, None):
            damaged(f"a tensor of {element} on a storage of {storage.element}")
        if self.elements.setdefault(storage.key, element) != element:
            refuse(f"storage {storage.key[:40]!r} as {element} and as {self.elements[storage.key]}")
        place = f"in storage {storage.key[:40]!r}"
        per_item = item_size(element) // storage.item_size()
        if storage.start % per_item:
            damaged(f"a tensor between two elements {place}")
        count = storage.count // per_item
        if 0 in shape:
            if offset > count or math.prod(n for n in shape if n) > MAX_ELEMENTS:
                damaged(f"an empty tensor of shape {shape[:8]} at {offset} {place}")
            return TensorRecord(storage.key, element, 0, shape, (0,) * len(shape))
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if last >= count:
            damaged(f"a tensor that reaches to element {last} of {count} {place}")
        if overlaps(shape, strides):
            refuse(
                f"a tensor whose elements overlap (shape {shape[:8]}, strides {strides[:8]})",
                "tensor.clone() before torch.save",
            )
        start = storage.start // per_item + offset
        return TensorRecord(storage.key, element, start, shape, strides)


def overlaps(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether two indices may name the same element.

    Axes in order of their strides: each must step over all that the smaller ones reach.
    """
    reach = 0
    for step, n in sorted((step, n) for n, step in zip(shape, strides, strict=True) if n > 1):
        if step <= reach:
            return True
        reach += step * (n - 1)
    return False


def stretch(storage: Storage, view: Any) -> Storage:
    """The part of a storage that ``(key, offset, size)`` names."""
    if type(view) is not tuple or len(view) != 3:
        damaged("a stretch of a storage that is no (key, offset, size)")
    start, count = natural(view[1], "a stretch's offset"), natural(view[2], "a stretch's size")
    if start + count > storage.total:
        damaged(f"a stretch up to element {start + count} of {storage.total}")
    return replace(storage, start=start, count=count)


def natural(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        damaged(f"{what} is {value if type(value) is int else describe(value)}")
    return value


def naturals(values: Any, what: str) -> tuple[int, ...]:
    if type(values) is not tuple:
        damaged(f"{what} is {describe(values)}")
    return tuple(natural(value, what) for value in values)


def finished(value: Any) -> TensorRecord:
    """A tensor, or what a blank became."""
    value = value.tensor if type(value) is Blank else value
    if type(value) is not TensorRecord:
        refuse(f"a parameter whose data is {describe(value)}")
    return value


# --- the functions a file may call ----------------------------------------------------------------


def _rebuild_tensor(
    meaning: TensorMeaning,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> TensorRecord:
    _check_training(requires_grad, hooks)
    if metadata:
        refuse("a tensor that is a conjugate or negative view", "tensor.resolve_neg() before")
    return meaning.tensor(storage, offset, size, stride)


def _rebuild_with_dtype(
    meaning: TensorMeaning,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> TensorRecord:
    _check_training(requires_grad, hooks)
    if metadata:
        refuse("a tensor that is a conjugate or negative view", "tensor.resolve_neg() before")
    if type(dtype) is not Name or dtype.text not in DTYPES:
        refuse(f"a tensor of type {describe(dtype)}")
    return meaning.tensor(storage, offset, size, stride, DTYPES[dtype.text])


def _parameter(
    meaning: TensorMeaning, data: Any, requires_grad: Any, hooks: Any = None
) -> TensorRecord:
    _check_training(requires_grad, hooks)
    return finished(data)


def _check_training(requires_grad: Any, hooks: Any) -> None:
    if type(requires_grad) is not bool or hooks:
        refuse("a tensor with hooks")


def _ordered(meaning: TensorMeaning, items: Any = ()) -> Ordered:
    """An ordered dictionary, empty or (Python 2) from a list of pairs."""
    made = Ordered()
    for pair in items if type(items) in (list, tuple) else refuse("an OrderedDict of no list"):
        if type(pair) not in (list, tuple) or len(pair) != 2:
            damaged("an OrderedDict of something other than pairs")
        made[checked_key(pair[0])] = pair[1]
    return made


def _size(meaning: TensorMeaning, values: Any = ()) -> tuple[int, ...]:
    return naturals(values, "torch.Size")


# Global -> (what it does here, least and most arguments).
CALLS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "collections.OrderedDict": (_ordered, 0, 1),
    "torch.Size": (_size, 0, 1),
    "torch._utils._rebuild_tensor": (_rebuild_tensor, 4, 4),
    "torch._utils._rebuild_tensor_v2": (_rebuild_tensor, 6, 7),
    "torch._utils._rebuild_tensor_v3": (_rebuild_with_dtype, 7, 8),
    "torch._utils._rebuild_parameter": (_parameter, 3, 3),
}
