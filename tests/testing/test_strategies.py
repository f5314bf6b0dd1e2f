"""Strategies draw what they promise, of every kind."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings, strategies as st

from cnncore import ops
from cnncore.errors import ArgumentError
from cnncore.testing import gradcheck, strategies

quick = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(strategies.spaced((3, 4), 0.1), strategies.spaced((5,), 0.05, np.float32))
def test_spaced_values_have_no_ties(wide, narrow):
    assert np.diff(np.sort(wide.ravel())).min() >= 0.1 - 1e-12
    assert np.diff(np.sort(narrow)).min() >= 0.05 - 1e-6
    assert narrow.dtype == np.float32


@quick
@given(strategies.away_from((4, 5), (-1.0, 0.0, 1.0), 0.1))
def test_values_keep_away_from_kinks(x):
    assert min(np.abs(x - kink).min() for kink in (-1, 0, 1)) >= 0.1


def test_kinks_too_close_to_each_other_are_refused():
    with pytest.raises(ArgumentError, match="3 margins"):
        find(strategies.away_from((500,), (0.0, 0.06), 0.05), lambda x: True)


@quick
@given(strategies.values((2, 3, 4)), strategies.layouts())
def test_layouts_change_memory_and_nothing_else(x, layout):
    y = strategies.arrange(x, layout)
    np.testing.assert_array_equal(x, y)
    assert y.flags.c_contiguous == (layout in ("contiguous", "offset") and y.strides == x.strides)


@quick
@given(st.data(), st.integers(1, 6), st.integers(1, 6))
def test_windows_fit(data, height, width):
    window = data.draw(strategies.windows((height, width)))
    assert min(window.output_size((height, width))) >= 1


@quick
@given(strategies.conv_cases(), strategies.layouts())
def test_conv_cases_are_legal_and_differentiable(case, layout):
    inputs = [strategies.arrange(array, layout) for array in case.inputs]
    seeds = (0,)
    gradcheck(lambda *a: ops.conv2d(*a, **case.options), inputs, seeds=seeds, full_jacobian=False)


@quick
@given(strategies.conv_transpose_cases())
def test_conv_transpose_cases_give_back_the_size(case):
    y = ops.conv_transpose2d(*case.inputs, **case.options)
    assert case.window.output_size(y.shape[2:]) == case.x.shape[2:]


@quick
@given(strategies.pool_cases(), strategies.pool_cases(dilation=False, dtype=np.float32))
def test_pool_cases_are_legal(case, average):
    ops.max_pool2d(case.x, **case.options)
    ops.avg_pool2d(average.x, **average.options)


@quick
@given(strategies.roi_cases(), strategies.roi_cases(align=False))
def test_roi_cases_are_legal(case, pool):
    y = ops.roi_align(case.x, case.boxes, **case.options)
    assert y.shape == (len(case.boxes), case.x.shape[1], *case.options["output_size"])
    ops.roi_pool(pool.x, pool.boxes, **pool.options)


def test_every_kind_of_case_occurs():
    any_will_do = settings(phases=[Phase.generate])
    for wanted in (
        lambda case: case.options["groups"] == 2,
        lambda case: case.options["stride"][0] != case.options["stride"][1],
        lambda case: case.options["dilation"] != (1, 1) and case.bias is None,
        lambda case: isinstance(case.options["padding"][0], tuple),
    ):
        find(strategies.conv_cases(), wanted, settings=any_will_do)
    find(strategies.roi_cases(), lambda case: len(case.boxes) == 0, settings=any_will_do)
    find(strategies.pool_cases(), lambda case: case.options["ceil_mode"], settings=any_will_do)


def test_hypothesis_is_imported_only_when_needed():
    code = "import sys, cnncore.testing.strategies; print('hypothesis' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
