"""Sums over training data, computed where the data is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from upweight.checks import batch_size, check_finite
from upweight.models._data import TrainingData, joined_batches, share
from upweight.progress import progress_bar
from upweight.sums import DistributesSums, Piece
from upweight.trees import Batch, Tree, summed

if TYPE_CHECKING:
    from upweight.protocols import Objective
    from upweight.sums import Summand

A = TypeVar("A")


class DistributedData(Generic[A]):
    """Training data that lies elsewhere, with the functions of `TrainingData`.

    An objective is sent there once, and stays as long as this object lives.

    Args:
        data: The batches.
        objective: What they are for.
        progress: Whether to show a progress bar.
        check: Whether the losses are checked now.

    Attributes:
        n_samples: Number of samples.
        n_batches: Number of batches.

    Raises:
        NonFiniteError: a loss is NaN or infinite.
        ModelError: the objective cannot be pickled.
        ThreadSafetyViolationError: the objective is not thread-safe, and would have to be.
    """

    distributed = True
    kept = False

    def __init__(
        self,
        data: DistributesSums[A],
        objective: Objective[A],
        *,
        progress: bool,
        check: bool = True,
    ) -> None:
        self.n_samples = sum(data.sizes)
        self.n_batches = len(data.sizes)
        self._data = data
        self._thread_safe = objective.is_thread_safe
        self._sent: dict[int, tuple[Any, Any]] = {}  # with the objective, so that its id stays its
        if check:
            self.first_total(objective, _checked, label="Training data", progress=progress)

    def __iter__(self) -> Iterator[tuple[float, Batch[A]]]:
        """Yield each batch, brought here, with its share of the samples."""
        for batch in self._data:
            yield batch_size(*batch) / self.n_samples, batch

    def total(self, objective: Any, function: Summand, *shared: Tree[A]) -> Any:
        """Return the sum over all batches of `function(objective, piece, *shared)`."""
        return self._data.total(self._token(objective), function, shared, None)

    def mean(self, objective: Any, function: Summand, *shared: Tree[A]) -> Any:
        """Return the same, each batch weighted by its share of the samples."""
        return self.total(objective, partial(share, self.n_samples, function), *shared)

    def first_total(
        self, objective: Any, function: Summand, *, label: str, progress: bool
    ) -> Tree[A]:
        """Return a sum while a progress bar is shown."""
        with progress_bar(self.n_batches, label=label, show=progress) as advance:
            watched = advance if progress else None
            return self._data.total(self._token(objective), function, (), watched)

    def _token(self, objective: Any) -> Any:
        if id(objective) not in self._sent:
            sent = self._data.send(objective, thread_safe=self._thread_safe)
            self._sent[id(objective)] = objective, sent
        return self._sent[id(objective)][1]


SummedData: TypeAlias = TrainingData[A] | DistributedData[A]


def summed_data(data: Any, objective: Objective[A], *, progress: bool) -> SummedData[A]:
    """Return training data for a method that asks for sums; what was made so is returned as it is.

    Raises:
        DataError: there is no batch.
        NonFiniteError: a loss is NaN or infinite.
    """
    if isinstance(data, TrainingData | DistributedData):
        return data
    if isinstance(data, DistributesSums):
        return DistributedData(data, objective, progress=progress)
    return TrainingData(data, objective, progress=progress)


def total_in_one_pass(
    data: Iterable[Batch[A]],
    objectives: Mapping[str, Objective[A]],
    function: Summand,
    *,
    label: str,
    progress: bool,
) -> tuple[Any, int]:
    """Return a sum over data that is read only once, and the number of samples.

    Args:
        data: The batches.
        objectives: The same loss as a function of the parameters of each block.
        function: Called with `objectives` and each piece.
        label: Of the progress bar.
        progress: Whether to show one.

    Raises:
        DataError: there is no batch.
        NonFiniteError: a loss is NaN or infinite.
    """
    any_of_them = next(iter(objectives.values()))
    if isinstance(data, DistributesSums):
        spread = DistributedData(data, any_of_them, progress=False, check=False)
        checked = partial(_checked_first, function)
        return spread.first_total(
            objectives, checked, label=label, progress=progress
        ), spread.n_samples
    total: Any = None
    n = 0
    for batch in joined_batches(data, any_of_them, label=label, progress=progress):
        part = function(objectives, Piece(batch, n))
        total = part if total is None else summed(total, part)
        n += batch_size(*batch)
    return total, n


def _checked(objective: Objective[Any], piece: Piece) -> Tree[Any]:
    check_finite(objective.losses(piece.batch), what="loss")
    return {}


def _checked_first(
    function: Summand, objectives: Mapping[str, Objective[Any]], piece: Piece
) -> Tree[Any]:
    _checked(next(iter(objectives.values())), piece)
    return function(objectives, piece)
