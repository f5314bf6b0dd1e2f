"""Checks of boxes and of the in-place optimiser updates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import as_int, checked_size
from cnncore.kernels.checks.arrays import Array, floats, shape


def _boxes(argument: str, boxes: Array) -> None:
    """(M, 4), finite, no negative extent; the error names the first bad box."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError(argument, "shape (M, 4), one xyxy row a box", boxes.shape)
    with np.errstate(invalid="ignore"):
        extent = boxes[:, 2:] - boxes[:, :2]
    # NaN fails every comparison; inf - inf is NaN, inf - 1 is inf
    good = (extent >= 0) & (extent < math.inf)
    if not bool(good.all()):
        bad = int((~good).any(axis=1).argmax())
        values = [float(v) for v in boxes[bad]]
        raise ArgumentError(
            argument, "finite boxes with x1 <= x2 and y1 <= y2", f"box {bad} = {values}"
        )


def box_iou(a: Array, b: Array) -> bool:
    on_device = floats(("a", "b"), a, b)
    _boxes("a", a)
    _boxes("b", b)
    checked_size("a and b", a.shape[0], b.shape[0])
    return on_device


def nms(boxes: Array, scores: Array, iou_threshold: float) -> bool:
    on_device = floats(("boxes", "scores"), boxes, scores)
    _boxes("boxes", boxes)
    shape("scores", scores, (boxes.shape[0],), "(M,)")
    if bool((scores != scores).any()):
        bad = int((scores != scores).argmax())
        raise ArgumentError("scores", "no NaN", f"score {bad} is NaN")
    if not 0.0 <= iou_threshold <= 1.0:
        raise ArgumentError("iou_threshold", "a number in 0 .. 1", iou_threshold)
    return on_device


def _in_place(names: Sequence[str], arrays: Sequence[Array], written: Sequence[str]) -> bool:
    """One shape; what is written can be written and shares no memory with anything else."""
    on_device = floats(names, *arrays)
    for name, array in zip(names, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise ShapeError(name, f"the shape of {names[0]}, {arrays[0].shape}", array.shape)
    if on_device:
        _in_place_on_device(names, arrays, written)
        return on_device
    for k, (name, array) in enumerate(zip(names, arrays, strict=True)):
        if name not in written:
            continue
        if not array.flags.writeable:
            raise ArgumentError(name, "a writable array", "a read-only one", f"{name}.copy()")
        flags = array.flags
        if not (flags.c_contiguous and flags.aligned and array.dtype.isnative):
            expected = "a contiguous array in native byte order, as it is updated in place"
            raise ArgumentError(name, expected, "another", f"{name} = np.ascontiguousarray({name})")
        for i, other in enumerate(arrays):
            if i != k and np.may_share_memory(array, other) and np.shares_memory(array, other):
                got = f"memory shared with {names[i]}"
                raise ArgumentError(name, "memory of its own", got, f"{names[i]}.copy()")
    return on_device


def _in_place_on_device(
    names: Sequence[str], arrays: Sequence[Array], written: Sequence[str]
) -> None:
    """The same for arrays of a device, of whose memory only the ends are known."""
    ends = {}
    for name, array in zip(names, arrays, strict=True):
        start, read_only = array.__cuda_array_interface__["data"]
        if name in written and read_only:
            raise ArgumentError(name, "a writable array", "a read-only one", f"{name}.copy()")
        if name in written and not array.flags.c_contiguous:
            expected = "a contiguous array, as it is updated in place"
            raise ArgumentError(name, expected, "another", f"{name}.copy()")
        ends[name] = (start, start + array.nbytes)
    for name in written:
        start, stop = ends[name]
        for other, (first, last) in ends.items():
            if other != name and start < last and first < stop:
                got = f"memory shared with {other}"
                raise ArgumentError(name, "memory of its own", got, f"{other}.copy()")


def _finite(argument: str, value: float, low: float = -math.inf, below: float = math.inf) -> None:
    if not (math.isfinite(value) and low <= value < below):
        raise ArgumentError(argument, f"a number in {low} <= number < {below}", value)


def sgd_update(
    param: Array,
    grad: Array,
    velocity: Array | None,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> bool:
    if velocity is None:
        on_device = _in_place(("param", "grad"), (param, grad), ("param",))
    else:
        names = ("param", "grad", "velocity")
        on_device = _in_place(names, (param, grad, velocity), ("param", "velocity"))
    _finite("lr", lr, 0.0)
    _finite("momentum", momentum, 0.0)
    _finite("dampening", dampening)
    _finite("weight_decay", weight_decay, 0.0)
    if (velocity is None) != (momentum == 0):
        got = "None" if velocity is None else "an array"
        raise ArgumentError("velocity", f"None exactly when momentum is 0 (it is {momentum})", got)
    return on_device


def adam_update(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> bool:
    names = ("param", "grad", "m", "v")
    on_device = _in_place(names, (param, grad, m, v), ("param", "m", "v"))
    as_int("step", step, 1)
    _finite("lr", lr, 0.0)
    _finite("beta1", beta1, 0.0, 1.0)
    _finite("beta2", beta2, 0.0, 1.0)
    _finite("eps", eps, 0.0)
    _finite("weight_decay", weight_decay, 0.0)
    return on_device
