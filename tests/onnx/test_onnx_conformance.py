"""The ONNX project's conformance suite, with its own data, comparison and tolerances.

``pytest -s`` (or ``make conformance``) prints passed, unsupported and failed cases per operator.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import numpy_helper  # noqa: E402
from onnx.backend.test.runner import Runner  # noqa: E402
from onnx_cases import NO_TENSORS, UNSUPPORTED, run_cases, table  # noqa: E402

from cnncore.onnx import backend  # noqa: E402
from cnncore.onnx.registry import find  # noqa: E402

# Fewer cases than these would mean that the suite was not found or that support was lost.
LEAST_PASSED = {"node": 1500, "pytorch-converted": 82, "pytorch-operator": 35, "simple": 7}
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


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


@pytest.mark.parametrize("path", sorted(LIGHT.glob("*.onnx")), ids=lambda p: p.stem)
def test_whole_networks(path: Path) -> None:
    """Graphs of well-known networks with constant weights; outputs computed by the ONNX project."""
    model = onnx.load(path)
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [Runner.generate_dummy_data(v) for v in model.graph.input if v.name not in held]
    answer = onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb"))
    outputs = backend.prepare(model).run(inputs)
    Runner.assert_similar_outputs([numpy_helper.to_array(answer)], outputs, rtol=1e-3, atol=1e-7)


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
