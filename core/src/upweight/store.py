"""Zarr arrays that are written block by block and know what they hold."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from upweight.coords import Coordinates, Coords, drop_overview, write_overview
from upweight.errors import IncompleteResultError
from upweight.stored import (
    ATTRIBUTE,
    WHOLE,
    Place,
    block_shape,
    blocks_written,
    notes_of,
    resumable_array,
)

if TYPE_CHECKING:
    import numpy as np
    import zarr
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

#: Notes wait until this many times as long has passed as writing them took the last time.
PATIENCE = 10


class BlockArray:
    """A Zarr array that is written block by block; what is missing reads as NaN.

    The first block gives the shape of the chunks. A block whose place is one chunk is written at
    once: whenever the process ends, it is there or it is not. Blocks of other places are written
    as well, but then the array cannot be resumed, and says so.

    Args:
        place: Where it is.
        names: Names of the leading axes.
        coords: Ids of samples, by axis.
        overwrite: Whether an array that is there already may be replaced.
        resume: Whether an array that is there already is continued.
        encoding: Further options of `zarr.create_array`, such as `compressors`. With `chunks`, each
            block becomes a shard of such chunks.

    Raises:
        ValueError: options exclude each other, or the ids are not as they should be.
        FileExistsError: there is an array already, or a group, and it may not be replaced; or it
            was not written so that it can be continued.
    """

    def __init__(
        self,
        place: Place,
        *,
        names: Sequence[str],
        coords: Coords | None = None,
        overwrite: bool = False,
        resume: bool = False,
        encoding: Mapping[str, Any] | None = None,
    ) -> None:
        if overwrite and resume:
            raise ValueError("An array is either overwritten or resumed; pass one of the two.")
        self._encoding = dict(encoding or {})
        if "shards" in self._encoding:
            raise ValueError(
                "A block is a shard, so that no two writers share one. Pass the `chunks` that the "
                "blocks are to be divided into, in place of `shards`."
            )
        self._place = place
        self._names = names
        found = place.existing()
        self._coordinates = Coordinates(place, names, coords, overwrite=overwrite)
        self._array = resumable_array(found, place) if resume and found is not None else None
        if found is not None and self._array is None and not overwrite:
            raise FileExistsError(
                f"There is a Zarr array at {place} already; pass overwrite=True to replace "
                "it, resume=True to continue it, or another path."
            )
        self._overwrite = found is not None
        #: What the attribute of the array says, for an array that is continued.
        self.found: Mapping[str, Any] | None = None
        if self._array is not None:
            self.found = notes_of(self._array)
            logger.info("the array at %s is continued", place)
            drop_overview(place)
            self._coordinates.write()
        self._notes: dict[str, Any] = dict(self.found or {"complete": False, "resumable": True})
        self._noted = self._note_took = 0.0

    def has(self, *index: int) -> bool:
        """Return whether the block of this index along the leading axes was written."""
        if self._array is None:
            return False
        from zarr.core.sync import sync

        place = index + (0,) * (self._array.ndim - len(index))
        key: str = self._array.metadata.encode_chunk_key(place)
        return bool(sync((self._array.store_path / key).exists()))

    def read(self, index: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[Any]:
        """Return so much of an array that is continued, from where the block of this index begins."""
        assert self._array is not None
        block = block_shape(self._array)
        starts = [i * size for i, size in zip(index, block, strict=False)]
        starts += [0] * (len(shape) - len(starts))
        places = (slice(a, a + length) for a, length in zip(starts, shape, strict=True))
        values: Any = self._array[tuple(places)]
        return values  # type: ignore[no-any-return]  # slices of an array give an array

    def write(
        self,
        offset: tuple[int, ...],
        block: NDArray[Any],
        *,
        expected: tuple[int, ...] = (),
        notes: Callable[[], Mapping[str, Any]] = dict,
        note_now: bool = True,
    ) -> None:
        """Write a block whose first element goes to `offset`; axes not in `offset` start at 0.

        Args:
            offset: Where along the leading axes.
            block: The values.
            expected: The extent along the leading axes that the array will probably have.
            notes: Returns what the attribute has to say from now on.
            note_now: Whether it has to say so before the block is written, or some time later.

        Raises:
            FileExistsError: the array is continued, and the block does not fit its chunks.
        """
        start = offset + (0,) * (block.ndim - len(offset))
        end = tuple(o + length for o, length in zip(start, block.shape, strict=True))
        if self._array is None:
            self._notes |= notes()
            shape = (*map(max, expected, end), *end[len(expected) :])
            self._array = self._create(shape, block.shape, block.dtype)
        elif note_now or time.monotonic() - self._noted > PATIENCE * self._note_took:
            began = time.monotonic()
            self._notes |= notes()
            self._note()
            self._noted = time.monotonic()
            self._note_took = self._noted - began
        self._check_place(start, block.shape)
        if any(need > have for need, have in zip(end, self._array.shape, strict=True)):
            # Doubling keeps the number of metadata writes logarithmic.
            self._array.resize(
                tuple(
                    max(2 * have, need) if need > have else have
                    for need, have in zip(end, self._array.shape, strict=True)
                )
            )
        self._array[tuple(map(slice, start, end))] = block

    def prepare(
        self,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        notes: Mapping[str, Any],
    ) -> zarr.Array[Any]:
        """Return the Zarr array for others to write its chunks, each one whole, in any order.

        Raises:
            FileExistsError: the array is continued, and has other chunks.
        """
        self._notes |= notes
        self.check_ids(shape)
        if self._array is None:
            self._array = self._create(shape, chunks, dtype)
        elif (self._array.shape, block_shape(self._array)) != (shape, chunks):
            raise FileExistsError(
                f"The array at {self._place} has the shape {self._array.shape} and the blocks "
                f"{block_shape(self._array)}; the result has {shape} and {chunks}. Pass overwrite=True to "
                "begin again, or another path."
            )
        return self._array

    def check_ids(self, extent: Sequence[int]) -> None:
        """Check that there is one id for each sample along the leading axes, 0 if not known yet.

        Raises:
            ValueError: there are more or fewer.
        """
        self._coordinates.check(extent)

    def finish(
        self, extent: tuple[int, ...], *, notes: Mapping[str, Any] | None = None
    ) -> zarr.Array[Any]:
        """Cut the array to its extent along the leading axes, mark it complete, and open it.

        Raises:
            ValueError: nothing was written.
            IncompleteResultError: somebody has removed what was written.
            ValueError: there are not as many ids as samples.
        """
        if self._array is None:
            raise ValueError("There was nothing to write: the sequence has no chunks.")
        shape = extent + self._array.shape[len(extent) :]
        if self._array.shape != shape:
            self._array.resize(shape)
        self._check_all_there()
        self.check_ids(extent)
        self._notes |= {**(notes or {}), "complete": True}
        self._note()
        write_overview(self._place)
        return self._place.open()

    def _check_all_there(self) -> None:
        assert self._array is not None
        _, all_of_them = blocks_written(self._array)
        try:
            there, _ = blocks_written(self._place.open())
        except FileNotFoundError:
            there = 0
        if there < all_of_them:
            raise IncompleteResultError(
                f"Of {all_of_them} blocks that were written to {self._place}, {there} are "
                "there: others were removed meanwhile. Write them again with resume=True, or, if the "
                "array itself is gone, from the beginning."
            )

    def _create(
        self, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]
    ) -> zarr.Array[Any]:
        import zarr

        options: dict[str, Any] = {"dtype": dtype, "chunks": chunks, **self._encoding}
        if "chunks" in self._encoding:
            options["shards"] = chunks
            _check_division(chunks, options["chunks"])
        others = [f"x{axis}" for axis in range(len(shape) - len(self._names))]
        drop_overview(self._place)
        array = zarr.create_array(
            self._place.store,
            name=self._place.component,
            shape=shape,
            fill_value=float("nan") if dtype.kind == "f" else 0,
            dimension_names=[*self._names, *others],
            attributes={ATTRIBUTE: dict(self._notes)},
            overwrite=self._overwrite,
            config=WHOLE,
            **options,
        )
        self._coordinates.write()
        return array

    def _note(self) -> None:
        assert self._array is not None
        if notes_of(self._array) != self._notes:
            self._array.attrs[ATTRIBUTE] = dict(self._notes)

    def _check_place(self, start: tuple[int, ...], shape: tuple[int, ...]) -> None:
        assert self._array is not None
        chunks = block_shape(self._array)
        fits = all(s % c == 0 and n <= c for s, n, c in zip(start, shape, chunks, strict=True))
        if fits or not self._notes["resumable"]:
            return
        if self.found is not None:
            raise FileExistsError(
                f"A block of shape {shape} at {start} does not fit the blocks {chunks} of the "
                f"array at {self._place}, which was begun with batches of other sizes. Pass "
                "overwrite=True to begin again, or another path."
            )
        self._notes["resumable"] = False
        self._note()


def _check_division(block: Sequence[int], chunks: Any) -> None:
    if not isinstance(chunks, Sequence) or len(chunks) != len(block):
        raise ValueError(f"`chunks` must have a size for each axis of {block}; got {chunks!r}.")
    if any(size < 1 or whole % size for whole, size in zip(block, chunks, strict=True)):
        raise ValueError(
            f"Blocks of shape {tuple(block)} cannot be divided into chunks of {tuple(chunks)}: pass "
            "divisors, or other batches."
        )
