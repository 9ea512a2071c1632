"""What lazy results are made from, batch by batch: read, compared, computed where it is missing."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

from array_api_compat import array_namespace

from upweight.calculators._factors import Factors
from upweight.calculators._order import StableOrder
from upweight.checks import as_batch, batch_size, located
from upweight.errors import DataError
from upweight.influence import InfluenceFunctionModel, InfluenceMode
from upweight.trees import Batch, perturbed_leaf
from upweight.writing import Skip, Skipped

A = TypeVar("A")

logger = logging.getLogger(__name__)


def nothing(*_: int) -> bool:
    """Say of every block that it is missing."""
    return False


class PerBatch(Generic[A]):
    """One array for each batch of samples.

    Args:
        data: The batches.
        compute: Called with `x` and `y` of a batch.
        identity: What tells the result from others.
    """

    def __init__(
        self,
        data: StableOrder[Batch[A]],
        compute: Callable[[Any, Any], A],
        identity: Mapping[str, Any],
    ) -> None:
        self.identity = identity
        self._data = data
        self._compute = compute

    @property
    def fingerprints(self) -> Mapping[str, Sequence[int]]:
        """Checksums of the batches that were read."""
        return {"given": self._data.seen}

    def expect(self, notes: Mapping[str, Any]) -> None:
        """Refuse, from now on, batches that differ from those of an earlier run."""
        self._data.expect(notes["fingerprints"]["given"], complete=False)

    def sample(self) -> A:
        """Return the array of the first batch."""
        return self._compute(*as_batch(self._data.probe()))

    def chunks(self, skip: Skip = nothing) -> Iterator[Any]:
        """Yield the array of each batch, or what stands for it."""
        self._data.probe()
        for index, item in enumerate(self._data):
            with located(f"batch {index} of the given data"):
                x, y = as_batch(item)
                left_out = skip(index)
                result = None if left_out else self._compute(x, y)
            yield Skipped((batch_size(x, y),), 1) if result is None else result


class Group(NamedTuple):
    """Consecutive test samples that share a pass over the training data.

    Attributes:
        first: Index of the first test batch.
        items: Batches `(x, y)`, or arrays of factors.
        sizes: Number of samples of each.
    """

    first: int
    items: list[Any]
    sizes: list[int]


class Pairs(Generic[A]):
    """The influences of training batches on test samples, the latter taken in groups.

    Args:
        model: The fitted model.
        test: Batches of test samples, or arrays of their factors.
        train: Batches of training samples.
        form: Which factors.
        solved: Whether `test` holds factors.
        mode: What of the training samples is varied.
        columns: Number of training batches, where it is known.
        max_memory: Bytes that a group may take.
        identity: What tells the result from others.
    """

    def __init__(
        self,
        model: InfluenceFunctionModel[A],
        test: StableOrder[Any],
        train: StableOrder[Batch[A]],
        *,
        form: Factors,
        solved: bool,
        mode: InfluenceMode,
        columns: int | None,
        max_memory: int,
        identity: Mapping[str, Any],
    ) -> None:
        self.identity = identity
        self._model = model
        self._test, self._train = test, train
        self._form, self._solved_already = form, solved
        self._mode = mode
        self._columns = columns
        self._max_memory = max_memory

    @property
    def fingerprints(self) -> Mapping[str, Sequence[int]]:
        """Checksums of the batches that were read."""
        return {"test": self._test.seen, "training": self._train.seen}

    def expect(self, notes: Mapping[str, Any]) -> None:
        """Refuse, from now on, batches that differ from those of an earlier run."""
        seen = notes["fingerprints"]
        self._test.expect(seen["test"], complete=False)
        self._train.expect(seen["training"], complete="columns" in notes)

    def sample(self) -> A:
        """Return the influences of the first training batch on the first test batch."""
        factors = self._factors(0, self._test.first())
        return self._block(0, factors, self._train.probe())

    def by_row(self) -> Iterator[Iterator[Any]]:
        """Yield, for each group, its columns: for each training batch an array for each test batch.

        A group has the test batches whose factors and whole rows of results fit the memory.
        """
        return self._groups(self._row_bytes(self._columns or 0), nothing)

    def by_column(self, skip: Skip = nothing) -> Iterator[Iterator[Any]]:
        """Yield the same in groups whose factors and results for one training batch fit.

        `Skipped` stands for what need not be computed.
        """
        return self._groups(self._row_bytes(1), skip)

    def _groups(self, row_bytes: int, skip: Skip) -> Iterator[Iterator[Sequence[A] | Skipped]]:
        if not self._solved_already:
            self._test.probe()
        held, rows = Group(0, [], []), 0
        number = 0
        for index, item in enumerate(self._test):
            arriving = self._size(index, item)
            if held.items and (rows + arriving) * row_bytes > self._max_memory:
                yield self._columns_of(number, held, skip)
                held, rows, number = Group(index, [], []), 0, number + 1
            held.items.append(item)
            held.sizes.append(arriving)
            rows += arriving
        if not held.items:
            raise DataError("There are no factors of test samples; pass at least one array.")
        yield self._columns_of(number, held, skip)

    def _columns_of(self, number: int, group: Group, skip: Skip) -> Iterator[Sequence[A] | Skipped]:
        rows, whole = sum(group.sizes), self._train.length
        if whole is not None and all(skip(number, index) for index in range(whole)):
            yield Skipped((rows, 0), whole * len(group.sizes))
            return
        logger.info(
            "%d test samples, from test batch %d on, share a pass over the training data",
            rows,
            group.first,
        )
        ends = [0]
        for size in group.sizes:
            ends.append(ends[-1] + size)
        factors: Any = None
        for index, item in enumerate(self._train):
            if skip(number, index):
                yield Skipped((rows, batch_size(*as_batch(item))), len(group.sizes))
                continue
            if factors is None:
                factors = self._gathered(group)
            block: Any = self._block(index, factors, item)
            yield [block[start:end, ...] for start, end in pairwise(ends)]

    def _gathered(self, group: Group) -> Any:
        """Return the factors of a group in one array, which replaces what they are made from."""
        parts = [self._factors(group.first + i, item) for i, item in enumerate(group.items)]
        group.items.clear()
        return array_namespace(*parts).concat(parts) if len(parts) > 1 else parts[0]

    def _factors(self, index: int, item: Any) -> Any:
        if self._solved_already:
            return item
        with located(f"batch {index} of the test data"):
            return self._form.solve(self._model, *as_batch(item))

    def _block(self, index: int, factors: Any, item: Any) -> A:
        with located(f"batch {index} of the training data"):
            x, y = as_batch(item)
            block: A = self._form.influences(self._model, factors, x, y, self._mode)
        return block

    def _size(self, index: int, item: Any) -> int:
        if self._solved_already:
            return int(item.shape[0])
        with located(f"batch {index} of the test data"):
            return batch_size(*as_batch(item))

    def _row_bytes(self, columns: int) -> int:
        """Return the bytes of one test sample: its factors, and results for so many batches."""
        self._train.probe()  # read again at once, or shuffling would show only after factors were solved
        with located("batch 0 of the training data"):
            x, y = as_batch(self._train.probe())
            numbers = 1
            if self._mode is InfluenceMode.Perturbation:
                leaf: Any = perturbed_leaf(x)
                numbers = math.prod(leaf.shape[1:])
        results = columns * batch_size(x, y) * numbers
        return (self._form.width + results) * self._model.dtype.itemsize
