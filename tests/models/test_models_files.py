"""Networks and files: made again from what a file says, weights of another network refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnncore import io, models, nn
from cnncore.errors import ArgumentError


def test_a_saved_network_is_made_again(tmp_path: Path) -> None:
    model = models.create("unet", num_classes=3, base=4, depth=2)
    models.save(tmp_path / "net.npz", model)
    again = models.load(tmp_path / "net.npz")
    assert type(again) is type(model)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)
    assert io.load_metadata(tmp_path / "net.npz") == {
        "model": {"name": "unet", "num_classes": 3, "settings": {"base": 4, "depth": 2}}
    }
    models.save(tmp_path / "twice.npz", again)
    assert (tmp_path / "twice.npz").read_bytes() == (tmp_path / "net.npz").read_bytes()


def test_misfits(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"models\.create.*state_dict"):
        models.save(tmp_path / "a.npz", nn.Linear(1, 1))
    io.save(tmp_path / "a.npz", {"x": np.ones(1)})
    with pytest.raises(ArgumentError, match=r"models\.save.*weights=path"):
        models.load(tmp_path / "a.npz")
    with pytest.raises(ArgumentError, match="a checkpoint of unet, got one of resnet50"):
        models.create("unet", 3, weights="resnet50_imagenet1k_v1")
