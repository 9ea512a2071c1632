"""How Dask arrays must be chunked: alike along the samples, and nowhere else."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from upweight.errors import (
    BatchError,
    ChunkSizeWarning,
    InvalidDimensionChunksError,
    UnalignedChunksError,
)
from upweight.trees import Tree, leaves

if TYPE_CHECKING:
    import dask.array as da

#: Tasks, at about a millisecond each for the scheduler, above which larger chunks are advised.
MOST_TASKS = 100_000

#: Bytes of one block above which smaller chunks are advised.
MOST_BYTES = 2**31


def check_chunks(x: Tree[da.Array], y: Tree[da.Array]) -> None:
    """Check that all arrays of a batch are chunked alike, along their samples only.

    Raises:
        TypeError: an array is not a Dask array.
        BatchError: an array has no sample.
        InvalidDimensionChunksError: an array is chunked along another axis, or chunk sizes are
            not known.
        UnalignedChunksError: two arrays are chunked differently along the samples.
    """
    import dask.array as da

    arrays: list[Any] = [*leaves(x), *leaves(y)]
    for array in arrays:
        if not isinstance(array, da.Array):
            raise TypeError(f"Pass Dask arrays; got {type(array).__name__!r}.")
        _check_one(array)
    samples = [array.chunks[0] for array in arrays]
    if len(set(samples)) > 1:
        raise UnalignedChunksError(
            "All arrays of a batch must be chunked alike along the samples; got chunks of "
            f"{' and '.join(_brief(chunks) for chunks in samples)}. "
            "Rechunk one like the other: y.rechunk({0: x.chunks[0]})."
        )


def check_factor_chunks(factors: da.Array, n_parameters: int) -> None:
    """Check that factors are Dask vectors over the parameters, chunked along the samples only.

    Raises:
        TypeError: this is not a Dask array.
        BatchError: the array does not have the shape (k, p).
        InvalidDimensionChunksError: it is chunked along the parameters.
    """
    import dask.array as da

    if not isinstance(factors, da.Array):
        raise TypeError(f"`z_test_factors` must be a Dask array; got {type(factors).__name__!r}.")
    if factors.ndim != 2 or factors.shape[1] != n_parameters:
        raise BatchError(
            f"`z_test_factors` must have shape (k, {n_parameters}), one column per parameter; "
            f"got {factors.shape}."
        )
    _check_one(factors)


def advise(
    rows: tuple[int, ...], columns: tuple[int, ...], row_bytes: int, x: Tree[da.Array]
) -> None:
    """Warn of chunks that make far too many tasks, or blocks that are far too large.

    Args:
        rows: Test samples in each group.
        columns: Training samples in each chunk.
        row_bytes: Bytes of the influences of one training sample on one test sample.
        x: Inputs of the training samples.
    """
    tasks, n = len(rows) * len(columns), sum(columns)
    if tasks > MOST_TASKS:
        chunks = max(1, MOST_TASKS // len(rows) // 4)
        _warn(
            f"{len(columns):,} training chunks and {len(rows):,} groups of test chunks make {tasks:,} "
            f"tasks, which take a scheduler about {tasks // 1000:,} seconds alone. Use a larger "
            f"`max_memory`, or chunks of more than {max(columns):,} samples, for example",
            -(-n // chunks),
        )
    widest = max(columns)
    sample = sum(math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in leaves(x))
    largest = widest * max(max(rows) * row_bytes, sample)
    if largest > MOST_BYTES:
        _warn(
            f"A chunk of {widest:,} training samples makes one task of {largest / 2**30:.1f} GiB of "
            "inputs or results, of which each thread of a worker holds one or two. Use smaller "
            "chunks, for example",
            max(1, widest * MOST_BYTES // largest // 4),
        )


def _warn(advice: str, size: int) -> None:
    warnings.warn(f"{advice} x.rechunk({{0: {size}}}).", ChunkSizeWarning, stacklevel=5)


def merged_chunks(chunks: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Merge neighbouring chunks while they have at most `most` samples together.

    Chunks of one size, the last one smaller, stay such: Zarr takes no others.
    """
    largest = max(chunks)
    if largest < most < sum(chunks):
        most -= most % largest  # or a small last chunk would make the last group the largest
    ends = [0]
    end = 0
    for chunk in chunks:
        if end + chunk - ends[-1] > most and end > ends[-1]:
            ends.append(end)
        end += chunk
    return tuple(stop - start for start, stop in pairwise([*ends, end]))


def _check_one(array: da.Array) -> None:
    if array.ndim == 0 or array.shape[0] == 0:
        raise BatchError(
            f"An array must have samples along its first axis; got the shape {array.shape}."
        )
    if any(math.isnan(size) for sizes in array.chunks for size in sizes):
        raise InvalidDimensionChunksError(
            "The sizes of the chunks must be known; call compute_chunk_sizes() on the array first."
        )
    if 0 in array.chunks[0]:
        raise BatchError(
            f"Every chunk must hold samples; got the chunks {_brief(array.chunks[0])}. Rechunk it."
        )
    if any(len(sizes) > 1 for sizes in array.chunks[1:]):
        raise InvalidDimensionChunksError(
            "Arrays must be chunked along the samples only; got the chunks "
            f"{array.chunks}. Use array.rechunk({{i: -1 for i in range(1, array.ndim)}})."
        )


def _brief(chunks: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, chunks[:5]))
    return f"({shown}, … {len(chunks)} in all)" if len(chunks) > 5 else f"({shown})"
