"""Every small segmentation system: a step of it, its stages, its patches; scores are elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnncore import Tensor, models, no_grad
from cnncore.data import Sample
from cnncore.data.nuclei import installed_folder
from cnncore.models import to_fully_convolutional
from cnncore.models.segmentation import SEGMENTERS
from cnncore.train import make_task
from cnncore.train.segmentation import SYSTEMS, annealed_weights, map_scores, segmentation_task


def scene(semantic):
    """A sample with this map and noise for a picture."""
    semantic = np.asarray(semantic)
    image = np.random.default_rng(0).random((3, *semantic.shape), np.float32)
    none = np.zeros((0, *semantic.shape), bool)
    return Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), none, semantic)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_step_of_each_system_runs_and_its_answer_covers_the_scene(name):
    if name == "unet_nuclei" and installed_folder() is None:
        pytest.skip("the package stardist is not installed")
    task = make_task(name, steps=1, batch_size=2)
    before = {k: p.numpy().copy() for k, p in task.model.named_parameters() if p.requires_grad}
    histories = task.train(progress=False)
    assert histories[-1].steps == 1
    after = dict(task.model.named_parameters())
    moved = [k for k, old in before.items() if not np.array_equal(old, after[k].numpy())]
    # Scores that begin at zero pass nothing on in the first step.
    assert moved == list(before) or (name.startswith("fcn") and "score_fr.weight" in moved)
    samples = task.held_out("validation", 2)
    predictions, scores = task.evaluate(samples)
    assert [p.shape for p in predictions] == [s.image.shape[1:] for s in samples]
    assert 0 <= scores["mean IoU"] <= 1


def test_every_network_is_trained_by_some_system():
    deeper = {"fcn_resnet101", "deeplabv3_resnet101"}  # the same with more blocks
    assert {system.network for system in SYSTEMS.values()} | deeper == set(SEGMENTERS)


def test_background_counts_little_at_first_and_fully_in_the_end():
    np.testing.assert_allclose(annealed_weights(0.0), [0.1] + [1] * 10)
    np.testing.assert_allclose(annealed_weights(0.6), [0.1] + [1] * 10)
    np.testing.assert_allclose(annealed_weights(0.8), [0.325] + [1] * 10)
    np.testing.assert_allclose(annealed_weights(1.0), [1] * 11)


def test_scores_count_pixels_of_all_samples_together():
    samples = [scene([[0, 0], [0, 1]]), scene([[1, 1], [2, 0]])]
    scores = map_scores([np.array([[0, 0], [0, 1]]), np.array([[1, 0], [2, 0]])], samples)
    assert scores["pixel accuracy"] == pytest.approx(7 / 8)
    assert scores["IoU background"] == pytest.approx(4 / 5)
    assert scores["IoU 0"] == pytest.approx(2 / 3)
    assert scores["IoU 1"] == 1


def test_stages_continue_from_each_other_and_resume(tmp_path):
    task = make_task("fcn8s", steps=1, batch_size=2)
    steps = [h.steps for h in task.train(tmp_path, progress=False)]
    ratio = SYSTEMS["fcn16s"].recipe.steps / SYSTEMS["fcn8s"].recipe.steps
    assert steps[1:] == [round(ratio), 1]
    middle = task.before
    assert [middle.name, middle.before.name] == ["fcn16s", "fcn32s"]
    # One step of at most the learning rate lies between the stages' weights.
    moved = np.abs(task.model.fc7.weight.numpy() - middle.model.fc7.weight.numpy()).max()
    assert 0 < moved < 2 * task.recipe.learning_rate
    assert all(path.exists() for path in task.checkpoints(tmp_path))
    again = make_task("fcn8s", steps=1, batch_size=2)
    histories = again.train(tmp_path, progress=False)
    assert [h.steps for h in histories] == steps
    for key, value in task.model.state_dict().items():
        np.testing.assert_array_equal(again.model.state_dict()[key], value, key)


def test_deep_supervision_weighs_the_auxiliary_head():
    system = replace(SYSTEMS["deeplabv3"], auxiliary=0.25)
    terms = {}
    for row in (SYSTEMS["deeplabv3"], system):
        task = segmentation_task("deeplabv3", row, replace(row.recipe, batch_size=2))
        batch = task.held_out("train", 2)
        found = task.loss(batch, np.random.default_rng(0), 0.0)
        terms[row.auxiliary] = {name: term.item() for name, term in found.items()}
    assert terms[0.25]["aux_cross_entropy"] == pytest.approx(
        terms[0.5]["aux_cross_entropy"] / 2, rel=1e-3
    )


def test_a_criterion_takes_the_place_of_the_cross_entropy():
    row = replace(SYSTEMS["fpn"], criterion=lambda logits, truth: (logits * 0).sum() + 3.0)
    task = segmentation_task("fpn", row, row.recipe)
    terms = task.loss(task.held_out("train", 1), np.random.default_rng(0), 0.0)
    assert {name: term.item() for name, term in terms.items()} == {"loss": 3.0}


class TestSlidingWindow:
    """The answer for an image is the classifier's for the patch around each pixel."""

    @pytest.mark.parametrize("size", [(15, 15), (16, 20), (17, 23)])
    def test_one_pass_for_each_shift_equals_every_patch(self, size):
        model = models.create("sliding_window", 3, widths=(4, 4, 8, 8), dense=16).eval()
        x = Tensor(np.random.default_rng(0).normal(size=(2, 3, *size)).astype(np.float32))
        places = [(n, i, j) for n in range(2) for i in range(size[0]) for j in range(size[1])]
        with no_grad():
            whole = model(x).numpy()
            each = model.classifier(model.patches(x, places)).numpy()
        each = each.reshape(2, *size, 3).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(whole, each, atol=1e-5)
        assert np.ptp(each) > 0.1

    def test_it_is_the_conversion_of_the_classifier(self):
        model = models.create("sliding_window", 3, widths=(4, 4, 8, 8), dense=16).eval()
        x = np.random.default_rng(0).normal(size=(1, 3, 24, 28)).astype(np.float32)
        converted = to_fully_convolutional(model.classifier, (3, 24, 24))(x).numpy()
        middle = model(x).numpy()[:, :, 12:13, 12:17:4]
        np.testing.assert_allclose(middle, converted, atol=1e-5)

    def test_patches_are_centred_and_mirrored(self):
        model = models.create("sliding_window", 2, in_channels=1)
        x = Tensor(np.arange(400, dtype=np.float32).reshape(1, 1, 20, 20))
        patches = model.patches(x, [(0, 7, 15), (0, 0, 0)]).numpy()
        assert patches.shape == (2, 1, 24, 24)
        assert patches[0, 0, 12, 12] == 7 * 20 + 15
        assert patches[0, 0, 12, 12 + 5] == 7 * 20 + 18  # columns 16 17 18 19 18
        assert patches[1, 0, 12 - 2, 12 - 3] == 2 * 20 + 3

    def test_half_of_the_patches_are_of_digits(self, monkeypatch):
        task = make_task("sliding_window", batch_size=2)
        asked = []
        patches = task.model.patches

        def spy(x, places):
            asked.extend(places)
            return patches(x, places)

        monkeypatch.setattr(task.model, "patches", spy)
        batch = [s for s in task.held_out("train", 20) if s.semantic.any()][:2]
        task.loss(batch, np.random.default_rng(0), 0.0)
        ink = [batch[n].semantic[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].any() for n, i, j in asked]
        assert len(asked) == 32
        assert ink[:8] == ink[16:24] == [True] * 8
        assert sum(ink) < 28

    def test_scenes_without_digits_are_legal(self):
        task = make_task("sliding_window")
        terms = task.loss([scene(np.zeros((64, 64), int))], np.random.default_rng(0), 0.0)
        assert np.isfinite(terms["cross_entropy"].item())
