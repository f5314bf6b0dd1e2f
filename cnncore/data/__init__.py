"""Layer 5: data sets and the loader.  Real items, fixed splits, everything seeded."""

from __future__ import annotations

from cnncore.data import augment
from cnncore.data.balance import (
    Resampled,
    balanced_items,
    oversampled,
    repeat_factors,
    smote,
)
from cnncore.data.coco import Coco, write_coco, write_coco_results
from cnncore.data.digits import digits
from cnncore.data.errors import DataError
from cnncore.data.fashion_mnist import fashion_mnist, read_idx
from cnncore.data.items import SPLITS, Items
from cnncore.data.loader import Dataset, Loader
from cnncore.data.nuclei import nuclei
from cnncore.data.scenes import IGNORE, Sample, Scenes, SceneSettings
from cnncore.data.voc import VOC_CLASSES, Voc, write_voc

__all__ = [
    "IGNORE",
    "SPLITS",
    "VOC_CLASSES",
    "Coco",
    "DataError",
    "Dataset",
    "Items",
    "Loader",
    "Resampled",
    "Sample",
    "SceneSettings",
    "Scenes",
    "Voc",
    "augment",
    "balanced_items",
    "digits",
    "fashion_mnist",
    "nuclei",
    "oversampled",
    "read_idx",
    "repeat_factors",
    "smote",
    "write_coco",
    "write_coco_results",
    "write_voc",
]
