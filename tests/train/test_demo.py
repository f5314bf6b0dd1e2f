"""The main job in miniature: three steps, six scenes, the whole report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from cnncore.data import Sample
from cnncore.train import demo, fit, held_out, make_task
from cnncore.vision.metrics import Objects

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "TEST_SCENES", 6)
        demo.run(folder, progress=False, steps=3)
    return folder


def test_the_report_is_one_self_contained_page(folder: Path) -> None:
    page = (folder / "index.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    assert all(s.startswith(("data:image/png;base64,", "#")) for s in sources)
    for title in (
        "Scores", "Predictions beside truth", "The misses", "Loss", "What each layer costs",
        "A layer is a matrix", "One region, two ways",
    ):  # fmt: skip
        assert f"<h2>{title}</h2>" in page


def test_the_metrics_are_written(folder: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["steps"] == metrics["planned_steps"] == 3
    assert metrics["test_scenes"] == 6
    assert {"box AP50", "mask AP50"} <= set(metrics["scores"])
    assert metrics["machine"]


def test_running_again_resumes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TEST_SCENES", 6)
    before = json.loads((folder / "metrics.json").read_text())
    again = demo.run(folder, progress=False, steps=3)
    assert again["training_seconds"] == before["training_seconds"]
    assert again["scores"] == before["scores"]


def test_worst_scenes_counts_misses_and_inventions() -> None:
    blank = np.zeros((3, 8, 8), np.float32)
    box = np.array([[0, 0, 4, 4]], np.float32)
    sample = Sample(
        blank, box, np.array([3]), np.zeros((1, 8, 8), bool), np.zeros((8, 8), np.int64)
    )
    masks, sure = np.zeros((1, 8, 8), bool), np.array([0.9])
    right = Objects(box, np.array([3]), masks, sure)
    wrong_class = Objects(box, np.array([4]), masks, sure)  # one missed and one invented
    unsure = Objects(box, np.array([3]), masks, np.array([0.1]))  # one missed
    order = demo.worst_scenes([sample] * 3, [right, wrong_class, unsure], 8)
    assert order == [1, 2]


def test_tasks_learn_something_in_a_few_steps() -> None:
    """Twenty steps on one batch must lower the loss of each task by a fifth."""
    for name in ("unet", "maskrcnn_small"):
        task = make_task(name, steps=20, batch_size=2)
        batch = held_out("train", 2)
        history = fit(
            task.model,
            task.loss,
            lambda step, batch=batch: iter([batch] * 20),
            task.recipe,
            progress=False,
        )
        totals = np.sum(list(history.terms.values()), axis=0)
        assert totals[-5:].mean() < 0.8 * totals[:3].mean(), (name, totals)
