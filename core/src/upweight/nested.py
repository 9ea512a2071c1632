"""Rows of chunks that are computed when they are asked for, and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain, tee
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from upweight.aggregators import NestedListAggregator
from upweight.folding import Folded, NanReduction, Over
from upweight.progress import progress_bar

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr import Array as ZarrArray

    from upweight.coords import Coords
    from upweight.protocols import (
        NestedSequenceAggregator,
        NumpyConverter,
        Reduction,
    )
    from upweight.stored import StoreLike
    from upweight.writing import Columns

A = TypeVar("A")
R = TypeVar("R")
S = TypeVar("S")


class NestedLazyChunkSequence(Generic[A]):
    """Rows of arrays, one row a test batch and one array a training batch, computed on demand.

    Iterating gives the rows in order, each an iterator over its chunks; rows may be consumed in
    any order, also after all of them have been listed. Every iteration computes anew.

    Args:
        factory: Starts a fresh computation: an iterator over groups of consecutive rows, each an
            iterator over columns that holds, for every column, one chunk for each row of the
            group. A group of several rows lets them share the work done for a column.
        by_column: Starts a computation for those who use up column after column and keep none of
            them, so that its groups may have more rows; by default `factory`.
        origin: What the chunks are made from, if a stored result is to be resumed.
        shape: Number of rows and of columns, each None where it is not known.
        label: What the progress bar is called.
        progress: Whether `compute`, `reduce` and `to_zarr` show a progress bar.
    """

    def __init__(
        self,
        factory: Callable[[], Iterator[Iterator[Sequence[A]]]],
        *,
        by_column: Callable[[], Iterator[Iterator[Sequence[A]]]] | None = None,
        origin: Columns[A] | None = None,
        shape: tuple[int | None, int | None] = (None, None),
        label: str = "Influences",
        progress: bool = True,
    ) -> None:
        self._factory = factory
        self._by_column = by_column or factory
        self._origin = origin
        self._shape = shape
        self._label = label
        self._progress = progress

    def __iter__(self) -> Iterator[Iterator[A]]:
        return chain.from_iterable(map(_rows_of_group, self._factory()))

    def __len__(self) -> int:
        if self._shape[0] is None:
            raise TypeError("The number of rows is not known before they are computed.")
        return self._shape[0]

    @overload
    def compute(self, aggregator: None = None) -> list[list[A]]: ...
    @overload
    def compute(self, aggregator: NestedSequenceAggregator[A, R]) -> R: ...
    def compute(self, aggregator: NestedSequenceAggregator[A, Any] | None = None) -> Any:
        """Compute all chunks and hand them, row after row, to an aggregator.

        Args:
            aggregator: Called with an iterator over the rows; by default they become a list of
                lists.
        """
        with self._bar() as advance:  # until the end of the aggregator, which may list rows first
            groups = self._tracked(self._factory, advance)
            rows = chain.from_iterable(map(_rows_of_group, groups))
            return (aggregator or NestedListAggregator())(rows)

    def reduce(
        self,
        reduction: Reduction[S, R],
        converter: NumpyConverter[A],
        *,
        over: Over = "training",
        nan_policy: NanReduction = "raise",
    ) -> R:
        """Compute the chunks and keep only what a reduction makes of them.

        The memory it takes does not depend on the number of training samples, beyond a result that
        has a row for each of them.

        Args:
            reduction: What to keep, such as `TopK(10)`.
            converter: Turns each chunk into a NumPy array.
            over: Which samples are reduced, "training" or "test".
            nan_policy: What becomes of samples all of whose influences are NaN, because the
                calculator marked them: "raise" an error, or "omit" them. Where the rows of the
                result are such samples, their numbers are NaN and their indices -1.

        Returns:
            The result, its rows the test samples, or the training samples if test samples are
            reduced.

        Raises:
            TypeError: `reduction` is not one, or is a class instead of an instance.
            ValueError: `over` or `nan_policy` is something else.
            NonFiniteError: an influence is NaN or infinite.
            DataError: there are no chunks, or all samples are left out.
        """
        folded, row = Folded(reduction, over, nan_policy), 0
        with self._bar() as advance:
            for group in self._tracked(self._by_column, advance):
                column = k = 0
                for chunks in group:
                    k, n = _fold(folded, [converter.to_numpy(c) for c in chunks], row, column)
                    column += n
                row += k
        return folded.result()

    def to_zarr(
        self,
        path_or_url: StoreLike,
        converter: NumpyConverter[A],
        return_stored: bool = False,
        overwrite: bool = False,
        *,
        resume: bool = False,
        encoding: Mapping[str, Any] | None = None,
        component: str | None = None,
        coords: Coords | None = None,
    ) -> ZarrArray[Any] | None:
        """Compute the chunks and write them, block by block, to a Zarr array.

        Rows of chunks are joined along the second axis, and the rows along the first. Test batches
        whose factors fit the memory are one block for each training batch, and one Zarr chunk.
        The attribute `upweight` of the array says what it was computed from, and `"complete": true`
        only once everything is written. See `upweight.open_result` for reading it.

        Args:
            path_or_url: A path, a URL that fsspec understands, or a Zarr v3 store.
            converter: Turns each chunk into a NumPy array.
            return_stored: Whether to return the array, opened for reading.
            overwrite: Whether an array that is there already may be replaced.
            resume: Whether an array that is there already is continued: only what is missing is
                computed. It must have been begun by the same model, with the same options and
                data; where there is none, it is begun.
            encoding: Further options of `zarr.create_array`, such as `compressors` or `dtype`. With
                `chunks`, each block becomes a shard that is divided into these.
            component: Name of the array in a group at the path; by default it is at the path
                itself, in no group.
            coords: Ids of samples by axis, integers or strings, for the coordinates of the group:
                {"test": ids, "train": ids}. xarray opens such a group.

        Raises:
            FileExistsError: there is an array already and neither `overwrite` nor `resume` is
                true; or it cannot be continued; or there is a group.
            ValueError: both are true, the ids are not one for each sample, or this result does not
                come from a calculator and cannot be resumed.
            ResumeError: the array was begun with another model, other options or another fit.
            DataError: it was begun with other data.
        """
        from upweight.writing import opened, write_groups

        target = opened(
            path_or_url,
            ("test", "train"),
            self._origin,
            overwrite=overwrite,
            resume=resume,
            encoding=encoding,
            component=component,
            coords=coords,
        )
        start = (lambda _: self._by_column()) if self._origin is None else self._origin.by_column
        with self._bar() as advance:
            stored = write_groups(
                target, start, self._origin, converter, shape=self._shape, advance=advance
            )
        return stored if return_stored else None

    def _bar(self) -> AbstractContextManager[Callable[[int], object]]:
        rows, columns = self._shape
        total = None if rows is None or columns is None else rows * columns
        return progress_bar(total, label=self._label, unit="block", show=self._progress)

    def _tracked(
        self,
        factory: Callable[[], Iterator[Iterator[Sequence[A]]]],
        advance: Callable[[int], object],
    ) -> Iterator[Iterator[Sequence[A]]]:
        def tracked(group: Iterator[Sequence[A]]) -> Iterator[Sequence[A]]:
            for chunks in group:
                yield chunks
                advance(len(chunks))

        return map(tracked, factory())


def _fold(
    folded: Folded[S, R], chunks: list[NDArray[Any]], row: int, column: int
) -> tuple[int, ...]:
    """Fold a column of chunks as one block, and return its numbers of rows and columns."""
    block = np.concatenate(chunks) if len(chunks) > 1 else chunks[0]
    folded.add(block, row, column)
    return block.shape[:2]


def _rows_of_group(columns: Iterator[Sequence[A]]) -> Iterator[Iterator[A]]:
    first = next(columns, ())  # a group without columns has no rows
    shared = tee(chain([first], columns), len(first))  # a column is kept until every row took it
    return (_row(index, own) for index, own in enumerate(shared))


def _row(index: int, columns: Iterable[Sequence[A]]) -> Iterator[A]:
    for chunks in columns:
        yield chunks[index]
