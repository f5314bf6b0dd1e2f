"""Checks of rows, pointwise functions, reductions and NumPy indexing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, DTypeError, ShapeError
from cnncore.geometry import as_int, checked_size
from cnncore.kernels.checks.arrays import Array, broadcast, device, floats, rank, same_device, shape
from cnncore.kernels.epilogue import OUTPUT_TELLS, Epilogue, Gate

# kind of ``pointwise`` -> names of its parameters
POINTWISE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("relu", "relu6", "selu", "gelu", "gelu_tanh", "silu", "mish"), ()),
    **dict.fromkeys(("sigmoid", "log_sigmoid", "hardsigmoid", "hardswish"), ()),
    **dict.fromkeys(("tanh", "softsign"), ()),
    "leaky_relu": ("slope",),
    "elu": ("alpha",),
    "celu": ("alpha",),
    "hardtanh": ("low", "high"),
    "softplus": ("beta", "threshold"),
}

# universal functions of two arrays and one result that need no looking up
PLAIN = frozenset(("add", "subtract", "multiply", "divide", "maximum", "minimum"))


def _per_row(x: Array, names: Sequence[str], *vectors: Array) -> None:
    for name, vector in zip(names, vectors, strict=True):
        shape(name, vector, (x.shape[0],), "(R,)")


def row_moments(x: Array) -> bool:
    on_device = floats(("x",), x)
    rank("x", x, "R I")
    if x.shape[1] == 0:
        raise ShapeError("x", "rows of at least one element", x.shape)
    return on_device


def row_products(gy: Array, x: Array, mean: Array) -> bool:
    on_device = floats(("gy", "x", "mean"), gy, x, mean)
    rank("gy", gy, "R I")
    shape("x", x, gy.shape, "that of gy")
    _per_row(gy, ("mean",), mean)
    return on_device


def row_linear(x: Array, a: Array, b: Array, epilogue: Epilogue | None = None) -> bool:
    on_device = floats(("x", "a", "b"), x, a, b)
    rank("x", x, "R I")
    _per_row(x, ("a", "b"), a, b)
    _ending(epilogue, x)
    return on_device


def row_linear2(x: Array, z: Array, a: Array, b: Array, c: Array) -> bool:
    on_device = floats(("x", "z", "a", "b", "c"), x, z, a, b, c)
    rank("x", x, "R I")
    shape("z", z, x.shape, "that of x")
    _per_row(x, ("a", "b", "c"), a, b, c)
    return on_device


def normalize(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    joined: int,
    eps: float,
    epilogue: Epilogue | None = None,
) -> bool:
    given = {"x": x, "weight": weight, "bias": bias}
    present = {name: array for name, array in given.items() if array is not None}
    on_device = floats(tuple(present), *present.values())
    _groups(x, joined)
    for name in ("weight", "bias"):
        if name in present:
            shape(name, present[name], (x.shape[1] * x.shape[2],), "(G·M,)")
    if not 0 <= eps < math.inf:
        raise ArgumentError("eps", "a number >= 0", eps)
    _ending(epilogue, x)
    return on_device


def normalize_backward(
    gy: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    rstd: Array,
    joined: int,
    fixed: bool = False,
    gate: Gate | None = None,
) -> bool:
    if weight is None:
        on_device = floats(("x", "gy"), x, gy)
    else:
        on_device = floats(("x", "gy", "weight"), x, gy, weight)
    groups = _groups(x, joined)
    shape("gy", gy, x.shape, "that of x")
    if weight is not None:
        shape("weight", weight, (x.shape[1] * x.shape[2],), "(G·M,)")
    same_device(("x", "mean", "rstd"), (x, mean, rstd))
    for name, statistics in (("mean", mean), ("rstd", rstd)):
        if statistics.dtype.newbyteorder("=") != np.float64:
            raise DTypeError(name, "float64", statistics.dtype, f"{name}.astype(np.float64)")
        shape(name, statistics, groups, "that of the groups")
    if gate is not None:
        _tells(gate.activation, gate.params)
        floats(("x", "y"), x, gate.y)
        shape("y", gate.y, x.shape, "that of x")
    return on_device


def _ending(epilogue: Epilogue | None, x: Array) -> None:
    if epilogue is None:
        return
    if epilogue.activation:
        _tells(epilogue.activation, epilogue.params)
    if epilogue.residual is not None:
        floats(("x", "residual"), x, epilogue.residual)
        shape("residual", epilogue.residual, x.shape, "that of x")


def _tells(kind: str, params: Sequence[float]) -> None:
    """An activation whose result tells its derivative."""
    activation(kind, params)
    if kind not in OUTPUT_TELLS:
        raise ArgumentError("activation", f"one of {sorted(OUTPUT_TELLS)}", repr(kind))


def _groups(x: Array, joined: int) -> tuple[int, int, int]:
    """Shape of one number a group."""
    rank("x", x, "N G M I")
    if joined not in (0, 2):
        raise ArgumentError("joined", "0 (over images) or 2 (over members of a group)", joined)
    if x.shape[joined] * x.shape[3] == 0:
        raise ShapeError("x", "groups of at least one element", x.shape)
    N, G, M, _ = x.shape
    return (1, G, M) if joined == 0 else (N, G, 1)


def pointwise(
    x: Array, kind: str, params: Sequence[float] = (), order: int = 0, scale: Array | None = None
) -> bool:
    if scale is None:
        on_device = floats(("x",), x)
    else:
        on_device = floats(("x", "scale"), x, scale)
        shape("scale", scale, x.shape, "that of x")
    activation(kind, params)
    if order not in (0, 1, 2):
        raise ArgumentError("order", "0, 1 or 2", order)
    return on_device


def activation(kind: str, params: Sequence[float]) -> None:
    names = POINTWISE.get(kind)
    if names is None:
        raise ArgumentError("kind", f"one of {sorted(POINTWISE)}", repr(kind))
    if len(params) != len(names):
        raise ArgumentError("params", f"{len(names)} numbers {names} for {kind}", tuple(params))
    for name, value in zip(names, params, strict=True):
        if not math.isfinite(value):
            raise ArgumentError("params", f"a finite {name}", value)
    if kind in ("celu", "softplus") and params[0] == 0:
        raise ArgumentError("params", f"a {names[0]} other than 0, which divides", params[0])


def ufunc(name: str, *arrays: Array) -> bool:
    if len(arrays) == 2 and name in PLAIN:  # the usual case of the small ops: two arrays alike
        a, b = arrays
        alike = type(a) is type(b) is np.ndarray and a.dtype is b.dtype
        if alike and (a.shape == b.shape or not b.ndim or a.shape[-b.ndim :] == b.shape):
            return False
    function = getattr(np, name, None) if isinstance(name, str) else None
    if not isinstance(function, np.ufunc) or function.nout != 1:
        raise ArgumentError("name", "a NumPy universal function with one result", repr(name))
    if len(arrays) != function.nin:
        raise ArgumentError("arrays", f"{function.nin} for {name}", len(arrays))
    on_device = same_device([f"array {i}" for i in range(len(arrays))], arrays)
    floats = {a.dtype.newbyteorder("=") for a in arrays if a.dtype.kind == "f"}
    if len(floats) > 1:
        expected = "floating arrays of one type"
        raise DTypeError("arrays", expected, [str(a.dtype) for a in arrays], "astype first")
    if len(arrays) > 1 and arrays[0].shape != arrays[1].shape:
        checked_size("arrays", *broadcast("arrays", *(a.shape for a in arrays)))
    return on_device


def _reduced_axis(argument: str, x: Array, axis: int) -> None:
    if as_int(argument, axis, 0) >= x.ndim:
        raise ArgumentError(argument, f"axes in 0 .. {x.ndim - 1}", axis)


def reduce_sum(x: Array, axes: tuple[int, ...]) -> bool:
    on_device = floats(("x",), x)
    if not isinstance(axes, tuple) or len(set(axes)) != len(axes):
        raise ArgumentError("axes", "a tuple of distinct axes", repr(axes))
    for axis in axes:
        _reduced_axis("axes", x, axis)
    return on_device


def reduce_max(x: Array, axis: int) -> bool:
    on_device = floats(("x",), x)
    _reduced_axis("axis", x, axis)
    if x.shape[axis] == 0:
        hint = "nothing has no maximum"
        raise ShapeError("x", f"at least one element along axis {axis}", x.shape, hint)
    return on_device


def softmax(x: Array, log: bool = False) -> bool:
    on_device = floats(("x",), x)
    rank("x", x, "O K I")
    if x.shape[1] == 0:
        raise ShapeError("x", "at least one class along the middle axis", x.shape)
    return on_device


def softmax_backward(gy: Array, y: Array, log: bool = False) -> bool:
    on_device = floats(("y", "gy"), y, gy)
    softmax(y, log)
    shape("gy", gy, y.shape, "that of y")
    return on_device


def take(x: Array, key: Any) -> bool:
    return device("x", x)


def put_add(src: Array, key: Any, shape: tuple[int, ...]) -> bool:
    on_device = floats(("src",), src)
    checked_size("shape", *(as_int("shape", size, 0) for size in shape))
    return on_device
