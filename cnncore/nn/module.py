"""Modules: a tree of objects that hold parameters and say in ``forward`` which ops to call.

There is no registration: a module's parameters, buffers and children are its attributes of type
``Parameter``, ``Buffer`` and ``Module``, in the order in which they were first assigned.  Names and
state-dict keys are PyTorch's: attribute names joined by dots.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np

from cnncore.autograd import Tensor, events
from cnncore.autograd.tensor import to_device
from cnncore.errors import ArgumentError
from cnncore.kernels.dispatch import array_module
from cnncore.nn import shapes

Array = Any
Self = TypeVar("Self", bound="Module")
T = TypeVar("T", bound=Tensor)


class Parameter(Tensor):
    """A tensor that training changes; a floating leaf that takes a gradient.

    >>> Parameter([1.0, 2.0]).requires_grad
    True
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        owned = shapes.hollowed(data) if shapes.active() else _owned(data)
        super().__init__(owned, requires_grad)


class Buffer(Tensor):
    """A tensor that belongs to a module's state but takes no gradient (running statistics)."""

    __slots__ = ()

    def __init__(self, data: Any) -> None:
        super().__init__(_owned(data))


def _owned(data: Any) -> Array:
    """A new contiguous array: what training writes into belongs to nobody else."""
    array = data.data if isinstance(data, Tensor) else data
    if not hasattr(array, "dtype"):
        array = np.asarray(array)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
    return array_module(array).array(array, order="C", copy=True)


class Module:
    """A part of a network.  A subclass assigns its parts in ``__init__`` and defines ``forward``.

    ``training`` (set by ``train`` and ``eval``) changes batch norm and dropout only.

    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.factor = Parameter([2.0])
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> list(Scale().state_dict())
    ['factor']
    """

    training: bool = True
    # Keys that files of this module may hold and that mean nothing to it.
    ignored_keys: tuple[str, ...] = ()
    # Attributes that ``repr`` shows.
    shown: tuple[str, ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes, written with ``cnncore.ops`` and other modules."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not events.observers:
            return self.forward(*args, **kwargs)
        inputs = (*args, *kwargs.values())
        outputs: tuple[Any, ...] = ()
        events.emit("enter_module", self, inputs)
        try:
            y = self.forward(*args, **kwargs)
            outputs = y if isinstance(y, tuple) else (y,)
        finally:  # observers that keep a stack see every module left, also on an exception
            events.emit("leave_module", self, inputs, outputs)
        return y

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (list, tuple)) and any(
            isinstance(v, (Module, Parameter)) for v in value
        ):
            raise ArgumentError(
                f"{type(self).__name__}.{name}",
                "modules and parameters as attributes of their own",
                f"a {type(value).__name__} of them, whose contents would not be trained",
                "ModuleList(...) or Sequential(...)",
            )
        if isinstance(vars(self).get(name), Parameter) and not isinstance(
            value, (Parameter, type(None))
        ):
            raise ArgumentError(
                f"{type(self).__name__}.{name}",
                "a Parameter, as it is now (or None)",
                type(value).__name__,
                f"Parameter(value), or {name}.data[...] = value and {name}.touched()",
            )
        object.__setattr__(self, name, value)

    # What the tree holds.

    def children(self) -> dict[str, Module]:
        """The modules directly below, by attribute name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Module)}

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module (named ``prefix``) and all below it, each once, parents first."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            below = [(_join(name, key), child) for key, child in module.children().items()]
            stack.extend(reversed(below))

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once, parents first."""
        seen: set[int] = set()
        stack: list[Module] = [self]
        while stack:  # as ``named_modules``, without the names, which take most of its time
            module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield module
                stack.extend(reversed(module.children().values()))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its first name."""
        return _once(self, Parameter)

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once, in the order of ``named_parameters``."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Every buffer once, with its first name."""
        return _once(self, Buffer)

    def buffers(self) -> Iterator[Buffer]:
        """Every buffer once."""
        return (buffer for _, buffer in self.named_buffers())

    def num_parameters(self) -> int:
        """Numbers that training changes."""
        return sum(parameter.size for parameter in self.parameters())

    # State.

    def _state(self) -> dict[str, Tensor]:
        """Parameters and buffers by key; one that is shared has every key it can be reached by."""
        state: dict[str, Tensor] = {}

        def visit(prefix: str, module: Module) -> None:
            for kind in (Parameter, Buffer):
                for name, tensor in _own(module, kind):
                    state[_join(prefix, name)] = tensor
            for name, child in module.children().items():
                visit(_join(prefix, name), child)

        visit("", self)
        return state

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """All parameters and buffers by name: a snapshot of NumPy copies, not views."""
        return {key: np.array(tensor.numpy()) for key, tensor in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any], allow: Sequence[str] = ()) -> None:
        """Copy values in by name; nothing is written unless everything fits.

        ``state`` holds arrays or tensors; they are converted to the type and device that the module
        has.  One error lists all entries that are missing, unexpected or of another shape; names
        that match a pattern of ``allow`` (``"head.*"``) are skipped instead.

        >>> from cnncore.nn import Linear
        >>> Linear(2, 1).load_state_dict({"weight": np.zeros((1, 3))})
        Traceback (most recent call last):
            ...
        cnncore.errors.ArgumentError: state: expected the entries of Linear, got 2 differences:
          missing: bias (1,)
          other shape: weight (1, 3), here (1, 2); try: allow=["pattern", ...] for entries to skip
        """
        if isinstance(allow, str):
            raise ArgumentError("allow", "a list of patterns", repr(allow), f"[{allow!r}]")
        own = self._state()
        arrays = {name: _state_array(name, value) for name, value in state.items()}
        problems = {
            name: problem
            for name, problem in _differences(own, arrays)
            if not any(fnmatchcase(name, pattern) for pattern in (*allow, *self._ignored()))
        }
        if problems:
            raise ArgumentError(
                "state",
                f"the entries of {type(self).__name__}",
                _summary(problems),
                _prefix_hint(own, arrays) or 'allow=["pattern", ...] for entries to skip',
            )
        for name, tensor in own.items():
            if name in arrays and arrays[name].shape == tensor.shape:
                tensor.data[...] = array_module(tensor.data).asarray(arrays[name])
                tensor.touched()

    def _ignored(self) -> list[str]:
        return [
            _join(prefix, key)
            for prefix, module in self.named_modules()
            for key in module.ignored_keys
        ]

    # Modes.

    def train(self: Self, mode: bool = True) -> Self:
        """Batch norm uses and updates batch statistics, dropout drops."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self: Self) -> Self:
        """Batch norm uses running statistics, dropout does nothing."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Train all parameters, or none."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for module in self.modules():
            for _, parameter in _own(module, Parameter):
                parameter.grad = None

    def to(self: Self, target: Any) -> Self:
        """Move to ``"cpu"`` or ``"cuda"``, or convert floating values to an element type.

        In place; gradients are dropped.
        """
        for tensor in {id(t): t for t in self._state().values()}.values():
            if isinstance(target, str) and target in ("cpu", "cuda"):
                tensor.data = to_device(tensor.data, target)
            else:
                dtype = _float_dtype(target)
                if tensor.dtype.kind == "f":
                    tensor.data = tensor.data.astype(dtype)
            tensor.grad = None
        return self

    @property
    def device(self) -> str:
        """Where the first parameter or buffer is, ``"cpu"`` or ``"cuda"``; the CPU without any."""
        return next((tensor.device for tensor in self._state().values()), "cpu")

    # Text.

    def extra_repr(self) -> str:
        """What ``repr`` puts in the brackets after the type."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.shown)

    def __repr__(self) -> str:
        children = self.children()
        head = f"{type(self).__name__}({self.extra_repr()}"
        if not children:
            return head + ")"
        lines = [f"{name}: {child!r}".replace("\n", "\n  ") for name, child in children.items()]
        return "\n  ".join([head, *lines]) + "\n)"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _own(module: Module, kind: type[T]) -> Iterator[tuple[str, T]]:
    return ((name, value) for name, value in vars(module).items() if isinstance(value, kind))


def _once(root: Module, kind: type[T]) -> Iterator[tuple[str, T]]:
    seen: set[int] = set()
    for prefix, module in root.named_modules():
        for name, tensor in _own(module, kind):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield _join(prefix, name), tensor


def _float_dtype(target: Any) -> Any:
    try:
        dtype = np.dtype(target)
    except TypeError:
        dtype = np.dtype(object)
    if dtype not in (np.float32, np.float64):
        raise ArgumentError("target", '"cpu", "cuda", float32 or float64', repr(target))
    return dtype


def _state_array(name: str, value: Any) -> np.ndarray[Any, Any]:
    array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ArgumentError(f"state[{name!r}]", "numbers", str(array.dtype))
    return array


def _summary(problems: Mapping[str, str], most: int = 20) -> str:
    """The problems by kind; of each kind the first few, since a wrong file has hundreds."""
    kinds: dict[str, list[str]] = {}
    for problem in problems.values():
        kinds.setdefault(problem.partition(":")[0], []).append(problem)
    lines = [f"{len(problems)} difference{'s' if len(problems) > 1 else ''}:"]
    for kind, found in sorted(kinds.items()):
        lines += found[:most]
        lines += [f"{kind}: {len(found) - most} more"] if len(found) > most else []
    return "\n  ".join(lines)


def _prefix_hint(own: Mapping[str, Tensor], arrays: Mapping[str, Any]) -> str:
    """What to type if all names of the file have a prefix too many (``module.``, of a wrapper)."""
    prefix = next(iter(arrays), "").partition(".")[0] + "."
    inner = {name.removeprefix(prefix) for name in arrays if name.startswith(prefix)}
    if len(inner) < len(arrays) or 2 * len(inner & set(own)) < len(own):
        return ""
    return f"{{k.removeprefix({prefix!r}): v for k, v in state.items()}}, without the prefix"


def _differences(
    own: Mapping[str, Tensor], arrays: Mapping[str, np.ndarray[Any, Any]]
) -> Iterator[tuple[str, str]]:
    for name in own:
        if name not in arrays:
            yield name, f"missing: {name} {own[name].shape}"
        elif arrays[name].shape != own[name].shape:
            yield name, f"other shape: {name} {arrays[name].shape}, here {own[name].shape}"
    for name in arrays:
        if name not in own:
            yield name, f"unexpected: {name} {arrays[name].shape}"
