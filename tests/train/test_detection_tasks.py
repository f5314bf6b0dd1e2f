"""Every small detector on scenes: a step of it, its detections, its proposals."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore.data import Scenes
from cnncore.errors import ArgumentError
from cnncore.train import detection, make_task
from cnncore.train.detection import DETECTION, PROPOSED, SEARCH, ProposedScenes, box_scores
from cnncore.vision import Objects, proposal_recall

NAMES = sorted(DETECTION)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_each_detector_runs_and_its_boxes_are_scored(name: str, monkeypatch) -> None:
    monkeypatch.setattr(detection, "STAGE_SCENES", 4)
    pytest.importorskip("pycocotools")
    task = make_task(name, steps=1, batch_size=2)
    before = {k: p.numpy().copy() for k, p in task.model.named_parameters()}
    histories = task.train(progress=False)
    assert histories[-1].steps == 1
    assert all(np.isfinite(v).all() for v in histories[-1].terms.values())
    after = dict(task.model.named_parameters())
    moved = [k for k, old in before.items() if not np.array_equal(old, after[k].numpy())]
    assert len(moved) > 0.6 * len(before)
    predictions, scores = task.evaluate(task.held_out("validation", 2))
    assert all(isinstance(p, Objects) for p in predictions)
    assert {"box AP", "box AP50"} <= set(scores)
    assert 0 <= scores[task.headline[0]] <= 1


def test_sppnet_keeps_the_convolutions_of_the_classifier_of_regions() -> None:
    task = make_task("sppnet_small", steps=1, batch_size=1)
    assert task.before is not None
    assert task.before.name == "rcnn_small"
    first = {k: p.numpy().copy() for k, p in task.before.model.features.named_parameters()}
    task.train(progress=False)
    trained = dict(task.before.model.features.named_parameters())
    for name, parameter in task.model.features.named_parameters():
        taken = trained[name].numpy()
        np.testing.assert_array_equal(parameter.numpy(), taken)
        assert (taken != first[name]).any(), name


def test_data_of_ones_own_is_for_detectors_that_propose_themselves() -> None:
    assert make_task("yolo_small", "fashion").source.text == "fashion"
    for name in PROPOSED:
        with pytest.raises(ArgumentError, match="data"):
            make_task(name, "fashion")


def test_proposals_are_computed_once_and_cover_the_objects() -> None:
    scenes = ProposedScenes(Scenes("train", 12, seed=3))
    assert len(scenes) == 12
    first = scenes[4]
    assert scenes[4].proposals is first.proposals
    np.testing.assert_array_equal(SEARCH(first.sample.image).boxes, first.proposals)
    every = [scenes[i] for i in range(12)]
    recall = proposal_recall([e.proposals for e in every], [e.sample.boxes for e in every], (999,))
    assert recall[0] >= 0.95


def test_truth_as_predictions_has_full_marks() -> None:
    pytest.importorskip("pycocotools")
    samples = [Scenes("validation", 4)[i] for i in range(4)]
    found = [Objects(s.boxes, s.labels, None, np.ones(len(s.labels))) for s in samples]
    assert box_scores(found, samples)["box AP"] == pytest.approx(1)
