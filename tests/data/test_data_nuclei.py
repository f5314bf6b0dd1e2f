"""The microscope image: its regions, and what happens without the package."""

from __future__ import annotations

import importlib
import itertools

import numpy as np
import pytest
from PIL import Image

from cnncore.data import DataError, nuclei
from cnncore.data.nuclei import REGIONS, installed_folder
from cnncore.errors import MissingDependencyError

needs_nuclei = pytest.mark.skipif(
    installed_folder() is None, reason="the package stardist is not installed"
)


@needs_nuclei
def test_the_regions_are_the_image_with_its_125_nuclei():
    folder = installed_folder()
    numbers = np.asarray(Image.open(folder / "mask2d.tif"))
    assert len(np.unique(numbers)) == 126
    assert (numbers > 0).mean() == pytest.approx(0.199, abs=1e-3)
    parts = [nuclei(split) for split in ("train", "validation", "test")]
    whole = np.concatenate([part.semantic for part in parts], 1)
    np.testing.assert_array_equal(whole, numbers > 0)
    brightness = np.asarray(Image.open(folder / "img2d.tif"))
    image = np.concatenate([part.image for part in parts], 2)
    np.testing.assert_allclose(image**2 * 255, np.stack([brightness] * 3), atol=1e-3)
    for part, (first, last) in zip(parts, REGIONS.values(), strict=True):
        shown = np.unique(numbers[:, first:last])[1:]
        assert len(part.labels) == len(shown)
        np.testing.assert_array_equal(part.masks.any(0), part.semantic > 0)
        assert (part.masks.sum(0) <= 1).all()


def test_regions_do_not_overlap():
    ends = sorted(REGIONS.values())
    assert ends[0][0] == 0
    assert ends[-1][1] == 512
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ends))


def test_a_missing_package_and_a_wrong_file_are_named(tmp_path, monkeypatch):
    module = importlib.import_module("cnncore.data.nuclei")
    monkeypatch.setattr(module, "installed_folder", lambda: None)
    nuclei.cache_clear()
    with pytest.raises(MissingDependencyError, match="pip install --no-deps stardist"):
        nuclei("train")
    Image.new("L", (5, 5)).save(tmp_path / "img2d.tif")
    with pytest.raises(DataError, match=r"img2d\.tif: expected 512×512 pixels, got \(5, 5\)"):
        nuclei("train", tmp_path)
    nuclei.cache_clear()
