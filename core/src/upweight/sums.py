"""The contract between methods and training data that lies elsewhere: sums over its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

from upweight.trees import Batch, Tree

A = TypeVar("A")


class Piece(NamedTuple):
    """A batch of the training data.

    Attributes:
        batch: n samples.
        first: Place of the first of them among all training samples.
    """

    batch: Batch[Any]
    first: int


#: What a batch adds to a sum, an array or a mapping of arrays and numbers: called with an objective
#: (or a mapping of several), the batch, and arrays or mappings of arrays that all batches share.
Summand: TypeAlias = Callable[..., Tree[Any]]


@runtime_checkable
class DistributesSums(Protocol[A]):
    """A collection of training batches that lie elsewhere, where sums over them are computed.

    Iterated, it brings one batch at a time.
    """

    @property
    def sizes(self) -> Sequence[int]:
        """Number of samples of each batch."""

    def __iter__(self) -> Iterator[Batch[A]]:
        """Yield the batches."""

    def send(self, objective: Any, *, thread_safe: bool) -> Any:
        """Bring an objective to where the batches are, and return what stands for it.

        Raises:
            ModelError: it cannot be pickled.
            ThreadSafetyViolationError: it is not thread-safe, and would be used by several threads.
        """

    def total(
        self,
        sent: Any,
        function: Summand,
        shared: Sequence[Tree[A]],
        advance: Callable[[int], object] | None,
    ) -> Tree[A]:
        """Return the sum of a function over all batches.

        Args:
            sent: What `send` returned.
            function: What a batch adds; it can be pickled.
            shared: Its further arguments.
            advance: Told how many more batches are done.
        """
