"""What each system promises, on small ones: shapes, gradients, switches, skips, staged training."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore import Tensor, models, ops
from cnncore.errors import ArgumentError, ShapeError
from cnncore.models import outline, output_shapes, state_shapes
from cnncore.models.backbones import ResNetSettings
from cnncore.models.segmentation import UPSAMPLINGS, Upsampling
from cnncore.nn import init

TINY = (4, 4, 8, 8, 8)
RESNET = ResNetSettings(8, 3, (8, 8, 16, 16), (1, 1, 1, 1), "basic")
SMALL = {
    "sliding_window": {"widths": (4, 4, 8, 8), "dense": 16},
    "fcn32s": {"widths": TINY, "dense": 16, "fc6": 3, "padding": 17, "batch_norm": True},
    "fcn16s": {"widths": TINY, "dense": 16, "fc6": 3, "padding": 17, "batch_norm": True},
    "fcn8s": {"widths": TINY, "dense": 16, "fc6": 3, "padding": 17, "at_once": True},
    "fcn_resnet50": {"body": RESNET},
    "deeplabv3_resnet50": {"body": RESNET},
    "deconvnet": {"widths": TINY, "dense": 16, "fc6": 2},
    "segnet": {"widths": TINY},
    "segnet_basic": {"width": 4},
    "unet": {"base": 4, "depth": 3},
    "unet_fpn": {"base": 4, "depth": 3, "out_channels": 8, "width": 8},
}


def small(name, **settings):
    init.seed(3)
    return models.create(name, num_classes=3, **(SMALL[name] | settings))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(64, 96)])
def test_one_step_reaches_every_parameter(name, size):
    model = small(name)
    if name == "fcn8s":  # zero scores pass no gradient on to what feeds them: make them speak
        for pool in (3, 4):
            init.normal_(getattr(model, f"score_pool{pool}").weight, std=0.1)
    if name.startswith("fcn") and hasattr(model, "score_fr"):
        init.normal_(model.score_fr.weight, std=0.1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, *size)).astype(np.float32)
    truth = rng.integers(0, 3, (2, *size))
    for _ in range(2):
        outputs = model(x)
        terms = model.loss(outputs, list(truth))
        total = sum((term for term in terms.values()), start=Tensor(np.float32(0)))
        model.zero_grad()
        total.backward()
    learned = [(k, p) for k, p in model.named_parameters() if p.requires_grad]
    silent = [k for k, p in learned if p.grad is None or not np.isfinite(p.grad.numpy()).all()]
    assert not silent
    assert [m.shape for m in model.decode(outputs)] == [size, size]
    main = outputs["out"] if isinstance(outputs, dict) else outputs
    assert main.shape == (2, 3, *size)


def test_auxiliary_heads_give_terms_of_half_weight():
    model = small("fcn_resnet50")
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    outputs = model(x)
    truth = np.zeros((2, 32, 32), np.int64)
    terms = model.loss(outputs, list(truth))
    assert list(terms) == ["cross_entropy", "aux_cross_entropy"]
    alone = ops.cross_entropy(outputs["aux"], truth).item()
    assert terms["aux_cross_entropy"].item() == pytest.approx(0.5 * alone)


def test_ignored_pixels_do_not_count():
    model = small("unet", norm=None)
    x = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    truth = np.random.default_rng(1).integers(0, 3, (1, 16, 16))
    hidden = truth.copy()
    hidden[:, :8] = 255
    y = model(x)
    wanted = ops.cross_entropy(y[:, :, 8:], truth[:, 8:]).item()
    found = model.loss(y, list(hidden), ignore_index=255)["cross_entropy"].item()
    assert found == pytest.approx(wanted, rel=1e-6)


def test_a_criterion_replaces_the_cross_entropy():
    model = small("unet")
    x = np.zeros((1, 3, 16, 16), np.float32)
    truth = [np.zeros((16, 16), np.int64)]

    def dice(logits, truth):
        return ops.dice_loss(ops.softmax(logits, 1), truth)

    terms = model.loss(model(x), truth, criterion=dice)
    assert list(terms) == ["loss"]
    assert 0 < terms["loss"].item() < 1


class TestUpsampling:
    """The five ways up from a pooling of stride 2."""

    @pytest.mark.parametrize("kind", UPSAMPLINGS)
    @pytest.mark.parametrize("size", [(6, 8), (5, 7), (2, 3)])
    def test_to_the_remembered_size(self, kind, size):
        x = np.random.default_rng(0).normal(size=(2, 3, *size))
        pooled, switches = ops.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
        layer = Upsampling(kind, 3)
        if kind == "transposed":
            pooled = Tensor(pooled.numpy().astype(np.float32))
        assert layer(pooled, switches, size).shape == (2, 3, *size)

    def test_switches_put_maxima_back(self):
        x = np.random.default_rng(0).normal(size=(1, 2, 5, 7))
        pooled, switches = ops.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
        y = Upsampling("switches", 2)(pooled, switches, (5, 7)).numpy()
        kept = y != 0
        np.testing.assert_array_equal(y[kept], x[kept])
        assert kept.sum() == pooled.size

    def test_unknown_names_are_refused(self):
        with pytest.raises(ArgumentError, match="bed_of_nails"):
            Upsampling("nails", 1)

    def test_networks_that_differ_only_in_it_have_equal_parameters(self):
        free = ("switches", "bed_of_nails", "nearest", "bilinear")
        assert len({small("segnet", upsampling=k).num_parameters() for k in free}) == 1


class TestFCN:
    """Crops, skips that begin silent, staged training."""

    @pytest.mark.parametrize("stride", [8, 16, 32])
    def test_a_mirrored_image_gives_mirrored_scores(self, stride):
        # With mirrored weights, too; only a centred crop is its own mirror image.
        model = small(f"fcn{stride}s", at_once=False, batch_norm=False).eval()
        init.normal_(model.score_fr.weight, std=0.1)
        x = np.random.default_rng(0).normal(size=(1, 3, 96, 96)).astype(np.float32)
        y = model(x).numpy()
        state = {
            k: v[..., ::-1] if v.ndim == 4 and not k.startswith("upscore") else v
            for k, v in model.state_dict().items()
        }
        model.load_state_dict(state)
        mirrored = model(x[..., ::-1].copy()).numpy()[..., ::-1]
        np.testing.assert_allclose(mirrored, y, atol=1e-4)

    def test_new_skips_change_nothing_at_first(self):
        coarse = small("fcn32s", batch_norm=False).eval()
        init.normal_(coarse.score_fr.weight, std=0.1)
        fine = small("fcn16s", batch_norm=False).eval()
        fine.continue_from(coarse)
        x = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
        np.testing.assert_array_equal(fine.fc7.weight.numpy(), coarse.fc7.weight.numpy())
        assert not fine.score_pool4.weight.numpy().any()
        # Bilinear by 2 and then by 16 is close to bilinear by 32, not the same.
        difference = np.abs(fine(x).numpy() - coarse(x).numpy()).max()
        assert difference < 0.5 * np.abs(coarse(x).numpy()).max()

    def test_upsampling_is_fixed_unless_learned(self):
        fixed = [p.requires_grad for k, p in small("fcn8s").named_parameters() if "upscore" in k]
        learned = small("fcn8s", learned=True)
        free = [p.requires_grad for k, p in learned.named_parameters() if "upscore" in k]
        assert fixed == [False] * 3
        assert free == [True] * 3

    def test_a_padding_that_leaves_nothing_to_crop_is_refused(self):
        with pytest.raises(ArgumentError, match="padding"):
            small("fcn32s", padding=3)


def test_unet_without_bridges_has_no_other_way_across():
    model = small("unet", bridges=False, norm=None)
    x = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    before = model(x).numpy()
    for name in ("up1", "up2", "up3"):
        init.constant_(getattr(model, name).up.weight, 0.0)
        init.constant_(getattr(model, name).up.bias, 0.0)
    y = model(x).numpy()
    assert np.ptp(before, axis=(2, 3)).max() > 1e-3
    inner = y[:, :, 4:-4, 4:-4]  # away from the padding
    assert np.ptp(inner, axis=(2, 3)).max() < 1e-5


@pytest.mark.parametrize(("depth", "size"), [(4, 572), (2, 44), (3, 92)])
def test_unet_of_the_paper_loses_its_margin(depth, size):
    model = outline("unet", num_classes=2, base=4, depth=depth, norm=None, padding=0)
    assert output_shapes(model, (1, 3, size, size))[""][2:] == (size - 2 * model.margin,) * 2


def test_ternausnet_takes_public_vgg_weights_and_shares_them():
    shapes = state_shapes(outline("vgg11"))
    part = {k: v for k, v in shapes.items() if k.startswith("features.")}
    file = {k: np.full(v, i, np.float32) for i, (k, v) in enumerate(part.items())}
    model = models.create("ternausnet11", num_classes=1)
    model.load_encoder(file | {"classifier.0.weight": np.zeros(3)})
    np.testing.assert_array_equal(model.conv5.weight.numpy(), file["features.18.weight"])
    assert model.conv5.weight is model.encoder[18].weight
    with pytest.raises(ShapeError, match="32"):
        model(np.zeros((1, 3, 40, 64), np.float32))
