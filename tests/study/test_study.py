"""The framework of studies: runs are kept, resumed, refused, summed up."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnncore import study
from cnncore.cli import main
from cnncore.errors import ArgumentError
from cnncore.study import Expectation, Experiment, Results, page

pytest.importorskip("matplotlib")


def toy(calls: list[tuple[float, int]] | None = None) -> Experiment:
    """``value = gain · seed + offset``."""

    def run(settings, seed):
        if calls is not None:
            calls.append((settings["gain"], seed))
        return {"value": settings["gain"] * seed + settings["offset"], "cost": 1234.0}

    return Experiment(
        name="toy",
        title="A toy",
        claim="More gain, more value.",
        source="nobody, section 0",
        measures={"value": ".2f", "cost": ",.0f"},
        run=run,
        settings={"offset": 1.0, "pair": (1, 2)},
        conditions={"small": {"gain": 1.0}, "large": {"gain": 2.0}},
        expected=[Expectation("value", "large", "small"), Expectation("value", "small", "large")],
    )


class TestRuns:
    def test_seeds_are_outermost_and_settings_reach_the_run(self, tmp_path: Path) -> None:
        calls: list[tuple[float, int]] = []
        results = study.run(toy(calls), tmp_path, range(2), progress=False)
        assert calls == [(1.0, 0), (2.0, 0), (1.0, 1), (2.0, 1)]
        assert results.values("large", "value") == {0: 1.0, 1: 3.0}

    def test_the_same_call_runs_only_what_is_missing(self, tmp_path: Path) -> None:
        calls: list[tuple[float, int]] = []
        study.run(toy(calls), tmp_path, range(1), progress=False)
        calls.clear()
        results = study.run(toy(calls), tmp_path, range(2), progress=False)
        assert calls == [(1.0, 1), (2.0, 1)]
        assert results.seeds == [0, 1]

    def test_every_finished_run_is_on_disk_before_the_next_begins(self, tmp_path: Path) -> None:
        lengths = []

        def run(settings, seed):
            path = tmp_path / "toy.json"
            lengths.append(len(json.loads(path.read_text())["runs"]) if path.exists() else 0)
            return {"value": 0.0, "cost": 0.0}

        study.run(dataclasses.replace(toy(), run=run), tmp_path, range(2), progress=False)
        assert lengths == [0, 1, 2, 3]

    def test_an_interrupted_run_is_not_recorded(self, tmp_path: Path) -> None:
        def run(settings, seed):
            if seed == 1:
                raise KeyboardInterrupt
            return {"value": 0.0, "cost": 0.0}

        with pytest.raises(KeyboardInterrupt):
            study.run(dataclasses.replace(toy(), run=run), tmp_path, range(2), progress=False)
        assert Results.open(toy(), tmp_path).seeds == [0]

    @pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
    def test_a_kill_loses_nothing(self, tmp_path: Path) -> None:
        script = tmp_path / "slow.py"
        script.write_text(
            "import sys, time\n"
            "from pathlib import Path\n"
            "from cnncore import study\n"
            "def run(settings, seed):\n"
            "    time.sleep(0.0 if seed < 2 else 60.0 * settings['pause'])\n"
            "    return {'seed': seed}\n"
            "slow = study.Experiment('slow', 'Slow', 'It takes long.', 'nobody', {'seed': '.0f'},\n"
            "    run, {'pause': 1.0}, {'only': {}})\n"
            "if __name__ == '__main__':\n"
            "    study.run(slow, Path(sys.argv[1]), range(3), progress=False)\n"
        )
        process = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
        file = tmp_path / "slow.json"
        deadline = time.monotonic() + 60
        while not (file.exists() and len(json.loads(file.read_text())["runs"]) == 2):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        calls = []
        again = Experiment(
            *("slow", "Slow", "It takes long.", "nobody", {"seed": ".0f"}),
            run=lambda settings, seed: calls.append(seed) or {"seed": seed},
            settings={"pause": 1.0},
            conditions={"only": {}},
        )
        results = study.run(again, tmp_path, range(3), progress=False)
        assert calls == [2]
        assert results.values("only", "seed") == {0: 0.0, 1: 1.0, 2: 2.0}


class TestRefusals:
    def test_other_settings_are_refused_and_named(self, tmp_path: Path) -> None:
        study.run(toy(), tmp_path, range(1), progress=False)
        with pytest.raises(ArgumentError, match=r"settings offset 5 instead of 1\.0"):
            study.run(toy().changed(offset=5), tmp_path, range(1), progress=False)
        changed = dataclasses.replace(toy(), conditions={"small": {"gain": 9}, "large": {}})
        with pytest.raises(ArgumentError, match=r"conditions small gain 9 instead of 1\.0"):
            study.run(changed, tmp_path, range(1), progress=False)

    def test_new_conditions_join_old_results(self, tmp_path: Path) -> None:
        study.run(toy(), tmp_path, range(1), progress=False)
        more = dataclasses.replace(toy(), conditions={**toy().conditions, "huge": {"gain": 3.0}})
        results = study.run(more, tmp_path, range(1), progress=False)
        assert results.values("huge", "value") == {0: 1.0}

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', '{"runs": 3}'])
    def test_a_file_of_something_else_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "toy.json").write_text(text)
        with pytest.raises(ArgumentError, match="results of this experiment"):
            study.run(toy(), tmp_path, range(1), progress=False)

    def test_unknown_names(self, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match="study"):
            study.experiments("nothing")
        with pytest.raises(ArgumentError, match="settings"):
            toy().changed(nothing=1)
        with pytest.raises(ArgumentError, match="condition"):
            toy().measured("nothing", 0)
        with pytest.raises(ArgumentError, match="expected"):
            dataclasses.replace(toy(), expected=[Expectation("value", "huge", "small")])
        with pytest.raises(ArgumentError, match="expected"):
            dataclasses.replace(toy(), expected=[Expectation("price", "large", "small")])
        with pytest.raises(ArgumentError, match="seeds"):
            study.run(toy(), tmp_path, [], progress=False)

    def test_measures_are_those_announced_and_finite(self) -> None:
        with pytest.raises(ArgumentError, match="measures"):
            dataclasses.replace(toy(), measures={"value": ".2f"}).measured("small", 0)
        broken = dataclasses.replace(toy(), run=lambda s, seed: {"value": float("nan"), "cost": 0})
        with pytest.raises(ArgumentError, match="finite"):
            broken.measured("small", 0)


class TestPage:
    def test_spread_is_over_the_seeds(self, tmp_path: Path) -> None:
        results = study.run(toy(), tmp_path, range(3), progress=False)
        spread = results.spread("large", "value")
        assert spread is not None
        assert (spread.mean, spread.least, spread.most) == (3.0, 1.0, 5.0)
        assert page.cells(results) == [
            ["", "value", "cost"],
            ["small", "2.00 (1.00 … 3.00)", "1,234"],
            ["large", "3.00 (1.00 … 5.00)", "1,234"],
        ]

    def test_a_condition_without_runs_has_no_numbers(self, tmp_path: Path) -> None:
        results = Results(toy(), tmp_path / "toy.json")
        assert page.cells(results)[1] == ["small", "–", "–"]
        assert page.verdict(results) == []

    def test_the_verdict_is_paired_by_seed(self, tmp_path: Path) -> None:
        # At seed 0 both are equal, so a claim of more is undecided; its reverse holds nowhere.
        results = study.run(toy(), tmp_path, range(3), progress=False)
        more, less = page.verdict(results)
        assert more == (
            "undecided: value, large minus small: +1.00 (+0.00 … +2.00), larger in 2 of 3 seeds"
        )
        assert less.startswith("not as claimed: value, small minus large: −1.00 (−2.00 … ")
        later = study.run(toy(), tmp_path / "later", range(1, 4), progress=False)
        assert page.verdict(later)[0].startswith("as claimed: ")

    def test_two_seeds_decide_nothing(self, tmp_path: Path) -> None:
        results = study.run(toy(), tmp_path, range(1, 3), progress=False)
        more, less = page.verdict(results)
        assert more == (
            "too few seeds: value, large minus small: +1.50 (+1.00 … +2.00), larger in 2 of 2 seeds"
        )
        assert less.startswith("too few seeds: ")

    def test_the_page_says_where_and_how(self, tmp_path: Path) -> None:
        results = study.run(toy(), tmp_path, range(2), progress=False)
        path = page.write_page("toys", {"toy": results}, tmp_path)
        text = path.read_text("utf-8")
        machine = results.runs[0].machine
        for word in ("More gain", "nobody, section 0", machine, "offset 1.0", "fewer than 3"):
            assert word in text
        assert (tmp_path / "toy.png").read_bytes().startswith(b"\x89PNG")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setitem(study.STUDIES, "toys", lambda: {"toy": toy()})
    assert main(["study", "toys", "--list"]) == 0
    assert "More gain, more value." in capsys.readouterr().out
    command = ["study", "toys", "--output", str(tmp_path), "--quiet"]
    assert main([*command, "--seeds", "2"]) == 0
    shown = capsys.readouterr().out
    assert "1.50 (1.00 … 2.00)" in shown
    assert (tmp_path / "toys.md").exists()
    assert main([*command, "--set", "offset=2"]) == 2
    assert "instead of" in capsys.readouterr().err
    assert main([*command, "--set", "offset=2", "--fresh"]) == 0
    assert main(["study", "toys", "nothing"]) == 2
    assert main([*command, "--set", "offset"]) == 2
    assert main(["study", "nothing"]) == 2
