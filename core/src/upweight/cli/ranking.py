"""The most extreme numbers of a stored result, read block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.finding import axes_of, ids_at, ids_of, influences_at, rows_of
from upweight.omitting import Omitted, Omitting
from upweight.reductions import BottomK, Ranked, TopK
from upweight.stored import notes_of

if TYPE_CHECKING:
    import zarr
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
    array = influences_at(store, component, incomplete=incomplete)
    row, test_id = None, None
    if _has_tests(array, test):
        assert test is not None
        ((row, test_id),) = rows_of([test], ids_at(store, component, "test"), array.shape[0])
    best, left_out = _fold(_row_blocks(array, row), Omitting(reduction))
    indices = [] if best is None else best.indices[0].tolist()
    return Ranking(
        values=[] if best is None else best.values[0].tolist(),
        indices=indices,
        ids=ids_of(indices, ids_at(store, component, axes_of(array)[-1] or "")),
        test=row,
        test_id=test_id,
        bottom=bottom,
        left_out=left_out,
        n=array.shape[-1],
        complete=bool(notes_of(array).get("complete", False)),
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
