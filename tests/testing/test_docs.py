"""The code in docs/testing.md runs, and prints what the page says; so do the package's examples."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"


def test_the_page_runs():
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(python|pycon)\n(.*?)^```$", text, re.S | re.M)
    assert len(blocks) >= 8
    names: dict[str, object] = {}
    runner = doctest.DocTestRunner()
    for number, (kind, code) in enumerate(blocks):
        if kind == "python":
            exec(compile(code, f"{PAGE.name} block {number}", "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(code, names, f"block {number}", PAGE.name, 0)
        failures: list[str] = []
        runner.run(test, out=failures.append, clear_globs=False)
        assert not failures, "".join(failures)
        names.update(test.globs)


def test_the_test_on_the_page_passes(gradcheck, cnncore_backend):
    text = PAGE.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for code in re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M):
        exec(code.replace("test_generalised_mean()\n", "\n"), names)
    names["test_layer"](gradcheck, cnncore_backend)


@pytest.mark.parametrize("module", ["gradients", "adjoint", "strategies", "faults"])
def test_docstring_examples(module):
    result = doctest.testmod(importlib.import_module(f"cnncore.testing.{module}"))
    assert result.attempted
    assert not result.failed
