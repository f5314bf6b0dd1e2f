"""Kernels of users: verified like all others, refused when wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnncore import bench
from cnncore.bench import peers, plugins, runner
from cnncore.cli import main
from cnncore.errors import ArgumentError

CASE = bench.Case("conv2d", {"shape": (1, 2, 5, 5), "filters": 3, "kernel": 3, "padding": 1})
DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"


@pytest.fixture(autouse=True)
def _forget_what_was_registered() -> Iterator[None]:
    yield
    plugins._registered.clear()


def correct(x, weight, stride, padding, dilation, groups):
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], (2, 3))
    return np.einsum("nchwuv,ocuv->nohw", windows, weight, optimize=True)


def rows(fn) -> dict[str, bench.Row]:
    bench.register("mine", "conv2d", fn)
    found = runner.run_case(CASE, bench.Settings(rounds=1))
    return {row.name: row for row in found.rows}


def test_a_correct_kernel_is_timed_beside_ours() -> None:
    found = rows(correct)
    assert found["mine"].timing is not None
    assert found["mine"].who == "user"
    assert found["mine"].error < 1e-6
    assert found["cnncore"].timing is not None


def test_a_slightly_wrong_kernel_is_refused_and_the_place_named() -> None:
    def wrong(*args, **settings):
        y = correct(*args, **settings)
        y[0, 2, 4, 1] *= 1.01
        return y

    found = rows(wrong)
    assert found["mine"].refused
    assert found["mine"].timing is None
    assert "(0, 2, 4, 1)" in found["mine"].note
    assert found["cnncore"].timing is not None  # the others go on


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (lambda y: y[..., :-1], "shape"),
        (lambda y: np.where(y == y.max(), np.nan, y), "nan"),
        (lambda y: y.no_such_thing, "AttributeError"),
    ],
)
def test_other_faults_are_refused(fault, word) -> None:
    found = rows(lambda *args, **settings: fault(correct(*args, **settings)))
    assert found["mine"].refused
    assert word in found["mine"].note


def test_a_kernel_that_writes_into_its_arguments_is_refused() -> None:
    def greedy(x, weight, **settings):
        y = correct(x, weight, **settings)
        x *= 2
        return y

    found = rows(greedy)
    assert found["mine"].refused
    assert "argument x" in found["mine"].note


def test_our_own_kernels_are_refused_as_well() -> None:
    from cnncore.kernels import native
    from cnncore.kernels.dispatch import override

    if not native.AVAILABLE:
        pytest.skip("compiled kernels")
    with override("conv2d", lambda *args: native.conv2d(*args) * np.float32(1.001)):
        found = runner.run_case(CASE, bench.Settings(rounds=1))
    assert [row.name for row in found.refusals] == ["cnncore"]
    assert found.ours is None


def test_registering_checks_its_arguments() -> None:
    for arguments, word in (
        (("mine", "conv7d", correct), "kind"),
        (("mine", "conv2d", 5), "fn"),
        (("cnncore", "conv2d", correct), "name"),
    ):
        with pytest.raises(ArgumentError, match=word):
            bench.register(*arguments)
    with pytest.raises(ArgumentError, match="name"):
        bench.unregister("nobody", "conv2d")


def test_peers_that_are_missing_are_named_with_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = {"torch": ("pytorch", ("no_such_package",), "pip install torch")}
    monkeypatch.setattr(peers, "PEERS", {**peers.PEERS, **absent})
    line = "bench matmul --shape 4,4,4 --rounds 1 --quiet --against "
    status = main([*line.split(), "torch,numpy"])
    shown = capsys.readouterr().out
    assert status == 0
    assert "torch is left out" in shown
    assert "pip install torch" in shown
    assert re.search(r"^  numpy ", shown, re.MULTILINE)
    assert main([*line.split(), "jax"]) == 2


# --- the command ----------------------------------------------------------------------------------


def bench_command(line: str) -> int:
    return main(["bench", *line.split(), "--against", "none", "--rounds", "1", "--quiet"])


def test_the_command_lists_and_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    listed = capsys.readouterr().out
    for name in (*bench.SUITES, *runner.OPS):
        assert name in listed
    for line in ("nothing", "conv2d --shape 1,2,3,3", "conv2d --kernel 3", "matmul --shape 1,x,3",
                 "conv2d --shape 1,2,4,4 --kernel 3 --algorithm fft",
                 "conv2d --shape 1,2,4,4 --kernel 3 --direction sideways",
                 "resnet50 --only nothing-like-this"):  # fmt: skip
        assert bench_command(line) == 2, line


def test_the_command_measures_writes_and_compares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = "conv2d --shape 2,4,6,6 --filters 4 --kernel 3,1 --padding 1,0 --groups 2 --stride 2"
    file = tmp_path / "r.json"
    assert bench_command(f"{sizes} --direction all --algorithm all --json {file}") == 0
    assert "GFLOP/s" in capsys.readouterr().out
    found = bench.load(file)
    assert [case.kind for case in found.cases] == ["conv2d", "conv2d.input", "conv2d.weight"]
    # An old run a million times faster, then one a million times slower: chance does neither.
    for factor, status in ((1e-6, 1), (1e6, 0)):
        old = bench.load(file)
        old.cases = [_scaled(case, factor) for case in old.cases]
        old.write(tmp_path / "old.json")
        again = f"{sizes} --direction all --compare {tmp_path / 'old.json'}"
        assert bench_command(again) == status
    assert "slower" in capsys.readouterr().out


def _scaled(case: bench.CaseResult, factor: float) -> bench.CaseResult:
    rows = []
    for row in case.timed:
        seconds = row.timing.median * factor
        rows.append(replace(row, timing=bench.Timing(seconds, seconds, seconds, 1)))
    return replace(case, rows=tuple(rows))


def test_the_page_has_a_roofline_and_the_table(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    assert bench_command(f"matmul --shape 8,8,8 --html {tmp_path / 'p.html'}") == 0
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert "matmul 8×8×8" in page


def test_the_worked_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plugin of docs/benchmarks.md: the right kernel takes part, the wrong one is refused."""
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    plugin = next(block for block in blocks if "register(" in block)
    (tmp_path / "mine.py").write_text(plugin)
    line = "conv2d --shape 1,3,8,8 --filters 4 --kernel 3 --padding 1"
    assert bench_command(f"{line} --plugin {tmp_path / 'mine.py'}") == 1
    shown = capsys.readouterr().out
    assert re.search(r"^  shift and add +[\d.]+", shown, re.MULTILINE)
    assert "  forgets the padding: refused: expected shape" in shown
    assert "REFUSED" in shown
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    assert bench_command(f"{line} --plugin {empty}") == 2
    assert bench_command(f"{line} --plugin {tmp_path / 'absent.py'}") == 2
