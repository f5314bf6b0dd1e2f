"""Window arithmetic: sizes by counting, transposed sizes, padding forms, receptive fields."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given, strategies as st

from cnncore.errors import ArgumentError, ShapeError
from cnncore.geometry import (
    MAX_ELEMENTS,
    ReceptiveField,
    Window2d,
    as_int,
    as_pair,
    checked_size,
)

small = st.integers(1, 5)
pair = st.tuples(small, small)
pads = st.tuples(st.integers(0, 4), st.integers(0, 4))
any_window = st.builds(Window2d, pair, pair, st.tuples(pads, pads), pair)


def fits(window, size):
    return all(size[a] + sum(window.padding[a]) >= window.extent[a] for a in (0, 1))


@given(any_window, st.tuples(st.integers(0, 30), st.integers(0, 30)))
def test_output_size_counts_the_windows_that_fit(window, size):
    if fits(window, size):
        assert window.output_size(size) == oracles.output_size(size, window)
    else:
        with pytest.raises(ShapeError, match=r"x: expected a padded (height|width)"):
            window.output_size(size)


@given(any_window, st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_ceil_mode_adds_a_window_that_begins_inside(window, size):
    """PyTorch's rule: the last window may hang over, but begins in the input or before it."""
    if not fits(window, size):
        return
    expected = []
    for axis, count in enumerate(window.output_size(size)):
        before, after = window.padding[axis]
        begin = count * window.stride[axis] - before  # the first window that does not fit
        covered = (count - 1) * window.stride[axis] + window.extent[axis]
        left_over = covered < size[axis] + before + after
        expected.append(count + (left_over and begin < size[axis]))
    assert window.output_size(size, ceil_mode=True) == tuple(expected)


@pytest.mark.parametrize(
    ("size", "window", "floor", "ceil"),
    [  # sizes that torch.nn.functional.max_pool2d gives
        ((6, 6), Window2d.make(3, 2), (2, 2), (3, 3)),
        ((5, 5), Window2d.make(2, 2), (2, 2), (3, 3)),
        ((5, 5), Window2d.make(2, 2, 1), (3, 3), (3, 3)),
        ((4, 4), Window2d.make(1, 3), (2, 2), (2, 2)),
        ((5, 7), Window2d.make(2, 4), (1, 2), (2, 2)),
        ((3, 3), Window2d.make(2, 3, 1), (2, 2), (2, 2)),
    ],
)
def test_known_sizes(size, window, floor, ceil):
    assert window.output_size(size) == floor
    assert window.output_size(size, ceil_mode=True) == ceil


@given(any_window, st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_transposed_candidates_are_all_sizes_that_give_back_the_windows(window, out):
    """Exactly those, found by trying every size."""
    candidates = window.transposed_candidates(out)
    smallest = window.transposed_size(out)
    for axis in (0, 1):
        single = Window2d(
            (window.kernel[axis], 1), (window.stride[axis], 1),
            (window.padding[axis], (0, 0)), (window.dilation[axis], 1),
        )  # fmt: skip
        giving = [
            n
            for n in range(80)
            if fits(single, (n, 1)) and oracles.output_size((n, 1), single)[0] == out[axis]
        ]
        assert [n for n in candidates[axis] if n >= 0] == giving
        assert candidates[axis][0] == smallest[axis]
        assert len(candidates[axis]) == window.stride[axis]


def test_resolving_an_output_size_lists_the_candidates():
    window = Window2d.make(3, 2, 1)
    assert window.transposed_size((4, 4)) == (7, 7)
    assert window.transposed_size((4, 4), (1, 0)) == (8, 7)
    assert window.resolve_output_size((4, 4), (8, 7)) == (8, 7)
    assert window.resolve_output_size((4, 4), 7) == (7, 7)
    with pytest.raises(ArgumentError, match=r"output_size: expected a width among \[7, 8\], got 9"):
        window.resolve_output_size((4, 4), (7, 9))


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (0, ((0, 0), (0, 0))),
        (2, ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        ([1, 2], ((1, 1), (2, 2))),
        (((1, 2), (3, 4)), ((1, 2), (3, 4))),
        ("valid", ((0, 0), (0, 0))),
        (np.int64(3), ((3, 3), (3, 3))),
    ],
)
def test_forms_of_padding(padding, expected):
    assert Window2d.make(3, 2, padding).padding == expected


@given(pair, pair, st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_same_keeps_the_size_and_puts_the_surplus_last(kernel, dilation, size):
    window = Window2d.make(kernel, 1, "same", dilation)
    assert window.output_size(size) == size
    for before, after in window.padding:
        assert after - before in (0, 1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kernel_size": 0}, "kernel_size"),
        ({"kernel_size": (3, -1)}, "kernel_size"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size"),
        ({"kernel_size": 2.0}, "kernel_size"),
        ({"kernel_size": True}, "kernel_size"),
        ({"kernel_size": "3"}, "kernel_size"),
        ({"kernel_size": None}, "kernel_size"),
        ({"stride": 0}, "stride"),
        ({"stride": (1, -2)}, "stride"),
        ({"dilation": 0}, "dilation"),
        ({"padding": -1}, "padding"),
        ({"padding": ((0, 1), (0, -1))}, "padding"),
        ({"padding": ((0, 1), (0, 1), (0, 1))}, "padding"),
        ({"padding": ((0, 1), 2)}, None),
        ({"padding": "full"}, "padding"),
        ({"padding": "same", "stride": 2}, "padding"),
    ],
    ids=str,
)
def test_windows_that_are_refused(arguments, named):
    arguments = {"kernel_size": 3, **arguments}
    if named is None:  # one pair and one number: both sides of the columns alike
        assert Window2d.make(**arguments).padding == ((0, 1), (2, 2))
        return
    with pytest.raises(ArgumentError) as caught:
        Window2d.make(**arguments)
    assert caught.value.argument == named


def test_the_names_of_a_callers_arguments_are_used():
    names = ("weight", "strides", "pads", "dilations")
    with pytest.raises(ArgumentError, match="pads: expected"):
        Window2d.make(3, 1, -1, names=names)


def test_numbers_and_pairs():
    assert as_pair("size", np.array([2, 3]), 1) == (2, 3)
    assert as_int("n", np.int32(4), 0) == 4
    assert type(as_int("n", np.int32(4), 0)) is int
    with pytest.raises(ArgumentError, match=r"n: expected an integer >= 0, got 1\.5"):
        as_int("n", 1.5, 0)


def test_sizes_that_no_index_addresses():
    assert checked_size("x", 3, 0, 5) == 0
    assert checked_size("x", MAX_ELEMENTS) == MAX_ELEMENTS
    with pytest.raises(ArgumentError, match="x: expected at most"):
        checked_size("x", np.int32(2**30), np.int32(2**30))  # no silent wrap-around


def test_flat_is_the_order_compiled_kernels_take():
    window = Window2d((1, 2), (3, 4), ((5, 6), (7, 8)), (9, 10))
    assert window.flat() == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)


@given(st.lists(any_window, min_size=1, max_size=3))
def test_receptive_field_is_what_an_output_pixel_sees(chain):
    """By tracing one output pixel of a row back through the chain, position by position."""
    field = ReceptiveField()
    for window in chain:
        field = field.then(window)
    for axis in (0, 1):
        seen = []
        for pixel in (0, 1):
            pixels = {pixel}
            for window in reversed(chain):
                stride, before = window.stride[axis], window.padding[axis][0]
                step = window.dilation[axis]
                pixels = {
                    p * stride - before + k * step
                    for p in pixels
                    for k in range(window.kernel[axis])
                }
            seen.append(pixels)
        assert field.start[axis] == min(seen[0])
        assert field.size[axis] == max(seen[0]) - min(seen[0]) + 1
        assert field.jump[axis] == min(seen[1]) - min(seen[0])
