"""Dask arrays of influences reduced by a tree of tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial, reduce
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from upweight.errors import DataError, InvalidDimensionChunksError
from upweight.folding import NanReduction, Over, checked_reduction, contribution
from upweight.protocols import Reduction

if TYPE_CHECKING:
    import dask.array as da
    from numpy.typing import NDArray

    from upweight.calculators._lazy_reduction import LazyReduction

S = TypeVar("S")
R = TypeVar("R")

#: States that one task merges.
FAN_IN = 8


def reduce_influences(
    influences: da.Array,
    reduction: Reduction[S, R],
    *,
    over: Over = "training",
    nan_policy: NanReduction = "raise",
) -> LazyReduction[R]:
    """Keep only what a reduction makes of influences, lazily.

    Each block of influences is reduced in the task that computes it.

    Args:
        influences: (k, n) or (k, n, *x), from `DaskInfluenceCalculator` or from a Zarr array, chunked
            along the samples only.
        reduction: What to keep, such as `TopK(10)`.
        over: Which samples are reduced, "training" or "test".
        nan_policy: What becomes of samples all of whose influences are NaN; see
            `NestedLazyChunkSequence.reduce`.

    Returns:
        A collection of Dask. Its `compute` gives the result, whose rows are the test samples, or the
        training samples if test samples are reduced.

    Raises:
        TypeError: `influences` is not a Dask array, `reduction` is not one, or is a class instead of
            an instance.
        ValueError: `over` or `nan_policy` is something else.
        DataError: there are no test or no training samples.
        InvalidDimensionChunksError: the array is chunked along another axis, or chunk sizes are not
            known.
        NonFiniteError: on computing: an influence is NaN or infinite.
    """
    from dask.highlevelgraph import HighLevelGraph

    from upweight.calculators._lazy_reduction import LazyReduction

    chosen: Reduction[Any, R] = checked_reduction(reduction, over, nan_policy)
    _check_blocks(influences)
    name = f"reduced-{uuid4().hex}"  # a reduction need not have a stable hash
    tasks: Any = _states(influences, chosen, over, f"states-{name}")
    lines: dict[int, list[Any]] = {}
    for key in tasks:
        lines.setdefault(key[1] if over == "training" else key[2], []).append(key)
    for place, states in lines.items():
        _add_tree(tasks, states, chosen, name, place)
    blocks: Any = [influences]  # the protocol of Dask does not describe its own arrays
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=blocks)
    return LazyReduction(graph, [(name, place) for place in lines])


def _states(
    influences: da.Array, reduction: Reduction[Any, Any], over: Over, name: str
) -> dict[tuple[Any, ...], Any]:
    """Return a task for each block, with nothing but the block to wait for: so Dask fuses the two."""
    state = partial(_state, reduction, over)
    rows, columns = (list(enumerate(_starts(sizes))) for sizes in influences.chunks[:2])
    whole = (0,) * (influences.ndim - 2)
    return {
        (name, i, j): (state, (influences.name, i, j, *whole), row, column)
        for i, row in rows
        for j, column in columns
    }


def _starts(sizes: tuple[int, ...]) -> list[int]:
    return [0, *accumulate(sizes)][:-1]


def _add_tree(
    tasks: dict[tuple[Any, ...], Any],
    keys: Sequence[tuple[Any, ...]],
    reduction: Reduction[Any, Any],
    name: str,
    place: int,
) -> None:
    """Add tasks that merge neighbouring states, up to the result `(name, place)`."""
    merge, result = partial(_merged, reduction), partial(_result, reduction)
    level = 0
    while len(keys) > FAN_IN:
        parts = [keys[start : start + FAN_IN] for start in range(0, len(keys), FAN_IN)]
        keys = [(f"merged-{name}", place, level, index) for index in range(len(parts))]
        tasks.update(zip(keys, ((merge, [*part]) for part in parts), strict=True))
        level += 1
    tasks[name, place] = (result, [*keys])


def _state(
    reduction: Reduction[S, Any], over: Over, block: NDArray[Any], row: int, column: int
) -> S:
    state: S = contribution(reduction, block, row, column, over)
    return state


def _merged(reduction: Reduction[S, Any], states: list[S]) -> S:
    return reduce(reduction.merge, states)


def _result(reduction: Reduction[S, R], states: list[S]) -> R:
    return reduction.result(_merged(reduction, states))


def _check_blocks(influences: da.Array) -> None:
    import dask.array as da

    if not isinstance(influences, da.Array):
        raise TypeError(f"`influences` must be a Dask array; got {type(influences).__name__!r}.")
    if any(math.isnan(size) for sizes in influences.chunks for size in sizes):
        raise InvalidDimensionChunksError(
            "The sizes of the chunks must be known; call compute_chunk_sizes() on the array first."
        )
    if influences.ndim < 2 or 0 in influences.shape:
        raise DataError(
            "Influences must have the shape (k, n) or (k, n, *x) with at least one test and one "
            f"training sample; got {influences.shape}."
        )
    if any(0 in sizes for sizes in influences.chunks[:2]):
        raise InvalidDimensionChunksError(
            f"Every chunk must hold samples; got the chunks {influences.chunks}. Rechunk it."
        )
    if any(len(sizes) > 1 for sizes in influences.chunks[2:]):
        raise InvalidDimensionChunksError(
            "Influences must be chunked along the samples only; got the chunks "
            f"{influences.chunks}. Use array.rechunk({{i: -1 for i in range(2, array.ndim)}})."
        )
