"""Scores: COCO's average precision of boxes and masks, and mean IoU of label maps.

A score of ``NOTHING`` (-1, COCO's own mark) says that there was nothing to measure.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.errors import ArgumentError, ShapeError, require
from cnncore.geometry import as_int
from cnncore.vision.boxes import BoolArray, FloatArray, IntArray, as_boxes, as_labels, as_vector
from cnncore.vision.keypoints import as_keypoints
from cnncore.vision.masks import as_masks, encode_rle

NOTHING = -1.0
COCO_NAMES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
)
KEYPOINT_NAMES = (
    *("AP", "AP50", "AP75", "AP_medium", "AP_large"),
    *("AR", "AR50", "AR75", "AR_medium", "AR_large"),
)
# How far annotators were apart on COCO's joints, in parts of an object's side: nose, eyes, ears,
# shoulders, elbows, wrists, hips, knees, ankles.
COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062),
    *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)


@dataclass(frozen=True)
class Objects:
    """The objects of one image, true (without scores) or predicted (with)."""

    boxes: FloatArray  # (R, 4)
    labels: IntArray  # (R,), 0 for the first real class
    masks: BoolArray | None = None  # (R, H, W), for mask scores
    scores: FloatArray | None = None  # (R,), for predictions
    keypoints: FloatArray | None = None  # (R, J, 3): x, y, visibility or score
    ignored: BoolArray | None = None  # (R,), true objects that count neither way (crowds)


AREAS = (32.0**2, 96.0**2)  # pixels: what is small ends, what is large begins


def coco_metrics(
    predictions: Sequence[Objects],
    truth: Sequence[Objects],
    kind: str = "boxes",
    areas: tuple[float, float] = AREAS,
) -> dict[str, float]:
    """COCO's twelve numbers over a list of images, by name (``COCO_NAMES``), each in ``0..1``.

    ``AP`` is the mean over IoU 0.50, 0.55 … 0.95 and over classes, ``AP50`` at 0.50 only; small is
    up to ``areas[0]`` pixels (of the box, or of the mask), large from ``areas[1]``.  ``kind`` is
    ``"boxes"`` or ``"masks"``.  Computed by ``pycocotools``; needs the extra ``vision``.  Images
    without objects count: a prediction there is a false positive.  A prediction that lies on an
    ``ignored`` true object (by the share of its own area) counts neither way.
    Source: Lin et al., "Microsoft COCO", 2014, and its evaluation code.
    """
    small, large = map(float, areas)
    if not 0 < small <= large < np.inf:
        raise ArgumentError("areas", "0 < small <= large, in pixels", areas)
    evaluation = _evaluate(predictions, truth, kind, areas=(small, large))
    if evaluation is None:
        return dict.fromkeys(COCO_NAMES, NOTHING)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    return dict(zip(COCO_NAMES, map(float, evaluation.stats), strict=True))


def coco_class_ap(
    predictions: Sequence[Objects],
    truth: Sequence[Objects],
    num_classes: int,
    kind: str = "boxes",
    iou: float | None = None,
) -> NDArray[np.float64]:
    """``AP`` of each class ``(K,)``, at one of COCO's IoU thresholds or averaged over them."""
    result = np.full(as_int("num_classes", num_classes, 1), NOTHING)
    evaluation = _evaluate(predictions, truth, kind)
    if evaluation is None:
        return result
    # precision: (IoU thresholds, recalls, classes, areas: all first, most detections: 100 last)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    if iou is not None:
        chosen = np.isclose(evaluation.params.iouThrs, iou)
        if not chosen.any():
            raise ArgumentError("iou", "one of 0.50, 0.55 … 0.95", iou)
        precision = precision[chosen]
    for position, category in enumerate(evaluation.params.catIds):
        values = precision[:, :, position]
        if category > num_classes:
            raise ArgumentError("num_classes", f"at least {category}", num_classes)
        if (values > -1).any():
            result[category - 1] = values[values > -1].mean()
    return result


def coco_keypoint_metrics(
    predictions: Sequence[Objects],
    truth: Sequence[Objects],
    sigmas: Sequence[float] = COCO_SIGMAS,
) -> dict[str, float]:
    """COCO's ten numbers for keypoints, by name (``KEYPOINT_NAMES``), each in ``0..1``.

    Instead of IoU: the mean over labelled joints of ``exp(−d² / (2 s² (2 σ)²))``, ``d`` the
    distance, ``s²`` the object's area (of its mask, if there is one, else of its box), ``sigmas``
    one a joint.  Medium is from 32² to 96² pixels, large above; 20 detections an image count.
    Objects without labelled joints count neither way.  Computed by ``pycocotools``.
    Source: COCO's keypoint evaluation, and its evaluation code.
    """
    values = np.asarray(sigmas, np.float64)
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values > 0)).all():
        raise ArgumentError("sigmas", "a number > 0 for each joint", sigmas)
    evaluation = _evaluate(predictions, truth, "keypoints", values)
    if evaluation is None:
        return dict.fromkeys(KEYPOINT_NAMES, NOTHING)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    return dict(zip(KEYPOINT_NAMES, map(float, evaluation.stats), strict=True))


def _evaluate(
    predictions: Sequence[Objects],
    truth: Sequence[Objects],
    kind: str,
    sigmas: NDArray[np.float64] | None = None,
    areas: tuple[float, float] = AREAS,
) -> Any:
    """An accumulated COCOeval, or None where there is no true object at all."""
    if sigmas is None and kind not in ("boxes", "masks"):
        raise ArgumentError("kind", '"boxes" or "masks"', repr(kind))
    if len(predictions) != len(truth):
        raise ArgumentError("predictions", f"one an image, {len(truth)}", len(predictions))
    if kind == "masks":
        _check_sizes(predictions, truth)
    joints = 0 if sigmas is None else len(sigmas)
    true_records = _records(truth, "truth", kind, scored=False, joints=joints)
    found_records = _records(predictions, "predictions", kind, scored=True, joints=joints)
    if not true_records:
        return None
    classes = sorted({record["category_id"] for record in true_records + found_records})
    coco, cocoeval = (
        require("pycocotools.coco", "vision"),
        require("pycocotools.cocoeval", "vision"),
    )
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports progress by print
        databases = []
        for records in (true_records, found_records):
            database = coco.COCO()
            database.dataset = {
                # Sizes are looked up but not used: run lengths carry their own.
                "images": [{"id": i, "height": 0, "width": 0} for i in range(len(truth))],
                "categories": [{"id": category} for category in classes],
                "annotations": records,
            }
            database.createIndex()
            databases.append(database)
        name = {"boxes": "bbox", "masks": "segm"}.get(kind, kind)
        evaluation = cocoeval.COCOeval(*databases, name)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = sigmas
        else:
            most = evaluation.params.areaRng[0][1]
            evaluation.params.areaRng = [[0, most], [0, areas[0]], areas, [areas[1], most]]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _check_sizes(predictions: Sequence[Objects], truth: Sequence[Objects]) -> None:
    """Masks of one image must have one size, or overlaps mean nothing."""
    for image, (found, true) in enumerate(zip(predictions, truth, strict=True)):
        if found.masks is None or true.masks is None:
            continue  # named in ``_records``
        sizes = found.masks.shape[1:], true.masks.shape[1:]
        if len(found.masks) and len(true.masks) and sizes[0] != sizes[1]:
            name = f"predictions[{image}].masks"
            raise ShapeError(name, f"the size of the true masks, {sizes[1]}", sizes[0])


def _records(
    images: Sequence[Objects], argument: str, kind: str, scored: bool, joints: int = 0
) -> list[dict[str, Any]]:
    """COCO annotation dicts; class ids are shifted by one, since COCO counts ids from 1."""
    records: list[dict[str, Any]] = []
    for image, objects in enumerate(images):
        name = f"{argument}[{image}]"
        boxes = as_boxes(objects.boxes, f"{name}.boxes").astype(np.float64)
        labels = as_labels(objects.labels, len(boxes), f"{name}.labels")
        if len(labels) and labels.min() < 0:
            raise ArgumentError(f"{name}.labels", "0 for the first real class", int(labels.min()))
        corners, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        areas = sides.prod(1)
        fields: dict[str, Sequence[Any]] = {
            "category_id": (labels + 1).tolist(),
            "bbox": np.concatenate([corners, sides], 1).tolist(),
        }
        if kind == "masks":
            if objects.masks is None:
                raise ArgumentError(f"{name}.masks", "masks (R, H, W)", None, 'kind="boxes"')
            masks = as_masks(objects.masks, f"{name}.masks")
            if len(masks) != len(boxes):
                raise ShapeError(f"{name}.masks", f"one a box, {len(boxes)}", len(masks))
            fields["segmentation"] = encode_rle(masks)
            areas = masks.sum((1, 2))
        if joints:
            if objects.keypoints is None:
                raise ArgumentError(f"{name}.keypoints", f"keypoints (R, {joints}, 3)", None)
            points = as_keypoints(objects.keypoints, len(boxes), joints, f"{name}.keypoints")
            fields["keypoints"] = points.reshape(len(boxes), joints * 3).tolist()
            fields["num_keypoints"] = (points[..., 2] > 0).sum(1).tolist()
            if objects.masks is not None:
                areas = as_masks(objects.masks, f"{name}.masks").sum((1, 2))
        fields["area"] = areas.tolist()
        if scored:
            if objects.scores is None:
                raise ArgumentError(f"{name}.scores", "one score a box", None)
            scores = as_vector(objects.scores, len(boxes), f"{name}.scores")
            fields["score"] = scores.astype(np.float64).tolist()
        fields["iscrowd"] = [0] * len(boxes)
        if objects.ignored is not None and not scored:
            flags = np.asarray(objects.ignored, np.bool_)
            if flags.shape != (len(boxes),):
                raise ShapeError(f"{name}.ignored", f"one a box, {len(boxes)}", flags.shape)
            fields["iscrowd"] = flags.astype(int).tolist()
        for values in zip(*fields.values(), strict=True):
            record = dict(zip(fields, values, strict=True), image_id=image, id=len(records) + 1)
            records.append(record)
    return records
