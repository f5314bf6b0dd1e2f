"""How a network says a box: four numbers relative to an anchor or proposal, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cnncore.errors import ArgumentError, ShapeError
from cnncore.vision.boxes import FloatArray, as_boxes, as_floats

# exp(4.135) = 62.5: a decoded side is at most 1000/16 times its anchor's, so exp cannot overflow.
MAX_LOG_SCALE = math.log(1000.0 / 16.0)


@dataclass(frozen=True)
class DeltaCoder:
    """Centre shift and log size relative to a reference box.

    ``dx = wx (cx - cx0) / w0``, ``dy = wy (cy - cy0) / h0``, ``dw = ww ln(w / w0)``,
    ``dh = wh ln(h / h0)``, with ``weights = (wx, wy, ww, wh)``; decoding inverts it, with
    ``dw/ww`` and ``dh/wh`` cut at ``max_log_scale``.  An RPN uses weights 1, a box head
    ``(10, 10, 5, 5)``, which is the same as SSD's variances ``(0.1, 0.1, 0.2, 0.2)``.
    Source: Ren et al., "Faster R-CNN", 2015, section 3.1.2, equation 2.

    >>> coder = DeltaCoder()
    >>> coder.encode([[2, 0, 6, 4]], [[0, 0, 4, 4]]).tolist()
    [[0.5, 0.0, 0.0, 0.0]]
    >>> coder.decode([[0.5, 0, 0, 0]], [[0, 0, 4, 4]]).tolist()
    [[2.0, 0.0, 6.0, 4.0]]
    """

    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    max_log_scale: float = MAX_LOG_SCALE

    def __post_init__(self) -> None:
        if len(self.weights) != 4 or not all(0 < w < math.inf for w in self.weights):
            raise ArgumentError("weights", "four numbers > 0", self.weights)

    def encode(self, boxes: ArrayLike, references: ArrayLike) -> FloatArray:
        """Deltas ``(R, 4)`` that turn ``references (R, 4)`` into ``boxes (R, 4)``.

        Boxes and references without width or height are refused by index: their logarithm is
        infinite.
        """
        target = as_boxes(boxes, "boxes", positive=True)
        anchor = as_boxes(references, "references", positive=True)
        if target.shape != anchor.shape:
            raise ShapeError("boxes", f"one a reference, {anchor.shape}", f"{target.shape}")
        size0, size = anchor[:, 2:] - anchor[:, :2], target[:, 2:] - target[:, :2]
        centre0, centre = anchor[:, :2] + size0 / 2, target[:, :2] + size / 2
        deltas = np.concatenate([(centre - centre0) / size0, np.log(size / size0)], 1)
        weighted: FloatArray = deltas * np.array(self.weights, deltas.dtype)
        return weighted

    def decode(self, deltas: ArrayLike, references: ArrayLike) -> FloatArray:
        """Boxes of the shape of ``deltas``: ``(R, 4)``, or ``(R, K, 4)`` with one box a class.

        Non-finite deltas are refused by index.  Results are not clipped to an image.
        """
        values = as_floats(deltas, "deltas")
        anchor = as_boxes(references, "references")
        if values.ndim not in (2, 3) or (values.shape[0], values.shape[-1]) != (len(anchor), 4):
            expected = f"shape ({len(anchor)}, 4) or ({len(anchor)}, K, 4)"
            raise ShapeError("deltas", expected, f"shape {values.shape}")
        finite = np.isfinite(values)
        if not finite.all():
            index = np.argwhere(~finite)[0].tolist()
            hint = "a lower learning rate or gradient clipping, if a training run diverged"
            raise ArgumentError(
                "deltas", "finite numbers", f"{values[tuple(index)]} at {index}", hint
            )
        if values.ndim == 3:
            anchor = anchor[:, None, :]
        scaled = values / np.array(self.weights, values.dtype)
        size0 = anchor[..., 2:] - anchor[..., :2]
        centre = anchor[..., :2] + size0 / 2 + scaled[..., :2] * size0
        half = size0 * np.exp(np.minimum(scaled[..., 2:], self.max_log_scale)) / 2
        return np.concatenate([centre - half, centre + half], -1)
