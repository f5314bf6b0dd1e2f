"""From a detector's raw numbers to few boxes: RPN proposals, and the detections of a box head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cnncore.errors import ArgumentError, ShapeError
from cnncore.vision.boxes import (
    FloatArray,
    IntArray,
    Size,
    as_boxes,
    as_floats,
    as_vector,
    clip_boxes,
)
from cnncore.vision.coders import DeltaCoder
from cnncore.vision.nms import top_k
from cnncore.vision.selection import Candidates, select

RPN_CODER = DeltaCoder()
HEAD_CODER = DeltaCoder((10.0, 10.0, 5.0, 5.0))


@dataclass(frozen=True)
class ProposalSettings:
    """How many proposals survive each step.

    Defaults: testing with a feature pyramid (training: 2000 and 2000), Lin et al., "Feature Pyramid
    Networks", 2017, section 5.1; threshold from Ren et al., "Faster R-CNN", 2015, section 3.3.
    """

    pre_nms: int = 1000  # best of each level that enter suppression
    post_nms: int = 1000  # best of the image that leave it
    nms_threshold: float = 0.7
    min_size: float = 1e-3  # pixels, after clipping
    coder: DeltaCoder = RPN_CODER


@dataclass(frozen=True)
class Proposals:
    """Regions that may hold an object, by descending score."""

    boxes: FloatArray  # (R, 4), inside the image
    scores: FloatArray  # (R,), of the kind that was given


def select_proposals(
    scores: Sequence[ArrayLike],
    deltas: Sequence[ArrayLike],
    anchors: Sequence[ArrayLike],
    image_size: Size,
    settings: ProposalSettings = ProposalSettings(),
) -> Proposals:
    """The proposals of one image: top-k a level, decode, clip, drop small, NMS a level, top-k.

    Lists with one entry a level: ``scores (A,)``, ``deltas (A, 4)``, ``anchors (A, 4)``.  Only the
    order of the scores matters, so raw logits are best (probabilities saturate into ties).
    Source: Ren et al., "Faster R-CNN", 2015, section 3.3.
    """
    if not len(scores) == len(deltas) == len(anchors) > 0:
        got = f"{len(scores)} scores, {len(deltas)} deltas, {len(anchors)} anchors"
        raise ArgumentError("scores, deltas, anchors", "one entry a level each", got)
    chosen_scores, chosen_deltas, chosen_anchors, chosen = [], [], [], []
    first = 0
    for level, (level_scores, level_deltas, level_anchors) in enumerate(
        zip(scores, deltas, anchors, strict=True)
    ):
        references = as_floats(level_anchors, f"anchors[{level}]")
        values = as_vector(level_scores, len(references), f"scores[{level}]")
        shifts = as_floats(level_deltas, f"deltas[{level}]")
        if shifts.shape != references.shape:
            expected = f"one a anchor, {references.shape}"
            raise ShapeError(f"deltas[{level}]", expected, shifts.shape)
        best = top_k(values, settings.pre_nms)
        chosen_scores.append(values[best])
        chosen_deltas.append(shifts[best])
        chosen_anchors.append(references[best])
        chosen.append(best + first)
        first += len(references)
    # All levels at once from here: a call costs more than the few hundred boxes in it.
    level_of = np.repeat(np.arange(len(scores)), [len(values) for values in chosen_scores])
    decoded = settings.coder.decode(np.concatenate(chosen_deltas), np.concatenate(chosen_anchors))
    boxes, values = clip_boxes(decoded, image_size), np.concatenate(chosen_scores)
    cut = f"the best {settings.pre_nms:,} of a level"
    source = np.concatenate(chosen)
    candidates = Candidates("proposals", boxes, values, level_of, source, first, cut)
    kept = select(candidates, settings.min_size, settings.nms_threshold, settings.post_nms)
    return Proposals(boxes[kept], values[kept])


@dataclass(frozen=True)
class DetectionSettings:
    """When a box counts as a detection.

    Defaults: Mask R-CNN at test time, He et al., 2017, section 3.1, with the score threshold 0.05
    that its and Faster R-CNN's published code use.
    """

    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100
    min_size: float = 1e-2  # pixels, after clipping
    candidates: int | None = (
        None  # best of each class (without proposals: level) that enter suppression
    )
    class_agnostic: bool = False  # one suppression for all classes: never two boxes on one thing
    coder: DeltaCoder = HEAD_CODER


@dataclass(frozen=True)
class Detections:
    """What was found in one image, by descending score."""

    boxes: FloatArray  # (R, 4), inside the image
    scores: FloatArray  # (R,), probabilities
    labels: IntArray  # (R,), 0 for the first real class
    proposal: IntArray  # (R,), the proposal each came from


def select_detections(
    probabilities: ArrayLike,
    deltas: ArrayLike,
    proposals: ArrayLike,
    image_size: Size,
    settings: DetectionSettings = DetectionSettings(),
) -> Detections:
    """The detections of one image: threshold, decode a box a class, clip, NMS a class, top-k.

    ``probabilities (R, 1 + K)`` with background in column 0, ``deltas (R, K, 4)`` for the real
    classes, ``proposals (R, 4)``.
    """
    regions = as_boxes(proposals, "proposals")
    chances = as_floats(probabilities, "probabilities")
    shifts = as_floats(deltas, "deltas")
    classes = shifts.shape[1] if shifts.ndim == 3 else -1
    if shifts.shape != (len(regions), classes, 4):
        raise ShapeError("deltas", f"shape ({len(regions)}, K, 4)", f"shape {shifts.shape}")
    if chances.shape != (len(regions), classes + 1):
        expected = f"shape {(len(regions), classes + 1)}: background, then the classes of deltas"
        raise ShapeError("probabilities", expected, f"shape {chances.shape}")
    if np.isnan(chances).any():
        index = np.argwhere(np.isnan(chances))[0].tolist()
        raise ArgumentError("probabilities", "numbers", f"NaN at {index}", "find what gave NaN")
    # Threshold first: decoding and checking K boxes a proposal would be most of the work.
    proposal, label = np.nonzero(chances[:, 1:] > settings.score_threshold)
    if settings.candidates is not None:
        best = _best_of_each(chances[proposal, label + 1], label, settings.candidates)
        proposal, label = proposal[best], label[best]
    boxes = settings.coder.decode(shifts[proposal, label], regions[proposal])
    boxes, scores = clip_boxes(boxes, image_size), chances[proposal, label + 1]
    return _detections(boxes, scores, label, proposal, chances[:, 1:].size, settings)


def _detections(
    boxes: FloatArray, scores: FloatArray, label: IntArray, proposal: IntArray, total: int,
    settings: DetectionSettings,
) -> Detections:  # fmt: skip
    """Those that remain of the boxes that have passed the threshold."""
    groups = np.zeros_like(label) if settings.class_agnostic else label
    cut = f"scores above {settings.score_threshold:g}"
    if settings.candidates is not None:
        cut += f", the best {settings.candidates:,} of a class or level"
    candidates = Candidates("detections", boxes, scores, groups, proposal, total, cut)
    limit = settings.max_detections
    kept = select(candidates, settings.min_size, settings.nms_threshold, limit)
    return Detections(boxes[kept], scores[kept], label[kept], proposal[kept])


def _best_of_each(scores: FloatArray, labels: IntArray, count: int) -> IntArray:
    """The indices of the ``count`` highest scores of every label, ascending."""
    rows = (np.flatnonzero(labels == label) for label in np.unique(labels))
    chosen = [members[top_k(scores[members], count)] for members in rows]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))


def select_dense_detections(
    probabilities: Sequence[ArrayLike],
    deltas: Sequence[ArrayLike],
    anchors: Sequence[ArrayLike],
    image_size: Size,
    settings: DetectionSettings,
) -> Detections:
    """The detections of one image of a network without proposals.

    Threshold, best ``candidates`` of each level, decode, clip, drop small, NMS a class, top-k.
    Lists with one entry a level: ``probabilities (A, K)`` of the real classes, ``deltas (A, 4)``
    (one box for all classes), ``anchors (A, 4)``.
    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, section 4.1.
    """
    if not len(probabilities) == len(deltas) == len(anchors) > 0:
        got = f"{len(probabilities)} probabilities, {len(deltas)} deltas, {len(anchors)} anchors"
        raise ArgumentError("probabilities, deltas, anchors", "one entry a level each", got)
    picked: list[tuple[IntArray, IntArray, FloatArray, FloatArray, FloatArray]] = []
    first = total = 0
    for level, (level_chances, level_deltas, level_anchors) in enumerate(
        zip(probabilities, deltas, anchors, strict=True)
    ):
        references = as_boxes(level_anchors, f"anchors[{level}]")
        chances = as_floats(level_chances, f"probabilities[{level}]")
        shifts = as_floats(level_deltas, f"deltas[{level}]")
        if shifts.shape != references.shape:
            raise ShapeError(f"deltas[{level}]", f"one an anchor, {references.shape}", shifts.shape)
        if chances.ndim != 2 or len(chances) != len(references):
            expected = f"shape ({len(references)}, K)"
            raise ShapeError(f"probabilities[{level}]", expected, chances.shape)
        if np.isnan(chances).any():
            raise ArgumentError(f"probabilities[{level}]", "numbers", "NaN", "find what gave NaN")
        anchor, label = np.nonzero(chances > settings.score_threshold)
        values = chances[anchor, label]
        most = len(values) if settings.candidates is None else settings.candidates
        best = top_k(values, most)
        anchor, label = anchor[best], label[best]
        picked.append((anchor + first, label, values[best], shifts[anchor], references[anchor]))
        first += len(references)
        total += chances.size
    proposal, label, scores, shift, reference = (
        np.concatenate(parts) for parts in zip(*picked, strict=True)
    )
    boxes = clip_boxes(settings.coder.decode(shift, reference), image_size)
    return _detections(boxes, scores, label, proposal, total, settings)
