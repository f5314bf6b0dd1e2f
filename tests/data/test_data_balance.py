"""Rare classes: how often samples come, and samples made between neighbours."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cnncore.data import Items, digits
from cnncore.data.balance import (
    Resampled,
    balanced_items,
    oversampled,
    repeat_factors,
    smote,
)
from cnncore.errors import ArgumentError, ShapeError


@given(st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=12), st.floats(0, 1))
def test_repeat_factors_by_definition(classes, threshold):
    for found, factor in zip(classes, repeat_factors(classes, threshold), strict=True):
        wanted = 1.0
        for k in found:
            f = sum(k in other for other in classes) / len(classes)
            wanted = max(wanted, math.sqrt(threshold / f))
        assert factor == pytest.approx(wanted)


def test_fractions_are_met_on_average():
    data = "abcd"
    factors = [1, 2.25, 0.5, 0]
    counts = np.zeros(4)
    for seed in range(2000):
        drawn = Resampled(data, factors, seed)
        counts += [sum(v == c for v in drawn) for c in data]
    np.testing.assert_allclose(counts / 2000, factors, atol=0.05)
    assert list(Resampled(data, factors, 3)) == list(Resampled(data, factors, 3))
    with pytest.raises(ShapeError, match="factors"):
        Resampled(data, [1, 2])
    with pytest.raises(ArgumentError, match="factors"):
        Resampled(data, [1, 2, -1, np.nan])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 100))
def test_oversampling_makes_classes_equal_and_drops_nothing(labels, seed):
    chosen = oversampled(labels, seed)
    assert set(chosen.tolist()) == set(range(len(labels)))
    _, counts = np.unique(np.array(labels)[chosen], return_counts=True)
    assert (counts == max(labels.count(k) for k in labels)).all()


def nearest_of_class(points, members, a, count):
    """By definition: the members of the class nearest to a, ties in any order."""
    others = [m for m in members if m != a]
    others.sort(key=lambda m: math.dist(points[a], points[m]))
    limit = math.dist(points[a], points[others[min(count, len(others)) - 1]])
    return [m for m in others if math.dist(points[a], points[m]) <= limit + 1e-9]


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(2, 9),
    wanted=st.integers(0, 25),
    neighbours=st.integers(1, 6),
    own_space=st.booleans(),
)
def test_new_points_lie_between_a_sample_and_a_near_one_of_its_class(
    seed, size, wanted, neighbours, own_space
):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size + 12, 3))
    labels = rng.permutation([2] * size + [7] * 12)
    space = x if own_space else rng.normal(size=(len(x), 2))
    made, classes = smote(
        x, labels, {2: wanted}, neighbours, seed=1, space=None if own_space else space
    )
    assert made.shape == (wanted, 3)
    assert (classes == 2).all()
    members = np.flatnonzero(labels == 2)
    begun = dict.fromkeys(members.tolist(), 0)
    for point in made:
        fits = []
        for a in members:
            for b in nearest_of_class(space, members, a, neighbours):
                along = x[b] - x[a]
                u = (point - x[a]) @ along / (along @ along)
                if -1e-9 <= u <= 1 + 1e-9 and np.allclose(x[a] + u * along, point, atol=1e-9):
                    fits.append(int(a))
        assert fits
        begun[fits[0]] += 1
    again, _ = smote(x, labels, {2: wanted}, neighbours, seed=1, space=None if own_space else space)
    np.testing.assert_array_equal(again, made)


def test_every_sample_has_its_turn():
    x = np.array([[0.0], [10.0], [20.0], [30.0]])
    made, _ = smote(x, [0, 0, 0, 0], {0: 8}, neighbours=1)
    # With one neighbour each sample's points lie towards it: two of each sample.
    assert sum(0 <= v <= 10 for v in made[:, 0]) >= 4
    assert sum(20 <= v <= 30 for v in made[:, 0]) >= 2


def rare_digits(class_, count):
    items = digits("train")
    kept = np.flatnonzero(items.labels != class_)
    few = np.flatnonzero(items.labels == class_)[:count]
    chosen = np.sort(np.concatenate([kept, few]))
    return Items(
        items.images[chosen], items.labels[chosen], items.class_names, items.source[chosen]
    )


def test_balanced_digits():
    rare = rare_digits(8, 6)
    balanced = balanced_items(rare, seed=3)
    counts = np.bincount(balanced.labels)
    assert (counts == counts.max()).all()
    np.testing.assert_array_equal(balanced.images[: len(rare)], rare.images)
    assert (balanced.source[len(rare) :] == -1).all()
    assert balanced.images.dtype == np.float32
    assert balanced.images.min() >= 0
    assert balanced.images.max() <= 1
    new = balanced.images[len(rare) :][balanced.labels[len(rare) :] == 8]
    assert len(np.unique(new.reshape(len(new), -1), axis=0)) == len(new)


def test_it_helps_nearest_neighbours_to_find_a_rare_digit():
    """The first row of what the module states, with its seeds."""
    neighbors = pytest.importorskip("sklearn.neighbors")
    train, test = digits("train"), digits("test")
    x, unseen = (items.images.reshape(len(items), -1) for items in (train, test))
    scores = np.zeros((10, 3))
    for digit in range(10):
        rng = np.random.default_rng(digit)
        few = rng.choice(np.flatnonzero(train.labels == digit), 6, False)
        chosen = np.concatenate([np.flatnonzero(train.labels != digit), few])
        a, y = x[chosen], train.labels[chosen]
        again = oversampled(y, digit)
        new, classes = smote(a, y, seed=digit)
        sets = (a, y), (a[again], y[again]), (np.concatenate([a, new]), np.append(y, classes))
        for column, (points, labels) in enumerate(sets):
            found = neighbors.KNeighborsClassifier(5).fit(points, labels).predict(unseen) == digit
            true = test.labels == digit
            scores[digit, column] = 2 * (found & true).sum() / (found.sum() + true.sum())
    np.testing.assert_allclose(scores.mean(0), [0.62, 0.90, 0.93], atol=0.01)


def test_what_cannot_be_balanced_is_refused():
    x = np.zeros((3, 2))
    with pytest.raises(ArgumentError, match="two samples of class 1"):
        smote(x, [0, 0, 1])
    with pytest.raises(ShapeError, match="x"):
        smote(x, [0, 0])
    with pytest.raises(ShapeError, match="x"):
        smote(x.astype(int), [0, 0, 0])
    with pytest.raises(ShapeError, match="space"):
        smote(x, [0, 0, 0], space=x[:2])
    with pytest.raises(ShapeError, match="labels"):
        smote(x, [0.5, 0, 1])
    assert smote(np.zeros((0, 2)), np.zeros(0, int))[0].shape == (0, 2)
    assert smote(x, [0, 0, 0])[0].shape == (0, 2)
