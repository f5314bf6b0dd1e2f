"""Scores of label maps: everything from one matrix of pixel counts, and from boundaries.

Counts are 64-bit integers and add up over batches; scores are taken at the end.  A class that
occurs neither in the truth nor in the prediction has no score (``NOTHING``) and joins no mean.

Letters: ``K`` classes.

Source: the names and means follow Long, Shelhamer & Darrell, "Fully convolutional networks", 2015,
section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnncore.errors import ArgumentError, DTypeError, ShapeError, require
from cnncore.geometry import as_int
from cnncore.vision.metrics import NOTHING

IntArray = NDArray[np.int64]
Scores = NDArray[np.float64]


def confusion_matrix(
    truth: ArrayLike, prediction: ArrayLike, num_classes: int, ignore_index: int | None = None
) -> IntArray:
    """Pixel counts ``(K, K)`` int64: row is the true class, column the predicted one.

    Arrays of one shape of integers ``0..K-1``.  Pixels whose truth is ``ignore_index`` do not
    count.  Matrices of several batches add up.

    >>> confusion_matrix([0, 0, 1, 1], [0, 1, 1, 1], 2).tolist()
    [[1, 1], [0, 2]]
    """
    classes = as_int("num_classes", num_classes, 1)
    true, found = np.asarray(truth), np.asarray(prediction)
    if true.shape != found.shape:
        raise ShapeError("prediction", f"the shape of truth, {true.shape}", found.shape)
    counted = np.ones(true.shape, np.bool_) if ignore_index is None else true != ignore_index
    for argument, values in (("truth", true), ("prediction", found)):
        if values.size and values.dtype.kind not in "iu":
            raise DTypeError(argument, "integers", f"dtype {values.dtype}", "scores.argmax(1)")
        used = values[counted]
        if used.size and (used.min() < 0 or used.max() >= classes):
            got = f"{used.min()}..{used.max()}"
            raise ArgumentError(argument, f"classes 0..{classes - 1}", got, "num_classes larger")
    pairs = true[counted].astype(np.int64) * classes + found[counted].astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def class_iou(confusion: ArrayLike) -> Scores:
    """``TP / (TP + FP + FN)`` of each class ``(K,)``; ``NOTHING`` if it occurs in neither.

    >>> class_iou([[1, 1, 0], [0, 2, 0], [0, 0, 0]]).round(2).tolist()
    [0.5, 0.67, -1.0]
    """
    counts = _as_confusion(confusion)
    hits = np.diagonal(counts)
    union = counts.sum(0) + counts.sum(1) - hits
    return np.where(union > 0, hits / np.maximum(union, 1), NOTHING)


def class_dice(confusion: ArrayLike) -> Scores:
    """``2·TP / (2·TP + FP + FN)`` of each class ``(K,)``, which is its F1; ``NOTHING`` as above.

    >>> class_dice([[1, 1], [0, 2]]).round(2).tolist()
    [0.67, 0.8]
    """
    counts = _as_confusion(confusion)
    both = counts.sum(0) + counts.sum(1)
    return np.where(both > 0, 2 * np.diagonal(counts) / np.maximum(both, 1), NOTHING)


def class_accuracy(confusion: ArrayLike) -> Scores:
    """``TP / (TP + FN)`` of each class ``(K,)``: the share of its pixels found.

    ``NOTHING`` for a class without pixels in the truth.

    >>> class_accuracy([[1, 1], [0, 2]]).tolist()
    [0.5, 1.0]
    """
    counts = _as_confusion(confusion)
    truth = counts.sum(1)
    return np.where(truth > 0, np.diagonal(counts) / np.maximum(truth, 1), NOTHING)


def mean_accuracy(confusion: ArrayLike) -> float:
    """The mean of ``class_accuracy`` over the classes that the truth has.

    >>> mean_accuracy([[1, 1], [0, 2]])
    0.75
    """
    return _mean_of_known(class_accuracy(confusion))


def mean_dice(confusion: ArrayLike) -> float:
    """The mean of ``class_dice`` over the classes that occur.

    >>> round(mean_dice([[1, 1], [0, 2]]), 3)
    0.733
    """
    return _mean_of_known(class_dice(confusion))


def frequency_weighted_iou(confusion: ArrayLike) -> float:
    """The mean of ``class_iou``, weighted by how many pixels of each class the truth has.

    >>> round(frequency_weighted_iou([[1, 1], [0, 2]]), 3)
    0.583
    """
    counts = _as_confusion(confusion)
    share = counts.sum(1)
    if share.sum() == 0:
        return NOTHING
    return float((share * np.maximum(class_iou(counts), 0.0)).sum() / share.sum())


def mean_iou(confusion: ArrayLike) -> float:
    """The mean of ``class_iou`` over the classes that occur; ``NOTHING`` if none does.

    >>> mean_iou([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
    0.5
    """
    return _mean_of_known(class_iou(confusion))


def pixel_accuracy(confusion: ArrayLike) -> float:
    """The share of pixels labelled right; ``NOTHING`` if there are none.

    >>> pixel_accuracy([[1, 1], [0, 2]])
    0.75
    """
    counts = _as_confusion(confusion)
    return float(np.trace(counts) / counts.sum()) if counts.sum() else NOTHING


def _as_confusion(confusion: ArrayLike) -> IntArray:
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ShapeError("confusion", "shape (K, K)", f"shape {counts.shape}")
    if counts.size and (counts.dtype.kind not in "iu" or counts.min() < 0):
        raise DTypeError("confusion", "counts >= 0 of an integer type", f"dtype {counts.dtype}")
    return counts.astype(np.int64, copy=False)


def _mean_of_known(values: Scores) -> float:
    known = values[values >= 0]
    return float(known.mean()) if len(known) else NOTHING


# --- boundaries -----------------------------------------------------------------------------------


def boundary(labels: ArrayLike, label: int) -> NDArray[np.bool_]:
    """Pixels of ``label`` that touch (side by side) a pixel of another label or the map's edge.

    >>> boundary([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]], 1).astype(int).tolist()
    [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0]]
    """
    inside = np.pad(np.asarray(labels) == label, 1)
    core = inside[1:-1, 1:-1]
    surrounded = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:] & core
    edge: NDArray[np.bool_] = core & ~surrounded
    return edge


def boundary_f1(
    truth: Sequence[ArrayLike],
    prediction: Sequence[ArrayLike],
    num_classes: int,
    tolerance: float = 2.0,
    ignore_index: int | None = None,
) -> Scores:
    """How well boundaries are met: the F1 of each class ``(K,)``, the mean over its images.

    ``truth``, ``prediction``: label maps ``(H, W)``, one an image.  A boundary pixel is right when
    the other map has one of its class within ``tolerance`` pixels (Euclidean distance between
    centres); precision is the share of right ones in the prediction, recall in the truth.  An image
    without a class in either map does not count for it; ``NOTHING`` where no image counts.  Within
    ``tolerance`` of pixels whose truth is ``ignore_index`` no boundary counts: where it runs is
    unknown there.  (Maps whose every boundary is left unknown, as VOC's, therefore have no score.)

    >>> a = [[0, 0, 1], [0, 0, 1], [0, 0, 1]]
    >>> boundary_f1([a], [a], 3).tolist()
    [1.0, 1.0, -1.0]

    Source: Csurka, Larlus & Perronnin, "What is a good evaluation measure for semantic
    segmentation?", 2013, section 2.3.
    """
    classes = as_int("num_classes", num_classes, 1)
    if not tolerance >= 0:
        raise ArgumentError("tolerance", "pixels >= 0", tolerance)
    if len(truth) != len(prediction):
        raise ArgumentError("prediction", f"one an image, {len(truth)}", len(prediction))
    scores: list[list[float]] = [[] for _ in range(classes)]
    for image, (a, b) in enumerate(zip(truth, prediction, strict=True)):
        true, found = np.asarray(a), np.asarray(b)
        if true.ndim != 2 or true.shape != found.shape:
            raise ShapeError(f"prediction[{image}]", f"(H, W) = {true.shape}", found.shape)
        known = _known(true, ignore_index, tolerance)
        for k in range(classes):
            edges = boundary(true, k), boundary(found, k)
            if (edges[0] & known).any() or (edges[1] & known).any():
                scores[k].append(_meeting(*edges, tolerance, known))
    return np.array([np.mean(s) if s else NOTHING for s in scores])


def _known(truth: Any, ignore_index: int | None, tolerance: float) -> NDArray[np.bool_]:
    """Pixels farther than ``tolerance`` from any that is ignored."""
    ignored = np.zeros(truth.shape, np.bool_) if ignore_index is None else truth == ignore_index
    if not ignored.any():
        return ~ignored
    distance = require("scipy.ndimage", "vision").distance_transform_edt(~ignored)
    far: NDArray[np.bool_] = distance > tolerance
    return far


def _meeting(
    a: NDArray[np.bool_], b: NDArray[np.bool_], tolerance: float, known: NDArray[np.bool_]
) -> float:
    """F1 of two sets of pixels, of which only those in ``known`` count."""
    if not (a.any() and b.any()):
        return 0.0
    distance = require("scipy.ndimage", "vision").distance_transform_edt
    near_b, near_a = distance(~b)[a & known], distance(~a)[b & known]
    hits = (near_b <= tolerance).sum(), (near_a <= tolerance).sum()
    recall, precision = hits[0] / max(len(near_b), 1), hits[1] / max(len(near_a), 1)
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def median_frequency_weights(maps: Sequence[ArrayLike], num_classes: int) -> Scores:
    """Median-frequency weights ``(K,)``: median over classes of ``f`` by each class's own ``f``.

    ``f`` is the class's pixels over all pixels of the images it occurs in.  A class that occurs
    nowhere has weight 0 and joins no median.  For ``ops.cross_entropy(…, weight=…)``.

    >>> median_frequency_weights([[[0, 0, 0, 1]]], 3).round(2).tolist()
    [0.67, 2.0, 0.0]

    Source: Eigen & Fergus, "Predicting depth, surface normals and semantic labels", 2015, section
    6.3.2.
    """
    classes = as_int("num_classes", num_classes, 1)
    pixels = np.zeros(classes, np.int64)
    room = np.zeros(classes, np.int64)
    for labels in map(np.asarray, maps):
        counts = np.bincount(labels[(labels >= 0) & (labels < classes)], minlength=classes)
        pixels += counts
        room += np.where(counts > 0, labels.size, 0)
    frequency = pixels / np.maximum(room, 1)
    known = frequency[pixels > 0]
    if not len(known):
        return np.zeros(classes)
    return np.where(pixels > 0, np.median(known) / np.maximum(frequency, 1e-300), 0.0)
