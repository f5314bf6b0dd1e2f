"""A function of tensors seen as a function of one flat vector: what every check works on.

All checked inputs are laid end to end in a vector ``x`` of ``n`` numbers, all floating outputs in a
vector ``y`` of ``m``.  ``names`` lead back from a flat position to an argument and an index.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.autograd import Tensor, enable_grad, grad, no_grad
from cnncore.errors import ArgumentError, DTypeError
from cnncore.kernels.dispatch import array_module, on_device

Floats = NDArray[np.float64]
Index = tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """An element of an argument or of an output."""

    name: str  # the argument's name, or "output" / "output 1"
    position: int  # among the arguments, or among the floating outputs
    index: Index

    def __str__(self) -> str:
        return f"{self.name}[{', '.join(map(str, self.index))}]" if self.index else self.name


class Problem:
    """``y = f(x)`` on flat float64 vectors, and ``Jᵀ v`` by backward."""

    def __init__(self, fn: Callable[..., Any], inputs: Any) -> None:
        self.fn = fn
        self.given: list[Any] = [inputs] if _is_array(inputs) else list(inputs)
        names = _argument_names(fn, len(self.given))
        self.positions = [i for i, value in enumerate(self.given) if _is_checked(names[i], value)]
        if not self.positions:
            raise ArgumentError(
                "inputs",
                "at least one float64 array, or tensor with requires_grad=True",
                [type(value).__name__ for value in self.given],
                "tensor(values, dtype='float64', requires_grad=True)",
            )
        self.arrays = [_array(self.given[i]) for i in self.positions]
        self.all_names = names
        self.names = [names[i] for i in self.positions]
        self.x: Floats = _flatten([_host(array) for array in self.arrays])
        # A step of size h moves argument k by h times its typical magnitude.
        self.scale: Floats = _flatten([np.full(a.shape, _magnitude(_host(a))) for a in self.arrays])
        self.output_shapes = [y.shape for y in self._outputs(self._tensors(self.x, True))]
        self.m = sum(math.prod(shape) for shape in self.output_shapes)
        self._graph: tuple[list[Tensor], list[Tensor]] | None = None
        self.without_gradient: set[int] = set()  # arguments that backward left without any

    @property
    def n(self) -> int:
        """Number of input elements."""
        return int(self.x.size)

    def evaluate(self, x: Floats) -> Floats:
        """``f(x)``; NaN where f refuses x or changes the shapes of its outputs there."""
        with no_grad(), np.errstate(all="ignore"):
            try:
                outputs = self._outputs(self._tensors(x, False))
            except ArgumentError:
                return np.full(self.m, np.nan)
        if [y.shape for y in outputs] != self.output_shapes:
            return np.full(self.m, np.nan)
        return _flatten([_host(y.data) for y in outputs])

    def gradient(self, v: Floats) -> Floats:
        """``Jᵀ v``: what backward makes of output gradients ``v`` (zero where it gives None)."""
        if self._graph is None:
            tensors = self._tensors(self.x, True)
            with enable_grad():
                self._graph = tensors, self._outputs(tensors)
        tensors, outputs = self._graph
        seeds = self._split(v, [(y.shape, y.data) for y in outputs])
        recorded = [(y, Tensor(s)) for y, s in zip(outputs, seeds, strict=True) if y.requires_grad]
        if not recorded:
            self.without_gradient |= set(range(len(tensors)))
            return np.zeros(self.n)
        results = grad(
            [y for y, _ in recorded],
            tensors,
            [s for _, s in recorded],
            retain_graph=True,
            allow_unused=True,
        )
        parts = []
        for k, (x, result) in enumerate(zip(tensors, results, strict=True)):
            if result is None:
                self.without_gradient.add(k)
                parts.append(np.zeros(x.shape))
                continue
            if result.dtype != np.float64:
                raise DTypeError(
                    f"the gradient of {self.names[k]}",
                    "float64, like the argument",
                    str(result.dtype),
                    "look for a float32 constant or cast in the backward",
                )
            parts.append(_host(result.data))
        return _flatten(parts)

    def input_place(self, flat: int) -> Place:
        """The argument and index of a position in ``x``."""
        return _place(flat, [a.shape for a in self.arrays], self.names, self.positions)

    def output_place(self, flat: int) -> Place:
        """The output and index of a position in ``y``."""
        count = len(self.output_shapes)
        names = ["output"] if count == 1 else [f"output {i}" for i in range(count)]
        return _place(flat, self.output_shapes, names, list(range(count)))

    def _tensors(self, x: Floats, requires_grad: bool) -> list[Tensor]:
        parts = self._split(x, [(array.shape, array) for array in self.arrays])
        return [Tensor(part, requires_grad=requires_grad) for part in parts]

    @staticmethod
    def _split(x: Floats, likes: Sequence[tuple[tuple[int, ...], Any]]) -> list[Any]:
        """Cut a flat vector into arrays with the shape, memory layout and device of ``likes``."""
        parts, start = [], 0
        for shape, like in likes:
            end = start + math.prod(shape)
            parts.append(_like(x[start:end].reshape(shape), like))
            start = end
        return parts

    def _outputs(self, tensors: list[Tensor]) -> list[Tensor]:
        arguments = list(self.given)
        for position, tensor in zip(self.positions, tensors, strict=True):
            arguments[position] = tensor
        result = self.fn(*arguments)
        results = result if isinstance(result, (tuple, list)) else [result]
        outputs = [y for y in results if isinstance(y, Tensor) and y.dtype.kind == "f"]
        if not outputs:
            raise ArgumentError(
                "fn", "a function returning floating tensors", type(result).__name__
            )
        for position, y in enumerate(outputs):
            if y.dtype != np.float64:
                raise DTypeError(
                    f"output {position} of fn",
                    "float64, like the inputs",
                    str(y.dtype),
                    "look for a float32 constant or parameter inside fn",
                )
        return outputs


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray)) or on_device(value)


def _is_checked(name: str, value: Any) -> bool:
    """Whether gradients towards this argument are checked; refuses single precision."""
    if not _is_array(value) or value.dtype.kind != "f":
        return False
    if isinstance(value, Tensor) and not value.requires_grad:
        return False
    if value.dtype != np.float64:
        raise DTypeError(
            name,
            "float64 (finite differences in float32 have no digits left)",
            str(value.dtype),
            f"{name}.astype('float64')",
        )
    return True


def _argument_names(fn: Callable[..., Any], count: int) -> list[str]:
    """The names of fn's positional parameters, or ``inputs[i]`` where it has none."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = [
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return [positional[i] if i < len(positional) else f"inputs[{i}]" for i in range(count)]


def _array(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


def _host(array: Any) -> Floats:
    return array if isinstance(array, np.ndarray) else array.get()


def _magnitude(array: Floats) -> float:
    """Root mean square, within [1e-3, 1e3]; 1 for zeros and for nothing."""
    finite = array[np.isfinite(array)]
    rms = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    return float(np.clip(rms, 1e-3, 1e3)) if rms > 0 else 1.0


def _flatten(arrays: Sequence[Any]) -> Floats:
    flat = [np.asarray(array, np.float64).reshape(-1) for array in arrays]
    return np.concatenate(flat) if flat else np.zeros(0)


def _like(values: Floats, like: Any) -> Any:
    """A copy of ``values`` with the memory layout and device of ``like``."""
    if not isinstance(like, np.ndarray):
        return array_module(like).asarray(values)
    strides = like.strides
    overlapping = any(s == 0 and n > 1 for s, n in zip(strides, like.shape, strict=True))
    if like.flags.c_contiguous or overlapping or like.size == 0:
        return values.copy()
    low = sum(min(0, (n - 1) * s) for n, s in zip(like.shape, strides, strict=True))
    high = sum(max(0, (n - 1) * s) for n, s in zip(like.shape, strides, strict=True))
    memory = np.empty(high - low + like.itemsize, np.uint8)
    copy: Any = np.ndarray(like.shape, np.float64, memory.data, -low, strides)
    copy[...] = values
    return copy


def _place(
    flat: int, shapes: Sequence[tuple[int, ...]], names: Sequence[str], positions: Sequence[int]
) -> Place:
    for shape, name, position in zip(shapes, names, positions, strict=True):
        size = math.prod(shape)
        if flat < size:
            index = tuple(int(i) for i in np.unravel_index(flat, shape)) if shape else ()
            return Place(name, position, index)
        flat -= size
    raise IndexError(flat)
