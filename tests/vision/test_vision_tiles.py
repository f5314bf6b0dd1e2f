"""Tiled prediction, border weights, and the scores of label maps, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cnncore import models, no_grad, vision
from cnncore.errors import ArgumentError, ShapeError
from cnncore.nn import init
from cnncore.vision.tiles import mirrored, spans


@given(
    size=st.integers(1, 60),
    tile=st.integers(1, 20),
    context=st.integers(0, 9),
    overlap=st.integers(0, 19),
    multiple=st.sampled_from([1, 2, 4]),
)
def test_every_pixel_counts_once(size, tile, context, overlap, multiple):
    if (tile - overlap) // multiple < 1:
        with pytest.raises(ArgumentError, match="tile"):
            spans(size, tile, context, overlap, multiple)
        return
    total = np.zeros(size)
    for span in spans(size, tile, context, overlap, multiple):
        total[span.first : span.last] += span.weight
        assert span.last - span.first <= tile
        assert span.shown_first % multiple == 0
        assert span.shown_first <= max(0, span.first - context)
        assert span.shown_last >= min(size, span.last + context)
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)


def network(**settings):
    init.seed(0)
    return models.create("unet", num_classes=2, base=4, depth=2, norm=None, **settings).eval()


def predictor(model):
    def predict(x):
        with no_grad():
            return model(x)

    return predict


IMAGE = np.random.default_rng(0).normal(size=(3, 75, 90)).astype(np.float32)


@pytest.mark.parametrize(("tile", "overlap"), [(16, 0), ((16, 24), 4), (200, 0)])
def test_tiling_is_invisible_where_the_receptive_field_fits(tile, overlap):
    # Two double convolutions down, one at the bottom, two up: (4 + 4·2)·2 + 2·4 pixels and the
    # pooling's own, on each side.
    model = network()
    whole = predictor(model)(IMAGE[None]).numpy()[0]
    found = vision.predict_tiled(
        predictor(model), IMAGE, tile, context=36, overlap=overlap, multiple=4
    )
    np.testing.assert_allclose(found, whole, atol=1e-5)
    if tile == 16:  # with less than the receptive field the seams are there
        seams = vision.predict_tiled(predictor(model), IMAGE, tile, context=4, multiple=4)
        assert np.abs(seams - whole).max() > 1e-3


def test_a_network_without_padding_sees_mirrored_borders():
    model = network(padding=0)
    margin = model.margin
    mirror = np.pad(IMAGE, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    # The whole image in one pass: its size with margins is one that the poolings divide evenly.
    whole = predictor(model)(mirror[None, :, : 72 + 2 * margin, : 88 + 2 * margin]).numpy()[0]
    found = vision.predict_tiled(predictor(model), IMAGE[:, :72, :88], 8, margin=margin)
    wide = vision.predict_tiled(predictor(model), IMAGE[:, :72, :88], (24, 44), margin=margin)
    np.testing.assert_allclose(
        found[:, : 72 - margin, : 88 - margin], whole[:, : 72 - margin, : 88 - margin], atol=1e-5
    )
    np.testing.assert_allclose(found, wide, atol=1e-5)


def test_results_can_live_on_disk(tmp_path):
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.float32, (3, 75, 90))
    out[...] = 7.0
    given_back = vision.predict_tiled(lambda x: 2 * x, IMAGE, 32, overlap=5, out=out)
    assert given_back is out
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), 2 * IMAGE, rtol=1e-6)


def test_never_more_than_one_tile_is_shown():
    shapes = []

    def predict(x):
        shapes.append(x.shape)
        return x

    vision.predict_tiled(predict, np.zeros((1, 500, 300), np.float32), 64, context=10)
    assert max(s[2] for s in shapes) <= 84
    assert max(s[3] for s in shapes) <= 84


def test_a_result_of_another_size_is_refused():
    with pytest.raises(ShapeError, match="predict"):
        vision.predict_tiled(lambda x: x[:, :, 1:], IMAGE, 32)
    with pytest.raises(ShapeError, match="image"):
        vision.predict_tiled(lambda x: x, IMAGE[0], 32)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_mirrored_is_reflection(size):
    index = np.arange(-3 * size - 2, 4 * size + 2)
    line = np.arange(size)
    before = -int(index[0])
    wanted = np.pad(line, (before, int(index[-1]) - size + 1), mode="reflect")
    np.testing.assert_array_equal(mirrored(index, size), wanted)


def test_border_weights_by_definition():
    rng = np.random.default_rng(1)
    labels = np.zeros((17, 20), int)
    for name in (1, 2, 3):
        r, c = rng.integers(0, 12, 2)
        labels[r : r + 4, c : c + 5] = name
    found = vision.border_weights(labels, (0.5, 2.0), w0=7.0, sigma=3.0)
    for r in range(17):
        for c in range(20):
            if labels[r, c]:
                assert found[r, c] == 2.0
                continue
            near = sorted(
                min(math.dist((r, c), p) for p in np.argwhere(labels == name))
                for name in np.unique(labels[labels > 0])
            )
            wanted = 0.5 + 7.0 * math.exp(-((near[0] + near[1]) ** 2) / 18)
            assert found[r, c] == pytest.approx(wanted, rel=1e-6)


def test_border_weights_balance_the_classes_and_need_two_objects():
    labels = np.zeros((4, 4), int)
    labels[0] = 1
    found = vision.border_weights(labels)
    assert found[0, 0] * 4 == pytest.approx(found[3, 0] * 12)
    assert found.mean() == pytest.approx(0.75)
    assert (vision.border_weights(np.zeros((2, 2), int)) == 1).all()
    with pytest.raises(ShapeError, match="labels"):
        vision.border_weights(labels * 0.5)
