"""Results on disk, as they are found there."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from upweight.errors import IncompleteResultError

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store
    from zarr.core.array_spec import ArrayConfigParams

    from upweight.protocols import NumpyConverter

A = TypeVar("A")

StoreLike: TypeAlias = "str | PathLike[str] | Store"

#: Name of the array attribute under which upweight notes what it wrote.
ATTRIBUTE = "upweight"

#: Every chunk is written, whatever it holds: one that exists is done.
WHOLE: ArrayConfigParams = {"write_empty_chunks": True}


def open_result(path_or_url: StoreLike, *, incomplete: bool = False) -> zarr.Array[Any]:
    """Open an array that `to_zarr` wrote, for reading.

    Args:
        path_or_url: A path, a URL that fsspec understands, or a Zarr v3 store.
        incomplete: Whether an array that is not complete may be read; missing blocks are NaN.

    Raises:
        FileNotFoundError: there is no array.
        IncompleteResultError: the array is not complete.
    """
    import zarr

    array = zarr.open_array(target_of(path_or_url), mode="r")
    if not incomplete and not notes_of(array).get("complete", False):
        raise IncompleteResultError(
            f"The array at {path_or_url} is not complete: {array.nchunks_initialized} of about "
            f"{array.nchunks} blocks are written. Call `to_zarr` with resume=True to have the "
            "others computed, or pass incomplete=True to read what is there."
        )
    return array


class StoredChunks(Generic[A]):
    """The chunks of a stored array along its first axis, read when an iteration reaches them.

    Factors that are on disk go so into `influences_from_factors`, and are never in memory together.

    Args:
        path_or_url: What `to_zarr` was given.
        converter: Makes arrays of the framework.

    Raises:
        FileNotFoundError: there is no array.
        IncompleteResultError: the array is not complete.
    """

    def __init__(self, path_or_url: StoreLike, converter: NumpyConverter[A]) -> None:
        self._array = open_result(path_or_url)
        self._converter = converter

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[A]:
        starts = self._starts()
        for start in starts:
            values: Any = self._array[start : start + starts.step]
            yield self._converter.from_numpy(values)

    def _starts(self) -> range:
        return range(0, self._array.shape[0], self._array.chunks[0])


def notes_of(array: zarr.Array[Any]) -> dict[str, Any]:
    """Return what upweight noted in an attribute of the array; empty if it did not write it."""
    notes: Any = array.attrs.get(ATTRIBUTE, {})
    return dict(notes)


def target_of(path_or_url: StoreLike) -> str | Store:
    """Return what Zarr calls a place."""
    from zarr.abc.store import Store

    if isinstance(path_or_url, Store):
        return path_or_url
    # Zarr makes no folders through fsspec, so a URL of a local file is taken as its path.
    return fspath(path_or_url).removeprefix("file://")


def existing_array(target: str | Store) -> zarr.Array[Any] | None:
    """Return the array that is there, or None, and refuse anything else."""
    import zarr

    try:
        existing = zarr.open(target, mode="r")
    except FileNotFoundError:
        return None
    if isinstance(existing, zarr.Group):
        raise FileExistsError(
            f"There is a Zarr group at {target}, which may hold other arrays; "
            "give a path for the array inside it, or another path."
        )
    return existing


def resumable_array(found: zarr.Array[Any], target: str | Store) -> zarr.Array[Any]:
    """Return the array that was found, opened for writing.

    Raises:
        FileExistsError: it was not written so that it can be continued.
    """
    import zarr

    if not notes_of(found).get("resumable", False):
        raise FileExistsError(
            f"The array at {target} cannot be resumed: it was not written by `to_zarr`, or in "
            "blocks that are no whole chunks, as batches of several sizes make them. Pass "
            "overwrite=True to begin again, or another path."
        )
    return zarr.open_array(target, mode="r+", config=WHOLE)
