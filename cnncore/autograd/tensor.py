"""The tensor: an array, whether it wants a gradient, and the op it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncore.errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    GraphError,
    OutOfMemoryError,
    require,
)
from cnncore.kernels.dispatch import on_device

if TYPE_CHECKING:
    from cnncore.autograd.function import Function

Array = Any
Edge = tuple[Any, int]  # (producing Function, index of its output), or (leaf Tensor, 0)

Hook = Callable[["Tensor"], "Tensor | None"]

# Arithmetic lives a layer above: cnncore.ops fills this table, and the methods below look it up.
OPERATORS: dict[str, Callable[..., Any]] = {}


def _operator(name: str) -> Callable[..., Any]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        return OPERATORS[name](self, *args, **kwargs)

    method.__name__ = name
    method.__doc__ = f"``cnncore.ops.{name}`` of this tensor."
    return method


def _reflected(name: str) -> Callable[..., Any]:
    def method(self: Tensor, other: Any) -> Any:
        return OPERATORS[name](other, self)

    method.__doc__ = f"``cnncore.ops.{name}`` with this tensor on the right."
    return method


class Tensor:
    """An n-dimensional array that remembers how it was made.

    ``data`` is a NumPy or CuPy array; ``grad`` (a tensor or None) is filled by ``backward`` on
    leaves made with ``requires_grad=True``.

    >>> x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad.numpy()
    array([2., 4.])
    """

    __slots__ = ("__weakref__", "_edge", "_leaf_requires_grad", "counter", "data", "grad", "hooks")
    __array_priority__ = 1000  # so that ndarray + Tensor comes to Tensor.__radd__

    data: Array
    grad: Tensor | None

    def __init__(self, data: Array, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            data = data.data
        if not isinstance(data, np.ndarray) and not on_device(data):
            data = np.asarray(data)
        self.data = data
        self.grad = None
        self._edge: Edge | None = None
        self.counter = [0]  # shared by tensors of one memory
        self.hooks: Sequence[Hook] = ()
        self._leaf_requires_grad = False
        if requires_grad:
            self.requires_grad = True

    @staticmethod
    def _result(data: Array, node: Function | None, index: int) -> Tensor:
        """Output ``index`` of an op; NumPy's scalars become 0-d arrays."""
        if isinstance(data, np.generic):
            data = np.asarray(data)
        return Tensor._view(data, None if node is None else (node, index), [0])

    @staticmethod
    def _view(data: Array, edge: Edge | None, counter: list[int]) -> Tensor:
        """The constructor without its questions: this runs for every result of every op."""
        result = Tensor.__new__(Tensor)
        result.data, result.grad, result.counter = data, None, counter
        result._edge = edge
        result.hooks, result._leaf_requires_grad = (), False
        return result

    # The graph.

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow here: a leaf that asked for one, or the result of such."""
        return self._edge is not None or self._leaf_requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._edge is not None and self._edge[0] is not self:
            raise GraphError("requires_grad can be set on leaves only; try: tensor.detach()")
        if value and self.dtype.kind != "f":
            raise DTypeError("requires_grad", "a floating tensor", str(self.dtype), ".to a float")
        self._leaf_requires_grad = bool(value)

    @property
    def is_leaf(self) -> bool:
        """Not the result of a recorded op."""
        return self._edge is None or isinstance(self._edge[0], Tensor)

    @property
    def node(self) -> Function | None:
        """The op that made this tensor, or None for a leaf."""
        return None if self.is_leaf else self._edge[0]  # type: ignore[index]

    @property
    def edge(self) -> Edge:
        """Where a gradient towards this tensor goes."""
        return self._edge if self._edge is not None else (self, 0)

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add the gradient of this tensor to ``.grad`` of every leaf it came from.

        ``gradient`` (same shape) defaults to 1 for a single-element tensor.  ``create_graph`` makes
        the gradients differentiable; ``retain_graph`` (default: as ``create_graph``) allows another
        pass.
        """
        from cnncore.autograd import graph

        graph.backward((self,), (gradient,), retain_graph, create_graph)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call ``hook(gradient)`` when this tensor's gradient is known; a result replaces it.

        Returns a function that removes the hook.
        """
        if not self.requires_grad:
            raise GraphError("register_hook: this tensor takes no gradient; set requires_grad=True")
        hooks = self._leaf_hooks() if self.is_leaf else _node_hooks(self.edge)
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    def _leaf_hooks(self) -> list[Hook]:
        if not isinstance(self.hooks, list):
            self.hooks = []
        return self.hooks

    def detach(self) -> Tensor:
        """The same memory, outside the graph."""
        return Tensor._view(self.data, None, self.counter)

    def touched(self) -> None:
        """Say that ``data`` was written into: a backward that needs the old values will refuse."""
        self.counter[0] += 1

    # Arrays.

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes per axis."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> Any:
        """Element type."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return int(self.data.ndim)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(self.data.size)

    @property
    def device(self) -> str:
        """``"cpu"`` or ``"cuda"``."""
        return "cuda" if on_device(self.data) else "cpu"

    def numpy(self) -> np.ndarray[Any, Any]:
        """The values as a NumPy array (shared memory on the CPU, a copy from the GPU)."""
        return self.data if isinstance(self.data, np.ndarray) else self.data.get()

    def item(self) -> Any:
        """The value of a single-element tensor as a Python number."""
        return self.data.item()

    def to(self, target: Any) -> Tensor:
        """Move to ``"cpu"`` or ``"cuda"`` (recorded), or convert to an element type (recorded)."""
        return OPERATORS["to"](self, target)  # type: ignore[no-any-return]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if not isinstance(self.data, np.ndarray):  # np.asarray is no request to copy
            raise DeviceError("tensor", "one on the CPU", "one on cuda", '.to("cpu"), or .numpy()')
        values = self.numpy()
        if dtype is not None and values.dtype != np.dtype(dtype):
            return values.astype(dtype)
        return values.copy() if copy else values

    def __dlpack__(self, **kwargs: Any) -> Any:
        if self.requires_grad:
            raise GraphError("__dlpack__: this tensor requires a gradient; try: .detach()")
        return self.data.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()  # type: ignore[no-any-return]

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a tensor without axes")
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="tensor(", threshold=64)
        extra = [f"dtype={self.dtype}"] if self.dtype != np.float32 else []
        extra += ["device=cuda"] if self.device == "cuda" else []
        if self.node is not None:
            extra.append(f"from={self.node.name}")
        elif self.requires_grad:
            extra.append("requires_grad=True")
        return f"tensor({', '.join([values, *extra])})"

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write in place: leaves that want no gradient only (no op could be recorded)."""
        if self.requires_grad:
            raise GraphError(
                "in-place assignment to a tensor that takes a gradient; try: ops.where"
            )
        self.data[key] = value.data if isinstance(value, Tensor) else value
        self.touched()

    # Operators (layer 3 defines them).

    __add__ = _operator("add")
    __radd__ = _reflected("add")
    __sub__ = _operator("sub")
    __rsub__ = _reflected("sub")
    __mul__ = _operator("mul")
    __rmul__ = _reflected("mul")
    __truediv__ = _operator("div")
    __rtruediv__ = _reflected("div")
    __pow__ = _operator("pow")
    __rpow__ = _reflected("pow")
    __matmul__ = _operator("matmul")
    __rmatmul__ = _reflected("matmul")
    __neg__ = _operator("neg")
    __abs__ = _operator("abs")
    __getitem__ = _operator("getitem")
    __lt__ = _operator("lt")
    __le__ = _operator("le")
    __gt__ = _operator("gt")
    __ge__ = _operator("ge")
    exp = _operator("exp")
    log = _operator("log")
    sqrt = _operator("sqrt")
    sum = _operator("sum")
    mean = _operator("mean")
    max = _operator("amax")
    min = _operator("amin")
    reshape = _operator("reshape")
    flatten = _operator("flatten")
    transpose = _operator("transpose")
    permute = _operator("permute")
    expand = _operator("expand")
    squeeze = _operator("squeeze")
    unsqueeze = _operator("unsqueeze")
    clamp = _operator("clamp")

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    @property
    def T(self) -> Tensor:  # noqa: N802
        """The matrix transpose."""
        return self.permute((1, 0))  # type: ignore[no-any-return]


def _node_hooks(edge: Edge) -> list[Any]:
    node, index = edge
    node.hooks = node.hooks or {}
    hooks: list[Any] = node.hooks.setdefault(index, [])
    return hooks


def tensor(
    data: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A new tensor holding a copy of ``data``.

    Python floats become float32 (as in PyTorch), arrays keep their type.

    >>> tensor([1.0, 2.0]).dtype
    dtype('float32')
    """
    if isinstance(data, Tensor):
        data = data.data
    if on_device(data):
        array = data.astype(dtype or data.dtype, copy=True)
    else:
        array = np.array(data, dtype=dtype, order="C")
        if dtype is None and not isinstance(data, (np.ndarray, np.generic)):
            array = array.astype(np.float32) if array.dtype == np.float64 else array
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind not in "fiub":
        raise DTypeError("data", "numbers", str(array.dtype), "a rectangular nest of numbers")
    return Tensor(to_device(array, device), requires_grad)


def beside(x: Tensor, values: Array) -> Tensor:
    """A tensor of ``values`` on the device where ``x`` is; the way for targets made on the host.

    >>> beside(tensor([1.0]), np.zeros(2)).device
    'cpu'
    """
    return Tensor(to_device(values, x.device))


def from_dlpack(source: Any) -> Tensor:
    """A tensor that shares the memory of any array with DLPack (PyTorch, JAX, CuPy, NumPy, …).

    >>> from_dlpack(np.ones(2)).shape
    (2,)
    """
    if not hasattr(source, "__dlpack__"):
        raise ArgumentError("source", "an array with __dlpack__", type(source).__name__)
    cuda = source.__dlpack_device__()[0] != 1  # 1 is DLPack's name for memory of the host
    return Tensor(require("cupy", "cuda13").from_dlpack(source) if cuda else np.from_dlpack(source))


def to_device(array: Array, device: str | None) -> Array:
    """The array on ``"cpu"`` or ``"cuda"`` (None: where it is)."""
    if device is None or device == ("cuda" if on_device(array) else "cpu"):
        return array
    if device == "cpu":
        return array.get()
    if device == "cuda":
        cupy = require("cupy", "cuda13")
        try:
            return cupy.asarray(array)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError("device", "a CUDA device", str(error), 'device="cpu"') from error
        except MemoryError as error:
            raise OutOfMemoryError(f'to("cuda"): no room for {array.nbytes:,} bytes') from error
    raise ArgumentError("device", '"cpu" or "cuda"', repr(device))
