"""Data whose order is the same on every pass, so that rows and columns of results have a meaning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar
from zlib import crc32

from upweight.checks import check_reusable
from upweight.digests import as_numpy
from upweight.errors import DataError
from upweight.trees import leaves

T = TypeVar("T")

#: Batches read before any work starts; read twice, they give a shuffling loader away.
PROBES = 2


class StableOrder(Generic[T]):
    """A collection of batches (or arrays) that is compared, pass by pass, with what it was before.

    Args:
        data: The collection.
        name: What to call it in errors.

    Raises:
        DataError: `data` can be read only once (a generator).
    """

    def __init__(self, data: Iterable[T], *, name: str) -> None:
        check_reusable(data)
        self._data = data
        self._name = name
        self.seen: list[int] = []  #: Checksums of the batches that were read, in order.
        self._complete = False  # whether a pass has reached the end, so that no more may follow
        self._before = "when it was read before"

    @property
    def length(self) -> int | None:
        """Number of batches, once a pass has reached the end."""
        return len(self.seen) if self._complete else None

    def expect(self, seen: Sequence[int], *, complete: bool) -> None:
        """Compare from now on with what an earlier run has read.

        Args:
            seen: Its checksums.
            complete: Whether it has reached the end.
        """
        self.seen, self._complete = list(seen), complete
        self._before = "when the stored result was begun"

    def first(self) -> T:
        """Return the first batch, compared if it was read before.

        Raises:
            DataError: there is no batch, or it is not the one of an earlier pass.
        """
        for batch in self._data:
            self._compare(0, batch)
            return batch
        raise DataError(f"The {self._name} data holds no batch; pass at least one.")

    def probe(self) -> T:
        """Read the first batches, note what they are, and return the first.

        Raises:
            DataError: there is no batch, or they are not the ones of an earlier pass.
        """
        first = list(islice(iter(self._data), PROBES))
        if not first:
            raise DataError(f"The {self._name} data holds no batch; pass at least one.")
        for index, batch in enumerate(first):
            self._compare(index, batch)
        return first[0]

    def __iter__(self) -> Iterator[T]:
        """Yield the batches.

        Raises:
            DataError: a batch is not the one of an earlier pass, or there are fewer or more.
        """
        count = 0
        for index, batch in enumerate(self._data):
            self._compare(index, batch)
            yield batch
            count = index + 1
        if count < len(self.seen):
            raise DataError(
                f"The {self._name} data held at least {len(self.seen)} batches before and "
                f"{count} now. Pass data that is the same on every pass."
            )
        self._complete = True

    def _compare(self, index: int, batch: T) -> None:
        now = fingerprint(batch)
        if index == len(self.seen):
            if self._complete:
                raise DataError(
                    f"The {self._name} data held {index} batches before and holds more now. "
                    "Pass data that is the same on every pass."
                )
            self.seen.append(now)
        elif now != self.seen[index]:
            raise DataError(
                f"Batch {index} of the {self._name} data is not what it was {self._before}, "
                "so rows and columns of the result would have no fixed meaning. "
                "Turn off shuffling (DataLoader(..., shuffle=False)) and random augmentation."
            )


def fingerprint(batch: Any) -> int:
    """Return a checksum of the values, shapes and types of a batch or an array."""
    value = 0
    parts = batch if isinstance(batch, tuple | list) else (batch,)
    for array in (leaf for part in parts for leaf in leaves(part)):
        if hasattr(array, "shape"):
            values = as_numpy(array)
            value = crc32(f"{values.shape}{values.dtype}".encode(), value)
            value = crc32(values.tobytes(), value)
    return value
