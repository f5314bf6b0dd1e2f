"""Deliberate faults: cnncore broken on purpose, one mistake at a time.

A test suite is worth what it catches.  Each fault here is a mistake that has been made in real
libraries; ``inject`` makes it for a ``with`` block, whatever the backend, and the tests of
cnncore must fail for every one of them (``tests/testing/test_faults.py`` proves it; ``pytest
--cnncore-faults NAME`` shows it).  Use them on your own tests, too: a test that passes with a
fault it should see is no test.

>>> import numpy as np
>>> from cnncore import kernels
>>> from cnncore.geometry import Window2d
>>> x = np.full((1, 1, 2, 2), -1.0)
>>> window = Window2d.make(2, 1, 1)
>>> with inject("zero_padded_max_pool"):
...     print(kernels.max_pool2d(x, window, (3, 3))[0][0, 0, 1])
[ 0. -1.  0.]
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cnncore import taps
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError
from cnncore.kernels import dispatch
from cnncore.kernels.dispatch import BACKENDS, on_device, override, resolve
from cnncore.testing import broken


@dataclass(frozen=True)
class Fault:
    """One mistake: ``switch_on()`` is a context manager inside which cnncore makes it."""

    name: str
    description: str
    switch_on: Callable[[], contextlib.AbstractContextManager[None]]


def available_backends() -> list[str]:
    """What ``use_backend`` can be given here for NumPy arrays, fastest first.

    ``"auto"`` stands for the compiled kernels (and NumPy's for the few that have no compiled form).
    """
    return ["auto", "array"] if BACKENDS["native"].AVAILABLE else ["array"]


@contextlib.contextmanager
def inject(name: str) -> Iterator[Fault]:
    """Switch a fault on inside a ``with`` block (in the whole process, all threads)."""
    if name not in FAULTS:
        raise ArgumentError("name", f"one of {', '.join(FAULTS)}", repr(name))
    with FAULTS[name].switch_on():
        taps.forget()  # what the right code has built is not to hide the fault, nor to outlive it
        try:
            yield FAULTS[name]
        finally:
            taps.forget()


# --- the two ways to break something --------------------------------------------------------------


@contextlib.contextmanager
def _kernels(replacements: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Replace kernels; each replacement gets the real kernel of the active backend first."""
    with contextlib.ExitStack() as stack:
        for name, replacement in replacements.items():
            stack.enter_context(override(name, _around(name, replacement)))
        yield


def _around(name: str, replacement: Callable[..., Any]) -> Callable[..., Any]:
    outer = dispatch._overrides.get(name)  # a fault that is on already: both mistakes are made

    def kernel(*args: Any, **kwargs: Any) -> Any:
        real = outer or resolve(name, any(on_device(value) for value in args))[1]
        return replacement(real, *args, **kwargs)

    return kernel


@contextlib.contextmanager
def _function(path: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """Replace ``"module:function"`` or ``"module:Class.method"`` wherever cnncore refers to it."""
    module, _, attribute = path.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, name = attribute.split(".")
    for part in classes:
        owner = getattr(owner, part)
    real = getattr(owner, name)
    fake = functools.wraps(real)(lambda *args, **kwargs: replacement(real, *args, **kwargs))
    places = [(owner, name)] if classes else list(_references(real))
    for place, key in places:
        setattr(place, key, fake)
    try:
        yield
    finally:
        for place, key in places:
            setattr(place, key, real)


def _references(function: Any) -> Iterator[tuple[Any, str]]:
    """Every module of cnncore that has imported this function, and under what name."""
    for name, module in list(sys.modules.items()):
        if name == "cnncore" or name.startswith("cnncore."):
            for key, value in list(vars(module).items()):
                if value is function:
                    yield module, key


# --- mistakes above the kernels -------------------------------------------------------------------


def _overwrite_gradient(real: Any, arrived: dict[Any, Any], edge: Any, gradient: Tensor) -> None:
    arrived.pop((id(edge[0]), edge[1]), None)
    real(arrived, edge, gradient)


def _first_of_broadcast(real: Any, gy: Tensor, shape: tuple[int, ...]) -> Tensor:
    """One slice of what was broadcast, instead of the sum of all."""
    if gy.shape == tuple(shape):
        return gy
    lead = gy.ndim - len(shape)
    key = (0,) * lead + tuple(slice(0, 1) if n == 1 else slice(None) for n in shape)
    return gy[key]  # type: ignore[no-any-return]


def _flip_count(real: Any, *args: Any, **options: Any) -> Any:
    """``count_include_pad`` is the sixth argument."""
    options["count_include_pad"] = not (
        args[5] if len(args) > 5 else options.get("count_include_pad", True)
    )
    names = ("size", "length", "kernel", "stride", "padding")
    return real(**dict(zip(names, args, strict=False)), divisor=(args[6:] or (None,))[0], **options)


def _flip_corners(
    real: Any, size: int, length: int, align_corners: bool = False, scale: float | None = None
) -> Any:
    return real(size, length, not align_corners, scale)


def _ignore_switches(real: Any, indices: Any, size: tuple[int, int]) -> Any:
    """Every value goes to (or comes from) the first pixel of its share of the plane."""
    xp = dispatch.array_module(indices)
    height, width = indices.shape[2:]
    rows = xp.arange(height) * (size[0] // height)
    cols = xp.arange(width) * (size[1] // width)
    fixed = xp.broadcast_to(rows[:, None] * size[1] + cols, indices.shape)
    return real(xp.ascontiguousarray(fixed), size)


# --- the catalogue --------------------------------------------------------------------------------

Switch = Callable[[], contextlib.AbstractContextManager[None]]


def _kernel_fault(description: str, **replacements: Callable[..., Any]) -> tuple[str, Switch]:
    return description, lambda: _kernels(replacements)


def _function_fault(description: str, path: str, replacement: Any) -> tuple[str, Switch]:
    return description, lambda: _function(path, replacement)


_CATALOGUE: dict[str, tuple[str, Switch]] = {
    # pooling
    "zero_padded_max_pool": _kernel_fault(
        "padding takes part in max pooling as zeros", max_pool2d=broken.zero_padded_max
    ),
    "max_pool_tie_to_highest": _kernel_fault(
        "the last of equal values wins the switch", max_pool2d=broken.max_tie_highest
    ),
    "roi_pool_tie_to_highest": _kernel_fault(
        "the last of equal values wins the switch of a region", bin_max=broken.bin_max_tie_highest
    ),
    "nan_ignored_in_max": _kernel_fault(
        "a NaN never wins a maximum", max_pool2d=broken.max_ignores_nan
    ),
    "avg_pool_counts_wrongly": _function_fault(
        "count_include_pad means its opposite", "cnncore.taps:window_means", _flip_count
    ),
    "unpool_ignores_switches": _function_fault(
        "max unpooling puts values into a corner", "cnncore.ops.unpool:unpooling", _ignore_switches
    ),
    # accumulation
    "col2im_overwrites": _kernel_fault(
        "overlapping windows overwrite each other", col2im=broken.col2im_overwrites
    ),
    "conv_transpose_overwrites": _kernel_fault(
        "overlapping stamps overwrite each other",
        conv_transpose2d=broken.conv_transpose_overwrites,
    ),
    "scatter_overwrites": _kernel_fault(
        "two switches to one pixel: the last stays", scatter_add=broken.scatter_overwrites
    ),
    "resample_adjoint_overwrites": _kernel_fault(
        "of overlapping regions the last stays", resample_adjoint=broken.resample_adjoint_overwrites
    ),
    "repeated_index_overwrites": _kernel_fault(
        "gradient of x[[0, 0]] counts once", put_add=broken.put_overwrites
    ),
    "gradient_overwritten": _function_fault(
        "a tensor used twice gets one of its gradients",
        "cnncore.autograd.graph:_add",
        _overwrite_gradient,
    ),
    "broadcast_gradient_not_summed": _function_fault(
        "gradient of a broadcast operand is one slice of it",
        "cnncore.ops.shape:sum_to",
        _first_of_broadcast,
    ),
    # convolution
    "conv_swaps_height_and_width": _kernel_fault(
        "the kernel is read as (width, height)", conv2d=broken.conv_swaps_axes
    ),
    "conv_flips_kernel": _kernel_fault(
        "convolution instead of cross-correlation", conv2d=broken.conv_is_flipped
    ),
    "conv_transpose_unflipped": _kernel_fault(
        "the transpose correlates with the unflipped kernel",
        conv_transpose2d=broken.conv_is_flipped,
    ),
    "conv_mixes_groups": _kernel_fault(
        "groups take interleaved channels", conv2d=broken.conv_interleaves_groups
    ),
    "conv_swaps_padding_sides": _kernel_fault(
        "padding of the top at the bottom, of the left at the right",
        conv2d=broken.conv_shifts_padding,
    ),
    "weight_gradient_ignores_dilation": _kernel_fault(
        "dilation is missing in the weight gradient",
        conv2d_weight=broken.weight_gradient_undilated,
    ),
    # regions and resampling
    "roi_end_off_by_one": _function_fault(
        "the last pixel of a region is left out of RoI pooling",
        "cnncore.roi_grid:RoiGrid._bins",
        lambda real, self, extra, size: real(self, 0, size),
    ),
    "roi_align_half_pixel_off": _function_fault(
        "aligned means its opposite",
        "cnncore.roi_grid:RoiGrid._align",
        lambda real, self, axis, size, ratio, aligned: real(self, axis, size, ratio, not aligned),
    ),
    "align_corners_mixed_up": _function_fault(
        "align_corners means its opposite", "cnncore.taps:source_positions", _flip_corners
    ),
    # normalisation, activation, softmax
    "batch_statistics_constant": _kernel_fault(
        "backward of a normalisation takes mean and variance for constants",
        normalize_backward=broken.normalisation_ignores_variance,
    ),
    "variance_cancels": _kernel_fault(
        "variance as E[x²] − E[x]²",
        row_moments=broken.moments_cancel,
        normalize=broken.variance_cancels,
    ),
    "leaky_slope_lost_in_backward": _kernel_fault(
        "the derivative of leaky ReLU is that of ReLU", pointwise=broken.leaky_slope_lost
    ),
    "second_derivative_doubled": _kernel_fault(
        "right gradients, wrong second derivatives", pointwise=broken.second_derivative_doubled
    ),
    "softmax_overflows": _kernel_fault(
        "softmax without subtracting the maximum", softmax=broken.softmax_overflows
    ),
    # boxes, optimisers
    "nms_drops_at_threshold": _kernel_fault(
        "NMS drops boxes whose overlap equals the threshold", nms=broken.nms_at_threshold
    ),
    "nms_unstable": _kernel_fault(
        "NMS takes equal scores in descending index", nms=broken.nms_unstable
    ),
    "iou_counts_edges": _kernel_fault("box widths with + 1", box_iou=broken.iou_counts_edges),
    "adam_without_bias_correction": _kernel_fault(
        "Adam's first steps are not corrected", adam_update=broken.adam_uncorrected
    ),
    "momentum_forgotten": _kernel_fault(
        "velocity does not gather gradients", sgd_update=broken.sgd_dampens_first
    ),
}
FAULTS: dict[str, Fault] = {name: Fault(name, *entry) for name, entry in _CATALOGUE.items()}
