"""The plan of the house, enforced: each package imports only from those below it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "cnncore"

# Layer of each part; a part may import from lower layers and from itself.  Two parts of one layer
# may import each other only where this says so.
LAYERS = {
    "errors": 0,
    "geometry": 0.1,
    "taps": 0.2,
    "roi_grid": 0.3,
    "kernels": 1,
    "autograd": 2,
    "ops": 3,
    "inspect": 3.5,  # info() and where(): looks at what lies below, nothing computes with it
    "nn": 4,
    "optim": 4.1,
    "io": 4.2,
    "vision": 5,
    "data": 5.1,
    "inference": 5.8,
    "onnx": 5.9,  # export starts from inference's trace, and a model may be read from ONNX
    "models": 6,
    "report": 7,
    "explain": 7.1,
    "testing": 7.1,
    "train": 7.2,
    "study": 7.22,
    "bench": 7.25,
    "evaluate": 7.26,
    "profile": 7.27,
    "cli": 7.3,
}
# Files longer than one sitting, each with the reason.
LONG_FILES: dict[str, str] = {}
SITTING = 400  # lines of code; docstrings, comments and blank lines are not counted


def imports_of(path: Path) -> set[str]:
    """Parts of the package a file imports anywhere (lazily, too; not under TYPE_CHECKING)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cnncore"):
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {
                alias.name.split(".")[1]
                for alias in node.names
                if alias.name.startswith("cnncore.")
            }
    return names


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_from_layers_below(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part in ("__init__", "__main__"):
        return  # the package's front doors
    assert part in LAYERS, f"{part} has no place in the plan of the house"
    for imported in imports_of(path) & set(LAYERS) - {part}:
        assert LAYERS[imported] < LAYERS[part], f"{path.name} imports upwards: {imported}"


def test_the_check_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from cnncore.models import create\n")
    assert imports_of(bad) == {"models"}


@pytest.mark.parametrize("module", ["_native", "_cuda"])
def test_only_one_file_imports_an_extension(module: str) -> None:
    importers = [p for p in files() if module in imports_of(p)]
    owner = {"_native": "kernels/native_runtime.py", "_cuda": "kernels/cuda/runtime.py"}[module]
    assert importers == [PACKAGE / owner]


def code_lines(path: Path) -> int:
    """Lines that hold code: neither blank, comment nor docstring."""
    text = path.read_text(encoding="utf-8")
    documentation: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            documentation |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(
        1
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.strip().startswith("#") and number not in documentation
    )


def test_files_are_readable_in_one_sitting() -> None:
    long = {str(p.relative_to(PACKAGE)): n for p in files() if (n := code_lines(p)) > SITTING}
    assert set(long) == set(LONG_FILES), f"longer than {SITTING} lines of code: {long}"


def test_the_engine_stays_small() -> None:
    """The plan said 500; docs/design.md says what the rest is."""
    assert sum(code_lines(p) for p in (PACKAGE / "autograd").glob("*.py")) < 700


def test_import_is_light() -> None:
    """No optional package at import time."""
    heavy = (
        "scipy",
        "matplotlib",
        "PIL",
        "sklearn",
        "skimage",
        "pycocotools",
        "tqdm",
        "hypothesis",
    )
    code = f"import sys, cnncore; print([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
