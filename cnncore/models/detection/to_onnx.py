"""A whole Mask R-CNN as ONNX: image in, boxes, labels, scores and masks out.

The networks (backbone with proposal network, box head, mask head) are traced like any other.
Between them stands what depends on values, and is said here in ONNX's words: the best anchors,
their boxes, suppression, the level of each region, RoI Align.  The same steps in Python, in this
order: ``vision.select_proposals``, ``RegionPool``, ``vision.select_detections``, ``RegionPool``.

Letters: ``R`` regions, ``K`` classes, ``Q`` pairs of region and class, ``M`` side of a mask.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnncore import ops
from cnncore.autograd import Tensor, no_grad
from cnncore.errors import ArgumentError, ShapeError
from cnncore.inference.trace import other_numbers, trace
from cnncore.io import atomic_write
from cnncore.models.detection.mask_rcnn import MaskRcnn
from cnncore.nn import Module
from cnncore.onnx.exporter.assembly import assemble, name_results, write_plan
from cnncore.onnx.exporter.builder import Builder, ExportError
from cnncore.onnx.model import OnnxModel, load
from cnncore.vision import DeltaCoder, paste_masks

Array = Any

OUTPUTS = ("boxes", "labels", "scores", "masks")
EXAMPLES = 3  # regions that the heads are traced with
NOTHING = -1e38  # a score below all others


def export_detector(model: MaskRcnn, example_input: Any, path: str | os.PathLike[str]) -> None:
    """Write a Mask R-CNN, in evaluation mode, as an ONNX file that detects.

    ``example_input``: one image ``(1, 3, H, W)`` as the model is called with; the file takes images
    of this size.  Its outputs, by descending score: ``boxes (R, 4)`` in pixels, ``labels (R,)``
    (0 for the first real class), ``scores (R,)``, ``masks (R, M, M)`` probabilities in the boxes,
    which ``vision.paste_masks`` puts into the image.  Thresholds are those of the model's settings.

    ``cnncore.onnx.export`` writes the same model's raw outputs, for any number of images.

    Errors: ``ExportError`` if the file, read back and run on another image, detects something else;
    ``ArgumentError`` for a model in training mode.
    """
    proto = detector_to_proto(model, example_input)
    with atomic_write(path) as file:
        file.write(proto.SerializeToString())


def detector_to_proto(model: MaskRcnn, example_input: Any) -> Any:
    """What ``export_detector`` writes, as an ``onnx.ModelProto``."""
    if not isinstance(model, MaskRcnn):
        raise ArgumentError("model", "a Mask R-CNN", type(model).__name__, "export(...)")
    if any(module.training for module in model.modules()):
        raise ArgumentError("model", "a model in evaluation mode", "training", "model.eval()")
    x = example_input.numpy() if isinstance(example_input, Tensor) else np.asarray(example_input)
    if x.ndim != 4 or x.shape[:2] != (1, 3):
        raise ShapeError("example_input", "shape (1, 3, H, W)", x.shape)
    proto = _Writer(model, x).proto()
    difference = _difference(model, load(proto), other_numbers([x])[0])
    if difference:
        raise ExportError(f"the file does not detect what the model detects: {difference}")
    return proto


class _Called(Module):
    """Some modules of a model as a network of its own, to be traced."""

    def __init__(self, call: Callable[[Tensor], Any]) -> None:
        self.call = call
        self.training = False

    def forward(self, x: Tensor) -> Any:
        return self.call(x)


class _Writer:
    """Emits the steps of a detector, each a method from names to names."""

    def __init__(self, model: MaskRcnn, x: Array) -> None:
        self.model, self.x, self.b = model, x, Builder(model)
        self.dtype = x.dtype
        with no_grad():
            self.example = model(x)

    def proto(self) -> Any:
        b = self.b
        plan = trace(self.model, [self.x])
        *features, objectness, deltas = write_plan(b, plan, [b.free_name("input")])
        b.layer = "proposals"
        proposals = self.proposals(objectness, deltas)
        levels = self.model.settings.roi.levels
        features = features[: levels.highest - levels.lowest + 1]
        b.layer = "detections"
        boxes, labels, scores = self.detections(features, proposals)
        b.layer = "masks"
        masks = self.masks(features, boxes, labels)
        b.layer = ""
        name_results(b, [boxes, labels, scores, masks], OUTPUTS)
        side = 2 * self.model.settings.roi.mask_size
        return assemble(
            b,
            {"input": (self.dtype, self.x.shape)},
            {
                "boxes": (self.dtype, ("R", 4)),
                "labels": (np.int64, ("R",)),
                "scores": (self.dtype, ("R",)),
                "masks": (self.dtype, ("R", side, side)),
            },
        )

    # --- small steps ------------------------------------------------------------------------------

    def number(self, value: Any) -> str:
        return self.b.weight(np.asarray(value, self.dtype))

    def columns(self, x: str, start: int, stop: int, axis: int = 1) -> str:
        return self.b.node("Slice", x, *(self.b.ints(i) for i in (start, stop, axis)))

    def where(self, mask: str) -> str:
        """The places of a mask ``(R,)`` that are true, ascending."""
        return self.b.node("Squeeze", self.b.node("NonZero", mask), self.b.ints(0))

    def best(self, values: str, most: int, largest: int = 1) -> list[str]:
        """The ``most`` largest (or smallest) values, all if there are fewer, and their places."""
        count = self.b.node("Min", self.b.node("Shape", values), self.b.ints(most))
        return self.b.results("TopK", 2, values, count, axis=0, largest=largest)

    def sorted_up(self, values: str) -> list[str]:
        return self.best(values, 2**31 - 1, largest=0)

    def boxes_of(self, deltas: str, references: str, coder: DeltaCoder) -> str:
        """``DeltaCoder.decode`` of ``(R, 4)`` and ``(R, 4)``, cut at the image's edge."""
        b = self.b
        low, high = self.columns(references, 0, 2), self.columns(references, 2, 4)
        size, half = b.node("Sub", high, low), self.number(0.5)
        scaled = b.node("Div", deltas, self.number(coder.weights))
        shift = b.node("Mul", self.columns(scaled, 0, 2), size)
        centre = b.node("Add", b.node("Add", low, b.node("Mul", size, half)), shift)
        logarithm = b.node("Min", self.columns(scaled, 2, 4), self.number(coder.max_log_scale))
        extent = b.node("Mul", b.node("Mul", size, b.node("Exp", logarithm)), half)
        corners = [b.node(sign, centre, extent) for sign in ("Sub", "Add")]
        height, width = self.x.shape[2:]
        inside = b.node("Max", b.node("Concat", *corners, axis=1), self.number(0))
        return b.node("Min", inside, self.number((width, height, width, height)))

    def large(self, boxes: str, least: float) -> str:
        """The places of the boxes with both sides of at least so many pixels."""
        b = self.b
        sides = b.node("Sub", self.columns(boxes, 2, 4), self.columns(boxes, 0, 2))
        shorter = b.node("ReduceMin", sides, b.ints(1), keepdims=0)
        return self.where(b.node("GreaterOrEqual", shorter, self.number(least)))

    def suppressed(
        self, boxes: str, scores: str, groups: str, count: int, threshold: float, most: int
    ) -> str:
        """``vision.batched_nms``: the places kept, by descending score."""
        b = self.b
        numbers = b.weight(np.arange(count, dtype=np.int64)[:, None])
        own = b.node("Equal", numbers, b.node("Unsqueeze", groups, b.ints(0)))  # (groups, R)
        single = self.float32(scores)
        apart = b.node("Where", own, single, b.scalar(NOTHING, np.float32))
        chosen = b.node(
            "NonMaxSuppression",
            *(b.node("Unsqueeze", x, b.ints(0)) for x in (self.float32(boxes), apart)),
            b.node("Shape", scores),
            b.weight(np.array([threshold], np.float32)),
            b.weight(np.array([NOTHING / 2], np.float32)),
        )
        places = b.node("Squeeze", self.columns(chosen, 2, 3), b.ints(1))
        places = self.sorted_up(places)[0]
        order = self.best(b.node("Gather", scores, places), most)[1]
        return b.node("Gather", places, order)

    def float32(self, x: str) -> str:
        """ONNX suppresses in float32 only."""
        if self.dtype == np.float32:
            return x
        return self.b.node("Cast", x, to=self.b.onnx.TensorProto.FLOAT)

    # --- proposals --------------------------------------------------------------------------------

    def proposals(self, objectness: str, deltas: str) -> str:
        """``(R, 4)``"""
        b, settings = self.b, self.model.settings.rpn.test
        objectness, deltas = (b.node("Squeeze", x, b.ints(0)) for x in (objectness, deltas))
        anchors = self.example.rpn.anchors
        ends = np.cumsum([len(a) for a in anchors]).tolist()
        scores, places = [], []
        for end, level in zip(ends, anchors, strict=True):
            start = end - len(level)
            values, order = self.best(self.columns(objectness, start, end, 0), settings.pre_nms)
            scores.append(values)
            places.append(b.node("Add", order, b.ints(start)))
        counts = [min(len(level), settings.pre_nms) for level in anchors]
        level_of = b.weight(np.repeat(np.arange(len(anchors)), counts))
        place, score = (b.node("Concat", *x, axis=0) for x in (places, scores))
        every = self.number(np.concatenate(anchors))
        boxes = self.boxes_of(
            b.node("Gather", deltas, place), b.node("Gather", every, place), settings.coder
        )
        large = self.large(boxes, settings.min_size)
        boxes, score, level_of = (b.node("Gather", x, large) for x in (boxes, score, level_of))
        limits = settings.nms_threshold, settings.post_nms
        return b.node(
            "Gather", boxes, self.suppressed(boxes, score, level_of, len(anchors), *limits)
        )

    # --- regions ----------------------------------------------------------------------------------

    def pooled(self, features: Sequence[str], boxes: str, size: int) -> str:
        """RoI Align of every region from its own level, in the order of the boxes.

        One region is added at the end, which ``head`` drops: not every runtime can run a network on
        none (ONNX Runtime 1.31 cannot normalise groups of nothing).
        """
        b, settings = self.b, self.model.settings.roi
        boxes = b.node("Concat", boxes, self.number([[0, 0, 1, 1]]), axis=0)
        level = self.levels(boxes)
        parts, places = [], []
        for number, x in enumerate(features):
            rows = self.where(b.node("Equal", level, b.ints(number)))
            mine = b.node("Gather", boxes, rows)
            image = b.node("Mul", rows, b.ints(0))  # all of the first
            parts.append(
                b.node(
                    "RoiAlign",
                    *(x, mine, image),
                    output_height=size,
                    output_width=size,
                    spatial_scale=1.0 / 2 ** (settings.levels.lowest + number),
                    sampling_ratio=max(settings.sampling_ratio, 0),
                    coordinate_transformation_mode=(
                        "half_pixel" if settings.aligned else "output_half_pixel"
                    ),
                )
            )
            places.append(rows)
        grouped, order = (b.node("Concat", *x, axis=0) for x in (parts, places))
        return b.node("Gather", grouped, self.sorted_up(order)[1])

    def levels(self, boxes: str) -> str:
        """``LevelRule.assign``, in float64 as there."""
        b, rule = self.b, self.model.settings.roi.levels
        double = b.node("Cast", boxes, to=b.onnx.TensorProto.DOUBLE)
        sides = b.node("Sub", self.columns(double, 2, 4), self.columns(double, 0, 2))
        area = b.node("ReduceProd", sides, b.ints(1), keepdims=0)

        def number(value: float) -> str:
            return b.scalar(value, np.float64)

        side = b.node("Div", b.node("Sqrt", area), number(rule.canonical_size))
        natural = b.node("Log", b.node("Max", side, number(2.0**-60)))
        octaves = b.node("Div", natural, number(math.log(2.0)))
        level = b.node("Floor", b.node("Add", octaves, number(rule.canonical_level + 1e-6)))
        cut = b.node("Clip", level, number(rule.lowest), number(rule.highest))
        return b.node("Cast", b.node("Sub", cut, number(rule.lowest)), to=b.onnx.TensorProto.INT64)

    def head(self, pooled: str, call: Callable[[Tensor], Any], size: int) -> list[str]:
        """A head traced on a few regions; it works for any number."""
        channels = self.example.features[0].shape[1]
        example = np.random.default_rng(0).normal(size=(EXAMPLES, channels, size, size))
        plan = trace(_Called(call), [example.astype(self.dtype)])
        return [self.columns(y, 0, -1, 0) for y in write_plan(self.b, plan, [pooled])]

    def detections(self, features: Sequence[str], proposals: str) -> tuple[str, str, str]:
        """Boxes ``(R, 4)``, labels and scores ``(R,)``."""
        b, heads, settings = self.b, self.model.roi_heads, self.model.settings.roi

        def call(x: Tensor) -> Any:
            logits, deltas = heads.box_predictor(heads.box_head(x))
            return ops.softmax(logits, 1)[:, 1:], deltas[:, 1:]

        pooled = self.pooled(features, proposals, settings.box_size)
        chances, deltas = self.head(pooled, call, settings.box_size)
        b.layer = "detections"
        rule = settings.detections
        likely = b.node("Greater", chances, self.number(rule.score_threshold))
        pairs = b.node("Transpose", b.node("NonZero", likely), perm=[1, 0])  # (Q, 2)
        region, label = (
            b.node("Squeeze", self.columns(pairs, i, i + 1), b.ints(1)) for i in (0, 1)
        )
        boxes = self.boxes_of(
            b.node("GatherND", deltas, pairs), b.node("Gather", proposals, region), rule.coder
        )
        scores = b.node("GatherND", chances, pairs)
        large = self.large(boxes, rule.min_size)
        boxes, scores, label = (b.node("Gather", x, large) for x in (boxes, scores, label))
        agnostic = rule.class_agnostic
        groups = b.node("Mul", label, b.ints(0)) if agnostic else label
        count = 1 if agnostic else self.model.num_classes
        limits = rule.nms_threshold, rule.max_detections
        kept = self.suppressed(boxes, scores, groups, count, *limits)
        boxes, label, scores = (b.node("Gather", x, kept) for x in (boxes, label, scores))
        return boxes, label, scores

    def masks(self, features: Sequence[str], boxes: str, labels: str) -> str:
        """``(R, M, M)`` probabilities, each of its region's class."""
        b, heads = self.b, self.model.roi_heads
        size = self.model.settings.roi.mask_size

        def call(x: Tensor) -> Any:
            return ops.sigmoid(heads.mask_predictor(heads.mask_head(x)))

        (every,) = self.head(self.pooled(features, boxes, size), call, size)
        b.layer = "masks"
        row = b.node("Range", b.scalar(0, np.int64), self.length(labels), b.scalar(1, np.int64))
        index = [b.node("Unsqueeze", x, b.ints(1)) for x in (row, b.node("Add", labels, b.ints(1)))]
        return b.node("GatherND", every, b.node("Concat", *index, axis=1))

    def length(self, x: str) -> str:
        return self.b.node("Squeeze", self.b.node("Shape", x, end=1))


def _difference(model: MaskRcnn, read: OnnxModel, x: Array) -> str:
    """How what was read back differs from the model on this image; empty if it does not."""
    with no_grad():
        (objects,) = model.decode(model(x))
    boxes, labels, scores, masks = read.run({"input": x})
    if boxes.shape != objects.boxes.shape or not np.array_equal(labels, objects.labels):
        return f"labels {objects.labels.tolist()} became {labels.tolist()}"
    for name, y, z, scale in (
        ("boxes", objects.boxes, boxes, max(x.shape)),
        ("scores", objects.scores, scores, 1.0),
    ):
        worst = float(np.abs(y - z).max(initial=0.0))
        if not worst <= 1e-3 * scale:
            return f"{name} differ by {worst:.3g}"
    pasted = paste_masks(masks, boxes, x.shape[2:])
    if np.count_nonzero(pasted != objects.masks) > 1e-3 * pasted.size:
        return "masks differ"
    return ""
