"""PyTorch, in both memory formats: its default NCHW, and channels_last, which its kernels prefer.

Tensors are converted before timing.  Gradients of convolutions are computed one at a time, as ours
are; the others by ``autograd.grad`` on a graph that is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cnncore.bench import convolution
from cnncore.bench.problem import CannotError, Contender, Problem
from cnncore.geometry import Window2d

FORMATS = {"torch NCHW": torch.contiguous_format, "torch channels_last": torch.channels_last}


class Peer:
    """PyTorch on so many threads."""

    name, version = "torch", str(torch.__version__)

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def contenders(self, problem: Problem) -> list[Contender]:
        """One a memory format where there are images, else one."""
        images = any(a.ndim == 4 for a in problem.arrays.values())
        formats = FORMATS if images else {"torch": torch.contiguous_format}
        return [
            Contender(name, "peer", _run(problem, layout), _read)
            for name, layout in formats.items()
        ]


def _read(result: Any) -> Any:
    return result.detach().contiguous().numpy()


def _run(problem: Problem, layout: torch.memory_format) -> Callable[[], Any]:
    tensors = {}
    for name, array in problem.arrays.items():
        tensor = torch.from_numpy(np.array(array))
        tensors[name] = tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor
    if problem.case.op in ("conv2d", "conv_transpose2d"):
        return _convolution(problem, tensors)
    compute = FUNCTIONS.get(problem.case.op)
    if compute is None:
        raise CannotError(f"PyTorch has no {problem.case.op}")
    settings = problem.settings
    if problem.case.direction == "forward":

        def forward() -> Any:
            with torch.no_grad():
                return compute(**tensors, **settings)

        return forward
    gy = tensors.pop("gy")
    first = next(iter(tensors))
    x = tensors[first].requires_grad_()
    y = compute(**tensors, **settings)
    return lambda: torch.autograd.grad(y, x, gy, retain_graph=True)[0]


def _convolution(problem: Problem, tensors: Mapping[str, Any]) -> Callable[[], Any]:
    s, transposed = problem.settings, problem.case.op == "conv_transpose2d"
    first, second = tensors.values()
    if problem.case.direction == "forward":
        function = functional.conv_transpose2d if transposed else functional.conv2d
        options = {k: s[k] for k in ("stride", "padding", "dilation", "groups")}

        def forward() -> Any:
            with torch.no_grad():
                return function(first, second, None, **options)

        return forward
    # The operator of the backward pass wants all three arrays, and reads no values of the one
    # whose gradient it gives.
    towards_input = problem.case.direction == "input"
    if towards_input:
        gy, weight = first, second
        x = torch.empty(_input_shape(problem), dtype=gy.dtype)
        x = x.contiguous(memory_format=_layout(gy))
    else:
        x, gy = first, second
        weight = torch.empty(_weight_shape(problem), dtype=gy.dtype)
        weight = weight.contiguous(memory_format=_layout(gy))
    pairs = [list(s[k]) for k in ("stride", "padding", "dilation")]
    mask = [towards_input, not towards_input, False]
    run = torch.ops.aten.convolution_backward
    wanted = 0 if towards_input else 1
    return lambda: run(
        gy, x, weight, None, *pairs, transposed, [0, 0], s["groups"], mask
    )[wanted]  # fmt: skip


def _layout(x: Any) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _input_shape(problem: Problem) -> tuple[int, ...]:
    return tuple(problem.case.settings["shape"])


def _weight_shape(problem: Problem) -> tuple[int, ...]:
    window: Window2d = convolution.window_of(problem)
    x, gy = problem.arrays.values()
    groups = problem.settings["groups"]
    if problem.case.op == "conv2d":
        return (gy.shape[1], x.shape[1] // groups, *window.kernel)
    return (x.shape[1], gy.shape[1] // groups, *window.kernel)


def _max_pool(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    return functional.max_pool2d(x, kernel_size, stride, padding, return_indices=True)[0]


def _interpolate(x: Any, scale_factor: Any, mode: str = "nearest") -> Any:
    return functional.interpolate(x, scale_factor=scale_factor, mode=mode)


def _batch_norm(x: Any, weight: Any, bias: Any) -> Any:
    return functional.batch_norm(x, None, None, weight, bias, training=True)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "matmul": lambda a, b: torch.mm(a, b),
    "max_pool2d": _max_pool,
    "max_unpool2d": lambda x, indices, **window: functional.max_unpool2d(x, indices, **window),
    "avg_pool2d": lambda x, **window: functional.avg_pool2d(x, **window),
    "interpolate": _interpolate,
    "batch_norm": _batch_norm,
    "relu": torch.relu,
    "softmax": lambda x: torch.softmax(x, 1),
}
FUNCTIONS["relu"] = lambda x: torch.relu(x)
