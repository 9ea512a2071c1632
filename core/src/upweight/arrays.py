"""Results that are computed chunk by chunk when they are asked for, and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from upweight.aggregators import ListAggregator
from upweight.progress import progress_bar

if TYPE_CHECKING:
    from zarr import Array as ZarrArray

    from upweight.coords import Coords
    from upweight.protocols import (
        NumpyConverter,
        SequenceAggregator,
    )
    from upweight.stored import StoreLike
    from upweight.writing import Chunks

A = TypeVar("A")
R = TypeVar("R")
S = TypeVar("S")


class LazyChunkSequence(Generic[A]):
    """A sequence of arrays, each computed when an iteration reaches it.

    Every iteration computes anew; nothing is kept.

    Args:
        factory: Starts a fresh iteration over the chunks.
        origin: What the chunks are made from, if a stored result is to be resumed.
        length: Number of chunks, where it is known.
        label: What the progress bar is called.
        progress: Whether `compute` and `to_zarr` show a progress bar.
    """

    def __init__(
        self,
        factory: Callable[[], Iterator[A]],
        *,
        origin: Chunks[A] | None = None,
        length: int | None = None,
        label: str = "Chunks",
        progress: bool = True,
    ) -> None:
        self._factory = factory
        self._origin = origin
        self._length = length
        self._label = label
        self._progress = progress

    def __iter__(self) -> Iterator[A]:
        return self._factory()

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("The number of chunks is not known before they are computed.")
        return self._length

    @overload
    def compute(self, aggregator: None = None) -> list[A]: ...
    @overload
    def compute(self, aggregator: SequenceAggregator[A, R]) -> R: ...
    def compute(self, aggregator: SequenceAggregator[A, Any] | None = None) -> Any:
        """Compute all chunks and hand them, in order, to an aggregator.

        Args:
            aggregator: Called with an iterator over the chunks; by default they become a list.
        """
        return (aggregator or ListAggregator())(self._tracked())

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
        """Compute the chunks and write each to a Zarr array.

        The chunks are joined along their first axis.
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
                {"sample": ids}. xarray opens such a group.

        Raises:
            FileExistsError: there is an array already and neither `overwrite` nor `resume` is
                true; or it cannot be continued; or there is a group.
            ValueError: both are true, the ids are not one for each sample, or this result does not
                come from a calculator and cannot be resumed.
            ResumeError: the array was begun with another model, other options or another fit.
            DataError: it was begun with other data.
        """
        from upweight.writing import opened, write_sequence

        target = opened(
            path_or_url,
            ("sample",),
            self._origin,
            overwrite=overwrite,
            resume=resume,
            encoding=encoding,
            component=component,
            coords=coords,
        )
        start = (lambda _: self._factory()) if self._origin is None else self._origin.chunks
        with progress_bar(self._length, label=self._label, show=self._progress) as advance:
            stored = write_sequence(
                target, start, self._origin, converter, length=self._length, advance=advance
            )
        return stored if return_stored else None

    def _tracked(self) -> Iterator[A]:
        with progress_bar(self._length, label=self._label, show=self._progress) as advance:
            for chunk in self:
                yield chunk
                advance(1)
