"""What the scripts share that draw the pages of pictures: trained networks, scenes, files."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from cnncore.data import Dataset, Sample
from cnncore.train import Task, load_task, make_task

HERE = Path(__file__).parent
MANY = 4  # objects a scene that is shown has at least
SHOWN = 4  # scenes: the first such of the test split
COUNT = 300


def trained(name: str, runs: Path) -> Task:
    """The task with the network of its checkpoint; without one it is trained first."""
    checkpoint = runs / name / "checkpoint.npz"
    if not checkpoint.is_file():
        print(f"training {name}")
        make_task(name).train(runs / name)
    task = load_task(checkpoint, name)
    task.model.eval()
    return task


def rich(scenes: Dataset[Sample]) -> list[Sample]:
    """The first few scenes with many objects."""
    many = (s for s in map(scenes.__getitem__, range(len(scenes))) if len(s.labels) >= MANY)
    return list(itertools.islice(many, SHOWN))


def save(name: str, picture: np.ndarray) -> None:
    """As PNG, among the pages' images."""
    Image.fromarray(picture).save(HERE / "images" / f"{name}.png", optimize=True)
