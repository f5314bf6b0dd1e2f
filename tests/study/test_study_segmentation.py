"""Each experiment at toy size; what they compute beside the training, from its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("scipy")

from cnncore import Tensor, io, models, ops
from cnncore.errors import ArgumentError, CnncoreError
from cnncore.explain import overlap_count, unevenness
from cnncore.nn import init
from cnncore.study import experiments
from cnncore.study.segmentation import checkerboard, imagenet, losses, pretrained, sliding

KNOWN = experiments("segmentation")
TOY = {"steps": 3, "train_scenes": 16, "test_scenes": 4, "pretraining_steps": 2}


def at_toy_size(name: str):
    experiment = KNOWN[name]
    common = {k: v for k, v in TOY.items() if k in experiment.settings}
    return experiment.changed(**common)


@pytest.mark.parametrize(
    ("name", "condition"),
    [(name, c) for name, e in KNOWN.items() for c in [*e.conditions][:: len(e.conditions) - 1]],
)
def test_runs_at_toy_size(name: str, condition: str) -> None:
    if name == "sliding_window" and condition != "32×32":
        condition = "64×64"
    measures = at_toy_size(name).measured(condition, seed=0)
    for measure, value in measures.items():
        if "IoU" in measure or "F1" in measure or measure in ("precision", "recall", "same class"):
            assert 0 <= value <= 1, measure


def test_training_is_seeded() -> None:
    experiment = at_toy_size("unet_bridges")
    first = experiment.measured("without", 1)
    assert experiment.measured("without", 1) == first
    assert experiment.measured("without", 2) != first


def test_conditions_that_should_have_equal_parameters_do() -> None:
    unpooling = at_toy_size("unpooling")
    counts = {c: unpooling.measured(c, 0)["parameters"] for c in unpooling.conditions}
    assert counts.pop("transposed") > counts["switches"]
    assert len(set(counts.values())) == 1
    bridges = at_toy_size("unet_bridges")
    wider = bridges.measured("without, wider", 0)["parameters"]
    assert wider >= bridges.measured("with bridges", 0)["parameters"]
    fcn = at_toy_size("fcn_skips")
    few, more = (fcn.measured(c, 0)["parameters"] for c in ("FCN-32s", "FCN-8s"))
    assert few < more < few * 1.01  # the skips' scores, nothing else


class TestOverlapCount:
    @pytest.mark.parametrize(
        ("size", "kernel", "stride", "padding"),
        [
            ((3, 4), 3, 2, 0),
            ((3, 4), (4, 5), (2, 3), (1, 2)),
            ((1, 1), 2, 5, 0),
            ((5, 2), (1, 3), (3, 1), (0, 1)),
            ((6, 6), 7, 3, 2),
        ],
    )
    def test_from_the_definition(self, size, kernel, stride, padding) -> None:
        kernel, stride, padding = (
            v if isinstance(v, tuple) else (v, v) for v in (kernel, stride, padding)
        )
        shape = [
            (n - 1) * s + k - 2 * p
            for n, k, s, p in zip(size, kernel, stride, padding, strict=True)
        ]
        slow = np.zeros(shape, int)
        for i, j, u, v in itertools.product(*map(range, (*size, *kernel))):
            y = i * stride[0] + u - padding[0]
            x = j * stride[1] + v - padding[1]
            if 0 <= y < shape[0] and 0 <= x < shape[1]:
                slow[y, x] += 1
        np.testing.assert_array_equal(overlap_count(size, kernel, stride, padding), slow)

    def test_it_is_a_transposed_convolution_of_ones(self) -> None:
        ones = np.ones((1, 1, 5, 4)), np.ones((1, 1, 3, 5))
        y = ops.conv_transpose2d(*map(Tensor, ones), stride=(2, 3), padding=(1, 0))
        np.testing.assert_array_equal(
            overlap_count((5, 4), (3, 5), (2, 3), (1, 0)), y.numpy()[0, 0]
        )

    def test_refusals(self) -> None:
        with pytest.raises(ArgumentError, match="padding"):
            overlap_count((1, 1), 2, 1, 1)
        with pytest.raises(ArgumentError, match="stride"):
            overlap_count((1, 1), 2, 0)
        with pytest.raises(ArgumentError, match="values"):
            unevenness(np.ones(3), 1)

    def test_even_exactly_where_the_stride_divides_the_kernel(self) -> None:
        for kernel, stride in itertools.product(range(1, 9), range(1, 5)):
            if kernel >= stride:
                assert (checkerboard.predicted(kernel, stride) == 0) == (kernel % stride == 0)

    def test_unevenness_sees_the_period_only(self) -> None:
        rows = np.arange(12.0)[:, None] % 3 + np.zeros((12, 6))
        assert unevenness(rows, 3) == pytest.approx(np.std([0, 1, 2]) / 1)
        assert unevenness(rows, 1) == 0
        ramp = np.repeat(np.arange(8.0), 2)[:, None] + np.zeros((16, 4))
        assert unevenness(ramp, 2) == 0
        assert unevenness(np.zeros((4, 4)), 2) == 0


def test_the_count_is_the_mean_square_of_a_random_layer() -> None:
    rng = np.random.default_rng(0)
    for kernel, stride in ((3, 2), (5, 3)):
        said = checkerboard.predicted(kernel, stride)
        assert checkerboard.random_layer(kernel, stride, rng) == pytest.approx(said, rel=0.1)
        assert checkerboard.strided_gradient(kernel, stride, rng) == pytest.approx(said, rel=0.25)
    assert checkerboard.random_layer(4, 2, rng) < 0.05


class TestSlidingWindow:
    def test_windows_are_crops(self) -> None:
        image = np.random.default_rng(0).normal(size=(2, 44, 40))
        found = sliding.windows(image)
        assert found.shape == (4, 3, 2, 32, 32)
        np.testing.assert_array_equal(found[3, 1], image[:, 12:44, 4:36])

    def test_without_padding_scores_are_equal_bit_by_bit(self) -> None:
        assert KNOWN["sliding_window"].changed(repeats=1).measured("48×48", 3)[
            "largest difference"
        ] == 0  # fmt: skip
        for condition in ("no padding", "padding 2, 8 pixels around"):
            assert KNOWN["window_padding"].measured(condition, 3)["largest difference"] == 0
        for condition in ("padding 2", "padding 2, 4 pixels around"):
            assert KNOWN["window_padding"].measured(condition, 3)["largest difference"] > 0

    def test_a_window_at_a_time(self) -> None:
        rng = np.random.default_rng(1)
        classifier = sliding.with_integers(sliding.small_classifier(0), rng)
        network = models.to_fully_convolutional(classifier, (1, 32, 32))
        image = rng.integers(0, 4, (1, 40, 36)).astype(np.float64)
        scores = network(Tensor(image[None])).numpy()[0]
        for i, j in itertools.product(range(3), range(2)):
            crop = image[None, :, 4 * i : 4 * i + 32, 4 * j : 4 * j + 32]
            np.testing.assert_array_equal(scores[:, i, j], classifier(Tensor(crop)).numpy()[0])


class TestLosses:
    def test_shares_are_about_what_they_are_called(self) -> None:
        for share in losses.CROWDS:
            settings = {**KNOWN["rare_foreground"].settings, "share": share}
            scenes = losses.crowd("train", 40, 5, settings)
            found = 100 * np.mean([scene.semantic.mean() for scene in scenes])
            assert share * 0.85 < found < share * 1.15

    @pytest.mark.parametrize("name", losses.LOSSES)
    def test_every_loss_falls_towards_the_truth(self, name: str) -> None:
        truth = np.zeros((2, 6, 6), np.int64)
        truth[:, 2:4, 1:4] = 1
        settings = {**KNOWN["rare_foreground"].settings, "share": 5}
        measure = losses.LOSSES[name] or losses.balanced(losses.crowd("train", 4, 0, settings))

        def at(confidence: float) -> float:
            right = confidence * (2.0 * truth - 1)
            return measure(Tensor(np.stack([-right, right], 1)), truth).item()

        assert at(3.0) < at(1.0) < at(-1.0)

    def test_the_best_threshold(self) -> None:
        found = np.array([0.05, 0.1, 0.3, 0.35])
        truth = np.array([False, False, True, True])
        assert 0.1 <= losses.best_threshold(found, truth) < 0.3
        assert losses.overlap(truth, truth) == 1
        assert losses.overlap(~truth, truth) == 0


def test_public_weights_are_taken_where_they_are(tmp_path) -> None:
    assert (imagenet.IMAGENET_ENCODER.name in KNOWN) == imagenet.present()
    init.seed(3)
    features = models.create("vgg11", num_classes=2).features.state_dict()
    path = tmp_path / "vgg11.npz"
    io.save(path, {f"features.{key}": value for key, value in features.items()})
    toy = imagenet.IMAGENET_ENCODER.changed(steps=1, test_scenes=1, weights=str(path))
    assert 0 <= toy.measured("ImageNet, 8 scenes", 0)["mean IoU"] <= 1
    missing = imagenet.IMAGENET_ENCODER.changed(weights=str(tmp_path / "nothing.npz"))
    with pytest.raises((CnncoreError, OSError), match="nothing"):
        missing.measured("ImageNet, 8 scenes", 0)


def test_the_pretrained_way_down_is_taken_whole() -> None:
    state, right = pretrained.encoder(0, 2, 64, (21, 32))
    assert 0 <= right <= 1
    init.seed(5)
    model = pretrained.unet(4)
    before = {k: v.copy() for k, v in model.state_dict().items()}
    model.load_state_dict(state, allow=["up*", "outc*"])
    after = model.state_dict()
    for key in before:
        if key.startswith(("up", "outc")):
            np.testing.assert_array_equal(after[key], before[key])
        else:
            np.testing.assert_array_equal(after[key], state[key])
