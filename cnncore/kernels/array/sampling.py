"""Separable linear sampling: one sparse matrix along each axis, and the transpose of both.

The transpose of a sparse matrix is a sparse matrix, so the adjoint is the same loop over the
transposed taps, and a sum of regions into their images.
"""

from __future__ import annotations

import numpy as np

from cnncore.kernels.array.modules import (
    Array,
    Module,
    array_module,
    chunks,
    native,
    quiet,
    to_host,
)
from cnncore.taps import Taps


def apply_taps(xp: Module, x: Array, taps: Taps, axis: int) -> Array:
    """``Σ_t weight[r, p, t] · x[r, …, index[r, p, t], …]`` along ``axis``, tap by tap.

    Taps beyond ``count`` are replaced, not multiplied, by zero: what they point at cannot leak in.
    """
    shape = list(x.shape)
    shape[axis] = taps.length
    y = xp.zeros(shape, x.dtype)
    spread = [1] * x.ndim  # per region and output position, broadcast along everything else
    spread[0], spread[axis] = taps.index.shape[0], taps.length
    for t in range(int(taps.count.max(initial=0))):
        valid = t < taps.count
        index = np.where(valid, taps.index[:, :, t], 0)
        if taps.index.shape[0] == 1:
            picked = xp.take(x, xp.asarray(index[0]), axis)
        else:
            picked = xp.take_along_axis(x, xp.asarray(index.reshape(spread)), axis)
        term = xp.asarray(taps.weight[:, :, t].astype(x.dtype).reshape(spread)) * picked
        if not valid.all():
            term = xp.where(xp.asarray(valid.reshape(spread)), term, xp.zeros((), x.dtype))
        y += term
    return y


def transposed(taps: Taps) -> Taps:
    """The transposed matrices: which outputs, with what weight, each input position feeds."""
    groups, length, width = taps.index.shape
    valid = np.arange(width) < taps.count[:, :, None]
    g, p, t = np.nonzero(valid)
    target = g * taps.size + taps.index[g, p, t]
    order = np.argsort(target, kind="stable")  # keeps the order of p for equal targets
    target, g, p, t = target[order], g[order], p[order], t[order]
    count = np.bincount(target, minlength=groups * taps.size)
    begin = np.concatenate(([0], np.cumsum(count)))[target]
    slot = np.arange(target.size) - begin
    shape = (groups * taps.size, int(count.max(initial=0)))
    index, weight = np.zeros(shape, np.int64), np.zeros(shape)
    index[target, slot], weight[target, slot] = p, taps.weight[g, p, t]
    return Taps(
        length,
        index.reshape(groups, taps.size, shape[1]),
        weight.reshape(groups, taps.size, shape[1]),
        count.reshape(groups, taps.size).astype(np.int64),
    )


def of_regions(taps: Taps, part: slice) -> Taps:
    """The taps of some regions (all of them where regions share one matrix)."""
    if taps.index.shape[0] == 1:
        return taps
    return Taps(taps.size, taps.index[part], taps.weight[part], taps.count[part])


def every_region(taps: Taps, regions: int) -> Taps:
    """Shared taps written out, one copy a region."""
    shape = (regions, *taps.index.shape[1:])
    return Taps(
        taps.size,
        np.broadcast_to(taps.index, shape),
        np.broadcast_to(taps.weight, shape),
        np.broadcast_to(taps.count, shape[:2]),
    )


@quiet
def resample(
    x: Array, image: Array | None, rows: Taps, cols: Taps, position_sensitive: bool = False
) -> Array:
    """See ``contract.resample``."""
    xp = array_module(x)
    x = native(x)
    if position_sensitive:
        return _resample_sensitive(xp, x, image, rows, cols)
    if image is None:
        return apply_taps(xp, apply_taps(xp, x, rows, 2), cols, 3)
    image = native(image)
    y = xp.empty((image.shape[0], x.shape[1], rows.length, cols.length), x.dtype)
    for part in chunks(y.shape[0], x[:1].size):
        by_row = apply_taps(xp, x[image[part]], of_regions(rows, part), 2)
        y[part] = apply_taps(xp, by_row, of_regions(cols, part), 3)
    return y


@quiet
def resample_adjoint(
    gy: Array,
    image: Array | None,
    rows: Taps,
    cols: Taps,
    images: int,
    position_sensitive: bool = False,
) -> Array:
    """See ``contract.resample_adjoint``."""
    xp = array_module(gy)
    gy = native(gy)
    if position_sensitive:
        return _adjoint_sensitive(xp, gy, image, rows, cols, images)
    back_rows, back_cols = transposed(rows), transposed(cols)
    if image is None:
        return apply_taps(xp, apply_taps(xp, gy, back_cols, 3), back_rows, 2)
    gx = xp.zeros((images, gy.shape[1], rows.size, cols.size), gy.dtype)
    for part in chunks(gy.shape[0], gx[:1].size):
        by_col = apply_taps(xp, gy[part], of_regions(back_cols, part), 3)
        planes = apply_taps(xp, by_col, of_regions(back_rows, part), 2)
        for plane, n in zip(planes, to_host(image[part]).tolist(), strict=True):
            gx[n] += plane
    return gx


# Position-sensitive sampling is plain sampling of more, smaller images: the channels that bin
# (ph, pw) may read form an image of their own, and each bin is a region with a single output.


def _single_bins(taps: Taps, regions: int, bins: int, along_rows: bool) -> Taps:
    """Taps of regions with one output each, in the order (r, ph, pw)."""
    taps = every_region(taps, regions)
    p, t = taps.index.shape[1:]
    grid = (p, bins) if along_rows else (bins, p)  # (PH, PW)
    where = (slice(None), slice(None), None) if along_rows else (slice(None), None)
    shape, flat = (regions, *grid, t), (regions * p * bins, 1, t)
    index = np.broadcast_to(taps.index[where], shape).reshape(flat)
    weight = np.broadcast_to(taps.weight[where], shape).reshape(flat)
    count = np.broadcast_to(taps.count[where], shape[:3]).reshape(flat[:2])
    return Taps(taps.size, index, weight, count)


def _single_images(xp: Module, image: Array | None, regions: int, bins: int) -> Array:
    first = xp.arange(regions) if image is None else native(image)
    return (first[:, None] * bins + xp.arange(bins)[None, :]).reshape(-1)


def _resample_sensitive(xp: Module, x: Array, image: Array | None, rows: Taps, cols: Taps) -> Array:
    images, channels, height, width = x.shape
    ph, pw = rows.length, cols.length
    regions = images if image is None else image.shape[0]
    outputs = channels // (ph * pw)
    x = x.reshape(images, outputs, ph * pw, height, width).swapaxes(1, 2)
    x = x.reshape(images * ph * pw, outputs, height, width)
    y = resample(
        x,
        _single_images(xp, image, regions, ph * pw),
        _single_bins(rows, regions, pw, True),
        _single_bins(cols, regions, ph, False),
    )
    y = y.reshape(regions, ph, pw, outputs).transpose(0, 3, 1, 2)
    return xp.ascontiguousarray(y)


def _adjoint_sensitive(
    xp: Module, gy: Array, image: Array | None, rows: Taps, cols: Taps, images: int
) -> Array:
    regions, outputs, ph, pw = gy.shape
    gx = resample_adjoint(
        gy.transpose(0, 2, 3, 1).reshape(regions * ph * pw, outputs, 1, 1),
        _single_images(xp, image, regions, ph * pw),
        _single_bins(rows, regions, pw, True),
        _single_bins(cols, regions, ph, False),
        images * ph * pw,
    )
    gx = gx.reshape(images, ph * pw, outputs, rows.size, cols.size).swapaxes(1, 2)
    return xp.ascontiguousarray(gx).reshape(images, outputs * ph * pw, rows.size, cols.size)
