"""Results on disk, as they are found there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

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


def open_result(
    path_or_url: StoreLike, component: str | None = None, *, incomplete: bool = False
) -> zarr.Array[Any]:
    """Open an array that `to_zarr` wrote, for reading.

    Args:
        path_or_url: A path, a URL that fsspec understands, or a Zarr v3 store.
        component: Name of the array, if it is in a group.
        incomplete: Whether an array that is not complete may be read; missing blocks are NaN.

    Raises:
        FileNotFoundError: there is no array.
        IncompleteResultError: the array is not complete.
    """
    place = Place.of(path_or_url, component)
    array = place.open()
    if not incomplete and not notes_of(array).get("complete", False):
        there, all_of_them = blocks_written(array)
        raise IncompleteResultError(
            f"The array at {place} is not complete: {there} of about {all_of_them} blocks are "
            "written. Call `to_zarr` with resume=True to have the others computed, or pass "
            "incomplete=True to read what is there."
        )
    return array


class StoredChunks(Generic[A]):
    """The chunks of a stored array along its first axis, read when an iteration reaches them.

    Factors that are on disk go so into `influences_from_factors`, and are never in memory together.

    Args:
        path_or_url: What `to_zarr` was given.
        converter: Makes arrays of the framework.
        component: What `to_zarr` was given.

    Raises:
        FileNotFoundError: there is no array.
        IncompleteResultError: the array is not complete.
    """

    def __init__(
        self,
        path_or_url: StoreLike,
        converter: NumpyConverter[A],
        component: str | None = None,
    ) -> None:
        self._array = open_result(path_or_url, component)
        self._converter = converter

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[A]:
        starts = self._starts()
        for start in starts:
            values: Any = self._array[start : start + starts.step]
            yield self._converter.from_numpy(values)

    def _starts(self) -> range:
        return range(0, self._array.shape[0], block_shape(self._array)[0])


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


@dataclass(frozen=True)
class Place:
    """Where an array is.

    Attributes:
        store: A path or a store: of the array itself, or of the group that it is in.
        component: Name of the array in the group; None if it is in none.
    """

    store: str | Store
    component: str | None = None

    @classmethod
    def of(cls, path_or_url: StoreLike, component: str | None = None) -> Place:
        """Return the place that a user names.

        Raises:
            ValueError: the component is not a single name.
        """
        if component is not None and (not component or "/" in component):
            raise ValueError(f"`component` must be a name without slashes; got {component!r}.")
        return cls(target_of(path_or_url), component)

    def __str__(self) -> str:
        return str(self.store) if self.component is None else f"{self.store}/{self.component}"

    def open(self, mode: Literal["r", "r+"] = "r") -> zarr.Array[Any]:
        """Return the array.

        Raises:
            FileNotFoundError: there is none.
        """
        import zarr

        return zarr.open_array(self.store, path=self.component or "", mode=mode, config=WHOLE)

    def existing(self) -> zarr.Array[Any] | None:
        """Return the array that is there, or None.

        Raises:
            FileExistsError: there is something else.
        """
        import zarr

        try:
            existing = zarr.open(self.store, path=self.component, mode="r")
        except FileNotFoundError:
            self._check_parent()
            return None
        if isinstance(existing, zarr.Group):
            raise FileExistsError(
                f"There is a Zarr group at {self}, which may hold other arrays; give "
                "`component`, the name of the array inside it, or another path."
            )
        return existing

    def _check_parent(self) -> None:
        import zarr

        if self.component is None:
            return
        try:
            parent = zarr.open(self.store, mode="r")
        except FileNotFoundError:
            return
        if isinstance(parent, zarr.Array):
            raise FileExistsError(
                f"There is a Zarr array at {self.store}, which cannot hold {self.component!r} as "
                "well; give another path."
            )


def block_shape(array: zarr.Array[Any]) -> tuple[int, ...]:
    """Return the shape of what is written at once: a shard, or a chunk where there are no shards."""
    return array.shards or array.chunks


def blocks_written(array: zarr.Array[Any]) -> tuple[int, int]:
    """Return how many blocks are there, and how many there are to be."""
    block = block_shape(array)
    chunks = math.prod(b // c for b, c in zip(block, array.chunks, strict=True))
    all_of_them = math.prod(-(-n // b) for n, b in zip(array.shape, block, strict=True))
    return array.nchunks_initialized // chunks, all_of_them


def resumable_array(found: zarr.Array[Any], place: Place) -> zarr.Array[Any]:
    """Return the array that was found, opened for writing.

    Raises:
        FileExistsError: it was not written so that it can be continued.
    """
    if not notes_of(found).get("resumable", False):
        raise FileExistsError(
            f"The array at {place} cannot be resumed: it was not written by `to_zarr`, or in "
            "blocks that are no whole chunks, as batches of several sizes make them. Pass "
            "overwrite=True to begin again, or another path."
        )
    return place.open("r+")
