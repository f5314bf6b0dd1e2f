"""The weight map that keeps touching objects apart.

Letters: ``H W`` a label map.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnncore.errors import ArgumentError, ShapeError, require


def border_weights(
    labels: ArrayLike,
    class_weights: Any = None,
    w0: float = 10.0,
    sigma: float = 5.0,
) -> NDArray[np.float32]:
    """How much each pixel's loss counts, so that touching objects are told apart: ``(H, W)``.

    ``w = w_c + w0 · exp(−(d1 + d2)² / (2·sigma²))`` on the background, ``w_c`` inside objects;
    ``d1`` and ``d2`` are the distances in pixels to the nearest and the second nearest object.
    ``labels (H, W)``: 0 background, one positive number for each object.  ``class_weights``:
    ``w_c`` of background and objects; by default each class's share of the other (balanced, mean
    one).  With fewer than two objects there is no border to keep.

    >>> labels = np.array([[1, 1, 0, 2, 2]])
    >>> border_weights(labels, (1.0, 1.0))[0].astype(int).tolist()
    [1, 1, 10, 1, 1]

    Source: Ronneberger, Fischer & Brox, "U-Net", 2015, equation 2.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ShapeError("labels", "(H, W) of integers", f"{labels.shape} {labels.dtype}")
    if not sigma > 0:
        raise ArgumentError("sigma", "pixels > 0", sigma)
    foreground = labels > 0
    if class_weights is None:
        share = foreground.mean() if labels.size else 0.0
        class_weights = (2 * share, 2 * (1 - share)) if 0 < share < 1 else (1.0, 1.0)
    weights = np.where(foreground, class_weights[1], class_weights[0]).astype(np.float64)
    names = np.unique(labels[foreground])
    if len(names) > 1:
        distance = require("scipy.ndimage", "vision").distance_transform_edt
        nearest = np.full((2, *labels.shape), np.inf)
        for name in names:
            d = distance(labels != name)
            nearest[1] = np.minimum(nearest[1], np.maximum(nearest[0], d))
            nearest[0] = np.minimum(nearest[0], d)
        border = w0 * np.exp(-((nearest[0] + nearest[1]) ** 2) / (2 * sigma**2))
        weights += np.where(foreground, 0.0, border)
    result: NDArray[np.float32] = weights.astype(np.float32)
    return result
