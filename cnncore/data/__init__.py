"""Layer 5: data sets and the loader.  Real items, fixed splits, everything seeded."""

from __future__ import annotations

from cnncore.data import augment
from cnncore.data.digits import digits
from cnncore.data.fashion_mnist import DataError, fashion_mnist, read_idx
from cnncore.data.items import SPLITS, Items
from cnncore.data.loader import Dataset, Loader
from cnncore.data.scenes import Sample, Scenes, SceneSettings

__all__ = [
    "SPLITS",
    "DataError",
    "Dataset",
    "Items",
    "Loader",
    "Sample",
    "SceneSettings",
    "Scenes",
    "augment",
    "digits",
    "fashion_mnist",
    "read_idx",
]
