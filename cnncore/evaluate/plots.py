"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnncore.errors import require


def draw_confusion(confusion: NDArray[np.int64], names: Sequence[str]) -> Any:
    """A matplotlib figure: of each true class (row), the share of pixels given each class.

    Up to 25 classes the shares are written into the cells; rows without a pixel stay empty.
    """
    plt = require("matplotlib.pyplot", "vision")
    total = confusion.sum(1, keepdims=True)
    share = np.where(total > 0, confusion / np.maximum(total, 1), np.nan)
    K = len(names)
    side = 2.2 + 0.42 * K
    figure, axis = plt.subplots(figsize=(side + 0.6, side), layout="constrained")
    image = axis.imshow(share, vmin=0, vmax=1, cmap="Blues")
    axis.set_xticks(range(K), names, rotation=60, ha="right", fontsize="small")
    axis.set_yticks(range(K), names, fontsize="small")
    axis.set(xlabel="predicted class", ylabel="true class")
    if K <= 25:
        for i in range(K):
            for j in range(K):
                if share[i, j] >= 0.005:
                    color = "white" if share[i, j] > 0.6 else "black"
                    text = f"{100 * share[i, j]:.0f}"
                    axis.text(j, i, text, ha="center", va="center", color=color, fontsize=7)
    figure.colorbar(image, shrink=0.7, label="share of the true class's pixels (cells: %)")
    return figure
