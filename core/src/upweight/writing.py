"""Lazy results on their way to disk, from the beginning or from where an earlier run ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

from upweight.errors import ResumeError
from upweight.version import __version__

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from upweight.protocols import NumpyConverter
    from upweight.store import BlockArray
    from upweight.stored import StoreLike

A = TypeVar("A")
Out = TypeVar("Out", covariant=True)

#: Asked with the index of a block whether it is there already and need not be computed.
Skip: TypeAlias = Callable[..., bool]


class Skipped(NamedTuple):
    """What stands for blocks that were not computed.

    Attributes:
        shape: Extent of the blocks along the leading axes; a column of a width that is not looked
            up has 0.
        chunks: Number of chunks that the blocks are made of.
    """

    shape: tuple[int, ...]
    chunks: int


class Origin(Protocol[Out]):
    """What a lazy result is made from: enough to know it again, and to leave out what is there."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells the result from that of another model or other options, as JSON."""

    @property
    def fingerprints(self) -> Mapping[str, Sequence[int]]:
        """Checksums of the batches that were read so far, by what they are."""

    def expect(self, notes: Mapping[str, Any]) -> None:
        """Refuse, from now on, batches that differ from those that an earlier run has read.

        Args:
            notes: Of the earlier run: its fingerprints, and "columns" if it has read all of the
                training data.
        """

    def sample(self) -> Out:
        """Return, computed anew, what the first block begins with."""


class Chunks(Origin[Out], Protocol[Out]):
    """What a sequence of chunks is made from."""

    def chunks(self, skip: Skip) -> Iterator[Any]:
        """Yield the chunks, with `Skipped` in place of those that need not be computed."""


class Columns(Origin[Out], Protocol[Out]):
    """What rows of chunks are made from."""

    def by_column(self, skip: Skip) -> Iterator[Iterator[Any]]:
        """Yield, for each group of rows, its columns, with `Skipped` for what need not be computed."""


def opened(
    path_or_url: StoreLike,
    names: Sequence[str],
    origin: Origin[Any] | None,
    *,
    component: str | None,
    **options: Any,
) -> BlockArray:
    """Return the array to write to; see `BlockArray`.

    Raises:
        ValueError: nothing is known of the origin, and the array is to be resumed.
    """
    from upweight.store import BlockArray
    from upweight.stored import Place

    if origin is None and options["resume"]:
        raise ValueError(
            "Only results of a calculator can be resumed; nothing is known of where this one "
            "comes from."
        )
    return BlockArray(Place.of(path_or_url, component), names=names, **options)


def write_sequence(
    target: BlockArray,
    start: Callable[[Skip], Iterator[Any]],
    origin: Origin[A] | None,
    converter: NumpyConverter[A],
    *,
    length: int | None,
    advance: Callable[[int], object],
) -> zarr.Array[Any]:
    """Write the chunks that are missing, one after the other along the first axis."""
    known = len(_checked(target, origin, converter, (0,)).get("given", ()))
    row = 0
    for index, chunk in enumerate(start(lambda i: i < known and target.has(i))):
        if isinstance(chunk, Skipped):
            rows = chunk.shape[0]
        else:
            block = converter.to_numpy(chunk)
            rows = block.shape[0]
            expected = (0 if length is None else length * rows,)
            notes = partial(_notes, origin)
            target.write((row,), block, expected=expected, notes=notes, note_now=index == 0)
        row += rows
        advance(1)
    return target.finish((row,), notes=_notes(origin))


def write_groups(
    target: BlockArray,
    start: Callable[[Skip], Iterator[Iterator[Any]]],
    origin: Origin[A] | None,
    converter: NumpyConverter[A],
    *,
    shape: tuple[int | None, int | None],
    advance: Callable[[int], object],
) -> zarr.Array[Any]:
    """Write the blocks that are missing, each the rows of a group for one training batch."""
    found = _checked(target, origin, converter, (0, 0))
    known = len(found.get("training", ()))
    columns = (target.found or {}).get("columns", 0)
    row = 0
    for blocks in start(lambda group, index: index < known and target.has(group, index)):
        column = rows = 0
        for index, chunks in enumerate(blocks):
            if isinstance(chunks, Skipped):
                (rows, width), count = chunks
            else:
                block = _joined(chunks, converter)
                (rows, width), count = block.shape[:2], len(chunks)
                target.write(
                    (row, column),
                    block,
                    expected=_expected(shape, chunks[0].shape[0], width),
                    notes=partial(_notes, origin, columns),
                    note_now=index == 0,
                )
            column += width
            advance(count)
        row += rows
        columns = max(columns, column)
        target.check_ids((0, columns))
    return target.finish((row, columns), notes=_notes(origin, columns))


def _checked(
    target: BlockArray,
    origin: Origin[A] | None,
    converter: NumpyConverter[A],
    first: tuple[int, ...],
) -> Mapping[str, Sequence[int]]:
    """Refuse to continue what was begun otherwise; return the fingerprints of the earlier run."""
    if target.found is None or origin is None:
        return {}
    check_identity(target, origin.identity)
    fingerprints: Mapping[str, Sequence[int]] = target.found["fingerprints"]
    origin.expect(target.found)
    if target.has(*first):
        check_values(target, first, converter.to_numpy(origin.sample()))
    return fingerprints


def check_identity(target: BlockArray, identity: Mapping[str, Any]) -> None:
    """Refuse to continue an array that was begun with something else.

    Raises:
        ResumeError: the identities differ.
    """
    assert target.found is not None
    then, now = target.found["identity"], _plain(identity)
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            raise ResumeError(
                f"The stored result was begun with {name} = {then.get(name)!r}, and this one has "
                f"{now.get(name)!r}. Pass overwrite=True to begin again, or another path."
            )


def check_values(target: BlockArray, index: tuple[int, ...], again: NDArray[Any]) -> None:
    """Refuse to continue an array whose values come out differently now.

    Args:
        target: The array.
        index: Of the block whose first values are compared.
        again: These values, computed anew.

    Raises:
        ResumeError: they differ by more than rounding.
    """
    import numpy as np

    stored = target.read(index, again.shape)
    same = (stored == again) | (np.isnan(stored) & np.isnan(again))
    error = float(np.max(np.where(same, 0, np.abs(stored - again))))
    largest = float(np.nanmax(np.abs(again), initial=0))
    if not error <= float(np.finfo(stored.dtype).eps) ** 0.5 * largest:
        raise ResumeError(
            f"Values of the stored result come out differently now, by {error:.3g} where "
            f"the largest is {largest:.3g}: the model, its parameters or its fit are not those of "
            "the run that began it. Pass overwrite=True to begin again, or another path."
        )


def notes_of_run(
    identity: Mapping[str, Any], fingerprints: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """Return what the attribute of an array says of the run that writes it."""
    return {
        "identity": _plain(identity),
        "fingerprints": {name: list(seen) for name, seen in fingerprints.items()},
        "version": __version__,
    }


def _notes(origin: Origin[Any] | None, columns: int = 0) -> dict[str, Any]:
    if origin is None:
        return {"resumable": False}
    notes = notes_of_run(origin.identity, origin.fingerprints)
    return notes | ({"columns": columns} if columns else {})


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the identity looks like when it is read from a file again."""
    plain: dict[str, Any] = json.loads(json.dumps(identity, default=lambda number: number.item()))
    return plain


def _joined(chunks: Sequence[A], converter: NumpyConverter[A]) -> NDArray[Any]:
    import numpy as np

    arrays = [converter.to_numpy(chunk) for chunk in chunks]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _expected(shape: tuple[int | None, int | None], rows: int, columns: int) -> tuple[int, int]:
    """Return the extent of as many test and training batches if all are of the size of one."""
    test, train = shape
    return (test or 0) * rows, (train or 0) * columns
