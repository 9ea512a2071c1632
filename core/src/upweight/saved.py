"""A Zarr group that holds a fitted model: JSON in an attribute, and arrays by number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array

from upweight.digests import digest
from upweight.errors import IncompleteResultError, SavedModelError
from upweight.stored import ATTRIBUTE, WHOLE, StoreLike, target_of

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray
    from zarr.abc.store import Store

    from upweight.protocols import NumpyConverter

#: Goes up whenever older versions could not read what is written.
FORMAT = 1

#: Bytes of a chunk; some compressors and object stores end at 2 GiB.
CHUNK_BYTES = 2**27


def check_free(target: str | Store, *, overwrite: bool) -> None:
    """Refuse to write where there is something else, or something that may not be replaced.

    Raises:
        FileExistsError: there is a saved model and `overwrite` is false, or another array or group.
    """
    found = _found(target)
    if found is not None and _notes(found).get("kind") != "model":
        raise FileExistsError(
            f"There is a Zarr array or group at {target} that is no saved model; give another path."
        )
    if found is not None and not overwrite:
        raise FileExistsError(
            f"There is a saved model at {target} already; pass overwrite=True to replace it, or "
            "another path."
        )


def write_group(
    target: str | Store,
    notes: Mapping[str, Any],
    arrays: Sequence[Any],
    converter: NumpyConverter[Any],
) -> None:
    """Write notes and arrays in place of the saved model that may be there.

    What is there says that it is not complete until everything is written.
    """
    import zarr

    begun: dict[str, Any] = {"kind": "model", "format": FORMAT, "complete": False}
    found = _found(target)
    if isinstance(found, zarr.Group):
        # Its parts are removed one by one, and the rest must not pass for the whole.
        zarr.open_group(target, mode="r+").attrs[ATTRIBUTE] = begun
    group = zarr.create_group(target, attributes={ATTRIBUTE: begun}, overwrite=found is not None)
    records: list[Any] = []
    for number, array in enumerate(arrays):
        values = array if is_numpy_array(array) else converter.to_numpy(array)
        axes = _axes_in_memory(values)
        values = np.ascontiguousarray(values.transpose(axes)).reshape(
            [values.shape[a] for a in axes]
        )
        stored = group.create_array(
            str(number),
            shape=values.shape,
            dtype=values.dtype,
            chunks=_chunks(values),
            compressors=None,
            config=WHOLE,
        )
        stored[...] = values
        framework = not is_numpy_array(array)
        records.append({"framework": framework, "axes": list(axes), "digest": digest(values)})
    group.attrs[ATTRIBUTE] = {**begun, **notes, "arrays": records, "complete": True}


def opened_group(path_or_url: StoreLike) -> tuple[zarr.Group, dict[str, Any]]:
    """Return the group of a saved model, and its notes.

    Raises:
        FileNotFoundError: there is nothing.
        SavedModelError: there is something else, or it was written by a newer version.
        IncompleteResultError: it was not written to its end.
    """
    import zarr

    target = target_of(path_or_url)
    found = _found(target)
    if found is None:
        raise FileNotFoundError(f"There is no saved model at {path_or_url}.")
    notes = _notes(found)
    if not isinstance(found, zarr.Group) or notes.get("kind") != "model":
        raise SavedModelError(f"What is at {path_or_url} is no model that `save` wrote.")
    if notes["format"] > FORMAT:
        raise SavedModelError(
            f"The model at {path_or_url} was saved in format {notes['format']}, by upweight "
            f"{notes.get('version')}; this version reads formats up to {FORMAT}. Update upweight."
        )
    if not notes["complete"]:
        raise IncompleteResultError(
            f"The model at {path_or_url} was not saved to its end; save it again with "
            "overwrite=True."
        )
    return found, notes


def array_reader(
    group: zarr.Group, notes: Mapping[str, Any], converter: NumpyConverter[Any]
) -> Callable[[int], Any]:
    """Return a function that reads the array of a number, each once.

    It raises `SavedModelError` if the array is missing or not what was written.
    """
    known: dict[int, Any] = {}

    def read(number: int) -> Any:
        if number not in known:
            record = notes["arrays"][number]
            values = _checked(group, number, record["digest"])
            array = converter.from_numpy(values) if record["framework"] else values
            known[number] = _with_axes(array, record["axes"])
        return known[number]

    return read


def _checked(group: zarr.Group, number: int, expected: str) -> NDArray[Any]:
    try:
        values: Any = np.asarray(group[str(number)][...])  # type: ignore[index]  # an array
    except (KeyError, ValueError, OSError) as error:
        raise _damaged(group, number) from error
    if digest(values) != expected:
        raise _damaged(group, number)
    return values  # type: ignore[no-any-return]  # as above


def _damaged(group: zarr.Group, number: int) -> SavedModelError:
    return SavedModelError(
        f"The saved model at {group.store_path} is damaged: its array {number} is missing or not "
        "what was written. Save the model again."
    )


def _found(target: str | Store) -> zarr.Array[Any] | zarr.Group | None:
    import zarr

    try:
        return zarr.open(target, mode="r")
    except FileNotFoundError:
        return None


def _notes(found: zarr.Array[Any] | zarr.Group) -> dict[str, Any]:
    notes: Any = found.attrs.get(ATTRIBUTE, {})
    return dict(notes)


def _chunks(values: NDArray[Any]) -> tuple[int, ...]:
    """Return the shape of chunks of whole rows, or parts of one, of no more than `CHUNK_BYTES`."""
    room = max(1, CHUNK_BYTES // values.itemsize)
    chunks: list[int] = []
    for length in reversed(values.shape):
        chunks.insert(0, max(1, min(length, room // math.prod(chunks))))
    return tuple(chunks)


def _axes_in_memory(values: NDArray[Any]) -> tuple[int, ...]:
    """Return the axes of an array, those first along which neighbours are farthest in memory.

    Products of arrays that lie otherwise in memory differ by rounding.
    """
    return tuple(sorted(range(values.ndim), key=lambda axis: -abs(values.strides[axis])))


def _with_axes(array: Any, axes: Sequence[int]) -> Any:
    """Undo a transposition."""
    if list(axes) == sorted(axes):
        return array
    return array_namespace(array).permute_dims(array, tuple(map(axes.index, range(len(axes)))))
