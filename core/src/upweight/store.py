"""Writing results to Zarr."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray
    from zarr.abc.store import Store

StoreLike: TypeAlias = "str | PathLike[str] | Store"

#: Name of the array attribute under which upweight notes what it wrote.
ATTRIBUTE = "upweight"


class GrowingArray:
    """A Zarr array whose final shape is known only when the last block has been written.

    The first block gives the shape of the chunks. Until `finish`, what has not been written reads
    as NaN and the attribute `upweight` says that the array is not complete.

    Args:
        path_or_url: A path, a URL that fsspec understands, or a Zarr v3 store.
        overwrite: Whether an array that is there already may be replaced.

    Raises:
        FileExistsError: there is an array already and `overwrite` is false, or a group.
    """

    def __init__(self, path_or_url: StoreLike, *, overwrite: bool) -> None:
        self._target = _target(path_or_url)
        self._overwrite = _may_overwrite(self._target, overwrite=overwrite)
        self._array: zarr.Array[Any] | None = None
        self._extent: tuple[int, ...] = ()

    def write(self, offset: tuple[int, ...], block: NDArray[Any]) -> None:
        """Write a block whose first element goes to `offset`; axes not in `offset` start at 0."""
        start = offset + (0,) * (block.ndim - len(offset))
        end = tuple(o + length for o, length in zip(start, block.shape, strict=True))
        if self._array is None:
            self._array = self._create(end, block)
        self._extent = tuple(map(max, self._extent or end, end))
        if any(need > have for need, have in zip(end, self._array.shape, strict=True)):
            # Doubling keeps the number of metadata writes logarithmic.
            self._array.resize(
                tuple(
                    max(2 * have, need) if need > have else have
                    for need, have in zip(end, self._array.shape, strict=True)
                )
            )
        self._array[tuple(map(slice, start, end))] = block

    def finish(self, *, return_stored: bool) -> zarr.Array[Any] | None:
        """Cut the array to the blocks written and mark it complete.

        Raises:
            ValueError: nothing was written.
        """
        if self._array is None:
            raise ValueError("There was nothing to write: the sequence has no chunks.")
        if self._array.shape != self._extent:
            self._array.resize(self._extent)
        self._array.attrs[ATTRIBUTE] = {"complete": True}
        if not return_stored:
            return None
        import zarr

        return zarr.open_array(self._target, mode="r")

    def _create(self, shape: tuple[int, ...], block: NDArray[Any]) -> zarr.Array[Any]:
        import zarr

        return zarr.create_array(
            self._target,
            shape=shape,
            chunks=block.shape,
            dtype=block.dtype,
            fill_value=float("nan") if block.dtype.kind == "f" else 0,
            attributes={ATTRIBUTE: {"complete": False}},
            overwrite=self._overwrite,
        )


def _target(path_or_url: StoreLike) -> str | Store:
    from zarr.abc.store import Store

    if isinstance(path_or_url, Store):
        return path_or_url
    # Zarr makes no folders through fsspec, so a URL of a local file is taken as its path.
    return fspath(path_or_url).removeprefix("file://")


def _may_overwrite(target: str | Store, *, overwrite: bool) -> bool:
    """Return whether there is an array to replace, and refuse to replace anything else."""
    import zarr

    try:
        existing = zarr.open(target, mode="r")
    except FileNotFoundError:
        return False
    if isinstance(existing, zarr.Group):
        raise FileExistsError(
            f"There is a Zarr group at {target}, which may hold other arrays; "
            "give a path for the array inside it, or another path."
        )
    if not overwrite:
        raise FileExistsError(
            f"There is a Zarr array at {target} already; "
            "pass overwrite=True to replace it, or another path."
        )
    return True
