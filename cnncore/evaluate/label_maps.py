"""Scores of label maps over a data set, added up image by image, so that it need not fit in memory.

Letters: ``K`` classes, background among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnncore.data import Dataset, Sample
from cnncore.errors import require
from cnncore.train.tasks import batches_of_one_size
from cnncore.vision import (
    NOTHING,
    boundary_f1,
    class_accuracy,
    class_dice,
    class_iou,
    confusion_matrix,
    frequency_weighted_iou,
    mean_accuracy,
    mean_dice,
    mean_iou,
    pixel_accuracy,
)

Predict = Callable[[Sequence[Any]], list[Any]]


class MapScores:
    """Confusion matrix and boundary scores of the maps added so far.

    >>> scores = MapScores(("background", "dog"))
    >>> scores.add([[0, 1, 1]], [[0, 0, 1]])
    >>> scores.confusion.tolist()
    [[1, 0], [1, 1]]
    """

    def __init__(
        self, names: Sequence[str], ignore_index: int | None = None, tolerance: float = 2.0
    ) -> None:
        self.names, self.ignore_index, self.tolerance = tuple(names), ignore_index, tolerance
        K = len(self.names)
        self.confusion = np.zeros((K, K), np.int64)
        self.images = 0
        self._boundary_sum = np.zeros(K)
        self._boundary_count = np.zeros(K, np.int64)

    def add(self, truth: ArrayLike, prediction: ArrayLike) -> None:
        """Count one image's true and predicted label map ``(H, W)``."""
        K, ignored = len(self.names), self.ignore_index
        self.confusion += confusion_matrix(truth, prediction, K, ignored)
        f1 = boundary_f1([truth], [prediction], K, self.tolerance, ignored)
        known = f1 != NOTHING
        self._boundary_sum[known] += f1[known]
        self._boundary_count[known] += 1
        self.images += 1

    @property
    def boundary(self) -> NDArray[np.float64]:
        """Boundary F1 of each class ``(K,)``, the mean over the images that have it."""
        count = self._boundary_count
        return np.where(count > 0, self._boundary_sum / np.maximum(count, 1), NOTHING)

    def means(self) -> dict[str, float]:
        """The scores over all classes, by name."""
        known = self.boundary[self.boundary != NOTHING]
        return {
            "mean IoU": mean_iou(self.confusion),
            "mean Dice": mean_dice(self.confusion),
            "mean boundary F1": float(known.mean()) if len(known) else NOTHING,
            "mean accuracy": mean_accuracy(self.confusion),
            "pixel accuracy": pixel_accuracy(self.confusion),
            "frequency-weighted IoU": frequency_weighted_iou(self.confusion),
        }

    def classes(self) -> list[dict[str, Any]]:
        """What is known of each class: scores (None where there is nothing) and pixel counts."""
        columns = {
            "IoU": class_iou(self.confusion),
            "Dice": class_dice(self.confusion),
            "boundary F1": self.boundary,
            "accuracy": class_accuracy(self.confusion),
        }
        counts = {"true pixels": self.confusion.sum(1), "predicted pixels": self.confusion.sum(0)}
        return [
            {"name": name}
            | {key: _known(float(values[k])) for key, values in columns.items()}
            | {key: int(values[k]) for key, values in counts.items()}
            for k, name in enumerate(self.names)
        ]

    def record(self) -> dict[str, Any]:
        """All of it, as JSON holds it."""
        return {
            "images": self.images,
            "boundary tolerance": self.tolerance,
            **{name: _known(value) for name, value in self.means().items()},
            "classes": self.classes(),
            "confusion": self.confusion.tolist(),
        }

    def lines(self) -> list[str]:
        """A table to print: a line a class, then the means."""
        rows = self.classes()
        wide = max([5, *(len(row["name"]) for row in rows)])
        shown = ("IoU", "Dice", "boundary F1", "true pixels", "predicted pixels")
        lines = [f"{'class':{wide}}" + "".join(f"  {name:>{len(name)}}" for name in shown)]
        for row in rows:
            cells = [_cell(row[name], len(name)) for name in shown]
            lines.append(f"{row['name']:{wide}}" + "".join(f"  {cell}" for cell in cells))
        lines.append("")
        lines += [f"{name:22}  {_cell(_known(v), 5)}" for name, v in self.means().items()]
        return lines


def _known(value: float) -> float | None:
    return None if value == NOTHING else value


def _cell(value: float | int | None, width: int) -> str:
    if value is None:
        return f"{'–':>{width}}"
    return f"{value:{width},d}" if isinstance(value, int) else f"{value:{width}.3f}"


def evaluate_maps(
    predict: Predict,
    samples: Dataset[Sample],
    scores: MapScores,
    watch: Callable[[int, Sample, Any], None] | None = None,
    progress: bool = False,
) -> MapScores:
    """Add the predictions on all samples to ``scores``; ``watch(index, sample, labels)`` sees each.

    Images may differ in size; runs of equal ones are predicted together.
    """
    bar = require("tqdm", "vision").tqdm(total=len(samples), disable=not progress, unit="image")
    with bar:
        for first, batch in batches_of_one_size(samples):
            predictions = predict(batch)
            for offset, (sample, labels) in enumerate(zip(batch, predictions, strict=True)):
                scores.add(sample.semantic, labels)
                if watch is not None:
                    watch(first + offset, sample, labels)
            bar.update(len(batch))
    return scores
