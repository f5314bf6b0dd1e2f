"""A fixed number of mutated files; ``make fuzz`` tries new ones for longer."""

from __future__ import annotations

import fuzz_torch
import pytest
from torch_watch import examine

from cnncore.io.torch_file import layouts, pickle_machine, tensors

FILES = 4000


def test_the_seeds_are_sound() -> None:
    for made in fuzz_torch.SEEDS:
        assert examine(made.bytes()) == "read"


def test_mutated_files() -> None:
    outcomes = fuzz_torch.fuzz(0, lambda count: count < FILES)
    # Mutations that all fail at the first byte would test nothing.
    assert outcomes["read"] > FILES / 50
    assert len(outcomes) > 50
    assert max(outcomes.values()) < FILES / 3


def run(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, value: object) -> None:
    """The fuzzer must notice a reader with this part replaced."""
    monkeypatch.setattr(owner, name, value)
    with pytest.raises(AssertionError, match=r"fuzz_torch\.candidate"):
        fuzz_torch.fuzz(0, lambda count: count < FILES)


@pytest.mark.parametrize(
    ("owner", "name", "careless"),
    [
        (tensors, "natural", lambda value, what: value),
        (tensors, "naturals", lambda values, what: tuple(values)),
        (pickle_machine, "text", lambda content: content.decode()),
    ],
)
def test_the_fuzzer_notices_a_careless_reader(monkeypatch, owner, name, careless) -> None:
    run(monkeypatch, owner, name, careless)


def test_the_fuzzer_notices_a_reader_that_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    class Importing(tensors.TensorMeaning):
        def name(self, name: str) -> object:
            if name == "os.system":
                import this  # noqa: F401
            return super().name(name)

    run(monkeypatch, layouts, "TensorMeaning", Importing)


def test_a_number_gives_the_same_file_again() -> None:
    for seed in range(50):
        assert fuzz_torch.candidate(seed) == fuzz_torch.candidate(seed)
