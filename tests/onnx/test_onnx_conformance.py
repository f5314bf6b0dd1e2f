"""The ONNX project's conformance suite, with its own data, comparison and tolerances.

``pytest -s`` (or ``make conformance``) prints passed, unsupported and failed cases per operator.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx.backend.test.runner import Runner  # noqa: E402
from onnx_cases import (  # noqa: E402
    NO_TENSORS,
    UNSUPPORTED,
    networks,
    run_cases,
    run_network,
    table,
)

from cnncore.onnx import backend  # noqa: E402
from cnncore.onnx.registry import find  # noqa: E402

# Fewer cases than these would mean that the suite was not found or that support was lost.
LEAST_PASSED = {"node": 1500, "pytorch-converted": 82, "pytorch-operator": 35, "simple": 7}


@pytest.mark.parametrize("kind", LEAST_PASSED)
def test_every_case_passes_or_is_on_the_list_of_what_is_unsupported(kind: str) -> None:
    counts, refused = run_cases(kind)
    print(f"\n{kind}\n{table(counts)}")
    failed = [line for count in counts.values() for line in count.failed]
    assert not failed, "\n".join(failed)
    assert not refused.keys() - UNSUPPORTED.keys() - {NO_TENSORS}
    assert sum(count.passed for count in counts.values()) >= LEAST_PASSED[kind]


def test_what_the_list_calls_unsupported_is() -> None:
    opset = onnx.defs.onnx_opset_version()
    assert [name for name in UNSUPPORTED if find("", name, opset)] == []


@pytest.mark.parametrize("path", networks(), ids=lambda path: path.stem)
def test_whole_networks(path: Path) -> None:
    run_network(path)


def test_no_network_is_missing() -> None:
    assert len(networks()) >= 9


def test_the_comparison_can_fail() -> None:
    with pytest.raises(AssertionError):
        Runner.assert_similar_outputs([np.float32([1])], [np.float32([1.1])], 1e-3, 1e-7)


def test_one_node_can_be_run_by_itself() -> None:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 3, 3), np.float32)
    (y,) = backend.run_node(node, [x, w])
    np.testing.assert_array_equal(y[0, 0], [[4, 6, 4], [6, 9, 6], [4, 6, 4]])
    (y,) = backend.run_node(onnx.helper.make_node("Neg", ["x"], ["y"]), [x], opset_version=13)
    np.testing.assert_array_equal(y, -x)
