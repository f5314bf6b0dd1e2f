"""The command line as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnncore.cli import main


def test_info_says_what_runs_on_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    for word in ("cnncore", "NumPy", "native kernels", "CUDA kernels", "conv2d", "threads"):
        assert word in shown


def test_where_lists_the_hops(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["where", "conv2d"]) == 0
    shown = capsys.readouterr().out
    assert "ops/conv.py:" in shown
    assert "kernels/contract.py:" in shown
    assert "kernel conv2d" in shown


def test_errors_are_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["where", "nothing"]) == 2
    assert main(["train", "nothing"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("expected" in line for line in lines)


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_reader_that_has_seen_enough() -> None:
    """As in ``cnncore info | head -1``: no traceback."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cnncore", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


def test_gradcheck_of_an_op_and_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gradcheck", "conv2d", "1,2,4,4", "3,2,2,2", "3"]) == 0
    assert "gradgradcheck: correct" in capsys.readouterr().out
    layer = tmp_path / "layer.py"
    layer.write_text(
        "from cnncore.autograd import Function\n"
        "class Cube(Function):\n"
        "    def forward(self, x):\n"
        "        self.keep_input(0)\n"
        "        return x ** 3\n"
        "    def backward(self, gy):\n"
        "        (x,) = self.kept()\n"
        "        return (gy * x * x * FACTOR,)\n"
        "FACTOR = 3.0\n"
        "def cube(x):\n"
        "    return Cube()(x)\n"
    )
    assert main(["gradcheck", f"{layer}:cube", "2,3"]) == 0
    layer.write_text(layer.read_text().replace("FACTOR = 3.0", "FACTOR = 2.0"))
    capsys.readouterr()
    assert main(["gradcheck", f"{layer}:cube", "2,3"]) == 1
    assert "wrong gradient" in capsys.readouterr().out
    assert main(["gradcheck", f"{layer}:square", "2,3"]) == 2
    assert main(["gradcheck", "conv2d", "1,x"]) == 2


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_with_what_it_has(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cnncore", "train", "unet", "--quiet", "--scenes", "4"]
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(8)  # it is training by then; if not yet, the interrupt ends it before the first step
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    if process.returncode == 130:
        pytest.skip("this machine had not begun to train after 8 seconds")
    assert process.returncode == 0, err
    assert "4 test scenes after" in out
    assert (tmp_path / "checkpoint.npz").exists()


def test_the_demo_prints_where_the_report_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cnncore.train import demo

    metrics = {
        "scores": {f"{kind} {name}": 0.5 for kind in ("box", "mask") for name in ("AP", "AP50")},
        "test_scenes": 1,
        "steps": 2,
        "training_seconds": 3.0,
    }
    monkeypatch.setattr(demo, "run", lambda *a, **k: json.loads(json.dumps(metrics)))
    assert main(["demo", "--output", str(tmp_path)]) == 0
    assert str(tmp_path / "index.html") in capsys.readouterr().out
