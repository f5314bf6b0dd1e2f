"""Weight files and checkpoints: round trips, damage, crashes, exact resumption."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnncore import Tensor, io, nn, optim
from cnncore.errors import ArgumentError, CnncoreError
from cnncore.nn import init

SUFFIXES = [".npz", ".safetensors"]
STATE = {
    "layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "layer.bias": np.array([1.5, -2.5]),
    "tracked": np.array(7, np.int64),
    "empty": np.zeros((0, 4), np.float32),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "file": np.array([True, False]),
    "foreign": np.arange(3, dtype=">f4"),
}


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path: Path) -> Path:
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"weights{request.param}"


def test_every_array_comes_back(path: Path) -> None:
    io.save(path, STATE, {"epoch": 3, "note": "ü"})
    loaded = io.load(path)
    assert set(loaded) == set(STATE)
    for name, value in STATE.items():
        np.testing.assert_array_equal(loaded[name], value)
        assert loaded[name].dtype == value.dtype.newbyteorder("=")
    assert io.load_metadata(path) == {"epoch": 3, "note": "ü"}


def test_tensors_and_no_metadata(path: Path) -> None:
    io.save(path, {"x": Tensor(np.ones(2, np.float32))})
    assert io.load(path)["x"].tolist() == [1, 1]
    assert io.load_metadata(path) == {}


def test_the_same_arrays_give_the_same_bytes(path: Path) -> None:
    io.save(path, STATE)
    first = path.read_bytes()
    io.save(path, STATE)
    assert path.read_bytes() == first


def test_a_damaged_file_is_said_to_be_one(path: Path) -> None:
    io.save(path, STATE)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(io.FileFormatError, match="cannot be read"):
        io.load(path)
    path.write_bytes(b"")
    with pytest.raises(io.FileFormatError, match="cannot be read"):
        io.load(path)


def test_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(CnncoreError, match="numbers"):
        io.save(tmp_path / "a.npz", {"x": np.array([{}, None])})
    np.savez(tmp_path / "b.npz", x=np.array([{}], dtype=object))
    with pytest.raises(io.FileFormatError):
        io.load(tmp_path / "b.npz")


@pytest.mark.parametrize("name", ["a.pkl", "a"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArgumentError, match="ends in"):
        io.load(tmp_path / name)
    with pytest.raises(ArgumentError, match="ends in"):
        io.save(tmp_path / name, {})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="exists"):
        io.load(tmp_path / "none.npz")


# --- crashes --------------------------------------------------------------------------------------


def test_an_exception_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with io.atomic_write(target) as file:
            file.write(b"half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


CRASH = """
import os, sys
import numpy as np
from cnncore import io
os.replace = lambda *paths: os._exit(9)  # as a kill just before the rename
io.save(sys.argv[1], {"x": np.zeros(100_000)})
"""


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.npz"
    io.save(target, {"x": np.arange(3)})
    killed = subprocess.run([sys.executable, "-c", CRASH, str(target)], check=False)
    assert killed.returncode == 9
    assert io.load(target)["x"].tolist() == [0, 1, 2]


def test_a_new_file_has_ordinary_permissions(tmp_path: Path) -> None:
    io.save(tmp_path / "a.npz", {})
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a.npz").stat().st_mode == (tmp_path / "b").stat().st_mode


# --- checkpoints ----------------------------------------------------------------------------------


def make() -> tuple[nn.Module, optim.Optimizer]:
    init.seed(5)
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))
    return model, optim.AdamW(model.parameters(), lr=0.01)


def train(
    model: nn.Module, optimizer: optim.Optimizer, rng: np.random.Generator, steps: int
) -> None:
    for _ in range(steps):
        x = rng.normal(size=(4, 3)).astype(np.float32)
        optimizer.zero_grad()
        (model(x) ** 2).sum().backward()
        optimizer.step()


def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(path: Path) -> None:
    whole, optimizer = make()
    train(whole, optimizer, np.random.default_rng(0), 7)

    first, optimizer = make()
    rng = np.random.default_rng(0)
    train(first, optimizer, rng, 3)
    io.save_checkpoint(path, first, optimizer, {"loss": [1.0, 2.0]}, rng=rng, metadata={"step": 3})

    init.seed(99)  # dropout's generator is restored, too
    resumed, optimizer = make()
    init.generator().random(17)
    rng = np.random.default_rng(1)
    extra = io.load_checkpoint(path, resumed, optimizer, rng=rng)
    assert extra["loss"].tolist() == [1, 2]
    assert io.checkpoint_metadata(path) == {"step": 3}
    train(resumed, optimizer, rng, 4)
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(resumed.state_dict()[name], value)


def test_a_checkpoint_without_optimiser_and_other_misfits(tmp_path: Path) -> None:
    model, optimizer = make()
    path = tmp_path / "c.npz"
    io.save_checkpoint(path, model)
    io.load_checkpoint(path, model)
    with pytest.raises(ArgumentError, match="optimizer"):
        io.load_checkpoint(path, model, optimizer)
    with pytest.raises(ArgumentError, match="rng"):
        io.load_checkpoint(path, model, rng=np.random.default_rng())
    io.save_checkpoint(path, model, optimizer)
    with pytest.raises(ArgumentError, match="AdamW"):
        io.load_checkpoint(path, model, optim.SGD(model.parameters()))
    io.save(path, model.state_dict())
    with pytest.raises(ArgumentError, match="a checkpoint"):
        io.load_checkpoint(path, model)


def test_a_generator_with_an_array_in_its_state(tmp_path: Path) -> None:
    model, _ = make()
    rng = np.random.Generator(np.random.MT19937(3))
    io.save_checkpoint(tmp_path / "c.npz", model, rng=rng)
    expected = rng.random(5)
    other = np.random.Generator(np.random.MT19937(4))
    io.load_checkpoint(tmp_path / "c.npz", model, rng=other)
    np.testing.assert_array_equal(other.random(5), expected)
