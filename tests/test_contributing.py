"""The worked example of CONTRIBUTING.md, applied to a copy of the project, compiled and run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cnncore.kernels import native

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```\w+ (file=[^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# An editable install puts a finder in front of sys.path: without this, the copy would not be seen.
PREFER_THE_COPY = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if not type(f).__name__.startswith("ScikitBuild")]
"""


@dataclass(frozen=True)
class Block:
    file: str
    action: str  # "new", "append" or the beginning of the line to insert after
    text: str


def blocks() -> list[Block]:
    found = []
    for header, text in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        file, action = shlex.split(header)
        found.append(Block(file.removeprefix("file="), action.removeprefix("after="), text))
    return found


def apply(block: Block, root: Path) -> None:
    path = root / block.file
    if block.action == "new":
        assert not (ROOT / block.file).exists(), f"{block.file} exists already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if block.action == "append":
        path.write_text(f"{text}\n\n{block.text}", encoding="utf-8")
        return
    lines = text.splitlines(keepends=True)
    places = [i for i, line in enumerate(lines) if line.startswith(block.action)]
    assert len(places) == 1, f"{block.file}: {len(places)} lines begin with {block.action!r}"
    lines.insert(places[0] + 1, block.text)
    path.write_text("".join(lines), encoding="utf-8")


def test_the_example_touches_every_layer_it_names() -> None:
    files = {block.file for block in blocks()}
    assert {"cnncore/kernels/contract.py", "cnncore/kernels/native.py", "CMakeLists.txt"} <= files
    assert any(file.startswith("cnncore/ops/") for file in files)
    assert any(file.startswith("tests/") for file in files)


@pytest.mark.slow
def test_the_example_builds_and_passes_its_test(tmp_path: Path) -> None:
    if not native.AVAILABLE:
        pytest.skip(f"no compiled kernels here: {native.REASON}")
    pytest.importorskip("pybind11")
    cmake = shutil.which("cmake") or str(Path(sys.executable).parent / "cmake")
    if not Path(cmake).exists():
        pytest.skip("no cmake here")
    for part in ("cnncore", "csrc", "cmake"):
        ignore = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignore)
    shutil.copy(ROOT / "CMakeLists.txt", tmp_path)
    for block in blocks():
        apply(block, tmp_path)

    def run(*command: str, **environment: str) -> None:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-4000:]}"

    # Unoptimised: the example is about correctness, and compiles in a third of the time.
    run(
        cmake, "-S", ".", "-B", "build", "-DCMAKE_BUILD_TYPE=Debug",
        f"-DPython_EXECUTABLE={sys.executable}", f"-DCNNCORE_OUTPUT_DIR={tmp_path / 'cnncore'}",
    )  # fmt: skip
    run(cmake, "--build", "build", "--parallel", "2", "--target", "_native")
    (tmp_path / "sitecustomize.py").write_text(PREFER_THE_COPY, encoding="utf-8")
    code = (
        f"import cnncore; assert cnncore.__file__.startswith({str(tmp_path)!r}), cnncore.__file__"
    )
    run(sys.executable, "-c", code, PYTHONPATH=str(tmp_path))
    tests = [block.file for block in blocks() if block.file.startswith("tests/")]
    run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests,
        PYTHONPATH=str(tmp_path),
    )  # fmt: skip
