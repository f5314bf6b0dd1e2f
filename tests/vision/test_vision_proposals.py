"""Region proposals: merging against masks and pixels counted one by one, contours, recall."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cnncore import vision
from cnncore.data import Scenes
from cnncore.errors import ArgumentError
from cnncore.vision.edge_boxes import Contours, EdgeBoxes, find_contours
from cnncore.vision.proposal_recall import best_overlaps, draw_proposal_recall, proposal_recall
from cnncore.vision.regions import (
    MEASURES,
    RegionTree,
    convert_colors,
    merge_regions,
    rgb_floats,
    texture_responses,
)
from cnncore.vision.selective_search import FAST, QUALITY, SelectiveSearch, selective_search

pytest.importorskip("skimage")


def picture(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    """Coloured rectangles with noise, ``(H, W, 3)`` uint8."""
    rng = np.random.default_rng(seed)
    x = np.full((height, width, 3), rng.integers(0, 256, 3), np.float64)
    for _ in range(5):
        y1, x1 = rng.integers(0, height - 8), rng.integers(0, width - 8)
        h, w = rng.integers(8, 20, 2)
        x[y1 : y1 + h, x1 : x1 + w] = rng.integers(0, 256, 3)
    return np.clip(x + rng.normal(0, 4, x.shape), 0, 255).astype(np.uint8)


# --- merging, from the definition -----------------------------------------------------------------


def slow_histogram(
    mask: np.ndarray, colors: np.ndarray, bins: int, tops: list[float]
) -> list[float]:
    """Of the pixels of a mask, channel after channel, as parts of all counts."""
    counts = [0.0] * (bins * colors.shape[2])
    for y, x in zip(*np.nonzero(mask), strict=True):
        for c in range(colors.shape[2]):
            part = colors[y, x, c] / tops[c] if tops[c] > 0 else 0.0
            counts[c * bins + min(bins - 1, int(part * bins))] += 1
    total = sum(counts)
    return [count / total for count in counts]


def slow_texture(x: np.ndarray) -> np.ndarray:
    """Half-rectified derivatives of a Gaussian (σ = 1, cut at 4σ), by sums over the window."""
    reach = range(-4, 5)
    bell = np.array([math.exp(-(t * t) / 2) for t in reach])
    bell /= bell.sum()
    slope = np.array([t * b for t, b in zip(reach, bell, strict=True)])  # −g′ for a correlation
    H, W, C = x.shape
    padded = np.pad(x, ((4, 4), (4, 4), (0, 0)), "edge")
    result = np.zeros((H, W, C, 8))
    for i, j in np.ndindex(H, W):
        window = padded[i : i + 9, j : j + 9]
        down = np.einsum("y,x,yxc->c", slope, bell, window)
        across = np.einsum("y,x,yxc->c", bell, slope, window)
        for d in range(8):
            angle = math.radians(45 * d)
            value = math.cos(angle) * across + math.sin(angle) * down
            result[i, j, :, d] = np.maximum(value, 0)
    return result


def slow_similarity(a: np.ndarray, b: np.ndarray, data: dict, measures: tuple[str, ...]) -> float:
    total, pixels = 0.0, a.size
    for name in measures:
        if name in ("colour", "texture"):
            values, bins, tops = data[name]
            one, two = (slow_histogram(m, values, bins, tops) for m in (a, b))
            total += sum(min(p, q) for p, q in zip(one, two, strict=True))
        elif name == "size":
            total += 1 - (a.sum() + b.sum()) / pixels
        else:
            rows, columns = np.nonzero(a | b)
            box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            total += 1 - (box - a.sum() - b.sum()) / pixels
    return total


def touch(a: np.ndarray, b: np.ndarray) -> bool:
    return any((np.roll(a, 1, axis) & b)[s].any() or (np.roll(b, 1, axis) & a)[s].any()
               for axis, s in ((0, np.s_[1:]), (1, np.s_[:, 1:])))  # fmt: skip


def slow_merging(labels: np.ndarray, colors: np.ndarray, measures: tuple[str, ...]) -> list[tuple]:
    """``(i, j, similarity)`` of each step, all pairs looked at afresh, on masks."""
    texture = slow_texture(colors)
    tops = [texture[:, :, c].max() for c in range(colors.shape[2]) for _ in range(8)]
    flat = texture.reshape(*labels.shape, -1)
    data = {"colour": (colors, 25, [1.0] * colors.shape[2]), "texture": (flat, 10, tops)}
    masks = {i: labels == i for i in range(labels.max() + 1)}
    steps = []
    while len(masks) > 1:
        pairs = [
            (i, j) for i, j in itertools.combinations(sorted(masks), 2) if touch(masks[i], masks[j])
        ]
        alike = [slow_similarity(masks[i], masks[j], data, measures) for i, j in pairs]
        best = int(np.argmax(alike))
        i, j = pairs[best]
        steps.append((i, j, alike[best]))
        masks[labels.max() + 1 + len(steps) - 1] = masks.pop(i) | masks.pop(j)
    return steps


@pytest.mark.parametrize(
    "measures", [MEASURES, ("texture", "size", "fill"), ("fill",), ("colour",)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_merging_is_that_of_masks_and_pixels(measures: tuple[str, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.kron(np.arange(12).reshape(3, 4), np.ones((4, 4), np.int64))
    labels = np.where(rng.random(labels.shape) < 0.1, np.roll(labels, 1, 1), labels)
    colors = rng.random((12, 16, 2)) * 0.3 + rng.random(12)[labels][..., None] * 0.6
    tree = merge_regions(labels, colors, measures)
    wanted = slow_merging(labels, colors, measures)
    assert tree.children.tolist() == [[i, j] for i, j, _ in wanted]
    np.testing.assert_allclose(tree.similarities, [s for *_, s in wanted], atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9), st.integers(1, 12))
def test_a_tree_covers_the_picture(seed: int, height: int, width: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, most, (height, width))
    labels = np.unique(numbers, return_inverse=True)[1].reshape(height, width)
    tree = merge_regions(labels, rng.random((height, width, 3)))
    R = labels.max() + 1
    assert len(tree.boxes) == len(tree.sizes) == 2 * R - 1
    assert tree.boxes[-1].tolist() == [0, 0, width, height]
    assert tree.mask(2 * R - 2).all()
    assert ((tree.similarities >= -1e-12) & (tree.similarities <= len(MEASURES) + 1e-12)).all()
    for region in range(2 * R - 1):
        mask = tree.mask(region)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert tree.sizes[region] == mask.sum()
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert tree.boxes[region].tolist() == box
    used = sorted(tree.children.reshape(-1).tolist())
    assert used == list(range(2 * R - 2))  # every region but the root goes into one other


def test_each_measure_of_two_halves_by_hand() -> None:
    labels = np.array([[0, 0, 1, 1]] * 2)
    colors = np.zeros((2, 4, 1))
    colors[:, 2:] = 1
    for measures, wanted in ((("colour",), 0.0), (("size",), 0.0), (("fill",), 1.0)):
        assert merge_regions(labels, colors, measures).similarities.tolist() == [wanted]
    assert merge_regions(labels, colors * 0, ("colour", "texture")).similarities.tolist() == [2.0]


def test_texture_against_sums_over_windows() -> None:
    x = np.random.default_rng(0).random((9, 11, 2))
    np.testing.assert_allclose(texture_responses(x), slow_texture(x), atol=1e-9)


@pytest.mark.parametrize("space", ["rgb", "hsv", "lab", "rgi", "h", "intensity"])
def test_colours_are_in_0_to_1(space: str) -> None:
    corners = np.array(list(itertools.product((0.0, 0.5, 1.0), repeat=3))).reshape(3, 9, 3)
    y = convert_colors(corners, space)
    assert y.shape == (3, 9, 1 if space in ("h", "intensity") else 3)
    assert 0 <= y.min() <= y.max() <= 1
    assert y.max() > 0.5


def test_rgi_by_hand() -> None:
    rgb = np.array([[[0.2, 0.6, 0.0], [0.0, 0.0, 0.0]]])
    wanted = [[[0.25, 0.75, 0.8 / 3], [0, 0, 0]]]
    np.testing.assert_allclose(convert_colors(rgb, "rgi"), wanted)


# --- selective search -----------------------------------------------------------------------------


def test_modes_have_as_many_trees_as_the_paper() -> None:
    x = picture(0)
    assert len(list(FAST.trees(x))) == 8
    q = QUALITY
    assert len(q.colors) * len(q.measures) * len(q.scales) == 80


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40))
def test_boxes_are_inside_and_come_once(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    found = SelectiveSearch(min_side=2.0, scales=(20.0,), min_size=3)(x)
    boxes = found.boxes
    assert len({tuple(b) for b in boxes.tolist()}) == len(boxes) == len(found.scores)
    assert (np.diff(found.scores) <= 0).all()
    if len(boxes):
        assert boxes.min() >= 0
        assert (boxes[:, 2:] <= (width, height)).all()
        assert ((boxes[:, 2:] - boxes[:, :2]) >= 2).all()
    if min(height, width) >= 2:
        assert [0, 0, width, height] in boxes.tolist()


def test_the_same_generator_the_same_order() -> None:
    x = picture(3)
    one, two, other = (
        selective_search(x, rng=np.random.default_rng(seed)).boxes.tolist() for seed in (1, 1, 2)
    )
    assert one == two
    assert one != other
    assert sorted(one) == sorted(other)
    assert selective_search(x, rng=np.random.default_rng(1), count=3).boxes.tolist() == one[:3]


class Ones:
    """A generator whose random numbers are all 1."""

    def random(self, count: int) -> np.ndarray:
        """``(count,)``"""
        return np.ones(count)


def test_without_chance_boxes_come_by_their_distance_from_the_root() -> None:
    x = picture(5)
    search = SelectiveSearch(min_side=1.0)
    best: dict[tuple[float, ...], int] = {}
    for tree in search.trees(x):
        for below, box in enumerate(tree.boxes[::-1].tolist(), 1):
            best[tuple(box)] = min(below, best.get(tuple(box), below))
    found = search(x, rng=Ones())  # type: ignore[arg-type]
    assert found.scores.tolist() == [-best[tuple(b)] for b in found.boxes.tolist()]
    assert found.boxes[0].tolist() == [0, 0, 56, 40]
    assert len(found.boxes) == len(best)


def test_layouts_of_a_picture_are_one() -> None:
    x = picture(4)
    floats = x.transpose(2, 0, 1) / 255.0
    np.testing.assert_array_equal(rgb_floats(x), rgb_floats(floats))


def test_objects_of_scenes_are_proposed() -> None:
    scenes = Scenes("validation", 12)
    search = SelectiveSearch(min_side=10.0)
    found = [search(scenes[i].image).boxes for i in range(12)]
    recall = proposal_recall(found, [scenes[i].boxes for i in range(12)], (10, 1000))
    assert recall[1] >= 0.95
    assert recall[0] < recall[1]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: selective_search(picture(0), "slow"), "mode"),
        (lambda: selective_search(np.zeros((4, 4), np.uint8)), "picture"),
        (lambda: selective_search(np.full((3, 4, 4), np.nan)), "picture"),
        (lambda: SelectiveSearch(scales=(0.0,)), "scales"),
        (lambda: SelectiveSearch(colors=()), "colors"),
        (lambda: list(SelectiveSearch(colors=("cmyk",)).trees(picture(0))), "space"),
        (lambda: merge_regions(np.zeros((2, 2), int), np.zeros((2, 2, 1)), ("shape",)), "measures"),
        (lambda: merge_regions(np.array([[0, 2]]), np.zeros((1, 2, 1))), "labels"),
        (lambda: merge_regions(np.zeros((2, 2), int), np.zeros((3, 2, 1))), "labels"),
        (lambda: EdgeBoxes(step_iou=1.0), "step_iou"),
        (lambda: EdgeBoxes(min_area=0.0), "min_area"),
    ],
)
def test_bad_arguments_are_named(call, name: str) -> None:
    with pytest.raises(ArgumentError, match=name):
        call()


def test_a_single_region_is_a_tree() -> None:
    tree = merge_regions(np.zeros((3, 5), np.int64), np.zeros((3, 5, 3)))
    assert isinstance(tree, RegionTree)
    assert tree.boxes.tolist() == [[0, 0, 5, 3]]
    assert tree.mask(0).all()


# --- edge boxes -----------------------------------------------------------------------------------


def slow_score(
    contours: Contours, pixels: list[np.ndarray], box: list[float], kappa: float
) -> float:
    """Equation 1 with weights of 0 and 1, less equation 4's middle."""
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    total = 0.0
    for places in pixels:
        if all(x1 <= x and x + 1 <= x2 and y1 <= y and y + 1 <= y2 for y, x in places):
            total += sum(contours.strength[y, x] for y, x in places)
    for y, x in np.argwhere(contours.strength > 0):
        inside_x = round(x1 + w / 4) <= x < round(x2 - w / 4)
        if inside_x and round(y1 + h / 4) <= y < round(y2 - h / 4):
            total -= contours.strength[y, x]
    return max(0.0, total) / (2 * (w + h)) ** kappa


def test_a_score_is_whole_contours_less_the_middle() -> None:
    rng = np.random.default_rng(0)
    strength = np.zeros((16, 20))
    groups = [[(2, 3), (2, 4), (3, 5)], [(8, 8), (8, 9)], [(12, 1), (13, 1)]]
    for places in groups:
        for place in places:
            strength[place] = rng.random()
    boxes = [[min(x for _, x in g), min(y for y, _ in g), max(x for _, x in g) + 1,
              max(y for y, _ in g) + 1] for g in groups]  # fmt: skip
    weight = np.array([sum(strength[p] for p in g) for g in groups])
    contours = Contours(strength, weight, np.array(boxes, float))
    corners = rng.integers(0, 12, (60, 2))
    tried = np.concatenate([corners, corners + rng.integers(1, 8, (60, 2))], 1).astype(np.float32)
    found = EdgeBoxes().score(contours, tried)
    wanted = [slow_score(contours, groups, b, 1.5) for b in tried.tolist()]
    assert np.count_nonzero(wanted) > 5
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_a_bright_square_is_the_best_box() -> None:
    x = np.zeros((80, 100, 3), np.uint8)
    x[20:60, 30:75] = 200
    found = EdgeBoxes()(x)
    assert vision.box_iou(found.boxes[:1], [[30, 20, 75, 60]])[0, 0] > 0.65
    assert (np.diff(found.scores) <= 0).all()
    assert found.boxes.min() >= 0
    assert (found.boxes[:, 2:] <= (100, 80)).all()
    overlaps = vision.box_iou(found.boxes, found.boxes)
    assert (overlaps[~np.eye(len(overlaps), dtype=bool)] <= 0.75 + 1e-6).all()


def test_edges_are_thin_and_sit_on_the_border() -> None:
    rgb = np.zeros((20, 30, 3))
    rgb[:, 15:] = 1
    contours = find_contours(rgb)
    assert (np.count_nonzero(contours.strength, 1) == 1).all()
    assert set(np.nonzero(contours.strength)[1]) <= {14, 15}
    assert contours.weight.tolist() == [pytest.approx(20.0)]
    assert contours.boxes[0, 1::2].tolist() == [0, 20]


@pytest.mark.parametrize("size", [(1, 1), (5, 80), (64, 64)])
def test_a_plain_picture_has_no_boxes(size: tuple[int, int]) -> None:
    found = EdgeBoxes()(np.full((*size, 3), 99, np.uint8))
    assert found.boxes.shape == (0, 4)


def test_windows_cover_places_at_their_overlap() -> None:
    for grid in EdgeBoxes(min_area=100.0).grids((40, 60)):
        group = grid.boxes()
        assert group.min() >= 0
        assert (group[:, 2:] <= (60, 40)).all()
        if len(grid.left) > 1:
            assert vision.box_iou(group[:1], group[1:2])[0, 0] >= 0.65


@pytest.mark.parametrize("seed", range(3))
def test_contours_inside_windows_are_counted_on_the_whole_grid_at_once(seed: int) -> None:
    contours = find_contours(rgb_floats(picture(seed)))
    assert len(contours.weight) > 10
    for grid in EdgeBoxes(min_area=60.0).grids(contours.strength.shape):
        wanted = []
        for x1, y1, x2, y2 in grid.boxes().tolist():
            inside = [w for w, (a, b, c, d) in zip(contours.weight, contours.boxes, strict=True)
                      if x1 <= a and y1 <= b and c <= x2 and d <= y2]  # fmt: skip
            wanted.append(sum(inside))
        np.testing.assert_allclose(grid.contained(contours).reshape(-1), wanted, atol=1e-9)


# --- recall ---------------------------------------------------------------------------------------


def test_recall_by_hand_and_by_loops() -> None:
    rng = np.random.default_rng(0)

    def some(n: int) -> np.ndarray:
        corner = rng.integers(0, 20, (n, 2))
        return np.concatenate([corner, corner + rng.integers(1, 15, (n, 2))], 1).astype(float)

    found, truth = [some(7), some(0), some(3)], [some(4), some(2), some(0)]
    for count, iou in itertools.product((0, 1, 5, 50), (0.1, 0.3)):
        hits = 0
        for p, t in zip(found, truth, strict=True):
            for box in t:
                hits += any(vision.box_iou(q[None], box[None])[0, 0] >= iou for q in p[:count])
        assert proposal_recall(found, truth, (count,), iou)[0] == pytest.approx(hits / 6)
    each = [proposal_recall(found, truth, (3,), t)[0] for t in (0.1, 0.5)]
    assert proposal_recall(found, truth, (3,), (0.1, 0.5))[0] == pytest.approx(np.mean(each))
    assert best_overlaps(found, truth, (0,)).tolist() == [[0.0] * 6]


def test_recall_without_objects_and_bad_arguments() -> None:
    assert proposal_recall([], [], (1,)).tolist() == [vision.NOTHING]
    with pytest.raises(ArgumentError, match="proposals"):
        proposal_recall([[]], [])
    with pytest.raises(ArgumentError, match="iou"):
        proposal_recall([], [], iou=1.5)
    with pytest.raises(ArgumentError, match="counts"):
        proposal_recall([], [], (-1,))


def test_recall_is_drawn() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    figure = draw_proposal_recall({"a": [0.1, 0.5], "b": [0.2, 0.4]}, (1, 10))
    (axis,) = figure.axes
    assert [line.get_label() for line in axis.lines] == ["a", "b"]
    assert axis.lines[0].get_xydata().tolist() == [[1, 0.1], [10, 0.5]]
