"""COCO's layout: a file written by hand, polygons, run lengths, crowds, and what is broken."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from cnncore.data import (
    IGNORE,
    Coco,
    DataError,
    Sample,
    Scenes,
    write_coco,
    write_coco_results,
)
from cnncore.data.run_lengths import counts_of_text, mask_of_counts
from cnncore.errors import ArgumentError
from cnncore.vision import Objects, coco_metrics

H, W = 6, 8
# Category ids with gaps and out of order; the second picture has nothing on it.
CONTENT = {
    "images": [
        {"id": 70, "file_name": "a.png", "height": H, "width": W},
        {"id": 3, "file_name": "b.png", "height": 4, "width": 4},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 5, "name": "plane"}],
    "annotations": [
        {  # rows 1..4 of columns 1..5
            "image_id": 70,
            "category_id": 18,
            "bbox": [1, 1, 5, 4],
            "segmentation": [[1, 1, 6, 1, 6, 5, 1, 5]],
        },
        {  # uncompressed: 2 pixels from row 2 of column 2 on; lies on the dog
            "image_id": 70,
            "category_id": 5,
            "bbox": [2, 2, 1, 2],
            "segmentation": {"size": [H, W], "counts": [2 * H + 2, 2, H * W - 2 * H - 4]},
        },
        {  # a crowd on the last two columns
            "image_id": 70,
            "category_id": 5,
            "bbox": [6, 0, 2, 6],
            "iscrowd": 1,
            "segmentation": {"size": [H, W], "counts": [6 * H, 2 * H]},
        },
    ],
}


def write(folder, content=CONTENT):
    Image.new("RGB", (W, H), "white").save(folder / "a.png")
    Image.new("L", (4, 4), 51).save(folder / "b.png")
    (folder / "instances.json").write_text(json.dumps(content))
    return Coco(folder / "instances.json", folder)


def area(rows, columns):
    mask = np.zeros((H, W), bool)
    mask[rows, columns] = True
    return mask


def test_objects_and_label_map(tmp_path):
    coco = write(tmp_path)
    assert coco.class_names == ("plane", "dog")
    assert coco.category_ids == (5, 18)
    assert coco.image_ids == (70, 3)
    sample = coco[0]
    assert sample.labels.tolist() == [1, 0]
    assert sample.boxes.tolist() == [[1, 1, 6, 5], [2, 2, 3, 4]]
    dog, plane = area(slice(1, 5), slice(1, 6)), area(slice(2, 4), slice(2, 3))
    np.testing.assert_array_equal(sample.masks, [dog, plane])
    wanted = np.zeros((H, W), int)
    wanted[:, 6:] = IGNORE
    wanted[dog] = 2
    wanted[plane] = 1  # small over large, whatever the order in the file
    np.testing.assert_array_equal(sample.semantic, wanted)


def test_crowds_on_demand_and_empty_pictures(tmp_path):
    write(tmp_path)
    coco = Coco(tmp_path / "instances.json", tmp_path, keep_ignored=True)
    sample = coco[0]
    assert sample.ignored.tolist() == [False, False, True]
    np.testing.assert_array_equal(sample.masks[2], area(slice(None), slice(6, 8)))
    empty = coco[1]
    assert empty.boxes.shape == (0, 4)
    assert empty.masks.shape == (0, 4, 4)
    assert not empty.semantic.any()
    np.testing.assert_allclose(empty.image, 0.2, atol=1e-6)


def test_boxes_without_masks_and_without_area(tmp_path):
    content = copy.deepcopy(CONTENT)
    dog, plane, _ = content["annotations"]
    del dog["segmentation"]
    plane["bbox"] = [2, 2, 0, 2]
    content["annotations"] = [dog, plane]
    sample = write(tmp_path, content)[0]
    assert sample.labels.tolist() == [1]
    np.testing.assert_array_equal(sample.masks, [area(slice(1, 5), slice(1, 6))])


def changed(path, value):
    content = copy.deepcopy(CONTENT)
    place = content
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("images",), None, "images: expected a list"),
        (("images", 0, "height"), "6", r"images\[0\]\.height: expected an integer, got '6'"),
        (("images", 0, "height"), 7, r"images\[0\]: .*\(6, 8\), got \(7, 8\)"),
        (("images", 1, "id"), 70, r"images\.id: expected every id once"),
        (("images", 0, "file_name"), "c.png", r"c\.png: named in"),
        (("categories", 0, "name"), None, r"categories\[0\]\.name: expected a text"),
        (("annotations", 1, "image_id"), 4, r"annotations\[1\]\.image_id: .*got 4"),
        (("annotations", 1, "category_id"), 4, r"annotations\[1\]\.category_id: .*got 4"),
        (("annotations", 1, "bbox"), [1, 2, 3], r"annotations\[1\]\.bbox: expected x, y"),
        (("annotations", 1, "bbox"), [1, 2, -3, 1], r"annotations\[1\]\.bbox: .*width >= 0"),
        (("annotations", 0, "segmentation"), [[1, 1, 2, 2]], r"segmentation\[0\]: .*three points"),
        (("annotations", 0, "segmentation"), [[1, 1, 2, 2, 3]], "three points"),
        (("annotations", 0, "segmentation"), [[1, 1, 2, 2, 3, 1e9]], "expected points in"),
        (("annotations", 1, "segmentation"), "x", "expected polygons, or size and counts"),
        (("annotations", 1, "segmentation", "size"), [W, H], r"size: .*\[6, 8\], got \[8, 6\]"),
        (("annotations", 1, "segmentation", "counts"), [1, 2], "add up to 6·8 = 48 pixels, got 3"),
        (("annotations", 1, "segmentation", "counts"), [-2, 50], "integers >= 0"),
        (("annotations", 1, "segmentation", "counts"), "\n", r"counts: expected characters"),
        (("annotations", 1, "segmentation", "counts"), "o", "whole number of runs"),
    ],
)
def test_broken_files_are_named(tmp_path, path, value, words):
    with pytest.raises(DataError, match=words) as raised:
        write(tmp_path, changed(path, value))[0]
    assert "instances.json" in str(raised.value)


def test_no_json(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DataError, match=r"x\.json: no readable JSON"):
        Coco(tmp_path / "x.json", tmp_path)
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(DataError, match="top level: expected an object, got list"):
        Coco(tmp_path / "x.json", tmp_path)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_run_lengths_are_those_of_cocos_own_code(seed, height, width, share):
    masks = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(seed).random((height, width)) < share
    text = masks.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    np.testing.assert_array_equal(mask_of_counts(counts_of_text(text), (height, width)), mask)


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_any_text_is_a_mask_or_an_error(text):
    try:
        mask = mask_of_counts(counts_of_text(text), (5, 7))
    except ArgumentError:
        return
    assert mask.shape == (5, 7)


def test_written_scenes_are_read_back_by_us_and_by_cocos_own_code(tmp_path):
    scenes = Scenes("train", 5, seed=2)
    samples = [scenes[i] for i in range(5)]
    flags = np.zeros(len(samples[0].labels), bool)
    flags[:1] = True
    samples[0] = Sample(**{**vars(samples[0]), "ignored": flags})
    write_coco(tmp_path / "i.json", tmp_path / "images", samples, scenes.class_names)
    coco = Coco(tmp_path / "i.json", tmp_path / "images", keep_ignored=True)
    assert coco.class_names == scenes.class_names
    for before, after in zip(samples, (coco[i] for i in range(5)), strict=True):
        np.testing.assert_allclose(after.image, before.image, atol=0.5 / 255 + 1e-6)
        np.testing.assert_array_equal(after.boxes, before.boxes)
        np.testing.assert_array_equal(after.labels, before.labels)
        np.testing.assert_array_equal(after.masks, before.masks)
    np.testing.assert_array_equal(coco[1].semantic, samples[1].semantic)
    assert coco[0].ignored.tolist() == flags.tolist()
    theirs = pytest.importorskip("pycocotools.coco").COCO(tmp_path / "i.json")
    (first, *_) = theirs.loadAnns(theirs.getAnnIds(imgIds=2))
    np.testing.assert_array_equal(theirs.annToMask(first), samples[1].masks[0])


def test_results_give_the_same_scores_when_read_by_cocos_own_code(tmp_path, capsys):
    module = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    scenes = Scenes("train", 6, seed=2)
    samples = [scenes[i] for i in range(6)]
    write_coco(tmp_path / "i.json", tmp_path, samples, scenes.class_names)
    rng = np.random.default_rng(0)
    found = []
    for s in samples:  # shifted boxes, some of a wrong class
        R = len(s.labels)
        labels = np.where(rng.random(R) < 0.2, (s.labels + 1) % 10, s.labels)
        boxes = s.boxes + rng.integers(-4, 5, (R, 1)).astype(np.float32)
        found.append(Objects(boxes, labels, np.roll(s.masks, 2, 1), rng.random(R)))
    coco = Coco(tmp_path / "i.json", tmp_path)
    write_coco_results(tmp_path / "r.json", found, coco.image_ids, coco.category_ids)
    truth = [Objects(s.boxes, s.labels, s.masks) for s in samples]
    theirs = module.COCO(tmp_path / "i.json")
    for kind, name in (("boxes", "bbox"), ("masks", "segm")):
        run = evaluation.COCOeval(theirs, theirs.loadRes(str(tmp_path / "r.json")), name)
        run.evaluate()
        run.accumulate()
        run.summarize()
        ours = list(coco_metrics(found, truth, kind).values())
        if kind == "boxes":  # COCO's areas are of masks, which decides what is small
            ours[3:6], ours[9:] = run.stats[3:6].tolist(), run.stats[9:].tolist()
        np.testing.assert_allclose(ours, run.stats, atol=1e-12)


def test_a_detection_on_a_crowd_counts_neither_way():
    crowd = np.array([[0, 0, 50, 50]], np.float32)
    thing = np.array([[60, 60, 80, 80]], np.float32)
    truth = Objects(
        np.concatenate([thing, crowd]), np.zeros(2, np.int64), ignored=np.array([False, True])
    )
    boxes = np.concatenate([crowd * 0.3, crowd * 0.5, thing])
    found = Objects(boxes, np.zeros(3, np.int64), scores=np.array([0.9, 0.8, 0.7]))
    assert coco_metrics([found], [truth])["AP"] == pytest.approx(1.0)
    alone = Objects(truth.boxes[:1], truth.labels[:1])
    assert coco_metrics([found], [alone])["AP"] < 0.5
