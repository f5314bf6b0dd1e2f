"""Statistics, turns, and the judgement of what has become slower: no clock is involved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cnncore import bench
from cnncore.bench.comparison import compare
from cnncore.bench.measure import PAUSE, Timing, interleaved, summary
from cnncore.bench.readme import BEGIN, END, publish, replace_block
from cnncore.bench.results import CaseResult, NetworkResult, Results, Row, join, load, rates
from cnncore.bench.roof import Roof
from cnncore.bench.table import case_lines, closing_lines, markdown, summaries
from cnncore.errors import ArgumentError


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_quartiles_are_numpys() -> None:
    values = [0.3, 1.5, 0.9, 2.2, 0.1, 7.0]
    found = summary(values)
    wanted = np.quantile(values, [0.25, 0.5, 0.75])
    np.testing.assert_allclose([found.q1, found.median, found.q3], wanted)
    assert summary([2.0]) == Timing(2.0, 2.0, 2.0, 1)


def test_contenders_take_turns_and_only_peers_are_followed_by_a_pause() -> None:
    clock, order = Clock(), []

    def job(name: str, seconds: float):
        def run() -> None:
            order.append(name)
            clock.now += seconds

        return run

    runs = {"ours": job("ours", 0.01), "peer": job("peer", 0.02)}
    found = interleaved(runs, 3, lambda name: PAUSE if name == "peer" else 0.0, clock, clock.sleep)
    # Twice each to warm up, then turns of an untimed and a timed call; who begins moves on.
    turns = ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert order == ["ours"] * 2 + ["peer"] * 2 + [name for name in turns for _ in range(2)]
    assert clock.slept == [PAUSE] * 3
    assert found["ours"].median == pytest.approx(0.01)
    assert found["peer"].median == pytest.approx(0.02)


def test_short_calls_are_repeated_and_long_ones_get_fewer_turns() -> None:
    clock = Clock()
    calls = {"short": 0, "long": 0}

    def job(name: str, seconds: float):
        def run() -> None:
            calls[name] += 1
            clock.now += seconds

        return run

    runs = {"short": job("short", 1e-5), "long": job("long", 0.8)}
    found = interleaved(runs, 10, lambda name: 0.0, clock, clock.sleep)
    assert found["short"].repeats == 200
    assert found["short"].median == pytest.approx(1e-5)
    assert calls["short"] == 2 + 10 * (200 + 200)  # as many to warm up as are timed
    assert found["long"].samples == 6
    assert found["short"].samples == 10


# --- comparing two runs ---------------------------------------------------------------------------

ROOF = Roof(100e9, 10e9, 50e9, "made up")


def timing(median: float, spread: float = 0.01) -> Timing:
    return Timing(median, median * (1 - spread), median * (1 + spread), 20)


def case(label: str, ours: float, peer: float | None, spread: float = 0.01) -> CaseResult:
    rows = [Row("cnncore", "ours", "auto", 1e-7, timing(ours, spread))]
    if peer is not None:
        rows.append(Row("torch NCHW", "peer", "", 1e-7, timing(peer * 3, spread)))
        rows.append(Row("torch channels_last", "peer", "", 1e-7, timing(peer, spread)))
    return CaseResult("s", "conv2d", label, label, 2, 1e9, 1e6, "r", 1e-4, tuple(rows))


def results(*cases: CaseResult) -> Results:
    return Results("0", "2026-01-01", "a machine", {"numpy": "2"},
                   {"rounds": 20, "threads": 2, "dtype": "float32"}, ROOF, list(cases))  # fmt: skip


def verdict(old: CaseResult, new: CaseResult, threshold: float = 0.1) -> str:
    (change,) = compare(results(old), results(new), threshold).changes
    return change.verdict


def test_the_ratio_is_to_the_best_format_of_the_peer() -> None:
    found = case("a", 0.010, 0.020)
    assert found.best_peer is not None
    assert found.best_peer.name == "torch channels_last"
    assert found.ratio == pytest.approx(2.0)


def test_slower_needs_both_a_loss_and_quartiles_apart() -> None:
    old = case("a", 0.010, 0.020)
    assert verdict(old, case("a", 0.010, 0.020)) == "same"
    assert verdict(old, case("a", 0.013, 0.020)) == "slower"
    assert verdict(old, case("a", 0.0105, 0.020)) == "same"  # 5 %, below the threshold
    assert verdict(old, case("a", 0.0105, 0.020), threshold=0.01) == "slower"
    assert verdict(old, case("a", 0.013, 0.020, spread=0.3)) == "same"  # quartiles overlap
    assert verdict(old, case("a", 0.005, 0.020)) == "faster"


def test_a_slower_machine_is_no_regression() -> None:
    assert verdict(case("a", 0.010, 0.020), case("a", 0.020, 0.040)) == "same"


def test_without_peers_the_roof_stands_in() -> None:
    assert verdict(case("a", 0.010, None), case("a", 0.020, None)) == "slower"
    assert verdict(case("a", 0.010, 0.020), case("a", 0.020, None)) == "slower"


def test_what_only_one_run_has_is_named() -> None:
    found = compare(
        results(case("a", 1, 2), case("b", 1, 2)), results(case("b", 1, 2), case("c", 1, 2))
    )
    assert (found.missing, found.added) == (("a",), ("c",))
    shown = "\n".join(found.lines())
    assert "not measured this time: a" in shown
    assert "first time: c" in shown
    other = results(case("b", 1, 2))
    other.machine = "another"
    assert "machines differ" in "\n".join(compare(results(case("b", 1, 2)), other).lines())


# --- files ----------------------------------------------------------------------------------------


def test_json_is_read_back_as_it_was(tmp_path: Path) -> None:
    before = results(case("a", 0.010, 0.020), case("b", 0.010, None))
    network = Row("cnncore", "ours", "", None, timing(1.0))
    before.networks.append(NetworkResult("lenet5", "training", "batch 64", (network,), {"x": 5.0}))
    before.remarks.append("torch is left out")
    before.write(tmp_path / "r.json")
    assert load(tmp_path / "r.json") == before


def test_json_has_the_documented_fields(tmp_path: Path) -> None:
    results(case("a", 0.010, 0.020)).write(tmp_path / "r.json")
    plain = json.loads((tmp_path / "r.json").read_text())
    assert set(plain) == {"schema", "cnncore", "date", "machine", "versions", "settings", "roof",
                          "cases", "networks", "remarks"}  # fmt: skip
    (written,) = plain["cases"]
    assert written["ratio"] == pytest.approx(2.0)
    assert written["best_peer"] == "torch channels_last"
    row = written["rows"][0]
    assert set(row) == {"name", "who", "algorithm", "error", "timing", "note", "refused", "flops",
                        "bandwidth", "peak_share", "roof_share"}  # fmt: skip
    assert row["flops"] == pytest.approx(1e11)
    assert row["peak_share"] == pytest.approx(1.0)
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name in (*plain, *written, *row, *row["timing"], *plain["roof"]):
        assert f"`{name}`" in page, f"docs/benchmarks.md does not explain {name}"


def test_runs_are_joined(tmp_path: Path) -> None:
    old, new = results(case("a", 1, 2), case("b", 1, 2)), results(case("b", 1, 3), case("c", 1, 2))
    new.roof = Roof(200e9, 5e9, 60e9, "made up")
    whole = join([old, new])
    assert [c.label for c in whole.cases] == ["a", "b", "c"]
    assert whole.cases[1].ratio == pytest.approx(3.0)
    assert (whole.roof.flops, whole.roof.bandwidth) == (200e9, 10e9)
    new.machine = "another"
    with pytest.raises(ArgumentError, match="machine"):
        join([old, new])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', '{"schema": 2}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ArgumentError, match="file"):
        load(tmp_path / "r.json")
    with pytest.raises(ArgumentError, match="file"):
        load(tmp_path / "absent.json")


def test_shares_of_the_machine() -> None:
    memory_bound = CaseResult("", "relu", "r", "", 1, 0.0, 1e6, "", 1e-4,
                              (Row("cnncore", "ours", "", 0.0, timing(2e-4)),))  # fmt: skip
    found = rates(memory_bound, memory_bound.rows[0], ROOF)
    assert found["bandwidth"] == pytest.approx(5e9)
    assert found["roof_share"] == pytest.approx(0.5)
    assert found["flops"] == 0


def test_tables_and_the_readme_block(tmp_path: Path) -> None:
    found = results(case("a", 0.010, 0.020), case("b", 0.010, 0.005))
    ((_, mean, count, whole),) = summaries(found)
    assert (mean, count) == (pytest.approx(1.0), 2)
    assert whole == pytest.approx(0.025 / 0.020)
    assert "2.00" in "\n".join(case_lines(found.cases[0], ROOF))
    assert "geometric mean" in closing_lines(found)[0]
    assert "| a | 2 | auto | 10.000 |" in markdown(found)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    page = publish(found, tmp_path / "results", readme)
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\n2026-01-01")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert f"results/{page.name}" in text
    assert load(page.with_suffix(".json")) == found
    with pytest.raises(ArgumentError, match="readme"):
        replace_block("nothing", "x")


def test_run_is_the_same_from_python() -> None:
    shown: list[CaseResult] = []
    found = bench.run(
        [bench.Case("matmul", {"shape": (4, 5, 6)})], against=(), rounds=2, show=shown.append
    )
    assert found.cases == shown
    assert found.settings["rounds"] == 2
