"""Pooling over regions of interest: every region of an image becomes a grid of fixed size.

Where a region and its bins fall is said in ``cnncore.roi_grid``, once for all five ops.  Boxes are
constants: no gradient flows to them (as in torchvision).  For fixed boxes the four averaging ops
are linear; RoI pooling is, once its switches are known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnncore import kernels
from cnncore.autograd import Function, Tensor
from cnncore.errors import ShapeError
from cnncore.geometry import checked_size
from cnncore.kernels.dispatch import array_module, on_device
from cnncore.ops.linear import LinearMap, apply
from cnncore.ops.resample import plane_of, resampling
from cnncore.roi_grid import RoiGrid, sampling
from cnncore.taps import Bins, Taps

Array = Any


class RoiPool(Function):
    """Maxima of bins.  Keeps the switches only; its gradient is a scatter by them."""

    def __init__(self, image: Array, rows: Bins, cols: Bins) -> None:
        self.image, self.rows, self.cols = image, rows, cols

    def forward(self, x: Array) -> Array:
        self.shape: tuple[int, ...] = x.shape
        y, switches = kernels.bin_max(x, self.image, self.rows, self.cols)
        if self.needs[0]:
            self.keep(switches)
        return y

    def backward(self, gy: Tensor) -> tuple[Tensor]:
        (switches,) = self.kept()
        return (apply(_scatter(switches, self.image, self.shape), gy),)


def _scatter(switches: Array, image: Array, shape: tuple[int, ...]) -> LinearMap:
    """``(R, C, PH, PW)`` added into the planes of ``(N, C, H, W)``, and read from there."""
    return LinearMap(
        "ScatterSwitches",
        "GatherSwitches",
        lambda y: kernels.region_scatter(y, image, switches, shape[0], (shape[2], shape[3])),
        lambda x: kernels.region_gather(x, image, switches),
        (switches,),
    )


def roi_pool(x: Any, boxes: Any, output_size: Any, spatial_scale: float = 1.0) -> Tensor:
    """The largest value in each bin of each region, after rounding the region to whole pixels.

    The scaled corners are rounded (halves away from zero); the region has
    ``n = max(end − start + 1, 1)`` rows, its last included; bin p of PH covers
    ``start + floor(p·n/PH) .. start + ceil((p + 1)·n/PH)``, cut at the plane.  An empty bin is 0.

    Shapes: x ``(N, C, H, W)``; boxes ``(K, 5)`` with (image index, x1, y1, x2, y2), or a list with
    one ``(L, 4)`` array per image; result ``(K, C, PH, PW)``.  Box coordinates times
    ``spatial_scale`` are pixels of x.

    Kept for backward: the place of each maximum, nothing else.

    Errors: ``ArgumentError`` naming a box with NaN, negative extent or no such image.

    >>> from cnncore import tensor
    >>> x = tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> roi_pool(x, [[0, 0, 0, 1, 0]], (1, 2)).numpy()[0, 0]
    array([[1., 2.]], dtype=float32)

    Source: Girshick, "Fast R-CNN", 2015, 2.1; rounding as torchvision.
    """
    x, grid = _regions(x, boxes, output_size, spatial_scale)
    rows, cols = grid.pool(x.shape[2:])
    return RoiPool(_image(x, grid), rows, cols)(x)  # type: ignore[no-any-return]


def roi_align(
    x: Any,
    boxes: Any,
    output_size: Any,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """The mean of bilinear samples in each bin of each region, nothing rounded.

    With ``h`` the region's height and ``S`` samples a bin (along each axis), bin p samples rows
    ``y1 − o + (p + (s + ½)/S)·h/PH``, s = 0 … S − 1, where pixel centres are whole numbers, ``o``
    is ½ if ``aligned`` and 0 otherwise, and a region not ``aligned`` is at least 1 high.  Samples
    more than one pixel outside the plane count as zero.

    Shapes: x ``(N, C, H, W)``, boxes as ``roi_pool``; result ``(K, C, PH, PW)``.
    ``sampling_ratio`` is S; ``-1`` (or 0) takes ``ceil(h/PH)``, about one sample a pixel.
    ``aligned=True`` is right for boxes in pixel edges (a box 0, 0, W, H covers the plane); the
    default follows the first implementation, half a pixel off.

    Kept for backward: one small matrix per region and axis, not x.

    Errors: ``ArgumentError`` naming a box with NaN, negative extent or no such image.

    >>> from cnncore import tensor
    >>> x = tensor([[[[0.0, 1.0, 2.0, 3.0]]]])
    >>> roi_align(x, [[0, 0, 0, 4, 1]], (1, 2), aligned=True).numpy()[0, 0]
    array([[0.5, 2.5]], dtype=float32)

    Source: He et al., "Mask R-CNN", 2017, section 3; ``aligned`` from detectron2.
    """
    x, grid = _regions(x, boxes, output_size, spatial_scale)
    rows, cols = grid.align(x.shape[2:], sampling(sampling_ratio), bool(aligned))
    return _resampled("RoiAlign", x, grid, rows, cols)


def ps_roi_pool(x: Any, boxes: Any, output_size: Any, spatial_scale: float = 1.0) -> Tensor:
    """The mean of each bin, every bin read from score maps of its own.

    ``y[k, c, p, q]`` is the mean of channel ``(c·PH + p)·PW + q`` over bin (p, q).  The scaled
    corners are rounded; the region has ``n = max(end − start, 1)`` rows (its last excluded), bins
    as in ``roi_pool``.  An empty bin is 0.

    Shapes: x ``(N, C·PH·PW, H, W)``, boxes as ``roi_pool``; result ``(K, C, PH, PW)``.

    Kept for backward: one small matrix per region and axis, not x.

    Unlike torchvision, whose forward never reads the last row and column of the plane (while its
    backward does), bins here are cut at the plane's edge.

    >>> from cnncore import tensor
    >>> maps = tensor([[[[1.0, 1.0]], [[5.0, 7.0]]]])
    >>> ps_roi_pool(maps, [[0, 0, 0, 2, 1]], (1, 2)).numpy()[0, 0]
    array([[1., 7.]], dtype=float32)

    Source: Dai et al., "R-FCN", 2016, section 3.
    """
    x, grid = _regions(x, boxes, output_size, spatial_scale)
    rows, cols = grid.mean(x.shape[2:])
    return _resampled("PsRoiPool", x, grid, rows, cols, position_sensitive=True)


def ps_roi_align(
    x: Any, boxes: Any, output_size: Any, spatial_scale: float = 1.0, sampling_ratio: int = -1
) -> Tensor:
    """RoI Align (``aligned=True``), every bin read from score maps of its own.

    Channels as in ``ps_roi_pool``, samples as in ``roi_align``.

    Shapes: x ``(N, C·PH·PW, H, W)``, boxes as ``roi_pool``; result ``(K, C, PH, PW)``.

    Kept for backward: one small matrix per region and axis, not x.

    Source: Li et al., "Light-Head R-CNN", 2017, section 3.
    """
    x, grid = _regions(x, boxes, output_size, spatial_scale)
    rows, cols = grid.align(x.shape[2:], sampling(sampling_ratio), True)
    return _resampled("PsRoiAlign", x, grid, rows, cols, position_sensitive=True)


def crop_and_resize(x: Any, boxes: Any, output_size: Any, spatial_scale: float = 1.0) -> Tensor:
    """Cut regions out and resize them bilinearly, corners on corners (TensorFlow's rule).

    Row p samples ``y1 + p·(y2 − y1)/(PH − 1)``, or the middle if PH = 1; samples outside the plane
    are zero.  Coordinates are pixel centres: the whole plane is the box ``(0, 0, W − 1, H − 1)``.

    Shapes: x ``(N, C, H, W)``, boxes as ``roi_pool``; result ``(K, C, PH, PW)``.
    TensorFlow's boxes are ``(y1, x1, y2, x2)`` divided by ``(H − 1, W − 1)``, and may be flipped.

    Kept for backward: one small matrix per region and axis, not x.

    >>> from cnncore import tensor
    >>> x = tensor([[[[0.0, 1.0, 2.0, 3.0]]]])
    >>> crop_and_resize(x, [[0, 0, 0, 3, 0]], (1, 3)).numpy()[0, 0]
    array([[0. , 1.5, 3. ]], dtype=float32)

    Source: ``tf.image.crop_and_resize``; used as RoI layer by Huang et al., 2017.
    """
    x, grid = _regions(x, boxes, output_size, spatial_scale)
    rows, cols = grid.crop(x.shape[2:])
    return _resampled("CropAndResize", x, grid, rows, cols)


def _resampled(
    name: str, x: Tensor, grid: RoiGrid, rows: Taps, cols: Taps, position_sensitive: bool = False
) -> Tensor:
    bins = grid.output_size[0] * grid.output_size[1]
    if position_sensitive and x.shape[1] % bins:
        raise ShapeError(
            "x", f"a multiple of {bins} channels, one for each bin", x.shape, "C·PH·PW channels"
        )
    image = _image(x, grid)
    return apply(resampling(name, rows, cols, x.shape[0], image, position_sensitive), x)


def _regions(x: Any, boxes: Any, output_size: Any, spatial_scale: float) -> tuple[Tensor, RoiGrid]:
    x, _ = plane_of(x)
    grid = RoiGrid.make(_rois(boxes, x.shape[0]), output_size, spatial_scale, x.shape[0])
    checked_size("output_size", len(grid.image), x.shape[1], *grid.output_size)
    return x, grid


def _image(x: Tensor, grid: RoiGrid) -> Array:
    return array_module(x.data).asarray(grid.image)


def _rois(boxes: Any, images: int) -> Array:
    """Boxes ``(K, 5)`` on the host; a list with one ``(L, 4)`` per image gets its image indices."""
    if not isinstance(boxes, (list, tuple)):
        return _host(boxes)
    parts = [_host(part) for part in boxes]
    if parts and all(part.shape == (5,) for part in parts):
        return np.stack(parts)
    if len(parts) != images:
        raise ShapeError(
            "boxes", f"one (L, 4) array for each of {images} images", f"a list of {len(parts)}"
        )
    rois = [np.zeros((0, 5))]
    for number, part in enumerate(parts):
        if part.size == 0:
            part = part.reshape(0, 4)
        if part.ndim != 2 or part.shape[1] != 4:
            raise ShapeError(f"boxes[{number}]", "shape (L, 4): x1, y1, x2, y2", part.shape)
        rois.append(np.insert(part.astype(np.float64), 0, number, axis=1))
    return np.concatenate(rois)


def _host(value: Any) -> Array:
    if isinstance(value, Tensor):
        return value.numpy()
    return value.get() if on_device(value) else np.asarray(value)
