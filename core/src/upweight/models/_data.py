"""Training data as the methods read it: checked, joined to larger batches, kept if it is small."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from array_api_compat import array_namespace

from upweight.checks import as_batch, batch_size, check_finite, located
from upweight.errors import DataError
from upweight.progress import inner_bar, length_of, progress_bar
from upweight.protocols import SuggestsBatchSize
from upweight.sums import Piece
from upweight.trees import Batch, Tree, leaves, map_leaves, rebuild, summed

if TYPE_CHECKING:
    from upweight.protocols import Objective
    from upweight.sums import Summand

A = TypeVar("A")

#: Data up to this many bytes is kept in memory after the first pass instead of being read again.
KEEP_BYTES = 256 * 2**20


def joined_batches(
    data: Iterable[Any],
    objective: Objective[A],
    *,
    label: str,
    progress: bool,
    join: bool = True,
) -> Iterator[Batch[A]]:
    """Yield the batches, checked for finite losses, and joined where the objective suggests it.

    With `join=False`, they come as they are.

    Raises:
        DataError: there is no batch.
        NonFiniteError: a loss is NaN or infinite.
    """
    held: list[Batch[A]] = []
    index = -1
    with progress_bar(length_of(data), label=label, show=progress) as advance:
        for index, item in enumerate(data):
            with located(f"training batch {index}"):
                batch = as_batch(item)
                check_finite(objective.losses(batch), what="loss")
            if held and not (join and _may_join(held, batch, objective)):
                yield _join(held)
                held = []
            held.append(batch)
            advance(1)
    if index < 0:
        raise DataError("The training data holds no batch; pass at least one (x, y).")
    yield _join(held)


class TrainingData(Generic[A]):
    """Batches that are walked many times, kept in memory if they are small.

    Args:
        data: The batches, in any order.
        objective: What they are for.
        progress: Whether the first pass shows a progress bar.
        join: Whether batches may be joined to larger ones.

    Attributes:
        n_samples: Number of samples.
        n_batches: Number of batches that a pass yields.
        kept: Whether the batches are in memory.
        join: Whether batches may have been joined.
        distributed: Whether sums are computed elsewhere; see `DistributedData`.

    Raises:
        DataError: there is no batch.
        NonFiniteError: a loss is NaN or infinite.
    """

    distributed = False

    def __init__(
        self,
        data: Iterable[Batch[A]],
        objective: Objective[A],
        *,
        progress: bool,
        join: bool = True,
    ) -> None:
        self.join = join
        self.n_samples = 0
        self.n_batches = 0
        kept: list[Batch[A]] = []
        kept_bytes = 0
        for batch in joined_batches(
            data, objective, label="Training data", progress=progress, join=join
        ):
            self.n_batches += 1
            self.n_samples += batch_size(*batch)
            kept_bytes += sum(map(_nbytes, _all_leaves(batch)))
            if kept_bytes <= KEEP_BYTES:
                kept.append(batch)
            else:
                kept.clear()
        self.kept = bool(kept)
        self._batches: Iterable[Batch[A]] = kept or data

    def __iter__(self) -> Iterator[tuple[float, Batch[A]]]:
        """Yield each batch with its share of the samples.

        Raises:
            DataError: the number of samples differs from the first pass.
        """
        seen = 0
        with inner_bar(length_of(self._batches), label="Training data") as advance:
            for item in self._batches:
                batch = as_batch(item)
                n = batch_size(*batch)
                seen += n
                yield n / self.n_samples, batch
                advance(1)
        if seen != self.n_samples:
            raise DataError(
                f"The training data held {self.n_samples} samples when it was first read and "
                f"{seen} now. Pass data that is the same on every pass."
            )

    def total(self, objective: Any, function: Summand, *shared: Tree[A]) -> Any:
        """Return the sum over all batches of `function(objective, piece, *shared)`."""
        total: Any = None
        first = 0
        for _, batch in self:
            part = function(objective, Piece(batch, first), *shared)
            total = part if total is None else summed(total, part)
            first += batch_size(*batch)
        return total

    def mean(self, objective: Any, function: Summand, *shared: Tree[A]) -> Any:
        """Return the same, each batch weighted by its share of the samples."""
        return self.total(objective, partial(share, self.n_samples, function), *shared)


def share(
    n_samples: int, function: Summand, objective: Any, piece: Piece, *shared: Any
) -> Tree[Any]:
    """Return what a batch adds to a mean over all samples."""
    weight = batch_size(*piece.batch) / n_samples
    return map_leaves(lambda leaf: weight * leaf, function(objective, piece, *shared))


def _may_join(held: list[Batch[Any]], batch: Batch[Any], objective: Objective[Any]) -> bool:
    if not isinstance(objective, SuggestsBatchSize):
        return False
    n = sum(batch_size(*one) for one in held) + batch_size(*batch)
    return n <= objective.suggested_batch_size(batch) and _signature(held[-1]) == _signature(batch)


def _signature(batch: Batch[Any]) -> tuple[list[Any], ...]:
    names = [list(tree) if isinstance(tree, Mapping) else None for tree in batch]
    return names, [(tuple(leaf.shape[1:]), leaf.dtype) for leaf in _all_leaves(batch)]


def _join(batches: list[Batch[Any]]) -> Batch[Any]:
    if len(batches) == 1:
        return batches[0]
    x, y = batches[0]
    columns = [
        array_namespace(*arrays).concat(arrays)
        for arrays in zip(*map(_all_leaves, batches), strict=True)
    ]
    split = len(leaves(x))
    return rebuild(x, tuple(columns[:split])), rebuild(y, tuple(columns[split:]))


def _all_leaves(batch: Batch[Any]) -> tuple[Any, ...]:
    return tuple(leaf for tree in batch for leaf in leaves(tree))


def _nbytes(leaf: Any) -> int:
    # The standard has no size in bytes; no number that arrives here takes more than eight.
    return int(getattr(leaf, "nbytes", 8 * math.prod(leaf.shape)))
