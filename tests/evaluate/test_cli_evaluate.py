"""``cnncore evaluate`` as a user meets it: tables, pictures, JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from cnncore.cli import main
from cnncore.data import Scenes, write_coco
from cnncore.train import load_task


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A segmentation network and a detector after two steps."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("segnet_basic", "maskrcnn_small"):
        out = str(folder / name)
        assert (
            main(["train", name, "--steps", "2", "--quiet", "--scenes", "2", "--output", out]) == 0
        )
    return folder


def evaluate(folder, name, *arguments):
    checkpoint = str(folder / name / "checkpoint.npz")
    given = ["evaluate", name, "--checkpoint", checkpoint, "--quiet", *arguments]
    return main(given)


def test_label_maps(trained, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ("--count", "5", "--output", str(out), "--pictures", "3", "--split", "validation")
    capsys.readouterr()
    assert evaluate(trained, "segnet_basic", *arguments) == 0
    shown = capsys.readouterr().out
    assert "segnet_basic on 5 images of scenes, validation:" in shown
    results = json.loads((out / "results.json").read_text())
    task = load_task(trained / "segnet_basic" / "checkpoint.npz")
    samples = task.held_out("validation", 5)
    _, scores = task.evaluate(samples)
    assert results["mean IoU"] == pytest.approx(scores["mean IoU"])
    assert results["classes"][3]["name"] == "2"
    assert np.sum(results["confusion"]) == 5 * 128 * 128
    assert f"{scores['mean IoU']:.3f}" in shown
    assert sorted(p.name for p in out.glob("0*.png")) == ["0000.png", "0001.png", "0002.png"]
    assert Image.open(out / "confusion.png").size[0] > 300
    width, height = Image.open(out / "0000.png").size
    assert width > 3 * 256
    assert height >= 256


def test_detections_against_a_coco_file(trained, tmp_path, capsys):
    pytest.importorskip("pycocotools")
    scenes = Scenes("test", 4, seed=0)
    samples = [scenes[i] for i in range(4)]
    write_coco(tmp_path / "i.json", tmp_path / "images", samples, scenes.class_names)
    data = f"coco:{tmp_path / 'i.json'}:{tmp_path / 'images'}"
    out = tmp_path / "out"
    assert evaluate(trained, "maskrcnn_small", "--data", data, "--output", str(out)) == 0
    assert "4 images of coco:" in capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    assert set(results["boxes"]) >= {"AP", "AP50", "AR_100", "classes"}
    assert results["masks"]["AP"] is not None
    found = json.loads((out / "detections.json").read_text())
    assert {record["image_id"] for record in found} <= {1, 2, 3, 4}
    assert (out / "0003.png").exists()


def test_what_cannot_be_scored_is_said(trained, tmp_path, capsys):
    assert main(["evaluate", "unet", "--checkpoint", str(tmp_path / "none.npz")]) == 2
    assert "cnncore train unet" in capsys.readouterr().err
    write_coco(tmp_path / "i.json", tmp_path, [Scenes("test", 1)[0]], [f"c{k}" for k in range(10)])
    data = f"coco:{tmp_path / 'i.json'}:{tmp_path}"
    assert evaluate(trained, "segnet_basic", "--data", data) == 2
    assert "data of the classes that it knows: 0, 1" in capsys.readouterr().err
    lenet = ["train", "lenet5", "--steps", "1", "--quiet", "--scenes", "3"]
    assert main([*lenet, "--output", str(tmp_path / "lenet5")]) == 0
    capsys.readouterr()
    assert evaluate(tmp_path, "lenet5") == 2
    assert "a segmentation network or a detector" in capsys.readouterr().err
