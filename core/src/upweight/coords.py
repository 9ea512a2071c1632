"""Ids of samples, stored beside an array of results as the coordinates of its axes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from upweight.stored import Place

if TYPE_CHECKING:
    import zarr
    from numpy.typing import ArrayLike, NDArray

#: One id for each sample, by the name of the axis.
Coords: TypeAlias = "Mapping[str, ArrayLike]"


class Coordinates:
    """The coordinates of an array in a group, each an array with the name of its axis.

    Args:
        place: Of the array of results.
        names: Names of the axes that may have ids.
        coords: The ids by axis, integers or strings.
        overwrite: Whether other ids that are there already may be replaced.

    Raises:
        ValueError: there are ids and no group to put them in, they are no integers or strings, are
            not unique, or an axis has another name.
        FileExistsError: the group has other ids.
    """

    def __init__(
        self, place: Place, names: Sequence[str], coords: Coords | None, *, overwrite: bool
    ) -> None:
        self._place = place
        self._names = names
        self._overwrite = overwrite
        self._ids = {name: _ids(name, values) for name, values in (coords or {}).items()}
        if self._ids and place.component is None:
            raise ValueError(
                "Ids are arrays of their own, beside that of the results. Pass component="
                '"influences" as well: then the path is a group that holds all of them.'
            )
        if unknown := [name for name in self._ids if name not in names]:
            raise ValueError(f"There are ids for {unknown}; the axes are {list(names)}.")
        self._stored = {name: self._found(name) for name in self._ids}

    def check(self, extent: Sequence[int]) -> None:
        """Check that there is one id for each sample.

        Args:
            extent: Number of samples of each axis, 0 where it is not known yet.

        Raises:
            ValueError: there are more or fewer ids.
        """
        for name, n in zip(self._names, extent, strict=False):
            if n and name in self._ids and len(self._ids[name]) != n:
                raise ValueError(
                    f"There are {len(self._ids[name])} ids for the axis {name!r}, which has {n} "
                    "samples. Pass one for each, in the order of the data; what was computed is "
                    "kept for resume=True."
                )

    def write(self) -> None:
        """Write the ids that are not there yet."""
        import zarr

        for name, ids in self._ids.items():
            if self._stored[name]:
                continue
            array: Any = zarr.create_array(
                self._place.store,
                name=name,
                shape=ids.shape,
                dtype=str if ids.dtype == object else ids.dtype,
                dimension_names=[name],
                overwrite=self._overwrite,
            )
            array[...] = ids
            self._stored[name] = True

    def _found(self, name: str) -> bool:
        """Return whether these ids are there."""
        import zarr

        try:
            there: Any = zarr.open_array(self._place.store, path=name, mode="r")
        except FileNotFoundError:
            return False
        if there.shape == self._ids[name].shape and np.all(
            np.asarray(there[...]) == self._ids[name]
        ):
            return True
        if not self._overwrite:
            raise FileExistsError(
                f"The group at {self._place.store} has other ids for the axis {name!r}. Pass "
                "overwrite=True to replace them, or another path."
            )
        return False


def drop_overview(place: Place) -> None:
    """Remove the copy of all metadata in the group, which would go on to say what was."""
    for group in _groups(place):
        group.update_attributes({})


def write_overview(place: Place) -> None:
    """Put a copy of all metadata into the group, where xarray looks for it."""
    import zarr

    for _ in _groups(place):
        with warnings.catch_warnings():  # that this is an extension of the Zarr v3 specification
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            zarr.consolidate_metadata(place.store)


def _groups(place: Place) -> Iterator[zarr.Group]:
    """Yield the group that the array is in, if it is in one."""
    import zarr

    if place.component is None:
        return
    try:
        group = zarr.open_group(place.store, mode="r+", use_consolidated=False)
    except FileNotFoundError:
        return
    yield group


def _ids(name: str, values: ArrayLike) -> NDArray[Any]:
    ids = np.asarray(values)
    if ids.ndim != 1 or ids.dtype.kind not in "iuUTO":
        raise ValueError(
            f"The ids of {name!r} must be integers or strings, one for each sample; got an array "
            f"of shape {ids.shape} and type {ids.dtype}."
        )
    if ids.dtype.kind not in "iu":
        if not all(isinstance(one, str) for one in ids.tolist()):
            raise ValueError(f"The ids of {name!r} must be integers or strings, all alike.")
        ids = ids.astype(object)
    if len({*ids.tolist()}) < len(ids):
        raise ValueError(f"The ids of {name!r} must differ from each other.")
    return ids
