"""How much memory a training step needs at its worst moment, found without computing anything.

The step is run with arrays that have a shape and no memory (``kernels.shapes``).  Each is entered
in a book when a kernel makes it and crossed out when the last reference to it goes: the engine
holds and releases it exactly as in a real step, so the largest total in the book is the peak of a
real step: what is held in arrays at one time.

Not in it: the working space inside kernels (up to some 10 MB), and what the process keeps beyond
that.  The memory pool rounds sizes up by at most an eighth and keeps freed blocks for the next
step, so the resident size of a process is larger, by a fifth to two thirds where we looked;
``CNNCORE_MEMORY_LIMIT_MB`` limits what is kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cnncore import ops
from cnncore.autograd import Event, Tensor, grad, observe
from cnncore.autograd.graph import owner_of
from cnncore.errors import ArgumentError
from cnncore.kernels import dispatch, shapes
from cnncore.nn import Module, shapes_only
from cnncore.nn.shapes import hollow, is_hollow

Array = Any


class MemoryMeter:
    """The book: bytes ``in_use`` now, and the ``peak``, counting the weights of ``model`` too."""

    def __init__(self, model: Module) -> None:
        state = {id(t): t for t in (*model.parameters(), *model.buffers())}.values()
        self.in_use = self.peak = sum(int(t.data.nbytes) for t in state)
        self._entered: set[int] = {id(owner_of(t.data)) for t in state}

    def enter(self, array: Array) -> None:
        """An array was made; one that shares memory with another is in the book already."""
        owner = owner_of(array)
        key = id(owner)
        if key in self._entered:
            return
        nbytes = int(array.nbytes if is_hollow(array) else owner.nbytes)
        self._entered.add(key)
        self.in_use += nbytes
        self.peak = max(self.peak, self.in_use)
        weakref.finalize(owner, self._leave, key, nbytes).atexit = False

    def _leave(self, key: int, nbytes: int) -> None:
        self._entered.discard(key)
        self.in_use -= nbytes

    def __call__(self, event: Event) -> None:
        """As an observer: enter what NumPy computed without a kernel, and let its memory go."""
        if event.kind != "after_forward":
            return
        for y in event.outputs:
            own = owner_of(y.data) is y.data and y.data.flags.writeable
            if own and y.data.size > 1:
                y.data = hollow(y.shape, y.dtype)
            self.enter(y.data)

    def run_step(self, model: Module, shape: tuple[int, ...], dtype: Any, backward: bool) -> None:
        """Forward, and backward if asked for and possible; call inside ``meter_shapes``."""
        x = Tensor(hollow(shape, dtype))
        self.enter(x.data)
        outputs = model(x)
        wanted = [p for p in model.parameters() if p.requires_grad]
        if backward and wanted:
            total = total_of(outputs)
            if total.requires_grad:
                grad(total, wanted, allow_unused=True)


@contextlib.contextmanager
def meter_shapes(meter: MemoryMeter) -> Iterator[None]:
    """Run networks as shapes alone inside a ``with`` block; the meter learns of every array."""

    def metered(kernel: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            results = kernel(*args, **kwargs)
            for y in results if isinstance(results, tuple) else (results,):
                meter.enter(y)
            return results

        return run

    with contextlib.ExitStack() as stack:
        stack.enter_context(shapes_only())
        for name in dispatch.KERNELS:
            kernel = getattr(shapes, name, None) or _shape_unknown(name)
            stack.enter_context(dispatch.override(name, metered(kernel)))
        stack.enter_context(observe(meter))
        yield


def _shape_unknown(name: str) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"{name}, whose result's shape depends on values")

    return refuse


def total_of(outputs: Any) -> Tensor:
    """The sum of everything a model returned: a loss that needs all of the network."""
    parts = [ops.sum(y) for y in _tensors(outputs) if y.dtype.kind == "f"]
    if not parts:
        raise ArgumentError("model", "a network that returns tensors", type(outputs).__name__)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors inside tuples, lists, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for entry in dataclasses.fields(value):
            yield from _tensors(getattr(value, entry.name))


__all__ = ["MemoryMeter", "meter_shapes", "total_of"]
