"""Unpooling: from a small plane back to a large one, by switches or by a fixed rule.

All three are linear.  With known switches, max pooling is ``gather`` and max unpooling is its
transpose: each is the other's gradient, here and in the code.
"""

from __future__ import annotations

import math
from typing import Any

from cnncore import kernels, taps
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import Pair, Window2d, as_pair, checked_size
from cnncore.kernels.dispatch import array_module
from cnncore.ops.arguments import as_array, float_tensor
from cnncore.ops.linear import LinearMap, apply
from cnncore.ops.resample import plane_of, resampling

Array = Any


def unpooling(indices: Array, size: Pair) -> LinearMap:
    """Every value to the pixel its switch names, ``x[n, c, indices[n, c, i, j]] += y[n, c, i, j]``.

    indices ``(N, C, OH, OW)`` int64, flat in the plane ``size = (H, W)``; its transpose reads the
    pixels that the switches name.  ``(N, C, OH, OW) <-> (N, C, H, W)``.
    """
    small, large = indices.shape, (*indices.shape[:2], *size)
    planes, pixels = small[0] * small[1], size[0] * size[1]
    index = indices.reshape(planes, small[2] * small[3], 1)
    return LinearMap(
        "MaxUnpool2d",
        "GatherSwitches",
        lambda y: kernels.scatter_add(y.reshape(index.shape), index, pixels, False).reshape(large),
        lambda x: kernels.gather(x.reshape(planes, pixels, 1), index).reshape(small),
        (indices,),
    )


def max_unpool2d(
    x: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Put every value back where max pooling found it; zeros elsewhere.

    ``y[n, c, indices[n, c, i, j]] += x[n, c, i, j]`` with flat indices ``h·W + w`` of the result.
    Where overlapping windows named the same pixel their values **add up**, so that the op is linear
    and its gradient its true transpose; PyTorch keeps one of them, and its gradient then counts
    all.

    Shapes: x and indices (int64) ``(N, C, OH, OW)``, as ``max_pool2d(..., return_indices=True)``
    gives them; result ``(N, C, H, W)`` with ``H = (OH − 1)·stride − 2·padding + kernel_size``.
    ``stride`` defaults to ``kernel_size``.  ``output_size`` (``(H, W)`` or the whole shape) may
    differ from that by less than the stride.

    Kept for backward: the indices.

    Errors: ``ArgumentError`` for indices of another shape or out of range, and for an impossible
    ``output_size``, listing the candidates.

    >>> from cnncore import tensor
    >>> max_unpool2d(tensor([[[[5.0]]]]), [[[[3]]]], 2).numpy()[0, 0]
    array([[0., 0.],
           [0., 5.]], dtype=float32)

    Source: Zeiler & Fergus, "Visualizing and understanding convolutional networks", 2014, 2.1.
    """
    x = float_tensor("x", x, 4)
    switches = as_array("indices", indices, x.data, "int64")
    if tuple(switches.shape) != x.shape:
        raise ShapeError(
            "indices", f"the shape of x, {x.shape}", switches.shape, "the indices of this pooling"
        )
    window = Window2d.make(kernel_size, kernel_size if stride is None else stride, padding)
    size = _unpooled_size(window, x.shape, output_size)
    checked_size("output_size", *x.shape[:2], *size)
    try:  # the kernel looks at every index it follows, a pass of its own would take as long
        return apply(unpooling(switches, size), x)
    except ArgumentError:
        _refuse_first_bad(switches, size)
        raise


def _refuse_first_bad(switches: Array, size: Pair) -> None:
    # Read as unsigned numbers, negative ones are too large: one pass finds both.
    bad = switches.view("uint64") >= size[0] * size[1]
    if bad.any():
        first = int(bad.argmax())
        place = [int(i) for i in array_module(bad).unravel_index(first, bad.shape)]
        raise ArgumentError(
            f"indices{place}",
            f"0 <= index < {size[0]}·{size[1]}, flat in the result's plane",
            int(switches.reshape(-1)[first]),
            "output_size=, the plane that was pooled",
        ) from None


def _unpooled_size(window: Window2d, shape: tuple[int, ...], output_size: Any) -> Pair:
    height, width = window.transposed_size((shape[2], shape[3]))
    if output_size is None:
        if min(height, width) < 1:
            raise ShapeError("x", "a plane whose unpooled size is at least 1", (height, width))
        return height, width
    if isinstance(output_size, (list, tuple)) and len(output_size) == 4:
        if tuple(output_size[:2]) != shape[:2]:
            raise ArgumentError("output_size", f"{shape[:2]} first, or (H, W) alone", output_size)
        output_size = output_size[2:]
    wanted = as_pair("output_size", output_size, 1)
    for axis, (name, usual) in enumerate((("height", height), ("width", width))):
        step = window.stride[axis]
        candidates = range(max(usual - step + 1, 1), usual + step)
        if wanted[axis] not in candidates:
            raise ArgumentError(
                "output_size",
                f"a {name} among {list(candidates)}",
                wanted[axis],
                "the size of the plane that was pooled",
            )
    return wanted


def unpool_nearest(x: Any, kernel_size: Any) -> Tensor:
    """Every pixel becomes a block of ``kernel_size`` equal pixels: ``y[i, j] = x[i // kh, j //
    kw]``.

    Shapes: x ``(N, C, H, W)`` -> ``(N, C, H·kh, W·kw)``.  Linear; its gradient sums each block.
    Keeps the two small matrices, not x.

    >>> from cnncore import tensor
    >>> unpool_nearest(tensor([[[[1.0, 2.0]]]]), 2).numpy()[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.]], dtype=float32)
    """
    return _blocks("UnpoolNearest", taps.repeat, x, kernel_size)


def unpool_bed_of_nails(x: Any, kernel_size: Any) -> Tensor:
    """Every pixel becomes the top left one of a block of zeros: ``y[i·kh, j·kw] = x[i, j]``.

    Shapes: x ``(N, C, H, W)`` -> ``(N, C, H·kh, W·kw)``.  Linear; its gradient picks the nails.
    Keeps the two small matrices, not x.

    >>> from cnncore import tensor
    >>> unpool_bed_of_nails(tensor([[[[1.0, 2.0]]]]), 2).numpy()[0, 0]
    array([[1., 0., 2., 0.],
           [0., 0., 0., 0.]], dtype=float32)
    """
    return _blocks("UnpoolBedOfNails", taps.nails, x, kernel_size)


def _blocks(name: str, rule: Any, x: Any, kernel_size: Any) -> Tensor:
    x, plane = plane_of(x)
    kernel = as_pair("kernel_size", kernel_size, 1)
    checked_size("kernel_size", math.prod(x.shape), *kernel)
    rows, cols = (rule(plane[axis], kernel[axis]) for axis in (0, 1))
    return apply(resampling(name, rows, cols, x.shape[0]), x)
