"""One node of the graph: a forward on arrays, a backward on tensors, and what it keeps between.

A backward is written with differentiable ops, so that a gradient is itself a graph and can be
differentiated again.  What backward needs is kept explicitly, by ``keep_input``, ``keep_output``
and ``keep``; nothing else of a forward pass stays in memory.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from cnncore.autograd import events, modes
from cnncore.autograd.tensor import Edge, Tensor
from cnncore.errors import AnomalyError, DTypeError, GraphError

Array = Any
# Values compared to notice that a kept array was written to through ``.data``: all of a small
# array, few of a large one, where each is a cache miss (256 took 50 microseconds an array; in
# MobileNetV2, whose arrays have left the caches by then, 32 take 4 at every look).
SMALL, SAMPLED, NOTHING = 256, 32, np.empty(0)


class Function:
    """A differentiable operation; one instance per call.

    A subclass defines ``forward(*arrays)``, returning an array or a tuple, and ``backward(*gys)``,
    which receives a tensor (or None) per output and returns a tensor or None per input, in order.
    In both, ``self.needs[i]`` says whether the gradient of input i is (or will be) wanted.

    >>> from cnncore import ops, tensor
    >>> class Square(Function):
    ...     def forward(self, x):
    ...         self.keep_input(0)
    ...         return x * x
    ...     def backward(self, gy):
    ...         (x,) = self.kept()
    ...         return (gy * x * 2.0,)
    >>> x = tensor([3.0], requires_grad=True)
    >>> Square()(x).backward(tensor([1.0]))
    >>> x.grad.numpy()
    array([6.], dtype=float32)
    """

    edges: tuple[Edge | None, ...] = ()
    needs: tuple[bool, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()  # of the outputs
    hooks: dict[int, list[Any]] | None = None  # of the outputs
    line: str = ""  # the user's line, under detect_anomaly

    _inputs: tuple[Tensor | None, ...] = ()
    _keep_inputs: tuple[int | None, ...] = ()
    _keep_outputs: tuple[int, ...] = ()
    _arrays: tuple[Array, ...] = ()
    _kept: list[_Kept | None] | None = None

    @property
    def name(self) -> str:
        """What graphs, errors and observers call this op."""
        return type(self).__name__

    def forward(self, *arrays: Any) -> Any:
        """Compute on arrays (None for an absent optional input)."""
        raise NotImplementedError

    def backward(self, *gys: Any) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs, written with ops."""
        raise NotImplementedError

    # What backward will need: called inside forward.

    def keep_input(self, *positions: int | None) -> None:
        """Keep these inputs for backward (None holds a place: ``kept`` gives None there)."""
        self._keep_inputs += positions

    def keep_output(self, *positions: int) -> None:
        """Keep these outputs for backward."""
        self._keep_outputs += positions

    def keep(self, *arrays: Array) -> None:
        """Keep further arrays (switches, statistics): constants to any derivative."""
        self._arrays += arrays

    def kept(self) -> list[Any]:
        """In backward: the kept inputs, then outputs (as tensors), then further arrays."""
        if self._kept is None:
            raise GraphError(
                f"backward of {self.name}: what it kept has been released by an earlier backward; "
                "try: backward(retain_graph=True) the first time"
            )
        return [None if kept is None else kept.use(self) for kept in self._kept]

    @property
    def kept_bytes(self) -> int:
        """Bytes held for backward (an array kept by several ops is counted by each)."""
        return sum(int(array.nbytes) for array in self.kept_arrays())

    def kept_arrays(self) -> list[Array]:
        """The arrays held for backward: for tables of memory."""
        return [kept.array for kept in self._kept or () if kept is not None]

    def release(self) -> None:
        """Let go of everything kept: backward has passed."""
        self._kept = None

    # The call.

    def __call__(self, *inputs: Tensor | None) -> Any:
        # Every op of a network passes here: loops and plain attributes, few calls.
        state, watched = modes.state, events.observers
        anomaly = state.anomaly
        arrays: list[Any] = []
        wants: list[bool] = []
        try:
            for t in inputs:
                arrays.append(None if t is None else t.data)
                # requires_grad, without a call
                wants.append(t is not None and (t._edge is not None or t._leaf_requires_grad))
        except AttributeError:
            kinds = ", ".join(type(t).__name__ for t in inputs)
            raise DTypeError(
                f"inputs of {self.name}", "tensors or None", kinds, "Tensor(array)"
            ) from None
        record = state.grad_enabled and True in wants
        self.needs = tuple(wants) if record else (False,) * len(wants)
        if anomaly:
            self.line = user_line()
        if watched:
            events.emit("before_forward", self, inputs)
        results = self.forward(*arrays)
        single = type(results) is not tuple
        results = (results,) if single else results
        self.shapes = tuple([y.shape for y in results])
        outputs = [
            Tensor._result(y, self if record and y.dtype.kind == "f" else None, i)
            for i, y in enumerate(results)
        ]
        if record:
            # t.edge, without a call
            self.edges = tuple(
                [(t._edge or (t, 0)) if w else None for t, w in zip(inputs, wants, strict=True)]  # type: ignore[union-attr]
            )
            self._kept = [None if i is None else _Kept(inputs[i]) for i in self._keep_inputs]
            self._kept += [_Kept(outputs[i], self, i) for i in self._keep_outputs]
            self._kept += [_Kept(array) for array in self._arrays]
        self._arrays = ()
        if anomaly:
            self._refuse_nonfinite(arrays, results)
        if watched:
            events.emit("after_forward", self, inputs, tuple(outputs))
        return outputs[0] if single else tuple(outputs)

    def _refuse_nonfinite(self, arrays: list[Any], results: tuple[Any, ...]) -> None:
        if all(is_finite(y) for y in results):
            return
        guilty = [i for i, x in enumerate(arrays) if x is not None and not is_finite(x)]
        where = f"it came in through input {guilty[0]}" if guilty else "its inputs were finite"
        raise AnomalyError(
            f"forward of {self.name} gave NaN or Inf ({where}); called at {self.line}"
        )


class _Kept:
    """A tensor or array held for backward, and enough to notice that it has been written to."""

    __slots__ = ("array", "counter", "edge", "is_tensor", "looked_at", "sample", "version")

    def __init__(self, value: Any, producer: Function | None = None, index: int = 0) -> None:
        self.is_tensor = isinstance(value, Tensor)
        self.edge: Edge | None = None
        if self.is_tensor:
            self.array, self.counter = value.data, value.counter
            # An output knows its producer by name only: holding the tensor would close a cycle.
            self.edge = (producer, index) if producer is not None else value._edge
            if self.edge is None and value._leaf_requires_grad:
                self.edge = value, 0
        else:
            self.array, self.counter = value, [0]
        self.version = self.counter[0]
        # Looking at a GPU's arrays would wait for the device at every op.
        self.looked_at = _some_of(self.array) if type(self.array) is np.ndarray else NOTHING
        self.sample = self.looked_at.tobytes()

    def use(self, owner: Function) -> Any:
        if self.counter[0] != self.version or self.looked_at.tobytes() != self.sample:
            raise GraphError(
                f"backward of {owner.name}: an array of shape {self.array.shape} that it kept has "
                "been modified since the forward pass; try: x.data = new_array instead of writing "
                "into x.data, or backward before the modification"
            )
        if not self.is_tensor:
            return self.array
        return Tensor._view(self.array, self.edge, self.counter)


def _some_of(array: Array) -> Array:
    """A view of evenly spaced elements; of all if they are few, or under ``detect_anomaly``."""
    if array.size <= SMALL or modes.state.anomaly:
        return array
    if array.flags.c_contiguous:
        return array.reshape(-1)[:: array.size // SAMPLED]
    along = max(2, round(SAMPLED ** (1 / array.ndim)))  # elements looked at along each axis
    return array[tuple([slice(None, None, -(-n // along)) for n in array.shape])]


def is_finite(array: Array) -> bool:
    """No NaN and no Inf (integers always are)."""
    return array.dtype.kind != "f" or bool((abs(array) < float("inf")).all())


def user_line() -> str:
    """``file:line`` of the innermost caller outside the package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("cnncore."):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
