"""Pascal VOC's average precision, and the curves that it summarises.

A detection is right if it overlaps a true box of its class by ``iou`` and no better one of that box
came before; the second of two on one object is wrong.  Detections on ``ignored`` objects (difficult
ones) count neither way, nor do these objects.

Letters: ``D`` detections of a class by descending score, ``K`` classes.

Source: Everingham et al., "The Pascal Visual Object Classes Challenge", 2010, section 4.2, and the
development kits of 2007 and 2010.  Difference: sides are ``x2 − x1``, not one pixel more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.errors import ArgumentError, ShapeError, require
from cnncore.geometry import as_int
from cnncore.vision.boxes import BoolArray, as_boxes, as_labels, as_vector, box_iou
from cnncore.vision.metrics import NOTHING, Objects

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PrecisionRecall:
    """After each detection of a class: the share found so far, and the share that is right."""

    recall: Floats  # (D,)
    precision: Floats  # (D,)
    scores: Floats  # (D,), descending
    objects: int  # true ones that count

    def average(self, eleven_points: bool = False) -> float:
        """Average precision: of VOC 2010 and later, or the 11 points of 2007; -1 without objects.

        2010: the area under the curve made monotone, ``p(r) = max of precision at recall >= r``.
        2007: the mean of ``p`` at recalls 0, 0.1 … 1.
        """
        if not self.objects:
            return NOTHING
        best = np.maximum.accumulate(self.precision[::-1])[::-1]  # of this recall or more
        if eleven_points:
            # Whole tenths: 0.1 · 3 is more than 3 of 10 found.
            found = np.rint(self.recall * self.objects).astype(np.int64)
            first = np.searchsorted(found * 10, np.arange(11) * self.objects)
            return float(np.append(best, 0.0)[first].mean())
        steps = np.diff(self.recall, prepend=0.0)
        return float((steps * best).sum())


def _checked(
    predictions: Sequence[Objects], truth: Sequence[Objects], iou: float
) -> list[tuple[Objects, Objects]]:
    if len(predictions) != len(truth):
        raise ArgumentError("predictions", f"one an image, {len(truth)}", len(predictions))
    if not 0 < iou <= 1:
        raise ArgumentError("iou", "a number above 0, at most 1", iou)
    pairs = []
    for image, (found, true) in enumerate(zip(predictions, truth, strict=True)):
        if found.scores is None:
            raise ArgumentError(f"predictions[{image}].scores", "one score a box", None)
        checked = []
        for name, objects in (("predictions", found), ("truth", true)):
            boxes = as_boxes(objects.boxes, f"{name}[{image}].boxes")
            labels = as_labels(objects.labels, len(boxes), f"{name}[{image}].labels")
            scores = objects.scores if name == "predictions" else np.zeros(len(boxes))
            values = as_vector(scores if scores is not None else [], len(boxes), f"{name}.scores")
            checked.append(Objects(boxes, labels, None, values, None, _ignored(objects, image)))
        pairs.append((checked[0], checked[1]))
    return pairs


def _ignored(objects: Objects, image: int) -> BoolArray:
    if objects.ignored is None:
        return np.zeros(len(objects.boxes), np.bool_)
    flags = np.asarray(objects.ignored, np.bool_)
    if flags.shape != (len(objects.boxes),):
        expected = f"one a box, {len(objects.boxes)}"
        raise ShapeError(f"truth[{image}].ignored", expected, flags.shape)
    return flags


def precision_recall(
    predictions: Sequence[Objects], truth: Sequence[Objects], label: int, iou: float = 0.5
) -> PrecisionRecall:
    """The curve of one class over a list of images; equal scores by image, then by position."""
    return _curve(_checked(predictions, truth, iou), label, iou)


def _curve(pairs: Sequence[tuple[Objects, Objects]], label: int, iou: float) -> PrecisionRecall:
    scores: list[float] = []
    fates: list[int] = []  # 1 right, 0 wrong, -1 on something ignored
    objects = 0
    for found, true in pairs:
        assert found.scores is not None
        assert true.ignored is not None
        mine, theirs = np.flatnonzero(found.labels == label), np.flatnonzero(true.labels == label)
        skipped = true.ignored[theirs]
        objects += int((~skipped).sum())
        overlap = box_iou(found.boxes[mine], true.boxes[theirs])
        taken = np.zeros(len(theirs), np.bool_)
        for row in np.argsort(-found.scores[mine], kind="stable").tolist():
            best = int(overlap[row].argmax()) if len(theirs) else -1
            hit = best >= 0 and overlap[row, best] >= iou
            fate = -1 if hit and skipped[best] else int(hit and not taken[best])
            if fate == 1:
                taken[best] = True
            scores.append(float(found.scores[mine[row]]))
            fates.append(fate)
    order = np.argsort(-np.array(scores), kind="stable")
    ordered = np.array(fates, np.int64)[order]
    order, ordered = order[ordered >= 0], ordered[ordered >= 0]
    right = ordered.cumsum()
    return PrecisionRecall(
        right / max(1, objects),
        right / np.arange(1, len(ordered) + 1),
        np.array(scores, np.float64)[order],
        objects,
    )


def voc_class_ap(
    predictions: Sequence[Objects],
    truth: Sequence[Objects],
    num_classes: int,
    eleven_points: bool = False,
    iou: float = 0.5,
) -> Floats:
    """Average precision of each class ``(K,)``; -1 for a class without true objects."""
    pairs = _checked(predictions, truth, iou)
    labels = range(as_int("num_classes", num_classes, 1))
    return np.array([_curve(pairs, label, iou).average(eleven_points) for label in labels])


def voc_metrics(
    predictions: Sequence[Objects], truth: Sequence[Objects], num_classes: int, iou: float = 0.5
) -> dict[str, float]:
    """``mAP 2007`` (11 points) and ``mAP 2010``: means over the classes that have objects."""
    scores = {}
    for name, eleven in (("mAP 2007", True), ("mAP 2010", False)):
        each = voc_class_ap(predictions, truth, num_classes, eleven, iou)
        some = each[each > NOTHING]
        scores[name] = float(some.mean()) if len(some) else NOTHING
    return scores


def draw_precision_recall(curves: Mapping[str, PrecisionRecall]) -> Any:
    """Precision over recall, one line a class, with its average precision; a matplotlib figure."""
    plt = require("matplotlib.pyplot", "vision")
    figure, axis = plt.subplots(figsize=(6, 5), layout="constrained")
    for name, curve in curves.items():
        recall = np.concatenate([[0.0], curve.recall])
        precision = np.concatenate([curve.precision[:1], curve.precision])
        if len(curve.precision):
            axis.plot(recall, precision, label=f"{name}  {curve.average():.3f}")
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend(fontsize="small", title="average precision")
    return figure
