"""What is in a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import zarr


def found_at(store: str, component: str | None) -> zarr.Array[Any] | zarr.Group:
    """Return the array or group that is there, for reading.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the component is not a single name.
    """
    import zarr

    from upweight.stored import Place

    place = Place.of(store, component)
    try:
        found = zarr.open(place.store, path=component, mode="r")
        if isinstance(found, zarr.Group):
            # A copy of all metadata may say what was, while somebody writes.
            return zarr.open_group(place.store, path=component, mode="r", use_consolidated=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no Zarr array or group at {place}.") from error
    return found


def axes_of(array: zarr.Array[Any]) -> list[str | None]:
    """Return the names of the axes, None where there is none."""
    names = getattr(array.metadata, "dimension_names", None)
    return list(names or [None] * array.ndim)


def is_ids(name: str, array: zarr.Array[Any]) -> bool:
    """Return whether an array of this name has the ids of an axis."""
    return axes_of(array) == [name]
