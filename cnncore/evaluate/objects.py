"""Scores of detections over a data set: COCO's numbers for boxes and masks.

Letters: ``R`` objects of an image, ``K`` classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cnncore.data import Dataset, Sample
from cnncore.errors import require
from cnncore.evaluate.label_maps import Predict
from cnncore.train.tasks import batches_of_one_size
from cnncore.vision import COCO_NAMES, NOTHING, Objects, coco_class_ap, coco_metrics


class ObjectScores:
    """Truth and detections of the images added so far.

    ``masks``: whether the truth has any; they are scored where detections have them, too.
    """

    def __init__(self, names: Sequence[str], masks: bool = True) -> None:
        self.names, self.masks = tuple(names), masks
        self.truth: list[Objects] = []
        self.found: list[Objects] = []

    def add(self, sample: Sample, found: Objects) -> None:
        """Count one image."""
        masks = self.masks and found.masks is not None
        self.truth.append(
            Objects(
                sample.boxes,
                sample.labels,
                sample.masks if masks else None,
                ignored=sample.ignored,
            )
        )
        drawn = found.masks if masks else None
        self.found.append(Objects(found.boxes, found.labels, drawn, found.scores))

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is scored."""
        drawn = self.masks and all(found.masks is not None for found in self.found)
        return ("boxes", "masks") if drawn else ("boxes",)

    def record(self) -> dict[str, Any]:
        """COCO's twelve numbers of each kind, and of each class AP and AP50."""
        content: dict[str, Any] = {"images": len(self.truth)}
        for kind in self.kinds:
            scores = coco_metrics(self.found, self.truth, kind)
            content[kind] = {name: _known(value) for name, value in scores.items()}
            content[kind]["classes"] = [
                {"name": name, "AP": _known(every), "AP50": _known(half)}
                for name, every, half in zip(
                    self.names, self._classes(kind, None), self._classes(kind, 0.5), strict=True
                )
            ]
        return content

    def _classes(self, kind: str, iou: float | None) -> list[float]:
        values: list[float] = coco_class_ap(
            self.found, self.truth, len(self.names), kind, iou
        ).tolist()
        return values

    def lines(self) -> list[str]:
        """Tables to print: a line a class, then COCO's numbers."""
        content = self.record()
        wide = max([5, *(len(name) for name in self.names)])
        head = "".join(f"  {kind:>5} AP  AP50" for kind in self.kinds)
        lines = [f"{'class':{wide}}{head}"]
        for k, name in enumerate(self.names):
            cells = ""
            for kind in self.kinds:
                row = content[kind]["classes"][k]
                cells += f"  {_cell(row['AP']):>8}  {_cell(row['AP50'])}"
            lines.append(f"{name:{wide}}{cells}")
        lines += ["", f"{'':9}" + "".join(f"  {kind:>5}" for kind in self.kinds)]
        for name in COCO_NAMES:
            cells = "".join(f"  {_cell(content[kind][name])}" for kind in self.kinds)
            lines.append(f"{name:9}{cells}")
        return lines


def _known(value: float) -> float | None:
    return None if value == NOTHING else value


def _cell(value: float | None) -> str:
    return f"{'–':>5}" if value is None else f"{value:5.3f}"


def evaluate_objects(
    predict: Predict,
    samples: Dataset[Sample],
    scores: ObjectScores,
    watch: Callable[[int, Sample, Any], None] | None = None,
    progress: bool = False,
) -> ObjectScores:
    """Add the detections on all samples; ``watch(index, sample, found)`` sees each."""
    bar = require("tqdm", "vision").tqdm(total=len(samples), disable=not progress, unit="image")
    with bar:
        for first, batch in batches_of_one_size(samples):
            for offset, (sample, found) in enumerate(zip(batch, predict(batch), strict=True)):
                scores.add(sample, found)
                if watch is not None:
                    watch(first + offset, sample, found)
            bar.update(len(batch))
    return scores
