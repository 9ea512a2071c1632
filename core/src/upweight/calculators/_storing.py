"""Writing Dask arrays of influences, each block by the worker that computed it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.calculators._order import fingerprint
from upweight.errors import DataError, InvalidDimensionChunksError
from upweight.progress import progress_bar
from upweight.trees import Batch, leaves
from upweight.writing import check_identity, check_values, notes_of_run

if TYPE_CHECKING:
    import dask.array as da
    import zarr
    from numpy.typing import NDArray

    from upweight.store import BlockArray

#: Computes what is delayed and calls a function for each that is done, with its result.
Compute = Callable[[Sequence[Any], Callable[[Any], object]], None]


@dataclass(frozen=True)
class Source:
    """What a Dask array of results is computed from.

    Attributes:
        identity: What tells the result from that of another model or other options, as JSON.
        names: Names of the leading axes.
        data: The batches of Dask arrays, by what they are.
    """

    identity: Mapping[str, Any]
    names: tuple[str, ...]
    data: Mapping[str, Batch[da.Array]]


def store(
    array: da.Array, source: Source, target: BlockArray, *, compute: Compute, progress: bool
) -> zarr.Array[Any]:
    """Compute the blocks that are missing and write each as one chunk.

    Raises:
        InvalidDimensionChunksError: the blocks are not of one size.
        ResumeError: the array was begun with another model, other options or another fit.
        DataError: it was begun with other data.
    """
    import dask.array as da

    chunks = _checked_chunks(array)
    lead = len(source.names)
    if target.found is not None:  # before all data is read
        check_identity(target, source.identity)
    seen = _fingerprints(source.data, compute, progress=progress)
    notes = notes_of_run(source.identity, seen)
    if target.found is not None:
        _check_data(target.found["fingerprints"], seen)
    writable = target.prepare(array.shape, chunks, array.dtype, notes=notes)
    indices = list(np.ndindex(array.numblocks[:lead]))
    missing = [index for index in indices if not target.has(*index)]
    rest = (0,) * (array.ndim - lead)
    if len(missing) < len(indices):
        left = set(missing)
        there = next(index for index in indices if index not in left)
        again: list[NDArray[Any]] = []
        compute([array.to_delayed()[there + rest]], again.append)
        check_values(target, there, again[0])
    written = da.map_blocks(
        _write,
        array,
        target=writable,
        sizes=chunks,
        chunks=tuple((1,) * blocks for blocks in array.numblocks),
        dtype=bool,
        meta=np.empty((0,) * array.ndim, dtype=bool),
    ).to_delayed()
    with progress_bar(len(indices), label="Blocks", unit="block", show=progress) as advance:
        advance(len(indices) - len(missing))
        compute([written[index + rest] for index in missing], lambda _: advance(1))
    return target.finish(array.shape[:lead], notes=notes)


def _write(
    block: NDArray[Any], target: zarr.Array[Any], sizes: Sequence[int], block_id: tuple[int, ...]
) -> NDArray[np.bool_]:
    starts = [index * size for index, size in zip(block_id, sizes, strict=True)]
    stops = [start + length for start, length in zip(starts, block.shape, strict=True)]
    target[tuple(map(slice, starts, stops))] = block
    return np.ones((1,) * block.ndim, dtype=bool)


def _checked_chunks(array: da.Array) -> tuple[int, ...]:
    """Return the sizes of the blocks, all alike but the last of an axis."""
    for axis, sizes in enumerate(array.chunks):
        if len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]:
            raise InvalidDimensionChunksError(
                f"Parallel writers must not share a chunk, so blocks must have one size along each "
                f"axis, the last one may be smaller; got {sizes} along axis {axis}. "
                "Rechunk the samples: x.rechunk({0: size})."
            )
    return tuple(int(sizes[0]) for sizes in array.chunks)


def _fingerprints(
    data: Mapping[str, Batch[da.Array]], compute: Compute, *, progress: bool
) -> dict[str, list[int]]:
    """Return a checksum of each chunk, taken where the chunks are."""
    from dask.delayed import delayed

    seen: dict[str, list[int]] = {}
    for name, (x, y) in data.items():
        columns = [leaf.to_delayed().ravel() for leaf in (*leaves(x), *leaves(y))]
        tasks = [
            delayed(_numbered)(index, *chunks)
            for index, chunks in enumerate(zip(*columns, strict=True))
        ]
        found: dict[int, int] = {}
        with progress_bar(
            len(tasks), label=f"Checksums, {name}", unit="chunk", show=progress
        ) as advance:

            def note(one: tuple[int, int], found: Any = found, advance: Any = advance) -> None:
                found[one[0]] = one[1]
                advance(1)

            compute(tasks, note)
        seen[name] = [found[index] for index in range(len(tasks))]
    return seen


def _numbered(index: int, *arrays: NDArray[Any]) -> tuple[int, int]:
    return index, fingerprint(arrays)


def _check_data(then: Mapping[str, Sequence[int]], now: Mapping[str, Sequence[int]]) -> None:
    for name, seen in now.items():
        before = then.get(name, ())
        if len(before) != len(seen):
            raise DataError(
                f"The {name} data had {len(before)} chunks when the stored result was begun, and "
                f"has {len(seen)} now. Pass the same data in the same chunks."
            )
        for index, pair in enumerate(zip(before, seen, strict=True)):
            if pair[0] != pair[1]:
                raise DataError(
                    f"Chunk {index} of the {name} data is not what it was when the stored result "
                    "was begun. Pass overwrite=True to begin again, or another path."
                )


def compute_locally(tasks: Sequence[Any], done: Callable[[Any], object]) -> None:
    """Compute with the scheduler of Dask that is set, by default threads."""
    from dask.base import compute
    from dask.callbacks import Callback

    keys = {task.key for task in tasks}
    with Callback(posttask=lambda key, value, *_: done(value) if key in keys else None):
        compute(*tasks)


def compute_on(client: Any) -> Compute:
    """Return what computes on a cluster."""

    def compute(tasks: Sequence[Any], done: Callable[[Any], object]) -> None:
        from distributed import as_completed

        futures = client.compute(list(tasks))
        for _, value in as_completed(futures, with_results=True):
            done(value)

    return compute
