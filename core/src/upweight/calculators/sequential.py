"""Influences over batches, one after the other, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Generic, TypeVar

from array_api_compat import array_namespace

from upweight.arrays import LazyChunkSequence, NestedLazyChunkSequence
from upweight.calculators._checks import bytes_of, check_fitted
from upweight.calculators._factors import Factors
from upweight.calculators._order import StableOrder
from upweight.checks import as_batch, batch_size, check_reusable, located
from upweight.errors import DataError
from upweight.influence import InfluenceFunctionModel, InfluenceMode, ModeLike
from upweight.progress import length_of
from upweight.trees import Batch, perturbed_leaf

A = TypeVar("A")


class SequentialInfluenceCalculator(Generic[A]):
    """Influences between collections of batches, computed lazily on one machine.

    Factors are solved once for each test batch. Test batches are taken in groups whose factors
    and results fit into `max_memory`; for each group the training data is read once. `reduce` and
    `to_zarr` hold the results for one training batch at a time, so their groups are larger.

    Args:
        influence_function_model: A fitted model.
        max_memory: Bytes that the factors and results of a group may take, a number or a string
            such as "2 GiB".
        progress: Whether computing shows a progress bar, where the number of batches is known.

    Raises:
        NotFittedError: the model is not fitted.
    """

    def __init__(
        self,
        influence_function_model: InfluenceFunctionModel[A],
        *,
        max_memory: int | str = 2**30,
        progress: bool = True,
    ) -> None:
        check_fitted(influence_function_model)
        self._model = influence_function_model
        self._max_memory = bytes_of(max_memory)
        self._progress = progress

    def influence_factors(self, data: Iterable[Batch[A]]) -> LazyChunkSequence[A]:
        """Return the influence factors of each batch, lazily.

        Args:
            data: Batches `(x, y)`, in the same order on every pass.

        Returns:
            One array (n, p) a batch.

        Raises:
            DataError: the data can be read only once; on computing: it is empty, or it changes.
        """
        return self._for_each_batch(data, self._model.influence_factors, label="Influence factors")

    def self_influences(self, data: Iterable[Batch[A]]) -> LazyChunkSequence[A]:
        """Return the influence of each sample on itself, lazily, without those on the others.

        Args:
            data: Batches `(x, y)`, in the same order on every pass.

        Returns:
            One array (n,) a batch.

        Raises:
            DataError: the data can be read only once; on computing: it is empty, or it changes.
        """
        return self._for_each_batch(data, self._model.self_influences, label="Self-influences")

    def influences(
        self,
        test_data: Iterable[Batch[A]],
        train_data: Iterable[Batch[A]],
        mode: ModeLike = InfluenceMode.Up,
    ) -> NestedLazyChunkSequence[A]:
        """Return the influences of each training batch on each test batch, lazily.

        Args:
            test_data: Batches `(x, y)`, in the same order on every pass.
            train_data: Batches `(x, y)`, in the same order on every pass.
            mode: What of the training samples is varied.

        Returns:
            A row for each test batch, in it an array (k, n) for each training batch, or
            (k, n, *x) for `InfluenceMode.Perturbation`.

        Raises:
            UnsupportedInfluenceModeError: the mode is unknown; on computing: the inputs are not
                floating-point.
            DataError: the data can be read only once; on computing: it is empty, or it changes.
        """
        mode = InfluenceMode(mode)
        test, train = StableOrder(test_data, name="test"), StableOrder(train_data, name="training")

        def groups(columns: int | None) -> Iterator[Iterator[Sequence[A]]]:
            form = Factors.cheapest(self._model, mode)
            row_bytes = self._row_bytes(train, columns, form, mode)
            test.probe()
            factors = _computed(test, partial(form.solve, self._model), name="test")
            return self._groups(factors, train, form, mode, row_bytes)

        shape = (length_of(test_data), length_of(train_data))
        return self._nested(groups, shape)

    def influences_from_factors(
        self,
        z_test_factors: Iterable[A],
        train_data: Iterable[Batch[A]],
        mode: ModeLike = InfluenceMode.Up,
    ) -> NestedLazyChunkSequence[A]:
        """Return the influences of each training batch on test batches whose factors are known.

        Args:
            z_test_factors: Arrays (k, p), such as the result of `influence_factors`.
            train_data: Batches `(x, y)`, in the same order on every pass.
            mode: What of the training samples is varied.

        Returns:
            A row for each array of factors, in it an array (k, n) for each training batch, or
            (k, n, *x) for `InfluenceMode.Perturbation`.

        Raises:
            UnsupportedInfluenceModeError: the mode is unknown; on computing: the inputs are not
                floating-point.
            DataError: the data can be read only once; on computing: it is empty, or it changes.
        """
        mode = InfluenceMode(mode)
        train = StableOrder(train_data, name="training")
        check_reusable(z_test_factors)

        def groups(columns: int | None) -> Iterator[Iterator[Sequence[A]]]:
            form = Factors.of(self._model)
            row_bytes = self._row_bytes(train, columns, form, mode)
            return self._groups(iter(z_test_factors), train, form, mode, row_bytes)

        shape = (length_of(z_test_factors), length_of(train_data))
        return self._nested(groups, shape)

    def _for_each_batch(
        self, data: Iterable[Batch[A]], compute: Callable[[Any, Any], A], *, label: str
    ) -> LazyChunkSequence[A]:
        ordered = StableOrder(data, name="given")

        def chunks() -> Iterator[A]:
            ordered.probe()
            return _computed(ordered, compute, name="given")

        return LazyChunkSequence(
            chunks, length=length_of(data), label=label, progress=self._progress
        )

    def _nested(
        self,
        groups: Callable[[int | None], Iterator[Iterator[Sequence[A]]]],
        shape: tuple[int | None, int | None],
    ) -> NestedLazyChunkSequence[A]:
        """Return the chunks of groups, given a function of how many columns of results are held."""
        return NestedLazyChunkSequence(
            partial(groups, shape[1]),
            by_column=partial(groups, 1),
            shape=shape,
            progress=self._progress,
        )

    def _groups(
        self,
        factors: Iterator[A],
        train: StableOrder[Batch[A]],
        form: Factors,
        mode: InfluenceMode,
        row_bytes: int,
    ) -> Iterator[Iterator[Sequence[A]]]:
        """Gather factors while they fit the budget, and yield the columns of each group."""
        group: list[Any] = []
        rows = 0
        for chunk in factors:
            arriving = int(chunk.shape[0])  # type: ignore[attr-defined]  # the array API has no static type
            if group and (rows + arriving) * row_bytes > self._max_memory:
                yield self._columns(group, train, form, mode)
                group, rows = [], 0
            group.append(chunk)
            rows += arriving
        if not group:
            raise DataError("There are no factors of test samples; pass at least one array.")
        yield self._columns(group, train, form, mode)

    def _columns(
        self,
        group: list[Any],
        train: StableOrder[Batch[A]],
        form: Factors,
        mode: InfluenceMode,
    ) -> Iterator[Sequence[A]]:
        """Yield, for each training batch, the influences on each test batch of the group."""
        ends = [0]
        for chunk in group:
            ends.append(ends[-1] + int(chunk.shape[0]))
        factors = array_namespace(*group).concat(group) if len(group) > 1 else group[0]
        group.clear()  # the joined array replaces the pieces
        for index, item in enumerate(train):
            with located(f"batch {index} of the training data"):
                x, y = as_batch(item)
                block: Any = form.influences(self._model, factors, x, y, mode)
            yield [block[start:end, ...] for start, end in pairwise(ends)]

    def _row_bytes(
        self,
        train: StableOrder[Batch[A]],
        columns: int | None,
        form: Factors,
        mode: InfluenceMode,
    ) -> int:
        """Return the bytes of one test sample: its factors, and results for so many batches."""
        train.probe()  # read again at once, or shuffling would show only after factors were solved
        with located("batch 0 of the training data"):
            x, y = as_batch(train.probe())
            numbers = 1
            if mode is InfluenceMode.Perturbation:
                leaf: Any = perturbed_leaf(x)
                numbers = math.prod(leaf.shape[1:])
        results = (columns or 0) * batch_size(x, y) * numbers
        return (form.width + results) * self._model.dtype.itemsize


def _computed(
    data: StableOrder[Batch[A]], compute: Callable[[Any, Any], A], *, name: str
) -> Iterator[A]:
    for index, item in enumerate(data):
        with located(f"batch {index} of the {name} data"):
            result = compute(*as_batch(item))
        yield result
