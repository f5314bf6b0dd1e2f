"""The loader: order, resumption, the background thread."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from hypothesis import given, settings, strategies as st

from cnncore.data import Loader
from cnncore.errors import ArgumentError


@settings(deadline=None)
@given(
    st.integers(0, 30), st.integers(1, 7), st.booleans(), st.booleans(), st.sampled_from([0, 1, 3])
)
def test_an_epoch_is_every_sample_once(count, size, shuffle, drop_last, prefetch):
    loader = Loader(range(count), size, shuffle, 5, drop_last, prefetch)
    batches = list(loader)
    assert len(batches) == len(loader)
    seen = list(itertools.chain(*batches))
    assert len(set(seen)) == len(seen)
    assert len(seen) == (count // size * size if drop_last else count)
    assert set(seen) <= set(range(count))
    assert all(len(batch) == size for batch in batches[:-1])
    if not shuffle:
        assert seen == list(range(len(seen)))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_resuming_goes_on_as_if_never_stopped(prefetch):
    whole = [list(Loader(range(20), 3, seed=9).batches(epoch)) for epoch in range(3)]
    fresh = Loader(range(20), 3, seed=9, prefetch=prefetch)
    for epoch, step in ((0, 0), (1, 4), (2, 6), (2, 7)):
        assert list(fresh.batches(epoch, step)) == whole[epoch][step:]
    stream = fresh.forever(1, 5)
    labelled = [next(stream) for _ in range(6)]
    expected = [(1, s, whole[1][s]) for s in (5, 6)] + [(2, s, whole[2][s]) for s in range(4)]
    assert labelled == expected
    assert next(fresh.forever(1, 7)) == (2, 0, whole[2][0])  # past the last step: the next epoch
    assert whole[0] != whole[1]


def test_seeds_differ_and_repeat():
    def order(seed, epoch=0):
        return list(itertools.chain(*Loader(range(50), 5, seed=seed).batches(epoch)))

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1, 1) != order(2, 0)


class Failing:
    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index == 7:
            raise KeyError("sample 7 is damaged")
        return index


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_in_the_data_reaches_the_consumer(prefetch):
    batches = Loader(Failing(), 2, shuffle=False, prefetch=prefetch).batches()
    assert [next(batches) for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(KeyError, match="sample 7"):
        next(batches)


def loader_threads():
    return [t for t in threading.enumerate() if t.name == "cnncore-loader"]


def test_the_thread_works_ahead_no_further_than_asked_and_ends():
    made = []

    class Counted:
        def __len__(self):
            return 1000

        def __getitem__(self, index):
            made.append(index)
            return index

    batches = Loader(Counted(), 1, shuffle=False, prefetch=3).batches()
    assert not loader_threads()  # nothing starts before the first batch is asked for
    assert next(batches) == [0]
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    # One delivered, three ready, one in the thread's hand.
    assert len(made) == 5
    assert len(loader_threads()) == 1
    batches.close()
    assert not loader_threads()


def test_the_thread_ends_after_the_last_batch():
    assert len(list(Loader(range(4), 1, prefetch=8))) == 4
    assert not loader_threads()


def test_loader_refuses():
    for arguments, named in (
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 1, "prefetch": -1}, "prefetch"),
        ({"batch_size": 1, "seed": 0.5}, "seed"),
    ):
        with pytest.raises(ArgumentError, match=named):
            Loader(range(3), **arguments)
    with pytest.raises(ArgumentError, match="step"):
        Loader(range(3), 1).batches(0, 4)
    with pytest.raises(ArgumentError, match="dataset"):
        Loader(range(0), 1).forever()
    with pytest.raises(ArgumentError, match="dataset"):
        Loader(range(3), 4, drop_last=True).forever()
