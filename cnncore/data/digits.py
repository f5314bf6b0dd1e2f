"""The 1,797 real handwritten digits of 8x8 pixels that scikit-learn carries.

Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998 (its
test set); 43 people, 4-bit ink after averaging 4x4 blocks.
"""

from __future__ import annotations

import functools

import numpy as np

from cnncore.data.items import SPLITS, Items, check_split, shuffled
from cnncore.errors import require

COUNTS = {"train": 1097, "validation": 200, "test": 500}
_SPLIT_SEED = 1797  # never change it: published scores are about these 500 test items


@functools.cache
def digits(split: str) -> Items:
    """The digits of one split: 1,097 for ``"train"``, 200 for ``"validation"``, 500 for ``"test"``.

    images ``(N, 8, 8)`` float32 in ``0..1`` (ink), read-only; labels are the digits.  The split is
    by item, fixed, the same on every machine.  Needs the extra ``vision`` (scikit-learn).
    """
    position = check_split(split)
    bunch = require("sklearn.datasets", "vision").load_digits()
    order = shuffled(len(bunch.images), _SPLIT_SEED)
    start = sum(COUNTS[name] for name in SPLITS[:position])
    chosen = np.sort(order[start : start + COUNTS[split]])
    images = (bunch.images[chosen] / 16).astype(np.float32)
    labels = bunch.target[chosen].astype(np.int64)
    for array in (images, labels, chosen):
        array.flags.writeable = False  # shared by all callers
    return Items(images, labels, tuple("0123456789"), chosen)
