"""The last steps of every detector: of many boxes of one image, few are kept.

    candidates ─ large enough? ─ suppression in each group ─ the best of all

Whoever watches (``cnncore.autograd.events``) is told of every candidate in the note
``"selection"``; ``cnncore.explain.record_detection`` answers from it why a box is not there.

Letters: ``C`` candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnncore.autograd import events
from cnncore.vision.boxes import FloatArray, IntArray, box_iou, remove_small_boxes
from cnncore.vision.nms import batched_nms

KEPT, SMALL, SUPPRESSED, BEYOND = "kept", "too small", "suppressed", "beyond the limit"
FATES = (KEPT, SMALL, SUPPRESSED, BEYOND)


@dataclass(frozen=True)
class Candidates:
    """Boxes of one image that have passed a first cut, and what that cut was.

    ``group``: suppression is among those of one group (a class, a pyramid level).
    """

    stage: str  # "proposals" or "detections"
    boxes: FloatArray  # (C, 4) pixels
    scores: FloatArray  # (C,)
    group: IntArray  # (C,)
    source: IntArray  # (C,), the anchor or the proposal that each came from
    total: int  # before the first cut
    cut: str  # in words: who passes it


@dataclass(frozen=True)
class Selection:
    """Candidates, the rules, and which were kept (by descending score)."""

    candidates: Candidates
    min_size: float
    nms_threshold: float
    limit: int | None
    kept: IntArray

    def fates(self) -> tuple[list[str], IntArray]:
        """What became of each candidate, one of ``FATES``, and who suppressed it (-1: nobody).

        Suppressed: a kept one of its group, with a higher score, overlaps it by more than the
        threshold.  What no kept one overlaps so was beyond the limit.
        """
        c, kept = self.candidates, self.kept
        fates, by = np.full(len(c.boxes), BEYOND, object), np.full(len(c.boxes), -1)
        overlap = box_iou(c.boxes, c.boxes[kept])  # (C, kept)
        able = c.group[:, None] == c.group[kept]
        over = able & (overlap > self.nms_threshold)
        if self.limit is None or len(kept) < self.limit:  # then nothing was beyond it
            for row in np.flatnonzero(able.any(1) & ~over.any(1)):  # rounding, at the threshold
                over[row, np.where(able[row], overlap[row], -1.0).argmax()] = True
        for row in np.flatnonzero(over.any(1)):
            by[row] = kept[over[row].argmax()]  # the first: it has the highest score
        fates[by >= 0] = SUPPRESSED
        small = np.ones(len(c.boxes), np.bool_)
        small[remove_small_boxes(c.boxes, self.min_size)] = False
        fates[small], by[small] = SMALL, -1
        fates[kept], by[kept] = KEPT, -1
        return fates.tolist(), by


def select(
    candidates: Candidates, min_size: float, nms_threshold: float, limit: int | None
) -> IntArray:
    """The candidates that are kept, by descending score; observers are told of all."""
    c = candidates
    large = remove_small_boxes(c.boxes, min_size)
    kept = batched_nms(c.boxes[large], c.scores[large], c.group[large], nms_threshold, limit)
    kept = large[kept]
    if events.observers:
        selection = Selection(c, min_size, nms_threshold, limit, kept)
        events.emit("note", "selection", (), (selection,))
    return kept
