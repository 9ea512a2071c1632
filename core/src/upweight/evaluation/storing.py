"""Measurements in memory or in a Zarr array, one chunk for each training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from upweight.stored import StoreLike

Place = tuple[int, int]


class Outputs(Protocol):
    """Where the measurements of each subset and retraining go."""

    def has(self, place: Place) -> bool:
        """Return whether those of a training are there from an earlier run."""

    def put(self, place: Place, measured: NDArray[np.float64]) -> None:
        """Keep those of a training, (m,)."""

    def all(self) -> NDArray[np.float64]:
        """Return all of them, (subsets, retrainings, m)."""


def outputs_for(
    shape: tuple[int, int],
    identity: Mapping[str, Any],
    store: StoreLike | None,
    *,
    resume: bool,
    overwrite: bool,
) -> Outputs:
    """Return where measurements of so many subsets and retrainings go.

    Raises:
        ValueError: there is no store to resume or to overwrite.
        FileExistsError: something is at the store, and neither of the two is asked for.
        ResumeError: what is there was begun with another identity.
    """
    if store is not None:
        return StoredOutputs(store, shape, identity, resume=resume, overwrite=overwrite)
    if resume or overwrite:
        raise ValueError("`resume` and `overwrite` need a `store`, which is where results go.")
    return KeptOutputs(shape)


class KeptOutputs:
    """Measurements in memory."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._found: dict[Place, NDArray[np.float64]] = {}

    def has(self, place: Place) -> bool:
        """Return whether the training is done."""
        return place in self._found

    def put(self, place: Place, measured: NDArray[np.float64]) -> None:
        """Keep the measurements of a training, (m,)."""
        _check_width(measured, next(iter(self._found.values()), measured).size)
        self._found[place] = measured

    def all(self) -> NDArray[np.float64]:
        """Return all of them, (subsets, retrainings, m)."""
        rows = [self._found[place] for place in sorted(self._found)]
        return np.stack(rows).reshape(*self._shape, -1)


class StoredOutputs:
    """Measurements in a Zarr array that tells which trainings are done: those whose chunk is there."""

    def __init__(
        self,
        store: StoreLike,
        shape: tuple[int, int],
        identity: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool,
    ) -> None:
        from upweight import stored
        from upweight.store import BlockArray
        from upweight.writing import check_identity, notes_of_run

        names = ("subset", "retraining", "test")
        self._array = BlockArray(
            stored.Place.of(store), names=names, resume=resume, overwrite=overwrite
        )
        self._shape = shape
        self._notes = notes_of_run({**identity, "trainings": list(shape)}, {})
        self._width: int | None = None
        if self._array.found is not None:
            check_identity(self._array, self._notes["identity"])
            self._width = stored.open_result(store, incomplete=True).shape[-1]

    def has(self, place: Place) -> bool:
        """Return whether the training is done."""
        return self._array.has(*place)

    def put(self, place: Place, measured: NDArray[np.float64]) -> None:
        """Write the measurements of a training, (m,)."""
        self._width = self._width or measured.size
        _check_width(measured, self._width)
        self._array.write(
            place, measured[None, None], expected=self._shape, notes=lambda: self._notes
        )

    def all(self) -> NDArray[np.float64]:
        """Mark the array complete and return all of it, (subsets, retrainings, m)."""
        return np.asarray(self._array.finish(self._shape)[:])


def _check_width(measured: NDArray[np.float64], width: int) -> None:
    if measured.size != width:
        raise ValueError(
            f"`train` returned {measured.size} measurements, and {width} for a subset before."
        )
