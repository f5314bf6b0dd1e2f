"""The study of detection at toy size; what it computes beside the training, from its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("scipy")
pytest.importorskip("skimage")
pytest.importorskip("pycocotools")

from cnncore import Tensor
from cnncore.models.detection import SlidingWindow, WindowSettings
from cnncore.study import experiments, shared
from cnncore.study.detection import anchors, masks, regions, tradeoff, training, windows
from cnncore.train.detection import Proposed
from cnncore.vision import Objects, box_iou

KNOWN = experiments("detection")
TOY = {
    **{"steps": 2, "train_scenes": 16, "test_scenes": 3, "stage_scenes": 6, "scenes": 5},
    **{"timed_steps": 2, "timed_images": 1, "repeats": 1},
}


def at_toy_size(name: str):
    experiment = KNOWN[name]
    return experiment.changed(**{k: v for k, v in TOY.items() if k in experiment.settings})


@pytest.mark.parametrize(
    ("name", "condition"),
    [(name, c) for name, e in KNOWN.items() for c in [*e.conditions][:: len(e.conditions) - 1]],
)
def test_runs_at_toy_size(name: str, condition: str) -> None:
    if condition == "96×96, windows 32 apart":
        condition = "64×64"
    measures = at_toy_size(name).measured(condition, seed=0)
    for measure, value in measures.items():
        if "AP" in measure or "recall" in measure:
            assert value == -1 or 0 <= value <= 1, measure
        else:
            assert value >= 0, measure


def test_training_is_seeded() -> None:
    experiment = at_toy_size("mask_branch")
    settings = {**experiment.settings, **experiment.conditions["boxes only"]}
    weights = []
    for seed in (1, 1, 2):
        model = masks.detector(settings, seed)
        training.train(model, training.train_set(settings, seed), settings, seed)
        weights.append(model.rpn.head.cls_logits.weight.numpy())
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


class TestAnchors:
    def test_coverage_of_boxes_by_hand(self) -> None:
        boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [40, 40, 50, 50.0]])
        given = np.array([[0, 0, 10, 10], [0, 0, 10, 8.0]])
        # Best overlaps: 1, 5/8, 0; those of 0.5 or more: 2 and 2 and none.
        found = anchors.coverage(given, boxes)
        assert found["anchors"] == 2
        assert found["recall, IoU 0.5"] == pytest.approx(2 / 3)
        assert found["recall, IoU 0.7"] == pytest.approx(1 / 3)
        assert found["mean best IoU"] == pytest.approx((1 + 5 / 8) / 3)
        assert found["anchors an object"] == pytest.approx(4 / 3)

    def test_quantiles_stand_for_equally_many(self) -> None:
        assert anchors.spread_over(np.array([3.0, 1.0, 2.0]), 1) == (2.0,)
        values = np.arange(1, 1001.0)
        for count in (1, 2, 5):
            middle = np.array(anchors.spread_over(values, count))
            np.testing.assert_allclose(middle, (np.arange(count) + 0.5) * 1000 / count, atol=1)

    def test_anchors_lie_where_the_settings_say(self) -> None:
        # One anchor a cell of stride 64 on 128 pixels: squares of 32 around 32 and 96.
        condition = {"stride": 64, "sizes": (32.0,), "ratios": (1.0,)}
        settings = {**at_toy_size("anchors").settings, **condition}
        square = np.array([16, 16, 48, 48.0])
        shifts = [(x, y, x, y) for y in (0, 64) for x in (0, 64)]
        slow = np.array([square + shift for shift in shifts])
        found = KNOWN["anchors"].run(settings, 4)
        overlap = box_iou(anchors.boxes_of("test", settings, 4), slow)
        assert found["anchors"] == 4
        assert found["mean best IoU"] == pytest.approx(overlap.max(1).mean())

    def test_the_fit_does_not_see_the_test(self) -> None:
        settings = {**at_toy_size("anchors").settings, "scale count": 2, "ratio count": 1}
        chosen = anchors.chosen(settings, 3)
        assert len(chosen.sizes[0]) == 2
        assert len(chosen.ratios) == 1
        assert chosen == anchors.chosen({**settings, "split": "validation"}, 3)
        assert chosen != anchors.chosen(settings, 4)


class TestWindows:
    def test_crops_are_those_of_the_detector_that_cuts_them_out(self) -> None:
        model = windows.detector()
        alone = SlidingWindow(
            model.classifier, windows.CLASSES,
            WindowSettings(window=(32, 32), shared=False, resize=None),
        ).eval()  # fmt: skip
        x = Tensor(np.random.default_rng(0).normal(size=(1, 3, 52, 48)).astype(np.float32))
        crops = windows.crops_of(model, x, windows.STEP)
        scores = model.classifier(crops).numpy()
        slow = [y.numpy()[0].reshape(10, -1).T for y in alone(x).logits]
        assert len(slow) == 2  # scales of 1 and of 1/√2
        np.testing.assert_allclose(scores, np.concatenate(slow), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(crops.numpy()[6], x.numpy()[0, :, 4:36, 4:36])

    def test_work_by_hand(self) -> None:
        # 5×5 from 3 to 8 channels, pooling, 5×5 to 16, pooling, two dense layers.
        def convolutions(side: int) -> int:
            first, second = side - 4, (side - 4) // 2 - 4
            return first**2 * 8 * 75 + second**2 * 16 * 200

        def dense(places: int) -> int:
            return places * (16 * 25 * 32 + 32 * 10)

        each, once = windows.work(windows.detector(), 48, 26)
        assert each == 26 * (convolutions(32) + dense(1))
        # 48 pixels: 5×5 places; 48/√2 = 34: one place.
        assert once == convolutions(48) + dense(25) + convolutions(34) + dense(1)

    def test_coarser_windows_are_places_of_the_score_map(self) -> None:
        experiment = at_toy_size("detection_windows")
        for condition in ("48×48", "96×96, windows 16 apart"):
            assert experiment.measured(condition, 1)["largest difference"] < 1e-5


class TestMasks:
    def test_both_begin_with_equal_weights(self) -> None:
        settings = KNOWN["mask_branch"].settings
        full, boxes = (masks.detector({**settings, "masks": m}, 3).state_dict() for m in (1, 0))
        assert {k for k in full if "mask" in k} == set(full) - set(boxes)
        for key, value in boxes.items():
            np.testing.assert_array_equal(full[key], value)

    def test_conditions_differ_in_pooling_alone(self) -> None:
        experiment = KNOWN["roi_pooling"]
        models = {
            name: masks.detector({**experiment.settings, **changes}, 0)
            for name, changes in experiment.conditions.items()
        }
        assert {m.settings.roi.pooling for m in models.values()} == {"align", "max"}
        fine, coarse = (models[n].settings.roi.levels for n in [*models][::2])
        boxes = np.array([[0, 0, 30, 30], [0, 0, 60, 60.0]])
        assert (coarse.assign(boxes) == fine.assign(boxes) + 1).all()
        counts = {sum(p.size for p in m.parameters()) for m in models.values()}
        assert len(counts) == 1

    def test_scores_by_thirds(self) -> None:
        samples = training.test_set({**KNOWN["roi_pooling"].settings, "test_scenes": 12})
        small, large = training.terciles(training.areas_of(samples, "masks"))
        sizes = [mask.sum() for s in samples for mask in s.masks]
        assert sum(a <= small for a in sizes) == pytest.approx(len(sizes) / 3, abs=1)
        assert sum(a >= large for a in sizes) == pytest.approx(len(sizes) / 3, abs=1)
        # All that is large is found exactly, nothing else: AP is 1 there and 0 elsewhere.
        found = []
        for sample in samples:
            keep = sample.masks.sum((1, 2)) >= large
            kept = sample.boxes[keep], sample.labels[keep], sample.masks[keep]
            found.append(Objects(*kept, np.ones(int(keep.sum()))))
        scores = training.scores(found, samples, "masks")
        assert scores["AP_large"] == pytest.approx(1)
        assert scores["AP_small"] == 0
        assert scores["AP_medium"] < 0.2  # one may lie in both


class TestRegions:
    def settings(self, name: str):
        experiment = at_toy_size(name)
        return {**experiment.settings, "system": "R-CNN"}

    def test_what_is_left_is_post_processing(self) -> None:
        times = {"proposals": 5.0, "features": 2.0, "regions": 1.0, "whole": 9.0}
        assert regions.parts_of(times, True)["post-processing"] == 6
        assert regions.parts_of(times, False)["post-processing"] == 1
        assert regions.parts_of({**times, "whole": 0.0}, True)["post-processing"] == 0

    def test_the_convolutions_of_the_spatial_pyramid_are_those_of_the_crops(self) -> None:
        settings = self.settings("region_detectors")
        crops = regions.trained("rcnn_small", settings, 1).features.state_dict()
        pyramid = regions.trained("sppnet_small", settings, 1).features.state_dict()
        for key, value in pyramid.items():
            np.testing.assert_array_equal(value, crops[key])

    def test_work_of_crops_by_hand(self) -> None:
        settings = self.settings("region_detectors")
        model = regions.trained("rcnn_small", settings, 1)
        one = regions.unseen_proposals(regions.scene_settings(settings), 0)[0]
        some = Proposed(one.sample, one.proposals[:5])
        convolutions = 36**2 * 16 * 27 + 18**2 * 32 * 144 + 9**2 * 64 * 288
        assert regions.work_of(model, [some]) == 5 * (convolutions + 64 * 16 * 128)

    @pytest.mark.parametrize("system", regions.SYSTEMS)
    def test_laps_are_parts_of_the_whole(self, system: str) -> None:
        settings = self.settings("region_detectors")
        model = regions.trained(regions.SYSTEMS[system], settings, 1)
        one = regions.training_proposals(regions.scene_settings(settings), 1)[0]
        laps = regions.laps(model, one)
        inside = () if system == "Faster R-CNN" else ("proposals",)  # selective search is apart
        assert set(laps) == {*regions.PARTS[:3], "whole"} - {*inside}
        whole, usual = laps["whole"](), model.decode(regions.outputs_of(model, [one]))
        np.testing.assert_array_equal(whole[0].boxes, usual[0].boxes)
        scores = laps["regions"]()[0]
        assert len(scores) == len(regions.regions_of(model, [one])[0])


class TestTradeoff:
    def test_the_front_by_definition(self) -> None:
        points = [(1.0, 0.2), (2.0, 0.5), (2.0, 0.4), (3.0, 0.5), (4.0, 0.6), (5.0, 0.1)]
        assert tradeoff.front(points) == [0, 1, 4]
        assert tradeoff.front([(1.0, 1.0), (1.0, 1.0)]) == [0, 1]
        assert tradeoff.front([]) == []

    @pytest.mark.parametrize("system", tradeoff.SYSTEMS)
    def test_half_as_wide_is_a_quarter_of_the_work_or_a_little_more(self, system: str) -> None:
        experiment = at_toy_size("speed_accuracy")
        samples = training.test_set({**experiment.settings, "test_scenes": 2})
        make = tradeoff.SYSTEMS[system]
        whole, half = (tradeoff.work_of(make(3, w, 64).eval(), samples) for w in (1.0, 0.5))
        # Of Faster R-CNN the pyramid and the heads stay as wide as they are.
        assert half < whole * (0.8 if system == "Faster R-CNN" else 0.4)
        large = training.test_set(
            {**experiment.settings, "test_scenes": 2, "size": 80, "digit_pixels": (25, 50)}
        )
        work = tradeoff.work_of(make(3, 1.0, 80).eval(), large)
        assert whole < work
        if system != "Faster R-CNN":  # whose regions do not grow with the image
            assert work == pytest.approx(whole * 1.25**2, rel=0.1)

    def test_fewer_proposals_are_less_work_for_heads_on_regions(self) -> None:
        experiment = at_toy_size("speed_accuracy")
        work = {}
        for system, count in itertools.product(("Faster R-CNN", "R-FCN"), (48, 4)):
            condition = tradeoff._name(system, proposals=count)
            work[system, count] = experiment.measured(condition, 0)["M multiply-adds"]
        head = (32 * 49 * 128 + 128 * 128 + 128 * 5 * 4) / 1e6  # of a region, K = 3
        saved = work["Faster R-CNN", 48] - work["Faster R-CNN", 4]
        assert saved == pytest.approx(44 * head, rel=1e-6)
        assert work["R-FCN", 48] == work["R-FCN", 4]

    def test_levels_and_anchors_grow_with_the_image(self) -> None:
        for system in (tradeoff.faster, tradeoff.rfcn):
            plain, large = (system(3, 1.0, size).settings for size in (64, 80))
            boxes = np.array([[0, 0, 30, 30], [0, 0, 50, 50.0]])
            before, after = plain.rpn.anchors.sizes, large.rpn.anchors.sizes
            np.testing.assert_allclose(np.concatenate(after), 1.25 * np.concatenate(before))
            same = large.roi.levels.assign(boxes * 1.25), plain.roi.levels.assign(boxes)
            np.testing.assert_array_equal(*same)


def test_what_is_remembered_depends_on_settings_and_seed() -> None:
    calls = []

    @shared.remembered
    def slow(settings, seed):
        calls.append((dict(settings), seed))
        return object()

    first = slow({"a": 1, "b": 2}, 0)
    assert slow({"b": 2, "a": 1}, 0) is first
    assert slow({"a": 1, "b": 2}, 1) is not first
    assert slow({"a": 1, "b": 3}, 0) is not first
    assert len(calls) == 3
    for seed in range(10, 10 + shared.KEPT):
        slow({}, seed)
    assert slow({"a": 1, "b": 2}, 0) is not first
