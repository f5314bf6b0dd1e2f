"""U-Net and the registry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnncore import Tensor, io, models
from cnncore.errors import ArgumentError
from cnncore.nn import init
from cnncore.optim import AdamW


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (None, 31_031_745),  # the paper's layers, padded, 3 channels to 1 class
        # 5,888 channels after convolutions: their biases go, two numbers of the norm come
        ("batch", 31_031_745 + 5_888),
    ],
)
def test_parameters_exactly(norm: str | None, expected: int) -> None:
    assert models.create("unet", num_classes=1, norm=norm).num_parameters() == expected


def test_keys_are_those_of_the_common_file() -> None:
    state = models.create("unet", num_classes=2, base=4).state_dict()
    shapes = {
        "inc.double_conv.0.weight": (4, 3, 3, 3),
        "inc.double_conv.1.running_mean": (4,),
        "down4.maxpool_conv.1.double_conv.3.weight": (64, 64, 3, 3),
        "up1.up.weight": (64, 32, 2, 2),
        "up1.conv.double_conv.0.weight": (32, 64, 3, 3),
        "outc.conv.weight": (2, 4, 1, 1),
    }
    for name, shape in shapes.items():
        assert state[name].shape == shape, name


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (4, 5)])
def test_output_has_the_size_of_the_input(size: tuple[int, int]) -> None:
    model = models.create("unet", num_classes=3, base=4, depth=2, norm="group")
    assert model(np.zeros((2, 3, *size), np.float32)).shape == (2, 3, *size)
    with pytest.raises(ArgumentError, match="at least 4"):
        model(np.zeros((1, 3, 3, 8), np.float32))


def test_the_bridge_carries_detail_and_the_bottom_carries_context() -> None:
    """A single pixel changes far outputs only through the bottom; its own output also without."""
    init.seed(0)
    model = models.create("unet", num_classes=1, base=4, depth=2, norm=None)
    x = np.zeros((1, 3, 32, 32), np.float32)
    y0 = model(x).numpy()
    x[0, :, 16, 16] = 1
    with_bottom = model(x).numpy() - y0
    for name in ("up1", "up2"):
        init.constant_(getattr(model, name).up.weight, 0.0)
    x[0, :, 16, 16] = 0
    y0 = model(x).numpy()
    x[0, :, 16, 16] = 1
    without = model(x).numpy() - y0
    far = np.s_[0, 0, 16, 16 + 7]  # two double convolutions alone reach 4 pixels
    assert with_bottom[far] != 0
    assert without[far] == 0
    assert without[0, 0, 16, 16] != 0


def test_loss_decode_and_learning() -> None:
    init.seed(0)
    model = models.create("unet", num_classes=3, base=8, depth=2, norm="group")
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 3, (2, 4, 4)).repeat(4, 1).repeat(4, 2)
    x = rng.normal(size=(2, 3, 16, 16)).astype(np.float32) * 0.1
    for c in range(3):
        x[:, c] += maps == c
    optimizer = AdamW(model.parameters(), lr=0.01)
    values = []
    for _ in range(20):
        loss = model.loss(model(x), list(maps))["cross_entropy"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.4 * values[0]
    decoded = model.decode(model(x))
    assert np.mean(np.stack(decoded) == maps) > 0.9
    assert decoded[0].dtype == np.int64
    assert model.decode(model(x), size=(32, 32))[1].shape == (32, 32)


def test_loss_takes_samples_weights_and_other_sizes() -> None:
    model = models.create("unet", num_classes=2, base=4, depth=1)

    class Sample:
        semantic = np.array([[0, 0, 0, 1]] * 4)

    logits = Tensor(np.zeros((1, 2, 2, 2), np.float32))
    logits.data[0, 0] = 1
    terms = model.loss(logits, [Sample()], class_weights=[0.0, 1.0])
    # Only class 1 counts: −log(1 / (e + 1)).
    assert terms["cross_entropy"].item() == pytest.approx(np.log(np.e + 1), rel=1e-6)
    with pytest.raises(ArgumentError, match="targets"):
        model.loss(logits, [])


def test_training_batches_without_images_are_legal() -> None:
    model = models.create("unet", num_classes=2, base=4, depth=1, norm="group")
    logits = model(np.zeros((0, 3, 8, 8), np.float32))
    assert model.loss(logits, [])["cross_entropy"].item() == 0
    assert model.decode(logits) == []


# --- the registry ---------------------------------------------------------------------------------


def test_names() -> None:
    assert models.list_models() == sorted(models.MODELS)
    assert models.list_models("unet") == ["unet", "unet_fpn"]
    with pytest.raises(ArgumentError, match="unet"):
        models.create("u_net", num_classes=2)


def test_weights_of_a_file(tmp_path: Path) -> None:
    source = models.create("unet", num_classes=2, base=4, depth=1)
    io.save(tmp_path / "w.npz", source.state_dict())
    loaded = models.create("unet", 2, weights=tmp_path / "w.npz", base=4, depth=1)
    for name, value in source.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], value)
    with pytest.raises(ArgumentError, match=r"other shape: outc\.conv\.weight"):
        models.create("unet", 3, weights=tmp_path / "w.npz", base=4, depth=1)
