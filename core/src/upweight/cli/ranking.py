"""The most extreme numbers of a stored result, read block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from upweight.cli.finding import axes_of, found_at, is_ids
from upweight.omitting import Omitted, Omitting
from upweight.reductions import BottomK, Ranked, TopK
from upweight.stored import notes_of, open_result

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Ranking:
    """The most extreme numbers, and the samples that they belong to.

    Attributes:
        values: The numbers, the most extreme one first.
        indices: The index of the sample of each.
        ids: The id of each, if samples have ids.
        test: The index of the test sample that they are about, if it is one.
        test_id: Its id, if it has one.
        bottom: Whether they are the smallest.
        left_out: How many samples have NaN or infinity instead.
        n: Number of samples.
        complete: Whether all of the result is written.
    """

    values: list[float]
    indices: list[int]
    ids: list[Any] | None
    test: int | None
    test_id: Any
    bottom: bool
    left_out: int
    n: int
    complete: bool


def ranked(
    store: str,
    component: str | None,
    test: str | None,
    k: int,
    *,
    bottom: bool = False,
    incomplete: bool = False,
) -> Ranking:
    """Return the k largest numbers of one row of influences, or of a result (n,).

    Args:
        store: A path, or a URL that fsspec understands.
        component: Name of the array, if it is in a group.
        test: The id of the test sample, or its index; None for a result without test samples.
        k: How many; all, if there are fewer.
        bottom: Whether the smallest are meant.
        incomplete: Whether a result that lacks blocks may be read.

    Raises:
        FileNotFoundError: there is nothing.
        IncompleteResultError: the result is not complete.
        ValueError: what is there has no influences to rank, or the test sample is none of it.
    """
    reduction = BottomK(k) if bottom else TopK(k)
    array = _opened(store, component, incomplete=incomplete)
    row, test_id = None, None
    if _has_tests(array, test):
        assert test is not None
        row, test_id = _row(_ids(store, component, "test"), test, array.shape[0])
    best, left_out = _fold(_row_blocks(array, row), Omitting(reduction))
    indices = [] if best is None else best.indices[0].tolist()
    return Ranking(
        values=[] if best is None else best.values[0].tolist(),
        indices=indices,
        ids=_ids_of(indices, _ids(store, component, axes_of(array)[-1] or "")),
        test=row,
        test_id=test_id,
        bottom=bottom,
        left_out=left_out,
        n=array.shape[-1],
        complete=bool(notes_of(array).get("complete", False)),
    )


def _opened(store: str, component: str | None, *, incomplete: bool) -> zarr.Array[Any]:
    found = found_at(store, component)
    if isinstance(found, zarr.Group):
        names = ", ".join(sorted(name for name, one in found.arrays() if notes_of(one)))
        raise ValueError(
            f"There is a Zarr group at {found.store_path}, not an array. "
            + (f"Name one with --component; there are {names}." if names else "It has no result.")
        )
    _has_axes(found)
    if incomplete:
        return found
    try:
        return open_result(store, component)
    except ValueError as error:
        said = str(error).partition(" Call ")[0]
        raise type(error)(f"{said} Pass --incomplete to read what is there.") from error


def _has_axes(array: zarr.Array[Any]) -> None:
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
        f"The array has shape {array.shape} and the axes {axes}; `top` reads influences, with the "
        "axes test and train, and results with one number a sample, with the axis sample."
    )


def _has_tests(array: zarr.Array[Any], test: str | None) -> bool:
    """Return whether the array has test samples; refuse a test sample where it has none, or none."""
    if array.ndim == 1 and test is not None:
        raise ValueError(
            "The result has one number a sample and no test samples; leave out --test."
        )
    if array.ndim == 2 and test is None:
        raise ValueError(f"Say which of the {array.shape[0]} test samples: --test 0.")
    return array.ndim == 2


def _row(ids: zarr.Array[Any] | None, test: str, rows: int) -> tuple[int, Any]:
    """Return index and id of the test sample that the user named."""
    names = [] if ids is None else np.asarray(ids[...]).tolist()
    for index, name in enumerate(names):
        if str(name) == test:
            return index, name
    numbers = bool(names) and isinstance(names[0], int)
    if test.isdecimal() and int(test) < rows and not numbers:
        index = int(test)
        return index, names[index] if index < len(names) else None
    known = f"ids such as {names[0]!r}" if names else f"indices from 0 to {rows - 1}"
    raise ValueError(f"There is no test sample {test!r}; there are {rows}, with {known}.")


def _row_blocks(array: zarr.Array[Any], row: int | None) -> Iterator[NDArray[Any]]:
    """Yield one row of the array, (1, width) at a time, each from one chunk."""
    width = array.chunks[-1]
    for start in range(0, array.shape[-1], width):
        part: Any = (
            array[start : start + width] if row is None else array[row, start : start + width]
        )
        yield np.asarray(part)[None]


def _fold(
    blocks: Iterator[NDArray[Any]], reduction: Omitting[Any, Ranked]
) -> tuple[Ranked | None, int]:
    """Return what the reduction keeps, None if there is no number, and how many are left out."""
    state: Omitted | None = None
    first = left_out = 0
    for block in blocks:
        part = reduction.of(block, first)
        state = part if state is None else reduction.merge(state, part)
        first += block.shape[1]
        left_out += int(np.count_nonzero(~np.isfinite(block)))
    best: object = None if state is None else reduction.result(state)
    return (best if isinstance(best, Ranked) else None), left_out  # else all samples are marked


def _ids(store: str, component: str | None, axis: str) -> zarr.Array[Any] | None:
    """Return the ids of an axis, if the group of the result has them."""
    if component is None:
        return None
    try:
        found = found_at(store, axis)
    except FileNotFoundError:
        return None
    return found if isinstance(found, zarr.Array) and is_ids(axis, found) else None


def _ids_of(indices: list[int], ids: zarr.Array[Any] | None) -> list[Any] | None:
    if ids is None or not indices:
        return None
    chosen: Any = ids.vindex[np.asarray(indices)]
    names: list[Any] = np.asarray(chosen).tolist()
    return names
