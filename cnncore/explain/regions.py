"""One region of interest followed through RoI pooling and RoI Align.

Letters: ``C H W`` feature map, ``PH PW`` bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncore import kernels
from cnncore.errors import ArgumentError, require
from cnncore.geometry import Pair
from cnncore.roi_grid import RoiGrid
from cnncore.taps import Bins

Array = Any
SAMPLES = 2  # of RoI Align, a bin and axis


@dataclass(frozen=True)
class FollowedRegion:
    """What both ways read and give for one box and one channel.

    ``box`` is ``(x1, y1, x2, y2)`` in pixels of the feature map, unrounded.
    """

    plane: Array  # (H, W)
    box: Array
    rows: Bins  # of RoI pooling
    cols: Bins
    pooled: Array  # (PH, PW)
    switches: Array  # (PH, PW) flat index h·W + w, -1 for an empty bin
    aligned: Array  # (PH, PW)

    def sample_points(self) -> tuple[Array, Array]:
        """Where RoI Align samples: x and y in pixel-centre coordinates."""
        x1, y1, x2, y2 = self.box - 0.5  # `aligned`: pixel i covers i .. i + 1
        ph, pw = self.aligned.shape
        xs = x1 + (np.arange(pw * SAMPLES) + 0.5) * (x2 - x1) / (pw * SAMPLES)
        ys = y1 + (np.arange(ph * SAMPLES) + 0.5) * (y2 - y1) / (ph * SAMPLES)
        x, y = np.meshgrid(xs, ys)
        return x, y


def follow_region(
    features: Array, box: Array, spatial_scale: float, output_size: Pair, channel: int | None = None
) -> FollowedRegion:
    """Run one box ``(4,)`` of image coordinates over features ``(C, H, W)`` both ways.

    Without ``channel`` the one that varies most inside the region is shown.
    """
    features = np.asarray(features)
    if features.ndim != 3:
        raise ArgumentError("features", "one image's (C, H, W)", features.shape, "features[0]")
    size: Pair = features.shape[1:]
    grid = RoiGrid.make([[0.0, *np.asarray(box)]], output_size, spatial_scale, 1)
    rows, cols = grid.pool(size)
    pooled, switches = kernels.bin_max(features[None], grid.image, rows, cols)
    aligned = kernels.resample(features[None], grid.image, *grid.align(size, SAMPLES, aligned=True))
    if channel is None:
        channel = int(pooled[0].reshape(len(features), -1).std(axis=1).argmax())
    return FollowedRegion(
        features[channel],
        grid.boxes[0],
        rows,
        cols,
        pooled[0, channel],
        switches[0, channel],
        aligned[0, channel],
    )


def draw_region(followed: FollowedRegion) -> Any:
    """Both ways side by side: what is read above, what comes out below."""
    plt = require("matplotlib.pyplot", "vision")
    f = followed
    figure, axes = plt.subplots(
        2, 2, figsize=(9.5, 9.5), layout="constrained", height_ratios=(3, 2)
    )
    x1, y1, x2, y2 = f.box - 0.5
    top, bottom = int(f.rows.start.min()), int(f.rows.end.max())
    left, right = int(f.cols.start.min()), int(f.cols.end.max())
    limits = (f.plane.min(), f.plane.max())
    titles = (
        "RoI pooling: whole cells, one maximum a bin",
        "RoI Align: bilinear samples, averaged",
    )
    for axis, title in zip(axes[0], titles, strict=True):
        axis.imshow(f.plane, cmap="viridis", vmin=limits[0], vmax=limits[1])
        axis.add_patch(
            plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color="white", linewidth=2.5)
        )
        height, width = f.plane.shape
        axis.set(
            xlim=(max(left - 2, 0) - 0.5, min(right + 2, width) - 0.5),
            ylim=(min(bottom + 2, height) - 0.5, max(top - 2, 0) - 0.5),
            title=title,
        )
    for row in zip(f.rows.start[0], f.rows.end[0], strict=True):
        for col in zip(f.cols.start[0], f.cols.end[0], strict=True):
            corner = (col[0] - 0.5, row[0] - 0.5)
            shape = (col[1] - col[0], row[1] - row[0])
            axes[0, 0].add_patch(
                plt.Rectangle(corner, *shape, fill=False, color="tomato", linewidth=1, alpha=0.8)
            )
    chosen = f.switches[f.switches >= 0]
    axes[0, 0].scatter(chosen % f.plane.shape[1], chosen // f.plane.shape[1], s=14, color="tomato")
    ph, pw = f.aligned.shape
    axes[0, 1].vlines(np.linspace(x1, x2, pw + 1), y1, y2, color="tomato", linewidth=1)
    axes[0, 1].hlines(np.linspace(y1, y2, ph + 1), x1, x2, color="tomato", linewidth=1)
    axes[0, 1].scatter(*f.sample_points(), s=5, color="white")
    results = ((f.pooled, "pooled"), (f.aligned, "aligned"))
    for axis, (values, name) in zip(axes[1], results, strict=True):
        image = axis.imshow(values, cmap="viridis", vmin=limits[0], vmax=limits[1])
        axis.set(title=f"{name}: {values.shape[0]}×{values.shape[1]}", xticks=[], yticks=[])
    figure.colorbar(image, ax=axes, label="activation", shrink=0.6)
    return figure
