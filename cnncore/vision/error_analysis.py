"""Why detections are wrong: six kinds, what each costs, and the objects that nobody found.

By descending score a detection takes the free true box of its class that it overlaps most, if
by ``high`` (0.5) or more: it is right.  Of the others, with ``same`` and ``other`` the largest IoU
with any true box of its class and of another class, the first that holds:

    duplicate        same  >= high      the object was taken by a surer detection
    classification   other >= high      on an object, with the wrong name
    localisation     same  >= low       the right name, too far off (low: 0.1)
    both             other >= low       near an object, wrong name
    background       otherwise          on nothing

    missed           a true box that no detection took, and that none of the classification or
                     localisation errors would take if it were put right

Source: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", 2020,
section 2; the first such list: Hoiem et al., "Diagnosing Error in Object Detectors", 2012, section
3, which calls "both" and the classes that are alike "confusion with similar objects".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore.errors import ArgumentError, require
from cnncore.vision.boxes import IntArray, box_iou
from cnncore.vision.metrics import NOTHING, Objects
from cnncore.vision.voc_metrics import _checked, voc_class_ap

RIGHT = "right"
WRONG = ("classification", "localisation", "both", "duplicate", "background")
ERRORS = (*WRONG, "missed")


@dataclass(frozen=True)
class ImageErrors:
    """The fate of one image's detections and objects."""

    kinds: list[str]  # of each detection: RIGHT, one of WRONG, or "ignored"
    partner: IntArray  # (R,) the true box it took, or would take if put right; -1: none
    missed: IntArray  # true boxes


def image_errors(found: Objects, true: Objects, high: float = 0.5, low: float = 0.1) -> ImageErrors:
    """The kind of every detection of one image, in the order of ``found``."""
    if not 0 < low < high <= 1:
        raise ArgumentError("low, high", "0 < low < high <= 1", (low, high))
    ((found, true),) = _checked([found], [true], high)
    assert found.scores is not None
    assert true.ignored is not None
    overlap = box_iou(found.boxes, true.boxes).astype(np.float64)
    alike = found.labels[:, None] == true.labels[None, :]
    counted = ~true.ignored
    kinds, partner = [""] * len(found.boxes), np.full(len(found.boxes), -1, np.int64)
    free = counted.copy()
    for row in np.argsort(-found.scores, kind="stable"):
        reach = np.where(alike[row] & free, overlap[row], 0.0)
        if len(reach) and reach.max() >= high:
            partner[row] = reach.argmax()
            free[partner[row]] = False
            kinds[row] = RIGHT
    for row, kind in enumerate(kinds):
        if not kind:
            same, other = (np.where(mask & counted, overlap[row], 0.0) for mask in
                           (alike[row], ~alike[row]))  # fmt: skip
            ignored = np.where(alike[row] & ~counted, overlap[row], 0.0)
            kinds[row], which = _kind(same, other, ignored, high, low)
            if which is not None:
                partner[row] = which.argmax()
    mended = [partner[i] for i, kind in enumerate(kinds) if kind in WRONG[:2]]
    missed = np.setdiff1d(np.flatnonzero(free), np.array(mended, np.int64))
    return ImageErrors(kinds, partner, missed)


def _kind(same: Any, other: Any, ignored: Any, high: float, low: float) -> tuple[str, Any]:
    """The first kind that holds, and the overlaps among which its object is."""
    if ignored.max(initial=0.0) >= high:
        return "ignored", None
    if same.max(initial=0.0) >= high:
        return "duplicate", None
    if other.max(initial=0.0) >= high:
        return "classification", other
    if same.max(initial=0.0) >= low:
        return "localisation", same
    return ("both" if other.max(initial=0.0) >= low else "background"), None


def error_counts(
    predictions: Sequence[Objects],
    truth: Sequence[Objects],
    high: float = 0.5,
    low: float = 0.1,
    score_threshold: float = 0.0,
) -> dict[str, int]:
    """How many detections of at least ``score_threshold`` are right or wrong, by kind; and missed.

    >>> one = Objects(np.float32([[0, 0, 4, 4]]), np.array([1]), None, np.array([0.9]))
    >>> other = Objects(np.float32([[0, 0, 4, 4]]), np.array([0]))
    >>> {name: n for name, n in error_counts([one], [other]).items() if n}
    {'classification': 1}
    """
    counts = dict.fromkeys((RIGHT, *ERRORS), 0)
    _checked(predictions, truth, high)
    for found, true in zip(predictions, truth, strict=True):
        assert found.scores is not None
        errors = image_errors(_rows(found, found.scores >= score_threshold), true, high, low)
        for kind in errors.kinds:
            if kind in counts:
                counts[kind] += 1
        counts["missed"] += len(errors.missed)
    return counts


def _rows(objects: Objects, rows: Any) -> Objects:
    scores = None if objects.scores is None else objects.scores[rows]
    ignored = None if objects.ignored is None else objects.ignored[rows]
    return Objects(objects.boxes[rows], objects.labels[rows], None, scores, None, ignored)


def error_gains(
    predictions: Sequence[Objects],
    truth: Sequence[Objects],
    num_classes: int,
    high: float = 0.5,
    low: float = 0.1,
) -> dict[str, float]:
    """By how much mean average precision at ``high`` rises if one kind of error is put right.

    A wrong class or box is corrected, unless that object is found already: then the detection goes,
    as those of the other kinds do.  Missed objects stop counting.  The gains do not add up.
    """
    pairs = list(zip(predictions, truth, strict=True))
    fates = [image_errors(found, true, high, low) for found, true in pairs]

    def score(found: Sequence[Objects], true: Sequence[Objects]) -> float:
        each = voc_class_ap(found, true, num_classes, iou=high)
        some = each[each > NOTHING]
        return float(some.mean()) if len(some) else 0.0

    base, gains = score(predictions, truth), {}
    for kind in ERRORS:
        found = [mended(f, t, e, kind) for (f, t), e in zip(pairs, fates, strict=True)]
        true = list(truth)
        if kind == "missed":
            true = [
                _rows(t, np.setdiff1d(np.arange(len(t.boxes)), e.missed))
                for t, e in zip(truth, fates, strict=True)
            ]
        gains[kind] = score(found, true) - base
    return gains


def mended(found: Objects, true: Objects, errors: ImageErrors, kind: str) -> Objects:
    """The detections of one image with one kind of error put right or taken away."""
    assert found.scores is not None
    boxes, labels = np.array(found.boxes), np.array(found.labels)
    kept = np.ones(len(boxes), np.bool_)
    taken = {p for p, k in zip(errors.partner.tolist(), errors.kinds, strict=True) if k == RIGHT}
    for row in np.argsort(-found.scores, kind="stable").tolist():
        if errors.kinds[row] != kind:
            continue
        partner = int(errors.partner[row])
        kept[row] = partner >= 0 and partner not in taken
        if kept[row]:
            boxes[row], labels[row] = true.boxes[partner], true.labels[partner]
            taken.add(partner)
    return _rows(Objects(boxes, labels, None, found.scores), kept)


def draw_errors(values: dict[str, float] | dict[str, int], ylabel: str = "detections") -> Any:
    """A bar for every kind of error; a matplotlib figure."""
    plt = require("matplotlib.pyplot", "vision")
    figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
    axis.bar(ERRORS, [values[name] for name in ERRORS])
    axis.set(ylabel=ylabel)
    axis.grid(axis="y", alpha=0.3)
    return figure
