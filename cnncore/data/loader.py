"""Batches of a data set in a seeded order, optionally prepared ahead by a background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

import numpy as np

from cnncore.errors import ArgumentError
from cnncore.geometry import as_int

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Dataset(Protocol[T_co]):
    """Anything with a length and numbered samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> T_co: ...


class Loader(Generic[T]):
    """Batches (lists of samples) of a data set.

    The order of epoch ``e`` depends on ``(seed, e)`` alone, so training resumes anywhere:
    ``loader.batches(epoch, step)`` goes on exactly as an uninterrupted run would.  With
    ``prefetch = n`` one background thread keeps up to ``n`` batches ready; what it yields is the
    same, and an error in the data set is raised to the consumer.

    >>> loader = Loader(range(5), batch_size=2, shuffle=False)
    >>> list(loader)
    [[0, 1], [2, 3], [4]]
    >>> list(loader.batches(epoch=0, step=2))
    [[4]]
    """

    def __init__(
        self,
        dataset: Dataset[T],
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        prefetch: int = 0,
    ) -> None:
        self.dataset = dataset
        self.batch_size = as_int("batch_size", batch_size, 1)
        self.shuffle = shuffle
        self.seed = as_int("seed", seed, 0)
        self.drop_last = drop_last
        self.prefetch = as_int("prefetch", prefetch, 0)

    def __len__(self) -> int:
        """Batches (steps) in an epoch."""
        count = len(self.dataset)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[list[T]]:
        return self.batches()

    def batches(self, epoch: int = 0, step: int = 0) -> Iterator[list[T]]:
        """The batches of one epoch from number ``step`` on."""
        epoch, step = as_int("epoch", epoch, 0), as_int("step", step, 0)
        if step > len(self):
            raise ArgumentError("step", f"0..{len(self)}, the batches of an epoch", step)
        produced = self._produce(epoch, step)
        return _ahead(produced, self.prefetch) if self.prefetch else produced

    def forever(self, epoch: int = 0, step: int = 0) -> Iterator[tuple[int, int, list[T]]]:
        """``(epoch, step, batch)`` without end, epoch after epoch, from a given place on.

        After the batch labelled ``(e, s)``, ``forever(e, s + 1)`` resumes.
        """
        if len(self) == 0:
            raise ArgumentError("dataset", "at least one batch", f"{len(self.dataset)} samples")
        labelled = self._produce_forever(as_int("epoch", epoch, 0), as_int("step", step, 0))
        return _ahead(labelled, self.prefetch) if self.prefetch else labelled

    def _produce(self, epoch: int, step: int) -> Iterator[list[T]]:
        count = len(self.dataset)
        order = (
            np.random.default_rng([self.seed, epoch]).permutation(count) if self.shuffle else None
        )
        for number in range(step, len(self)):
            places = range(number * self.batch_size, min((number + 1) * self.batch_size, count))
            yield [self.dataset[int(order[p]) if order is not None else p] for p in places]

    def _produce_forever(self, epoch: int, step: int) -> Iterator[tuple[int, int, list[T]]]:
        epoch, step = epoch + step // len(self), step % len(self)
        while True:
            for number, batch in enumerate(self._produce(epoch, step), start=step):
                yield epoch, number, batch
            epoch, step = epoch + 1, 0


class _Failure:
    """An exception on its way from the background thread to the consumer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


def _ahead(produced: Iterator[T], depth: int) -> Iterator[T]:
    """The same values, computed up to ``depth`` ahead by a thread that ends with the iterator."""
    ready: queue.Queue[object] = queue.Queue(depth)
    stop = threading.Event()

    def put(value: object) -> None:
        while not stop.is_set():
            try:
                return ready.put(value, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for value in produced:
                put(value)
                if stop.is_set():
                    return
            put(_END)
        except BaseException as error:  # handed over, not swallowed
            put(_Failure(error))

    def consume() -> Iterator[T]:
        thread = threading.Thread(target=work, name="cnncore-loader", daemon=True)
        thread.start()
        try:
            while (value := ready.get()) is not _END:
                if isinstance(value, _Failure):
                    raise value.error
                yield value  # type: ignore[misc]
        finally:
            stop.set()
            thread.join()

    return consume()
