"""The pytest plugin, run in pytest sessions of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = any(e.value == "cnncore.testing.plugin" for e in entry_points(group="pytest11"))


@pytest.fixture
def session(tmp_path):
    """``session(code, *options)``: what pytest prints for a file with this code, its status."""

    def run(code, *options):
        (tmp_path / "test_it.py").write_text(code)
        plugin = [] if INSTALLED else ["-p", "cnncore.testing.plugin"]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin, *options]
        result = subprocess.run(
            [*command, "test_it.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        return result.stdout + result.stderr, result.returncode

    return run


def test_fixtures_check_gradients(gradcheck, gradgradcheck, adjoint_check, cnncore_rng):
    x = cnncore_rng.normal(size=(2, 3))
    assert gradcheck(lambda x: x * x, x)
    assert gradgradcheck(lambda x: x * x, x)
    assert adjoint_check(lambda x: x * 2.0, x)


def test_the_seed_fixture_reaches_the_directions(gradcheck, cnncore_seed):
    assert list(gradcheck.keywords["seeds"]) == [3 * cnncore_seed + i for i in range(3)]


def test_backend_fixture_is_in_use(cnncore_backend):
    from cnncore.kernels.dispatch import get_backend

    assert get_backend() == cnncore_backend


@pytest.mark.fault("gradient_overwritten")
def test_marked_tests_must_notice_the_fault(gradcheck):
    gradcheck(lambda x: x * x + x, np.array([1.0, 2.0]))


def test_marked_test_that_notices_nothing_is_reported(session):
    output, status = session(
        "import pytest\n@pytest.mark.fault('nms_unstable')\ndef test_blind(): assert True\n"
    )
    assert status == 1
    assert "was not noticed" in output


def test_faults_option_breaks_the_whole_run(session):
    code = (
        "import numpy as np\n"
        "def test_twice(gradcheck): gradcheck(lambda x: x * x + x, np.array([1.0, 2.0]))\n"
        "def test_once(gradcheck): gradcheck(lambda x: -x, np.array([1.0, 2.0]))\n"
    )
    assert session(code)[1] == 0
    output, status = session(code, "--cnncore-faults", "gradient_overwritten")
    assert status == 1
    assert "deliberate faults ON" in output
    assert "1 failed, 1 passed" in output


def test_failure_report_names_the_entry_and_shows_the_steps(session):
    code = (
        "import numpy as np\n"
        "def test_it(gradcheck):\n"
        "    gradcheck(lambda x: (x * x).detach(), np.array([1.0, 2.0]))\n"
    )
    output, status = session(code, "--cnncore-seed", "7")
    assert status == 1
    assert "cnncore gradient check" in output
    assert "steps tried" in output
    assert "seed 7" in output


def test_catalogue_is_listed_and_unknown_faults_are_refused(session):
    output, status = session("", "--cnncore-faults", "list")
    assert status == 0
    assert "zero_padded_max_pool" in output
    output, status = session("", "--cnncore-faults", "nonsense")
    assert status == 4
    assert "'nonsense' is not one of" in output


def test_plugin_is_light():
    """Loading the plugin imports nothing of cnncore but itself (and the packages around it)."""
    code = (
        "import sys, cnncore; before = set(sys.modules); import cnncore.testing.plugin;"
        "print([m for m in set(sys.modules) - before if 'hypothesis' in m or 'faults' in m])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
