"""What is in a store, and which samples of it a user means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from upweight.stored import Place, notes_of, open_result

if TYPE_CHECKING:
    import zarr

    from upweight.stored import StoreLike


def found_at(store: StoreLike, component: str | None) -> zarr.Array[Any] | zarr.Group:
    """Return the array or group that is there, for reading.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the component is not a single name.
    """
    import zarr

    place = Place.of(store, component)
    try:
        found = zarr.open(place.store, path=component, mode="r")
        if isinstance(found, zarr.Group):
            # A copy of all metadata may say what was, while somebody writes.
            return zarr.open_group(place.store, path=component, mode="r", use_consolidated=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no Zarr array or group at {place}.") from error
    return found


def influences_at(
    store: StoreLike, component: str | None, *, incomplete: bool = False
) -> zarr.Array[Any]:
    """Return an array of influences (test, train), or of one number a sample, for reading.

    Args:
        store: A path, a URL that fsspec understands, or a Zarr store.
        component: Name of the array, if it is in a group.
        incomplete: Whether a result that lacks blocks may be read.

    Raises:
        FileNotFoundError: there is nothing.
        IncompleteResultError: the result is not complete.
        ValueError: what is there has no numbers that could be ranked.
    """
    import zarr

    found = found_at(store, component)
    if isinstance(found, zarr.Group):
        names = ", ".join(sorted(name for name, one in found.arrays() if notes_of(one)))
        raise ValueError(
            f"There is a Zarr group at {found.store_path}, not an array. "
            + (f"Name the component of it; there are {names}." if names else "It has no result.")
        )
    _check_axes(found)
    return found if incomplete else open_result(store, component)


def axes_of(array: zarr.Array[Any]) -> list[str | None]:
    """Return the names of the axes, None where there is none."""
    names = getattr(array.metadata, "dimension_names", None)
    return list(names or [None] * array.ndim)


def is_ids(name: str, array: zarr.Array[Any]) -> bool:
    """Return whether an array of this name has the ids of an axis."""
    return axes_of(array) == [name]


def ids_at(store: StoreLike, component: str | None, axis: str) -> zarr.Array[Any] | None:
    """Return the ids of an axis, if the group of the result has them."""
    import zarr

    if component is None:
        return None
    try:
        found = found_at(store, axis)
    except FileNotFoundError:
        return None
    return found if isinstance(found, zarr.Array) and is_ids(axis, found) else None


def ids_of(indices: Sequence[int], ids: zarr.Array[Any] | None) -> list[Any] | None:
    """Return the ids of the samples at these indices, None if samples have none."""
    import numpy as np

    if ids is None or not len(indices):
        return None
    chosen: Any = ids.vindex[np.asarray(indices)]
    names: list[Any] = np.asarray(chosen).tolist()
    return names


def rows_of(
    tests: Sequence[str | int], ids: zarr.Array[Any] | None, rows: int
) -> list[tuple[int, Any]]:
    """Return index and id, None if there is none, of each test sample that the user named.

    A string is an id, or else the digits of an index. An integer is an index. Where ids are
    integers, both are ids, and never indices.

    Raises:
        ValueError: there is no such sample.
    """
    names = [] if ids is None else list(ids[...].tolist())  # type: ignore[union-attr]  # an array
    by_id = {str(name): index for index, name in enumerate(names)}
    numbers = bool(names) and isinstance(names[0], int)
    found = []
    for test in tests:
        index = by_id.get(str(test)) if numbers or isinstance(test, str) else None
        if index is None and not numbers and str(test).isdecimal() and int(test) < rows:
            index = int(test)
        if index is None:
            known = f"ids such as {names[0]!r}" if names else f"indices from 0 to {rows - 1}"
            raise ValueError(f"There is no test sample {test!r}; there are {rows}, with {known}.")
        found.append((index, names[index] if index < len(names) else None))
    return found


def _check_axes(array: zarr.Array[Any]) -> None:
    """Refuse an array that is neither influences (test, train) nor one number a sample."""
    axes = axes_of(array)
    if axes in (["test", "train"], ["sample"]):
        return
    if axes[:2] == ["test", "train"]:
        raise ValueError(
            f"The result has shape {array.shape}, a number for each coordinate of a training input "
            '(mode "perturbation"), which have no one order. Reduce it to a number a sample first.'
        )
    raise ValueError(
        f"The array has shape {array.shape} and the axes {axes}; what can be ranked are influences, "
        "with the axes test and train, and results with one number a sample, with the axis sample."
    )
