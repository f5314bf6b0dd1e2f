"""Where regions of interest fall: the only place where a box is scaled, rounded and divided.

A ``RoiGrid`` turns boxes into ``Taps`` (RoI Align, position-sensitive pooling, crop-and-resize)
or ``Bins`` (RoI pooling) along each axis, for all regions at once.  Coordinates are float64
whatever the boxes' type, rounding is half away from zero, bin edges are integer divisions: no
backend and no compiler can round differently.

Four meanings of the same box, by method:

=========  ==========================  ===============================  ==========================
method     box edges                   extent                           sampling of a bin
=========  ==========================  ===============================  ==========================
``pool``   rounded                     ``end − start + 1``, at least 1  maximum of whole pixels
``mean``   rounded                     ``end − start``, at least 1      mean of whole pixels
``align``  as they are (− ½ if         ``end − start`` (at least 1 if   mean of linear samples
           ``aligned``)                not ``aligned``)
``crop``   centres of the first and    ``end − start``                  one linear sample
           last sample
=========  ==========================  ===============================  ==========================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import Pair, as_int, as_pair
from cnncore.taps import Bins, Floats, Ints, Taps, interval_means, linear_samples

# Scaled coordinates beyond this are no pixels of any plane; a float64 is exact far beyond it.
MAX_COORDINATE = 2.0**31
# Samples along one axis that adaptive sampling may ask for over all regions (1 GiB of positions).
MAX_SAMPLES = 2**27


@dataclass(frozen=True)
class RoiGrid:
    """Regions on the feature maps of a batch, each divided into ``output_size`` bins.

    >>> grid = RoiGrid.make([[0, 0, 0, 8, 4]], (2, 2), 0.5, images=1)
    >>> rows, cols = grid.pool((10, 10))
    >>> rows.start[0], rows.end[0], cols.start[0], cols.end[0]
    (array([0, 1]), array([2, 3]), array([0, 2]), array([3, 5]))
    """

    boxes: Floats  # (R, 4) x1 y1 x2 y2 in pixels of the feature map: already scaled
    image: Ints  # (R,)
    output_size: Pair

    @staticmethod
    def make(boxes: Any, output_size: Any, spatial_scale: Any, images: int) -> RoiGrid:
        """Check boxes ``(R, 5)`` = (image, x1, y1, x2, y2) and scale them by ``spatial_scale``.

        A bad box is named by its row, its image, its values and the rule it breaks.
        """
        scale = _scale(spatial_scale)
        rois = np.asarray(boxes)
        if rois.ndim != 2 or rois.shape[1] != 5:
            raise ShapeError(
                "boxes",
                "shape (K, 5): image index, x1, y1, x2, y2",
                rois.shape,
                "a list with one (L, 4) array per image, or np.zeros((0, 5)) for no box",
            )
        if rois.dtype.kind not in "iuf":
            raise ArgumentError("boxes", "numbers", str(rois.dtype), "boxes.astype('float32')")
        rois = rois.astype(np.float64)
        _refuse_bad(rois, scale, images)
        return RoiGrid(
            rois[:, 1:] * scale, rois[:, 0].astype(np.int64), as_pair("output_size", output_size, 1)
        )

    def pool(self, size: Pair) -> tuple[Bins, Bins]:
        """Bins of RoI pooling: ``start + floor(p·n/P) .. start + ceil((p+1)·n/P)``, cut to fit.

        The last pixel belongs to the region: ``n = end − start + 1``.
        Source: Girshick, "Fast R-CNN", 2015, 2.1.
        """
        return self._bins(1, size)

    def mean(self, size: Pair) -> tuple[Taps, Taps]:
        """Means over bins of a region without its last pixel: ``n = end − start``, at least 1.

        Source: Dai et al., "R-FCN", 2016, section 3, in torchvision's rounding.
        """
        rows, cols = self._bins(0, size)
        # A mean over a rectangle is the product of two means, and empty if either is.
        return interval_means(rows), interval_means(cols)

    def align(
        self, size: Pair, sampling_ratio: int = -1, aligned: bool = False
    ) -> tuple[Taps, Taps]:
        """Means of ``sampling_ratio`` linear samples a bin and axis, at the centres of equal parts.

        ``-1`` takes ``ceil(extent / bins)`` samples, about one a pixel.  A sample more than a pixel
        outside the plane (position < −1 or > size) is zero, but counts.  ``aligned`` subtracts half
        a pixel first, since pixel i covers ``i .. i + 1`` in box coordinates; without it (the first
        published version) regions have at least one pixel extent.
        Source: He et al., "Mask R-CNN", 2017, section 3.
        """
        rows, cols = (self._align(axis, size[axis], sampling_ratio, aligned) for axis in (0, 1))
        return rows, cols

    def crop(self, size: Pair) -> tuple[Taps, Taps]:
        """One linear sample a bin, the first and last on the box's edges; none outside the plane.

        Coordinates name pixel centres: ``size − 1`` is the last pixel.  A single bin lies in the
        middle.  Source: TensorFlow's ``image.crop_and_resize``.
        """
        rows, cols = (self._crop(axis, size[axis]) for axis in (0, 1))
        return rows, cols

    def _edges(self, axis: int) -> tuple[Floats, Floats]:
        """``(y1, y2)`` for axis 0, ``(x1, x2)`` for axis 1, each ``(R, 1)``."""
        return self.boxes[:, 1 - axis, None], self.boxes[:, 3 - axis, None]

    def _bins(self, extra: int, size: Pair) -> tuple[Bins, Bins]:
        result = []
        for axis in (0, 1):
            low, high = (round_half_away(edge) for edge in self._edges(axis))
            bins = self.output_size[axis]
            extent = np.maximum(high - low + extra, 1)
            p = np.arange(bins, dtype=np.int64)
            start = low + p * extent // bins
            end = low - (p + 1) * -extent // bins
            result.append(Bins(size[axis], start.clip(0, size[axis]), end.clip(0, size[axis])))
        return result[0], result[1]

    def _align(self, axis: int, size: int, sampling_ratio: int, aligned: bool) -> Taps:
        low, high = self._edges(axis)
        bins = self.output_size[axis]
        extent = high - low if aligned else np.maximum(high - low, 1.0)
        step = extent / bins
        if sampling_ratio > 0:
            samples = np.full(low.shape, float(sampling_ratio))
            most = sampling_ratio
        else:
            samples = np.ceil(step)
            most = int(samples.max(initial=0.0))
        _refuse_many(samples, most, bins)
        origin = low - (0.5 if aligned else 0.0) + np.arange(bins) * step  # (R, P)
        each = np.maximum(samples, 1.0)[..., None]  # (R, 1, 1)
        s = np.arange(most)
        position = origin[..., None] + (s + 0.5) * (step[..., None] / each)
        inside = (position >= -1.0) & (position <= size) & (s < samples[..., None])
        return linear_samples(size, position, inside, 1.0 / each)

    def _crop(self, axis: int, size: int) -> Taps:
        low, high = self._edges(axis)
        bins = self.output_size[axis]
        if bins > 1:
            position = low + np.arange(bins) * ((high - low) / (bins - 1))
        else:
            position = 0.5 * (low + high)
        inside = (position >= 0.0) & (position <= size - 1)
        return linear_samples(size, position[..., None], inside[..., None], np.ones((1, 1, 1)))


def round_half_away(value: Floats) -> Ints:
    """C's ``round``: to the nearest integer, halves away from zero (``floor(v + ½)`` is neither).

    >>> round_half_away(np.array([0.5, -0.5, 2.5, 0.49999999999999994]))
    array([ 1, -1,  3,  0])
    """
    whole = np.trunc(value)
    rounded: Ints = (whole + np.sign(value) * (abs(value - whole) >= 0.5)).astype(np.int64)
    return rounded


def _scale(spatial_scale: Any) -> float:
    try:
        scale = float(spatial_scale)
    except (TypeError, ValueError):
        scale = math.nan
    if not (math.isfinite(scale) and scale > 0.0):
        raise ArgumentError("spatial_scale", "a positive number", repr(spatial_scale), "1 / stride")
    return scale


def _refuse_bad(rois: Floats, scale: float, images: int) -> None:
    """Name the first box that breaks a rule."""
    image, x1, y1, x2, y2 = rois.T
    finite = np.isfinite(rois).all(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        small = (abs(rois[:, 1:]) * scale <= MAX_COORDINATE).all(axis=1)
    rules = (
        (finite, "only finite numbers", "drop it, or look for a diverged loss"),
        (image == np.floor(image), "a whole number as image index", "put the image index first"),
        (
            (image >= 0) & (image < images),
            f"an image index in 0..{images - 1}" if images else "no box, since there is no image",
            "put the image index first: (image, x1, y1, x2, y2)",
        ),
        (x2 >= x1, "x2 >= x1", "corners (x1, y1, x2, y2), not (x, y, width, height)"),
        (y2 >= y1, "y2 >= y1", "corners (x1, y1, x2, y2), not (x, y, width, height)"),
        (small, "scaled coordinates within ±2**31", "vision.clip_boxes first"),
    )
    for kept, rule, hint in rules:
        if not kept.all():
            k = int(np.argmin(kept))
            number = image[k]
            name = int(number) if math.isfinite(number) and number == int(number) else number
            raise ArgumentError(f"boxes[{k}] (image {name})", rule, rois[k].tolist(), hint)


def _refuse_many(samples: Floats, most: int, bins: int) -> None:
    if most * bins * len(samples) > MAX_SAMPLES:
        raise ArgumentError(
            f"boxes[{int(np.argmax(samples))}]",
            f"at most {MAX_SAMPLES} samples over all regions",
            f"{most} samples a bin, {len(samples)} regions of {bins} bins",
            "sampling_ratio=2, vision.clip_boxes first, or the right spatial_scale",
        )


def sampling(sampling_ratio: Any) -> int:
    """``sampling_ratio`` as an integer: at least 1, or at most 0 for adaptive."""
    return max(as_int("sampling_ratio", sampling_ratio, -(2**31)), 0)
