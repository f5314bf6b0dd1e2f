"""Resampling: any op that is one sparse matrix along the rows and one along the columns.

``resampling`` turns two ``Taps`` into a pair ``(A, Aᵀ)``; average pooling, unpooling without
switches and RoI Align are made of it too.  Where positions fall is said in ``cnncore.taps``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cnncore import kernels, taps
from cnncore.autograd import Tensor
from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import Pair, as_pair, checked_size
from cnncore.ops.arguments import float_tensor
from cnncore.ops.linear import LinearMap, apply
from cnncore.taps import Taps

Array = Any

MODES = ("nearest", "nearest-exact", "bilinear", "bicubic", "area")


def resampling(
    name: str,
    rows: Taps,
    cols: Taps,
    images: int,
    image: Array = None,
    position_sensitive: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> LinearMap:
    """``y[r, c] = Rows_r · x[image[r], c] · Cols_rᵀ`` and its transpose; see ``kernels.resample``.

    x ``(images, C, rows.size, cols.size)`` -> ``(R, C, rows.length, cols.length)``.
    """
    matrices = (rows.index, rows.weight, rows.count, cols.index, cols.weight, cols.count)
    return LinearMap(
        name,
        f"{name}Transpose",
        lambda x: kernels.resample(x, image, rows, cols, position_sensitive),
        lambda y: kernels.resample_adjoint(y, image, rows, cols, images, position_sensitive),
        matrices if image is None else (image, *matrices),
        settings or {},
    )


def plane_of(x: Any) -> tuple[Tensor, Pair]:
    """x ``(N, C, H, W)`` as a tensor, and its plane ``(H, W)``, which must not be empty."""
    x = float_tensor("x", x, 4)
    height, width = x.shape[2:]
    if min(height, width) < 1:
        raise ShapeError("x", "a plane of at least one pixel", x.shape)
    return x, (height, width)


def interpolate(
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """Resize the planes of ``x`` to ``size``, or by ``scale_factor``.

    ``y[n, c] = Rows · x[n, c] · Colsᵀ`` with one interpolation matrix per axis.

    Shapes: x ``(N, C, H, W)`` -> ``(N, C, OH, OW)``; ``size`` an integer or ``(OH, OW)``, or
    ``scale_factor`` a number or ``(sh, sw)`` with ``OH = floor(H · sh)``; float32 or float64.

    ``mode``: ``"nearest"``, ``"nearest-exact"`` (the centre of the new pixel decides),
    ``"bilinear"``, ``"bicubic"`` (a = −0.75; may overshoot), ``"area"`` (means over adaptive bins).
    ``align_corners`` (bilinear and bicubic, default False): corner pixel centres coincide, instead
    of outer edges.  The ratio between positions is ``1/scale_factor`` where that is given, as
    PyTorch has it, unless ``recompute_scale_factor`` asks for the ratio of the sizes.  No
    antialiasing.

    Kept for backward: the two matrices, not x.

    Errors: ``ArgumentError`` for both or none of size and scale_factor, an unknown mode,
    ``align_corners`` where it has no meaning, an empty result.

    >>> from cnncore import tensor
    >>> interpolate(tensor([[[[0.0, 4.0]]]]), size=(1, 4), mode="bilinear").numpy()[0, 0]
    array([[0., 1., 3., 4.]], dtype=float32)

    Source: ``torch.nn.functional.interpolate``; Keys 1981 for bicubic.
    """
    x, plane = plane_of(x)
    if mode not in MODES:
        raise ArgumentError("mode", f"one of {MODES}", repr(mode))
    if align_corners is not None and mode not in ("bilinear", "bicubic"):
        raise ArgumentError(
            "align_corners", "None unless bilinear or bicubic", f"{align_corners} with {mode!r}"
        )
    wanted, scales = _target(plane, size, scale_factor, recompute_scale_factor)
    checked_size("size", *x.shape[:2], *wanted)
    rows, cols = (
        _matrix(mode, plane[axis], wanted[axis], bool(align_corners), scales[axis])
        for axis in (0, 1)
    )
    how = {"mode": mode, "align_corners": bool(align_corners), "scales": scales}
    return apply(resampling(f"Interpolate_{mode}", rows, cols, x.shape[0], settings=how), x)


def _matrix(mode: str, size: int, length: int, align_corners: bool, scale: float | None) -> Taps:
    if mode == "bilinear":
        return taps.linear(size, length, align_corners, scale)
    if mode == "bicubic":
        return taps.cubic(size, length, align_corners, scale)
    if mode == "area":
        return taps.adaptive_means(size, length)
    return taps.nearest(size, length, scale, exact=mode == "nearest-exact")


def _target(
    plane: Pair, size: Any, scale_factor: Any, recompute: bool | None
) -> tuple[Pair, tuple[float | None, float | None]]:
    """The output plane, and the scale factors where they, not the sizes, give the ratio."""
    if (size is None) == (scale_factor is None):
        given = "none" if size is None else "both"
        raise ArgumentError("size", "exactly one of size and scale_factor", given)
    if size is not None:
        if recompute:
            raise ArgumentError("recompute_scale_factor", "None or False with size", recompute)
        return as_pair("size", size, 1), (None, None)
    pair = scale_factor if isinstance(scale_factor, (list, tuple)) else (scale_factor,) * 2
    if len(pair) != 2:
        raise ArgumentError("scale_factor", "one number or a pair (h, w)", repr(scale_factor))
    sh, sw = (_factor(factor) for factor in pair)
    wanted = math.floor(plane[0] * sh), math.floor(plane[1] * sw)
    if min(wanted) < 1:
        raise ArgumentError(
            "scale_factor", f"a result of at least 1x1 from {plane}", (sh, sw), "size=1"
        )
    return wanted, (None, None) if recompute else (sh, sw)


def _factor(value: Any) -> float:
    try:
        factor = float(value)
    except (TypeError, ValueError):
        factor = math.nan
    if not (math.isfinite(factor) and factor > 0):
        raise ArgumentError("scale_factor", "positive numbers", repr(value), "size=(OH, OW)")
    return factor
