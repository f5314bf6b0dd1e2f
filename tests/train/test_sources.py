"""What ``--data`` names, and that what nobody knows reaches neither loss nor score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnncore.cli import main
from cnncore.data import IGNORE, Scenes, write_coco, write_voc
from cnncore.data.fashion_mnist import installed_folder as fashion_folder
from cnncore.data.nuclei import installed_folder as nuclei_folder
from cnncore.errors import ArgumentError
from cnncore.train import load_task, make_task
from cnncore.train.sources import First, known_source, open_source

needs_fashion = pytest.mark.skipif(
    fashion_folder() is None, reason="dataset-fashion-mnist is not installed"
)
needs_nuclei = pytest.mark.skipif(
    nuclei_folder() is None, reason="the package stardist is not installed"
)


@pytest.fixture
def folders(tmp_path):
    """Six scenes as a VOC folder and as COCO's layout; the left edge is unknown to VOC."""
    scenes = Scenes("train", 6, seed=3)
    samples = [scenes[i] for i in range(6)]
    for sample in samples:
        sample.semantic[:, :9] = IGNORE
    for name, part in (("train", samples[:4]), ("val", samples[4:])):
        names = [f"{name}{i}" for i in range(len(part))]
        write_voc(tmp_path / "voc", part, scenes.class_names, name, names, ".png")
    write_coco(tmp_path / "i.json", tmp_path / "images", samples, scenes.class_names)
    return tmp_path


def test_scenes_are_what_they_were():
    source = open_source("scenes")
    assert source.num_classes == 11
    assert source.label_names[:2] == ("background", "0")
    np.testing.assert_array_equal(
        source.training_set(5)[17].image, Scenes("train", 100_000, seed=5)[17].image
    )
    scored = source.scored(None, None)
    assert len(scored) == 300
    np.testing.assert_array_equal(scored[3].image, Scenes("test", 300, seed=0)[3].image)
    assert len(source.scored("validation", 7)) == 7


def test_large_digits_are_few_and_large():
    source = open_source("large")
    assert source.num_classes == 11
    samples = [source.training_set(0)[i] for i in range(40)]
    assert {len(sample.labels) for sample in samples} == {0, 1, 2}
    sides = [box[3] - box[1] for sample in samples for box in sample.boxes]
    assert 40 < np.median(sides) < 90  # ordinary ones are at most 40


@needs_fashion
def test_scenes_of_clothes():
    source = open_source("fashion")
    assert source.class_names[7] == "sneaker"
    sample = next(s for s in (source.training_set(0)[i] for i in range(20)) if len(s.labels) > 1)
    for mask, label in zip(sample.masks, sample.labels, strict=True):
        assert (sample.semantic[mask] == label + 1).all()
    task = make_task("unet", "fashion", steps=1, batch_size=2)
    assert task.train(progress=False)[0].steps == 1


def test_voc_and_coco(folders):
    source = open_source(f"voc:{folders / 'voc'}", crop=64)
    assert source.held_out == "val"
    assert len(source.split("train", False)) == 4
    assert len(source.scored(None, None)) == 2
    window = source.training_set(0)[11]
    assert window.image.shape == (3, 64, 64)
    boxes = open_source(f"voc:{folders / 'voc'}", boxes=True)
    assert boxes.boxes_only
    assert (boxes.split("val", True)[0].semantic == IGNORE).all()
    coco = open_source(f"coco:{folders / 'i.json'}:{folders / 'images'}")
    assert coco.class_names == source.class_names
    assert len(coco.split("anything", False)) == 6
    with pytest.raises(ArgumentError, match="held out"):
        coco.scored(None, None)
    assert len(coco.scored("all", 2)) == 2


@pytest.mark.parametrize("text", ["", "voc", "voc:", "coco:x", "scene", "scenes:1"])
def test_other_texts_are_refused(text):
    with pytest.raises(ArgumentError, match="data: expected one of scenes, large, fashion"):
        open_source(text)


def test_a_described_source_needs_no_data(folders):
    about = open_source(f"voc:{folders / 'voc'}").about()
    source = known_source({**about, "data": "voc:/gone"})
    assert source.class_names == tuple("0123456789")
    assert source.ignore_index == IGNORE
    with pytest.raises(ArgumentError, match="VOC folder"):
        source.training_set(0)


def test_the_first_samples():
    part = First(Scenes("train", 5), 3)
    assert len(part) == len(list(part)) == 3
    assert len(First(Scenes("train", 5))) == len(First(Scenes("train", 5), 9)) == 5


@pytest.mark.parametrize("name", ["unet", "sliding_window", "segnet_basic"])
def test_unknown_pixels_reach_neither_loss_nor_score(folders, name):
    """Whatever is written there, loss, gradients' size and scores stay the same."""
    task = make_task(name, open_source(f"voc:{folders / 'voc'}", crop=64), steps=1, batch_size=2)
    batch = next(task.batches(0))
    for sample in batch:
        sample.semantic[:20] = IGNORE
    rng = np.random.default_rng
    loss = [float(t.data) for t in task.loss(batch, rng(0), 0.5).values()]
    assert np.isfinite(loss).all()
    known = [replace(s, semantic=np.where(s.semantic == IGNORE, 0, s.semantic)) for s in batch]
    other = [float(t.data) for t in task.loss(known, rng(0), 0.5).values()]
    assert loss != other  # the label 0 there would have counted
    predictions, scores = task.evaluate(batch)
    changed = [
        np.where(s.semantic == IGNORE, 3, p) for s, p in zip(batch, predictions, strict=True)
    ]
    assert task.score(changed, batch) == scores
    nothing = [replace(s, semantic=np.full_like(s.semantic, IGNORE)) for s in batch]
    assert all(float(t.data) == 0 for t in task.loss(nothing, rng(0), 0.5).values())


def test_training_on_a_folder_and_scoring_its_checkpoint(folders, tmp_path, capsys):
    data, out = f"voc:{folders / 'voc'}", tmp_path / "run"
    train = ["train", "unet", "--steps", "2", "--quiet", "--output", str(out)]
    assert main([*train, "--data", data]) == 0
    assert "2 val pictures after 2 steps" in capsys.readouterr().out
    task = load_task(out / "checkpoint.npz", "unet")
    assert task.source.text == data
    assert main(train) == 2  # the same folder on scenes
    assert "data scenes instead of voc:" in capsys.readouterr().err
    with pytest.raises(ArgumentError, match="one of segnet, got one of unet"):
        load_task(out / "checkpoint.npz", "segnet")
    coco = f"coco:{folders / 'i.json'}:{folders / 'images'}"
    assert main(["train", "segnet_basic", "--steps", "1", "--quiet", "--data", coco,
                 "--output", str(tmp_path / "c")]) == 0  # fmt: skip
    assert "no part held out" in capsys.readouterr().out
    assert main(["train", "lenet5", "--data", "scenes"]) == 2
    assert "lenet5 has its own" in capsys.readouterr().err


@needs_nuclei
@pytest.mark.training
def test_unet_finds_nuclei_in_a_region_that_it_has_not_seen(tmp_path, capsys):
    """A threshold on the smoothed image, the best one for the training region, gives 0.80."""
    assert main(["train", "unet_nuclei", "--quiet", "--output", str(tmp_path)]) == 0
    assert float(capsys.readouterr().out.split("IoU nucleus")[1]) >= 0.87
