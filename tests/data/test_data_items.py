"""Digits and Fashion-MNIST: what is in them, how they are split, what happens to bad files."""

from __future__ import annotations

import gzip
import importlib
import struct
import sys
import types

import numpy as np
import pytest

from cnncore import data
from cnncore.data import items as items_module
from cnncore.errors import ArgumentError, MissingDependencyError

# The package exports the function of the same name.
fashion_module = importlib.import_module("cnncore.data.fashion_mnist")

TEST_ITEMS = [0, 1, 2, 4, 5, 8, 16, 19]
VALIDATION_ITEMS = [10, 13, 14, 17, 34, 51, 75, 87]

# --- digits ---------------------------------------------------------------------------------------


def test_digits_are_split_by_item_without_rest():
    sklearn = pytest.importorskip("sklearn.datasets")
    bunch = sklearn.load_digits()
    seen = []
    for split, count in (("train", 1097), ("validation", 200), ("test", 500)):
        items = data.digits(split)
        assert len(items) == count
        assert items.images.shape == (count, 8, 8)
        assert items.images.dtype == np.float32
        assert items.labels.dtype == np.int64
        np.testing.assert_array_equal(items.images * 16, bunch.images[items.source])
        np.testing.assert_array_equal(items.labels, bunch.target[items.source])
        # Each digit has a fair share of every split: a tenth, within a half of that.
        assert np.bincount(items.labels, minlength=10).min() > count / 20
        seen += items.source.tolist()
    assert sorted(seen) == list(range(1797))


def test_the_digit_split_never_moves():
    pytest.importorskip("sklearn")
    # Published scores are about these items; a change here changes what they mean.
    assert data.digits("test").source[:8].tolist() == TEST_ITEMS
    assert data.digits("validation").source[:8].tolist() == VALIDATION_ITEMS


def test_items_are_shared_and_so_read_only():
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="read-only"):
        data.digits("train").images[0] = 1


def test_unknown_splits_are_refused():
    for load in (data.digits, data.fashion_mnist):
        with pytest.raises(ArgumentError, match="split"):
            load("valid")


def test_shuffled_is_a_permutation_fixed_by_its_seed():
    assert items_module.shuffled(6, 1).tolist() != items_module.shuffled(6, 2).tolist()
    assert sorted(items_module.shuffled(100, 3).tolist()) == list(range(100))
    assert items_module.shuffled(0, 0).shape == (0,)


# --- IDX files ------------------------------------------------------------------------------------


def idx(array, kind=8):
    head = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (0, 5)])
def test_idx_there_and_back(tmp_path, packed, shape):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    found = data.read_idx(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


GOOD = idx(np.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x08", "not an IDX file"),
        (b"\x89PNG" + GOOD, "not an IDX file"),
        (idx(np.zeros(3), kind=13), "type 13"),
        (b"\0\0\x08\0", "cut short"),
        (GOOD[:9], "cut short"),
        (GOOD[:-1], "expected 6 bytes .* got 5"),
        (GOOD + b"\0", "expected 6 bytes .* got 7"),
        (gzip.compress(GOOD, mtime=0)[:-9], "could not be read"),
        (gzip.compress(GOOD, mtime=0)[:-5] + b"\1\2\3\4\5", "could not be read"),
        (b"\x1f\x8b\x08" + b"\7" * 30, "could not be read"),
    ],
)
def test_bad_idx_files_are_refused_by_name(tmp_path, content, reason):
    path = tmp_path / "some-file.gz"
    path.write_bytes(content)
    with pytest.raises(data.DataError, match=reason) as caught:
        data.read_idx(path)
    assert "some-file.gz" in str(caught.value)


def test_missing_idx_file(tmp_path):
    with pytest.raises(data.DataError, match="no-such-file"):
        data.read_idx(tmp_path / "no-such-file")


# --- Fashion-MNIST --------------------------------------------------------------------------------


@pytest.mark.skipif(
    fashion_module.installed_folder() is None, reason="dataset-fashion-mnist absent"
)
def test_fashion_mnist_as_published():
    train, held, test = (data.fashion_mnist(split) for split in data.SPLITS)
    assert (len(train), len(held), len(test)) == (55_000, 5_000, 10_000)
    assert test.images.shape == (10_000, 28, 28)
    assert test.images.dtype == np.float32
    assert test.images.min() == 0
    assert test.images.max() == 1
    assert np.bincount(test.labels).tolist() == [1000] * 10
    both = np.bincount(np.concatenate([train.labels, held.labels]))
    assert both.tolist() == [6000] * 10
    assert sorted([*train.source.tolist(), *held.source.tolist()]) == list(range(60_000))
    assert test.class_names[test.labels[0]] == "ankle boot"  # the well-known first test picture


def test_wrong_shapes_in_a_folder_are_refused(tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(idx(np.zeros((2, 28, 28))))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(2)))
    with pytest.raises(data.DataError, match=r"expected images \(10000, 28, 28\)"):
        data.fashion_mnist("test", tmp_path)


def test_the_debian_folder_is_found_by_the_share_path(tmp_path, monkeypatch):
    folder = tmp_path / "second" / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_DATA_DIRS", f"{tmp_path / 'first'}:{tmp_path / 'second'}")
    assert fashion_module.installed_folder() is None  # the folder is there, its files are not
    for name in fashion_module.SHA256:
        (folder / name).touch()
    assert fashion_module.installed_folder() == folder


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No Debian package on this machine."""
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    return tmp_path


def test_download_asks_for_the_published_file_and_hash(nowhere, monkeypatch):
    asked = {}
    pooch = types.ModuleType("pooch")
    pooch.os_cache = lambda name: nowhere / name

    def retrieve(url, known_hash, fname, path, progressbar):
        asked[fname] = (url, known_hash)
        path.mkdir(parents=True, exist_ok=True)
        count = 10_000
        shape = (count, 28, 28) if "images" in fname else (count,)
        (path / fname).write_bytes(idx(np.full(shape, 3)))
        return str(path / fname)

    pooch.retrieve = retrieve
    monkeypatch.setitem(sys.modules, "pooch", pooch)
    fashion_module.fashion_mnist.cache_clear()
    items = data.fashion_mnist("test")
    fashion_module.fashion_mnist.cache_clear()
    assert items.labels.tolist() == [3] * 10_000
    assert sorted(asked) == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    for name, (url, known_hash) in asked.items():
        assert url == fashion_module.URL + name
        assert known_hash == "sha256:" + fashion_module.SHA256[name]
        assert len(fashion_module.SHA256[name]) == 64


@pytest.mark.parametrize("error", [OSError("no route to host"), ValueError("hash differs")])
def test_offline_says_what_to_do(nowhere, monkeypatch, error):
    pooch = types.ModuleType("pooch")
    pooch.os_cache = lambda name: nowhere / name

    def retrieve(*args, **kwargs):
        raise error

    pooch.retrieve = retrieve
    monkeypatch.setitem(sys.modules, "pooch", pooch)
    fashion_module.fashion_mnist.cache_clear()
    with pytest.raises(data.DataError, match="dataset-fashion-mnist") as caught:
        data.fashion_mnist("train")
    assert str(error) in str(caught.value)


def test_without_the_download_library_the_extra_is_named(nowhere, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    fashion_module.fashion_mnist.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"cnncore\[vision\]"):
        data.fashion_mnist("train")
