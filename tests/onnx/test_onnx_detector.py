"""A whole Mask R-CNN as ONNX, run by the ONNX project's own evaluator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from cnncore import models, nn, vision  # noqa: E402
from cnncore.errors import ArgumentError, ShapeError  # noqa: E402
from cnncore.models.detection import SMALL, detector_to_proto, export_detector, to_onnx  # noqa: E402
from cnncore.onnx import ExportError, load  # noqa: E402

IMAGE = np.random.default_rng(1).normal(size=(1, 3, 96, 128)).astype(np.float32)


def lively(**changes):
    """A detector that was not trained and yet finds things of several classes and sizes."""
    nn.init.seed(0)
    roi = replace(
        SMALL.roi,
        levels=vision.LevelRule(canonical_size=10.0, canonical_level=2),
        detections=replace(SMALL.roi.detections, **changes),
    )
    model = models.create("maskrcnn_small", num_classes=4, roi=roi).eval()
    rng = np.random.default_rng(0)
    head, boxes = model.rpn.head, model.roi_heads.box_predictor
    for layer, width in (
        (head.cls_logits, 0.3), (head.bbox_pred, 0.1), (boxes.cls_score, 0.3),
        (boxes.bbox_pred, 0.3),
    ):  # fmt: skip
        for parameter in layer.parameters():
            parameter.data[...] = rng.normal(0, width, parameter.shape)
    return model


@pytest.mark.parametrize("changes", [{}, {"class_agnostic": True, "score_threshold": 0.2}])
def test_what_the_file_detects(changes) -> None:
    model = lively(**changes)
    proto = detector_to_proto(model, IMAGE)
    onnx.checker.check_model(proto, full_check=True)
    image = np.flip(IMAGE, 3).copy()
    (found,) = model.decode(model(image))
    boxes, labels, scores, masks = ReferenceEvaluator(proto).run(None, {"input": image})
    assert len(found.boxes) >= 3
    assert len(set(labels.tolist())) >= 2
    np.testing.assert_allclose(boxes, found.boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(labels, found.labels)
    np.testing.assert_allclose(scores, found.scores, rtol=1e-4, atol=1e-5)
    assert (np.diff(scores) <= 0).all()
    pasted = vision.paste_masks(masks, boxes, (96, 128))
    assert np.mean(pasted != found.masks) < 1e-3
    assert found.masks.any()


def test_regions_of_several_levels_were_compared() -> None:
    model = lively()
    (found,) = model.decode(model(np.flip(IMAGE, 3).copy()))
    assert len(set(model.settings.roi.levels.assign(found.boxes).tolist())) >= 2


def test_nothing_found_is_no_error() -> None:
    proto = detector_to_proto(lively(score_threshold=0.99999), IMAGE)
    shapes = [y.shape for y in load(proto).run({"input": IMAGE})]
    assert shapes == [(0, 4), (0,), (0,), (0, 28, 28)]


def test_the_file(tmp_path: Path) -> None:
    model = lively()
    export_detector(model, IMAGE, tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    assert [v.name for v in proto.graph.output] == ["boxes", "labels", "scores", "masks"]
    held = {t.name for t in proto.graph.initializer}
    assert {k for k, p in model.named_parameters() if p.ndim == 4} <= held


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively()
    with pytest.raises(ArgumentError, match=r"model\.eval\(\)"):
        detector_to_proto(lively().train(), IMAGE)
    with pytest.raises(ArgumentError, match="a Mask R-CNN"):
        detector_to_proto(nn.ReLU().eval(), IMAGE)
    with pytest.raises(ShapeError, match="1, 3, H, W"):
        detector_to_proto(model, IMAGE[0])
    monkeypatch.setattr(to_onnx._Writer, "levels", lambda self, boxes: self.b.ints(0))
    with pytest.raises(ExportError, match="does not detect"):
        detector_to_proto(model, IMAGE)
