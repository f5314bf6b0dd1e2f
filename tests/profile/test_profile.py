"""The profile by op: what is counted and charged to whom; times only in so far as they add up."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from cnncore import nn, ops
from cnncore.autograd import Tensor
from cnncore.cli import main
from cnncore.kernels import dispatch
from cnncore.optim import SGD
from cnncore.profile import profile, text, to_json, trace
from cnncore.profile.overhead import SMALL_OPS, OverheadRow, overhead, overhead_text
from cnncore.profile.recorder import OUTSIDE, OpRow, Profile


def network() -> tuple[nn.Module, Tensor]:
    nn.init.seed(0)
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)), Tensor(x)


def step_of(model: nn.Module, x: Tensor, optimizer: SGD | None = None):
    def step() -> None:
        model(x).sum().backward()
        if optimizer is not None:
            optimizer.step()
        model.zero_grad()

    return step


def by_name(found: Profile) -> dict[str, OpRow]:
    rows: dict[str, OpRow] = {}
    for row in found.rows:  # the algorithm of a convolution may differ between its layers
        total = rows.setdefault(row.name, OpRow(row.name))
        total.calls += row.calls
        total.backward_calls += row.backward_calls
        total.flops += row.flops
        total.nbytes += row.nbytes
    return rows


def test_calls_operations_and_bytes_by_hand() -> None:
    rows = by_name(profile(step_of(*network()), steps=2))
    assert (rows["Conv2d"].calls, rows["Conv2d"].backward_calls) == (2, 2)
    first, second = 2 * 2 * 4 * 64 * 27, 2 * 2 * 2 * 64 * 4
    # Forward, the weights' gradients, and the input's gradient of the second one alone.
    assert rows["Conv2d"].flops == 2 * first + 3 * second
    x, hidden, y = 2 * 3 * 64, 2 * 4 * 64, 2 * 2 * 64
    weights = 4 * 27 + 4 + 2 * 4 + 2
    assert rows["Conv2d"].nbytes == 4 * (x + hidden + hidden + y + weights)


def test_parts_do_not_exceed_the_whole() -> None:
    found = profile(step_of(*network()), steps=3)
    for row in found.rows:
        assert 0 <= row.forward_kernels <= row.forward
        assert 0 <= row.backward_kernels <= row.backward
    assert found.python_seconds == pytest.approx(max(0, found.seconds - found.kernel_seconds))
    assert found.ops == sum(row.calls + row.backward_calls for row in found.rows)
    assert found.python_per_op == pytest.approx(found.python_seconds / found.ops)


def test_a_kernel_inside_a_backward_pass_is_charged_to_its_op() -> None:
    model, x = network()
    found = profile(step_of(model, x), steps=1)
    assert found.kernels["conv2d"][0] == 2
    assert found.kernels["conv2d_weight"][0] == 2
    assert found.kernels["conv_transpose2d"][0] == 1
    assert all(row.backward_kernels > 0 for row in found.rows if row.name == "Conv2d")
    assert "Conv2dWeight" not in {row.name for row in found.rows}


def test_what_runs_outside_ops_has_a_row_of_its_own() -> None:
    model, x = network()
    optimizer = SGD(model.parameters(), lr=0.01)
    rows = {row.name: row for row in profile(step_of(model, x, optimizer), steps=1).rows}
    assert rows[OUTSIDE].forward_kernels > 0


def test_shapes_split_the_rows() -> None:
    model, x = network()
    found = profile(step_of(model, x), steps=1, by_shape=True)
    shapes = {row.shape for row in found.rows if row.name == "Conv2d"}
    assert shapes == {"2×3×8×8 4×3×3×3", "2×4×8×8 2×4×1×1"}


def test_the_kernels_are_put_back() -> None:
    before = dict(dispatch._overrides)
    with pytest.raises(ZeroDivisionError):
        profile(lambda: 1 // 0)
    profile(step_of(*network()), steps=1)
    assert dispatch._overrides == before


def test_text_json_and_trace() -> None:
    found = profile(step_of(*network()), steps=2)
    shown = text(found, limit=1)
    assert "a step takes" in shown
    assert re.search(r"… and \d+ more", shown)
    plain = json.loads(json.dumps(to_json(found, "a network", "a machine")))
    assert plain["ops"] == found.ops
    assert {row["name"] for row in plain["rows"]} == {row.name for row in found.rows}
    spans = [e for e in trace(found)["traceEvents"] if e["ph"] == "X"]
    assert {e["cat"] for e in spans} == {"forward", "backward", "kernel"}
    assert all(e["dur"] >= 0 and e["ts"] >= 0 for e in spans)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    sizes = ["profile", "lenet5", "--shape", "1,32,32", "--batch", "2", "--steps", "1"]
    files = {kind: tmp_path / f"p.{kind}" for kind in ("json", "html", "trace")}
    options = [part for kind, path in files.items() for part in (f"--{kind}", str(path))]
    assert main([*sizes, "--backward", *options]) == 0
    shown = capsys.readouterr().out
    assert "lenet5, forward and backward, 2×1×32×32" in shown
    assert "Conv2d" in shown
    assert all(path.exists() for path in files.values())
    assert "data:image/png" in files["html"].read_text(encoding="utf-8")
    assert main(sizes) == 0
    assert "backward" not in capsys.readouterr().out.splitlines()[0]
    for wrong in (["--shape", "1,x"], ["--shape", "1,32"], ["--steps", "0"]):
        assert main([*sizes, *wrong]) == 2
    assert main(["profile", "nothing"]) == 2


def test_nothing_is_left_of_a_step_in_the_middle_of_another() -> None:
    """Ops called while nobody watches are not counted later."""
    x = Tensor(np.ones((2, 2), np.float32), requires_grad=True)
    ops.relu(x)
    rows = by_name(profile(lambda: ops.sigmoid(x), steps=1))
    assert list(rows) == ["Sigmoid"]


def test_overhead_of_every_op(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = overhead(calls=1)
    assert {row.name for row in rows} >= {*SMALL_OPS, "conv2d", "linear", "batch_norm"}
    assert all(row.forward > 0 and row.without_graph > 0 and row.backward >= 0 for row in rows)
    assert all(callable(getattr(ops, row.name)) for row in rows)
    assert main(["profile", "--overhead", "--json", str(tmp_path / "o.json")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^conv2d( +\d+\.\d\d){3}$", printed, re.MULTILINE)
    written = json.loads((tmp_path / "o.json").read_text())
    assert [row["name"] for row in written] == [row.name for row in rows]


def test_the_average_is_of_small_ops_alone() -> None:
    rows = [OverheadRow("add", 1e-6, 3e-6, 0.0), OverheadRow("mul", 3e-6, 5e-6, 0.0)]
    text = overhead_text([*rows, OverheadRow("conv2d", 9e-6, 9e-6, 0.0)])
    assert "a small op (add, mul) takes 2.00 µs forward on average, 4.00 µs under no_grad" in text


def test_a_profile_needs_a_network() -> None:
    assert main(["profile"]) != 0
