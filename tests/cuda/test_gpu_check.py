"""``benchmarks/gpu_check.py --dry-run``: its stages, limits and files, without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import device_support as support
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import gpu_check  # noqa: E402
from benchmarks.gpu.record import Record, shown  # noqa: E402

needs_host_run = pytest.mark.skipif(
    support.REAL or not support.AVAILABLE, reason="a dry run needs the device code of the host"
)


@needs_host_run
def test_a_dry_run_goes_through_every_stage(tmp_path):
    stages = [stage for stage in gpu_check.LIMITS if stage not in ("tests", "training")]
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), "--dry-run"]
    done = subprocess.run(
        [*command, "--results", str(tmp_path), "--only", *stages],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads((tmp_path / "dry-run.json").read_text())
    assert [row["stage"] for row in data["stages"]] == stages
    assert {row["outcome"] for row in data["stages"]} == {"done"}, data["stages"]
    for row in data["kernels"]:  # every number that was measured was verified before
        assert isinstance(row["error"], float) or row["error"] == "no kernel of its own"
        assert ("microseconds" in row) == isinstance(row["error"], float)
    assert {row["name"] for row in data["kernels"]} >= {"relu", "softmax", "nms", "conv2d"}
    assert {row["outcome"] for row in data["large"]} <= {"right", "no kernel of its own"}
    page = (tmp_path / "dry-run.md").read_text()
    assert "a dry run on the host" in page
    assert "## More than 2³¹ elements" in page


def test_a_wrong_kernel_is_not_timed(monkeypatch, tmp_path):
    from benchmarks.gpu.cases import memory_cases
    from benchmarks.gpu.clock import Device, Torch
    from benchmarks.gpu.run_cases import run_case
    from cnncore.kernels import cuda

    device = Device(support.strict_arrays, dry=True)
    case = next(memory_cases(device, Torch(device)))
    monkeypatch.setattr(cuda, "pointwise", lambda x, *rest: x + 1e-3)
    record = Record(tmp_path, "x")
    run_case(case, device, Torch(device), record, {"copy": 1e12})
    (row,) = record.rows("kernels")
    assert row["error"].startswith("WRONG")
    assert "microseconds" not in row


def test_a_stage_over_its_limit_is_stopped_and_said(tmp_path):
    sleeping = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"]
    assert gpu_check.finished(*gpu_check.call(sleeping, 1.0)) == ("stopped at its limit", "begun")
    broken = [sys.executable, "-c", "raise SystemExit('broken')"]
    assert gpu_check.finished(*gpu_check.call(broken, 20.0)) == ("failed", "broken")


def test_results_survive_a_kill(tmp_path):
    record = Record(tmp_path, "x")
    record.add("training", name="a", milliseconds=1.5)
    again = Record.resumed(tmp_path, "x")  # what another process finds on disk
    again.add("training", name="b", milliseconds=2.0, peer="p", peer_milliseconds=4.0, ratio=0.5)
    assert [row["name"] for row in Record.resumed(tmp_path, "x").rows("training")] == ["a", "b"]
    assert "| b | 2 | p | 4 | 0.5 |" in (tmp_path / "x.md").read_text()
    assert not list(tmp_path.glob("*.partial"))


def test_numbers_as_shown():
    assert [shown(v) for v in (None, 1234567, 0.12345, 123456.7, "a|b")] == [
        "", "1,234,567", "0.123", "123,457", "a/b",
    ]  # fmt: skip


def test_the_limits_of_the_stages_leave_room():
    assert gpu_check.TOTAL <= 480
    assert all(limit <= 180 for limit in gpu_check.LIMITS.values())
