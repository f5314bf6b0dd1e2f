"""Everything that is not a convolution: products, pooling, regions, sampling, normalisation.

Ours is the op as a user calls it (``cnncore.ops``), the peer's its function of the same name, so
both include what their Python costs.  The reference is the plain NumPy version in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore import kernels, ops
from cnncore.autograd import Tensor, grad, no_grad
from cnncore.bench.problem import Array, Case, Contender, Problem, draw, size_of, times
from cnncore.errors import ArgumentError
from cnncore.kernels.dispatch import use_backend

DIRECTIONS = ("forward", "backward")
REFERENCE = "the plain NumPy version in float64"
Rng = np.random.Generator
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Operation:
    """How to draw the arrays of an op, and how we compute it.

    ``compute(*tensors, **settings)`` -> tensor; the first argument is what ``backward``
    differentiates.  ``operations``: of the forward pass, from arrays and result (0: only memory
    counts).  ``settings``: the names passed on to the op.
    """

    draw: Callable[[Rng, Settings, Any], dict[str, Array]]
    compute: Callable[..., Any]
    settings: tuple[str, ...] = ()
    operations: Callable[[Mapping[str, Array], Array], float] = lambda arrays, y: 0.0
    differentiable: bool = True


def _image(rng: Rng, s: Settings, dtype: Any) -> dict[str, Array]:
    return {"x": draw(rng, tuple(s["shape"]), dtype)}


def _distinct(rng: Rng, s: Settings, dtype: Any) -> dict[str, Array]:
    """No two values alike: where two tie, implementations may choose either."""
    x = np.arange(np.prod(s["shape"]), dtype=np.float64)
    rng.shuffle(x)
    # In float32 whole numbers up to 2**24 stay apart; scaling by a power of two keeps them so.
    return {"x": (x / 2.0**20).astype(dtype).reshape(s["shape"])}


def _switches(rng: Rng, s: Settings, dtype: Any) -> dict[str, Array]:
    """What ``max_pool2d`` with the same window leaves behind."""
    x = _distinct(rng, s, dtype)["x"]
    with no_grad():
        y, indices = ops.max_pool2d(
            x, s["kernel_size"], s.get("stride"), s.get("padding", 0), return_indices=True
        )
    return {"x": y.numpy(), "indices": np.asarray(getattr(indices, "data", indices))}


def _boxes(rng: Rng, s: Settings, dtype: Any) -> dict[str, Array]:
    """A map and regions of a twentieth to half its sides, ``(K, 5)``, in pixels of the image."""
    n, _, height, width = s["shape"]
    scale, count = s.get("spatial_scale", 1.0), s["regions"]
    h, w = height / scale, width / scale
    size = rng.uniform(0.05, 0.5, (count, 2))
    y1, x1 = rng.uniform(0, 0.5, count) * h, rng.uniform(0, 0.5, count) * w
    boxes = [rng.integers(0, n, count), x1, y1, x1 + size[:, 0] * w, y1 + size[:, 1] * h]
    return {"x": draw(rng, tuple(s["shape"]), dtype), "boxes": np.stack(boxes, 1).astype(dtype)}


def _scored_boxes(rng: Rng, s: Settings, dtype: Any) -> dict[str, Array]:
    (count,) = s["shape"]
    corner, size = rng.uniform(0, 1000, (count, 2)), rng.uniform(8, 128, (count, 2))
    boxes = np.concatenate([corner, corner + size], 1)
    return {"boxes": boxes.astype(dtype), "scores": rng.permutation(count).astype(dtype) / count}


def _matrices(rng: Rng, s: Settings, dtype: Any) -> dict[str, Array]:
    if len(s["shape"]) != 3:
        raise ArgumentError("shape", "three sizes M,L,N of (M, L) @ (L, N)", s["shape"])
    m, length, n = s["shape"]
    return {"a": draw(rng, (m, length), dtype, length), "b": draw(rng, (length, n), dtype)}


def _normalised(rng: Rng, s: Settings, dtype: Any) -> dict[str, Array]:
    c = s["shape"][1]
    arrays = _image(rng, s, dtype)
    return {**arrays, "weight": draw(rng, (c,), dtype) + 1, "bias": draw(rng, (c,), dtype)}


def _max_pool(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    return ops.max_pool2d(x, kernel_size, stride, padding, return_indices=True)[0]


def _batch_norm(x: Any, weight: Any, bias: Any) -> Any:
    return ops.batch_norm(x, None, None, weight, bias, training=True)


def _unpool(x: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    return ops.max_unpool2d(x, indices, kernel_size, stride, padding)


def _nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    return kernels.nms(
        np.asarray(getattr(boxes, "data", boxes)),
        np.asarray(getattr(scores, "data", scores)),
        iou_threshold,
    )


_WINDOW = ("kernel_size", "stride", "padding")
_REGION = ("output_size", "spatial_scale")
OPERATIONS: dict[str, Operation] = {
    "matmul": Operation(
        _matrices, ops.matmul, operations=lambda arrays, y: 2.0 * y.size * arrays["a"].shape[1]
    ),
    "max_pool2d": Operation(_distinct, _max_pool, _WINDOW),
    "max_unpool2d": Operation(_switches, _unpool, _WINDOW),
    "avg_pool2d": Operation(_image, ops.avg_pool2d, _WINDOW),
    "interpolate": Operation(_image, ops.interpolate, ("scale_factor", "mode")),
    "roi_align": Operation(_boxes, ops.roi_align, (*_REGION, "sampling_ratio", "aligned")),
    "roi_pool": Operation(_boxes, ops.roi_pool, _REGION),
    "nms": Operation(_scored_boxes, _nms, ("iou_threshold",), differentiable=False),
    "batch_norm": Operation(_normalised, _batch_norm),
    "relu": Operation(_image, ops.relu),
    "softmax": Operation(_image, lambda x: ops.softmax(x, 1)),
}


def make(case: Case, dtype: Any) -> Problem:
    """Arrays, counts and reference of one of ``OPERATIONS``."""
    operation = OPERATIONS[case.op]
    if case.direction == "backward" and not operation.differentiable:
        raise ArgumentError("direction", f"forward: {case.op} has no gradient", "backward")
    rng = np.random.default_rng(0)
    arrays = operation.draw(rng, case.settings, dtype)
    settings = {k: case.settings[k] for k in operation.settings if k in case.settings}
    with no_grad():
        y = _array(operation.compute(*_tensors(arrays), **settings))
    flops = operation.operations(arrays, y)
    if case.direction == "backward":
        arrays = {**arrays, "gy": draw(rng, y.shape, dtype)}
        first = next(iter(arrays.values()))
        nbytes, flops = size_of(first, arrays["gy"]), flops  # the gradient is as large as x
    else:
        nbytes = size_of(y, *arrays.values())
    return Problem(
        case,
        label(case),
        arrays,
        settings,
        flops,
        nbytes,
        lambda: _plain(operation, case.direction, arrays, settings),
        REFERENCE,
    )


def label(case: Case) -> str:
    """``max_pool2d 4×64×112×112 kernel_size 3 stride 2``"""
    more = [f"{k} {_shown(v)}" for k, v in case.settings.items() if k != "shape"]
    direction = " gradient" if case.direction == "backward" else ""
    return " ".join([f"{case.op}{direction}", times(tuple(case.settings["shape"])), *more])


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return times(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def ours(problem: Problem, algorithm: str = "auto") -> Contender:
    """The op itself."""
    operation = OPERATIONS[problem.case.op]
    run = runner(operation, problem.case.direction, problem.arrays, problem.settings)
    return Contender("cnncore", "ours", run, _array, algorithm)


def runner(
    operation: Operation, direction: str, arrays: Mapping[str, Array], settings: Settings
) -> Callable[[], Any]:
    """The forward pass without a graph, or the gradient towards the first array alone."""
    if direction == "forward":
        tensors = _tensors(arrays)

        def forward() -> Any:
            with no_grad():
                return operation.compute(*tensors, **settings)

        return forward
    given = dict(arrays)
    gy = Tensor(given.pop("gy"))
    first, *rest = _tensors(given)
    x = Tensor(first.data, requires_grad=True)
    y = operation.compute(x, *rest, **settings)
    return lambda: grad(y, x, gy, retain_graph=True)[0]


def _tensors(arrays: Mapping[str, Array]) -> list[Any]:
    """Float data as tensors; boxes and switches stay arrays, as users pass them."""
    plain = ("boxes", "scores", "indices")
    return [a if name in plain else Tensor(a) for name, a in arrays.items()]


def _array(result: Any) -> Array:
    return np.asarray(getattr(result, "data", result))


def _plain(
    operation: Operation, direction: str, arrays: Mapping[str, Array], settings: Settings
) -> Array:
    wide = {k: a.astype(np.float64) if a.dtype.kind == "f" else a for k, a in arrays.items()}
    with use_backend("array"):
        return _array(runner(operation, direction, wide, settings)())
