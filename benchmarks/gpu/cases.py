"""What is timed: each case is a kernel of the contract, its arguments, its peer, its least traffic.

``bytes`` counts every input read once and every result written once; ``operations`` a
multiply-add as two.  In a dry run every shape is tiny.

Letters: N C H W images, O output channels, R rows, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.gpu.clock import Device, Torch
from cnncore import taps
from cnncore.geometry import Window2d
from cnncore.roi_grid import RoiGrid

Inputs = tuple[Any, ...]


@dataclass
class Case:
    """One line of the table."""

    family: str
    kernel: str
    shape: str
    make: Callable[[], Inputs]  # arrays of the device
    arguments: Callable[..., tuple[Any, ...]]  # of the kernel, from the inputs
    peer: Callable[..., Any] | None  # the same from tensors on the same memory
    bytes: int | None = None
    operations: int | None = None
    tolerance: float = 1e-5
    label: str = ""  # where the kernel's name does not say enough
    written: tuple[int, ...] = ()  # inputs that the kernel updates in place
    tf32: bool = False
    keywords: dict[str, Any] = field(default_factory=dict)


def memory_cases(device: Device, torch: Torch) -> Iterator[Case]:
    """Everything that moves memory rather than multiplies."""
    yield from pointwise(device, torch)
    yield from rows(device, torch)
    yield from reductions(device, torch)
    yield from planes(device, torch)
    yield from boxes(device, torch)
    yield from updates(device, torch)


def functional(torch: Torch) -> Any:
    return torch.torch.nn.functional if torch.torch else None


def pointwise(device: Device, torch: Torch) -> Iterator[Case]:
    F, size = functional(torch), 10**3 if device.tiny else 5 * 10**7
    for kind in ("relu", "gelu", "silu", "hardswish"):
        yield Case(
            "activations", "pointwise", f"{size:,}", lambda: (device.random(size),),
            lambda x, kind=kind: (x, kind), lambda x, kind=kind: getattr(F, kind)(x),
            8 * size, label=kind,
        )  # fmt: skip
    grad = (lambda x, g: torch.torch.ops.aten.gelu_backward(g, x)) if F else None
    yield Case(
        "activations", "pointwise", f"{size:,}", lambda: (device.random(size), device.random(size)),
        lambda x, g: (x, "gelu", (), 1, g), grad, 12 * size, label="gelu, backward",
    )  # fmt: skip


def rows(device: Device, torch: Torch) -> Iterator[Case]:
    for R, width in (
        ((6, 50), (5, 33)) if device.tiny else ((8192, 3136), (131072, 196), (64, 2**20))
    ):
        name, size = f"({R}, {width})", R * width

        def matrix(R: int = R, width: int = width) -> Any:
            return device.random(R, width)

        def per_row(R: int = R) -> Any:
            return device.random(R)

        def moments(x: Any, width: int = width) -> Any:
            variance, mean = torch.torch.var_mean(x, 1, correction=0)
            return mean, variance * width

        yield Case(
            "normalisation", "row_moments", name, lambda matrix=matrix: (matrix(),),
            lambda x: (x,), moments, 4 * size,
        )  # fmt: skip
        yield Case(
            "normalisation", "row_products", name,
            lambda matrix=matrix, per_row=per_row: (matrix(), matrix(), per_row()),
            lambda g, x, m: (g, x, m),
            lambda g, x, m: (g.sum(1), (g * (x - m[:, None])).sum(1)), 8 * size, tolerance=1e-4,
        )  # fmt: skip
        yield Case(
            "normalisation", "row_linear", name,
            lambda matrix=matrix, per_row=per_row: (matrix(), per_row(), per_row()),
            lambda x, a, b: (x, a, b),
            lambda x, a, b: torch.torch.addcmul(b[:, None], x, a[:, None]), 8 * size,
        )  # fmt: skip
        yield Case(
            "normalisation", "row_linear2", name,
            lambda matrix=matrix, per_row=per_row: (
                matrix(), matrix(), per_row(), per_row(), per_row()
            ),
            lambda *arrays: arrays,
            lambda x, z, a, b, c: a[:, None] * x + b[:, None] * z + c[:, None], 12 * size,
        )  # fmt: skip


def reductions(device: Device, torch: Torch) -> Iterator[Case]:
    shapes = [((64, 256, 56, 56), (0, 2, 3)), ((8192, 4096), (1,)), ((4096, 8192), (0,))]
    for shape, axes in [((2, 3, 4, 5), (0, 2, 3))] if device.tiny else shapes:
        size = int(np.prod(shape))
        yield Case(
            "reductions", "reduce_sum", f"{shape} over {axes}",
            lambda shape=shape: (device.random(*shape, low=0.0),),
            lambda x, axes=axes: (x, axes), lambda x, axes=axes: x.sum(axes), 4 * size,
        )  # fmt: skip
    R, K = (7, 9) if device.tiny else (16384, 4096)
    yield Case(
        "reductions", "reduce_max", f"({R}, {K}) over 1", lambda: (device.random(R, K),),
        lambda x: (x, 1), lambda x: tuple(x.max(1)), 4 * R * K,
    )  # fmt: skip
    shapes3 = [(65536, 1000, 1), (8, 21, 512 * 512)]
    for shape3 in [(3, 5, 1), (2, 3, 7)] if device.tiny else shapes3:
        for log in (False, True):
            size = int(np.prod(shape3))
            yield Case(
                "softmax", "softmax", f"{shape3}{' log' if log else ''}",
                lambda shape3=shape3: (device.random(*shape3),),
                lambda x, log=log: (x, log),
                lambda x, log=log: (x.log_softmax if log else x.softmax)(1), 8 * size,
            )  # fmt: skip


def planes(device: Device, torch: Torch) -> Iterator[Case]:
    F = functional(torch)
    N, C, H, W = (2, 3, 8, 8) if device.tiny else (32, 64, 112, 112)
    name, size = f"({N}, {C}, {H}, {W})", N * C * H * W

    def images() -> Inputs:
        return (device.random(N, C, H, W),)

    window = Window2d.make(3, 2, 1)
    out = window.output_size((H, W))
    small = N * C * out[0] * out[1]
    yield Case(
        "pools", "max_pool2d", f"{name} 3x3 stride 2", images, lambda x: (x, window, out),
        lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), 4 * size + 12 * small,
    )  # fmt: skip

    def pooled() -> Inputs:
        half = (H // 2) * (W // 2)
        index = device.rng.integers(0, 4, (1, half, 1))
        row, col = np.divmod(np.arange(half), W // 2)
        flat = (2 * row + index[0, :, 0] // 2) * W + 2 * col + index[0, :, 0] % 2
        flat = np.broadcast_to(flat[None, :, None], (N * C, half, 1))
        return device.random(N * C, half, 1), device.whole(np.ascontiguousarray(flat))

    def unpool(x: Any, index: Any) -> Any:
        shape = (N, C, H // 2, W // 2)
        y = F.max_unpool2d(x.reshape(shape), index.reshape(shape), 2)
        return y.reshape(N * C, H * W, 1)

    yield Case(
        "unpools", "scatter_add", f"max unpooling to {name}", pooled,
        lambda x, index: (x, index, H * W), unpool, 4 * size + 12 * (size // 4),
    )  # fmt: skip
    double = [taps.linear(n, 2 * n) for n in (H, W)]
    yield Case(
        "resampling", "resample", f"{name} bilinear, doubled", images,
        lambda x: (x, None, *double),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), 20 * size,
    )  # fmt: skip
    yield Case(
        "resampling", "resample_adjoint", f"{name} bilinear, halved gradient",
        lambda: (device.random(N, C, 2 * H, 2 * W),), lambda g: (g, None, *double, N),
        lambda g: torch.torch.ops.aten.upsample_bilinear2d_backward(
            g, [2 * H, 2 * W], [N, C, H, W], False
        ), 20 * size, tolerance=1e-4,
    )  # fmt: skip
    yield from _regions(device, torch)
    third = Window2d.make(3, 1, 1)
    yield Case(
        "columns", "im2col", f"{name} 3x3", images, lambda x: (x, third),
        lambda x: F.unfold(x, 3, padding=1), 40 * size,
    )  # fmt: skip
    yield Case(
        "columns", "col2im", f"{name} 3x3", lambda: (device.random(N, C * 9, H * W),),
        lambda c: (c, (H, W), third), lambda c: F.fold(c, (H, W), 3, padding=1), 40 * size,
    )  # fmt: skip


def _regions(device: Device, torch: Torch) -> Iterator[Case]:
    """RoI Align of 1000 regions, 7x7 bins of 2x2 samples, from a map of stride 4."""
    N, C, H, R = (1, 3, 16, 5) if device.tiny else (2, 256, 200, 1000)
    corner = device.rng.uniform(0, 3 * H, (R, 2))
    size = device.rng.uniform(H / 4, H, (R, 2))
    image = device.rng.integers(0, N, (R, 1))
    rois = np.concatenate([image, corner, corner + size], 1).astype(np.float32)
    grid = RoiGrid.make(rois, (7, 7), 0.25, N)
    rows, cols = grid.align((H, H), 2, True)
    where, bins = device.whole(np.asarray(grid.image)), 4 * R * C * 49
    peer, aten = None, torch.torch.ops.torchvision if torch.vision else None
    if aten:
        there = torch.shared(device.whole(rois))
        peer = lambda x: aten.roi_align(x, there, 0.25, 7, 7, 2, True)  # noqa: E731
    yield Case(
        "regions", "resample", f"RoI Align, {R} regions of ({N}, {C}, {H}, {H})",
        lambda: (device.random(N, C, H, H),), lambda x: (x, where, rows, cols), peer,
        4 * N * C * H * H + bins, tolerance=1e-4,
    )  # fmt: skip
    back = None
    if aten:
        back = lambda g: aten._roi_align_backward(  # noqa: E731
            g, there, 0.25, 7, 7, N, C, H, H, 2, True
        )
    yield Case(
        "regions", "resample_adjoint", f"RoI Align, gradient of {R} regions",
        lambda: (device.random(R, C, 7, 7),), lambda g: (g, where, rows, cols, N), back,
        4 * N * C * H * H + bins, tolerance=1e-4,
    )  # fmt: skip


def boxes(device: Device, torch: Torch) -> Iterator[Case]:
    ops, count = torch.vision.ops if torch.vision else None, 50 if device.tiny else 4096

    def drawn(n: int) -> Any:
        corner = device.rng.uniform(0, 1000, (n, 2))
        extent = device.rng.uniform(5, 120, (n, 2))
        return device.whole(np.concatenate([corner, corner + extent], 1).astype(np.float32))

    yield Case(
        "boxes", "box_iou", f"{count} x {count}", lambda: (drawn(count), drawn(count)),
        lambda a, b: (a, b), (lambda a, b: ops.box_iou(a, b)) if ops else None, 4 * count**2,
    )  # fmt: skip
    for n in (60,) if device.tiny else (1000, 10000):
        yield Case(
            "boxes", "nms", f"{n} boxes",
            lambda n=n: (drawn(n), device.whole(device.rng.permutation(n).astype(np.float32))),
            lambda b, s: (b, s, 0.5), (lambda b, s: ops.nms(b, s, 0.5)) if ops else None,
        )  # fmt: skip


def updates(device: Device, torch: Torch) -> Iterator[Case]:
    size = 1000 if device.tiny else 5 * 10**7

    def some(count: int) -> Callable[[], Inputs]:
        return lambda: tuple(device.random(size, low=0.1) for _ in range(count))

    def sgd(p: Any, g: Any, v: Any) -> Any:
        torch.torch._fused_sgd_(
            [p], [g], [v], weight_decay=0.0, momentum=0.9, lr=1e-3, dampening=0.0, nesterov=False,
            maximize=False, is_first_step=False,
        )  # fmt: skip
        return p, v

    def adam(p: Any, g: Any, m: Any, v: Any) -> Any:
        step = torch.torch.full((), 2.0, device=p.device)
        torch.torch._fused_adam_(
            [p], [g], [m], [v], [], [step], lr=1e-3, beta1=0.9, beta2=0.999, weight_decay=0.0,
            eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip
        return p, m, v

    yield Case(
        "updates", "sgd_update", f"{size:,}", some(3), lambda p, g, v: (p, g, v, 1e-3, 0.9), sgd,
        20 * size, written=(0, 2),
    )  # fmt: skip
    yield Case(
        "updates", "adam_update", f"{size:,}", some(4), lambda p, g, m, v: (p, g, m, v, 2, 1e-3),
        adam, 28 * size, written=(0, 2, 3),
    )  # fmt: skip


# C, H, O, kernel, stride of ResNet-50's layers, each once, and those of its feature pyramid
RESNET50 = [
    (3, 224, 64, 7, 2), (64, 56, 64, 1, 1), (64, 56, 64, 3, 1), (64, 56, 256, 1, 1),
    (256, 56, 128, 1, 1), (128, 56, 128, 3, 2), (128, 28, 512, 1, 1), (256, 56, 512, 1, 2),
    (512, 28, 128, 1, 1), (128, 28, 128, 3, 1), (512, 28, 256, 1, 1), (256, 28, 256, 3, 2),
    (256, 14, 1024, 1, 1), (1024, 14, 256, 1, 1), (256, 14, 256, 3, 1), (1024, 14, 512, 1, 1),
    (512, 14, 512, 3, 2), (512, 7, 2048, 1, 1), (2048, 7, 512, 1, 1), (512, 7, 512, 3, 1),
]  # fmt: skip
PYRAMID = [(256, 200, 256, 1, 1), (2048, 25, 256, 1, 1), (256, 100, 256, 3, 1)]


def convolution_cases(device: Device, torch: Torch) -> Iterator[Case]:
    """Forward, towards the input and towards the weight, in float32 and with TF32 factors."""
    shapes = [(16, s) for s in RESNET50] + [(2, s) for s in PYRAMID]
    for N, (C, H, outputs, kernel, stride) in [(2, (3, 8, 4, 3, 2))] if device.tiny else shapes:
        for tf32 in (False, True):
            yield from _convolutions(device, torch, N, C, H, outputs, kernel, stride, tf32)


def _convolutions(
    device: Device, torch: Torch, N: int, C: int, H: int, outputs: int, kernel: int,
    stride: int, tf32: bool,
) -> Iterator[Case]:  # fmt: skip
    window = Window2d.make(kernel, stride, kernel // 2)
    OH, OW = window.output_size((H, H))
    backward = torch.torch.ops.aten.convolution_backward if torch.torch else None
    name = f"({N}, {C}, {H}, {H}) -> {outputs}, {kernel}x{kernel} stride {stride}"
    precision = "TF32" if tf32 else "float32"
    common = {
        "shape": name,
        "operations": 2 * N * outputs * OH * OW * C * kernel**2,
        "bytes": 4 * (N * C * H * H + outputs * C * kernel**2 + N * outputs * OH * OW),
        "tf32": tf32,
        "tolerance": 2e-3 if tf32 else 1e-5,
    }
    x, weight, gy = (N, C, H, H), (outputs, C, kernel, kernel), (N, outputs, OH, OW)

    def drawn(*shapes: tuple[int, ...]) -> Callable[[], Inputs]:
        return lambda: tuple(device.random(*shape) for shape in shapes)

    def gradient(*wanted: bool) -> Callable[..., Any]:
        def peer(g: Any, x: Any, w: Any) -> Any:
            sides = [kernel // 2] * 2
            mask = [*wanted, False]
            all_three = backward(g, x, w, None, [stride] * 2, sides, [1, 1], False, [0, 0], 1, mask)
            return all_three[0] if wanted[0] else all_three[1]

        return peer

    F = functional(torch)
    yield Case(
        f"convolution, forward, {precision}", "conv2d", make=drawn(x, weight),
        arguments=lambda x, w: (x, w, None, window),
        peer=lambda x, w: F.conv2d(x, w, None, stride, kernel // 2), **common,
    )  # fmt: skip
    yield Case(
        f"convolution, towards the input, {precision}", "conv_transpose2d",
        make=drawn(gy, x, weight), arguments=lambda g, x, w: (g, w, None, (H, H), window),
        peer=gradient(True, False), **common,
    )  # fmt: skip
    yield Case(
        f"convolution, towards the weight, {precision}", "conv2d_weight",
        make=drawn(gy, x, weight), arguments=lambda g, x, w: (x, g, window),
        peer=gradient(False, True), **common,
    )  # fmt: skip
