"""Pascal VOC's layout: files written by hand are read as they are meant, and named when broken."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from cnncore.data import IGNORE, VOC_CLASSES, DataError, Scenes, Voc, write_voc
from cnncore.data.voc import voc_palette
from cnncore.errors import ArgumentError

# A picture of 4 rows and 6 columns: a dog (object 1), a person (object 2), a rim nobody labelled.
CLASS = np.array(
    [
        [0, 255, 255, 0, 0, 0],
        [0, 12, 12, 255, 0, 15],
        [0, 12, 12, 255, 0, 15],
        [0, 0, 0, 0, 0, 0],
    ],
    np.uint8,
)
OBJECT = np.where(CLASS == 12, 1, np.where(CLASS == 15, 2, CLASS)).astype(np.uint8)
XML = """<annotation><size><width>6</width><height>4</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult>
  <bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object>
<object><name>person</name><difficult>1</difficult>
  <bndbox><xmin>6</xmin><ymin>2</ymin><xmax>6</xmax><ymax>3</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def folder(tmp_path):
    for part in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject"):
        (tmp_path / part).mkdir()
    Image.new("RGB", (6, 4), (255, 0, 51)).save(tmp_path / "JPEGImages" / "2007_01.png")
    (tmp_path / "Annotations" / "2007_01.xml").write_text(XML)
    for part, values in (("SegmentationClass", CLASS), ("SegmentationObject", OBJECT)):
        picture = Image.fromarray(values, mode="P")
        picture.putpalette([v for i in range(256) for v in (i, 255 - i, 7)])  # any palette
        picture.save(tmp_path / part / "2007_01.png")
    for kind in ("Main", "Segmentation"):
        (tmp_path / "ImageSets" / kind).mkdir(parents=True)
        (tmp_path / "ImageSets" / kind / "train.txt").write_text("2007_01\n")
    return tmp_path


def test_label_maps(folder):
    voc = Voc(folder)
    assert len(voc) == 1
    assert voc.class_names == VOC_CLASSES
    assert voc.ignore_index == 255
    sample = voc[0]
    assert sample.image.dtype == np.float32
    np.testing.assert_allclose(sample.image[:, 0, 0], [1, 0, 0.2], atol=1e-6)
    np.testing.assert_array_equal(sample.semantic, CLASS)
    assert sample.labels.tolist() == [11, 14]  # dog, person: counted from 0, without background
    assert sample.boxes.tolist() == [[1, 1, 3, 3], [5, 1, 6, 3]]
    np.testing.assert_array_equal(sample.masks, [OBJECT == 1, OBJECT == 2])


def test_label_maps_without_objects(folder):
    (folder / "SegmentationObject" / "2007_01.png").unlink()
    sample = Voc(folder)[0]
    assert sample.masks.shape == (0, 4, 6)
    assert sample.boxes.shape == (0, 4)
    np.testing.assert_array_equal(sample.semantic, CLASS)


def test_boxes(folder):
    sample = Voc(folder, task="detection")[0]
    assert sample.boxes.tolist() == [[1, 1, 3, 3]]  # the difficult person is left out
    assert sample.labels.tolist() == [11]
    np.testing.assert_array_equal(sample.masks, [OBJECT == 1])
    assert (sample.semantic == IGNORE).all()
    sample = Voc(folder, task="detection", keep_ignored=True)[0]
    assert sample.boxes.tolist() == [[1, 1, 3, 3], [5, 1, 6, 3]]
    assert sample.ignored.tolist() == [False, True]


def test_sets_of_one_class(folder):
    (folder / "ImageSets" / "Main" / "dog_train.txt").write_text("a -1\n2007_01  1\n\nb 0\n")
    assert Voc(folder, "dog_train", "detection").image_names == ("2007_01", "b")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "<xmax>3</xmax>",
            "<xmax>x</xmax>",
            r"object\[0\]/bndbox/xmax: expected a number, got 'x'",
        ),
        ("<xmax>3</xmax>", "", r"object\[0\]/bndbox/xmax: expected a number, got None"),
        ("<xmax>3</xmax>", "<xmax>7</xmax>", r"object\[0\]/bndbox: expected 1 <= xmin"),
        ("<xmax>3</xmax>", "<xmax>nan</xmax>", r"object\[0\]/bndbox: expected 1 <= xmin"),
        ("<ymin>2</ymin>", "<ymin>4</ymin>", r"object\[0\]/bndbox: .*ymin <= ymax"),
        (">person<", ">human<", r"object\[1\]/name: .*'human'"),
        (">1</difficult>", ">yes</difficult>", r"object\[1\]/difficult: expected 0 or 1"),
        ("<width>6", "<width>5", r"size: .*\(4, 6\), got \(4, 5\)"),
        ("</annotation>", "", "no readable annotation"),
    ],
)
def test_broken_annotations_are_named(folder, old, new, words):
    (folder / "Annotations" / "2007_01.xml").write_text(XML.replace(old, new, 1))
    with pytest.raises(DataError, match=rf"2007_01\.xml: {words}"):
        Voc(folder, task="detection")[0]


def test_broken_label_maps_are_named(folder):
    path = folder / "SegmentationClass" / "2007_01.png"
    Image.fromarray(CLASS[:3], mode="P").save(path)
    with pytest.raises(DataError, match=r"SegmentationClass.2007_01\.png: size: .*\(4, 6\)"):
        Voc(folder)[0]
    Image.fromarray(CLASS + (CLASS == 15).astype(np.uint8) * 20).save(path)
    with pytest.raises(DataError, match=r"pixels: expected classes 0\.\.20 or 255, got 35"):
        Voc(folder)[0]
    Image.new("RGB", (6, 4)).save(path)
    with pytest.raises(DataError, match=r"mode: .*palette.* got 'RGB'"):
        Voc(folder)[0]
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="no readable label map"):
        Voc(folder)[0]


def test_missing_things_are_named(folder):
    with pytest.raises(ArgumentError, match="JPEGImages"):
        Voc(folder / "JPEGImages")
    with pytest.raises(ArgumentError, match=r"image_set: expected one of \['train'\]"):
        Voc(folder, "val")
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("gone\n")
    with pytest.raises(DataError, match=r"gone\.jpg"):
        Voc(folder)[0]
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("../x\n")
    with pytest.raises(DataError, match=r"train\.txt: line 1"):
        Voc(folder)


def test_the_palette_is_vocs():
    """Colours as the challenge's page shows them beside the class names."""
    palette = voc_palette()
    known = {0: (0, 0, 0), 2: (0, 128, 0), 8: (64, 0, 0), 20: (0, 64, 128), 255: (224, 224, 192)}
    for index, color in known.items():
        assert tuple(palette[index].tolist()) == color


def test_written_scenes_are_read_back(tmp_path):
    scenes = Scenes("train", 4, seed=5)
    names = scenes.class_names
    samples = [scenes[i] for i in range(4)]
    samples[0].semantic[:3] = IGNORE
    write_voc(tmp_path, samples, names, suffix=".png")
    for kind in ("segmentation", "detection"):
        voc = Voc(tmp_path, task=kind)
        assert voc.class_names == names
        for before, after in zip(samples, (voc[i] for i in range(4)), strict=True):
            np.testing.assert_allclose(after.image, before.image, atol=0.5 / 255 + 1e-6)
            np.testing.assert_array_equal(after.labels, before.labels)
            np.testing.assert_array_equal(after.boxes, before.boxes)
            if kind == "segmentation":
                np.testing.assert_array_equal(after.semantic, before.semantic)
                unknown = before.semantic == IGNORE
                np.testing.assert_array_equal(after.masks, before.masks & ~unknown)
    root = ElementTree.parse(tmp_path / "Annotations" / "000001.xml").getroot()
    assert [n.text for n in root.iter("name")] == [names[k] for k in samples[1].labels]
    picture = Image.open(tmp_path / "SegmentationClass" / "000001.png")
    assert picture.mode == "P"
    write_voc(tmp_path / "jpeg", samples[:1], names, "val")
    assert Voc(tmp_path / "jpeg", "val")[0].image.shape == (3, 128, 128)
