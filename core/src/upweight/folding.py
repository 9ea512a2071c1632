"""Blocks of influences folded by a reduction, wherever they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, get_args

import numpy as np

from upweight.errors import DataError, NonFiniteError
from upweight.omitting import Omitting, with_blanks_filled
from upweight.protocols import Reduction

if TYPE_CHECKING:
    from numpy.typing import NDArray

S = TypeVar("S")
R = TypeVar("R")

#: Which samples a reduction goes over.
Over: TypeAlias = Literal["training", "test"]

#: What becomes of samples that are marked, all of whose influences are NaN.
NanReduction: TypeAlias = Literal["raise", "omit"]


class Folded(Generic[S, R]):
    """What a reduction has kept of the blocks so far, which come in the order of their samples.

    Args:
        reduction: What to keep.
        over: Which samples it goes over; for each of the others there is a row of the result.
        nan_policy: What becomes of samples that are marked.

    Raises:
        TypeError: `reduction` is not one, or is a class instead of an instance.
        ValueError: `over` or `nan_policy` is something else.
    """

    def __init__(self, reduction: Reduction[S, R], over: Over, nan_policy: NanReduction) -> None:
        self._reduction: Reduction[Any, R] = checked_reduction(reduction, over, nan_policy)
        self._over = over
        self._states: dict[int, Any] = {}  # by the first of the samples that are not reduced

    def add(self, block: NDArray[Any], row: int, column: int) -> None:
        """Fold a block (k, n, *x) whose first test and training samples are `row` and `column`.

        Raises:
            NonFiniteError: an influence is NaN or infinite.
        """
        key = row if self._over == "training" else column
        state = contribution(self._reduction, block, row, column, self._over)
        if key in self._states:
            state = self._reduction.merge(self._states[key], state)
        self._states[key] = state

    def result(self) -> R:
        """Return the result for all samples that are not reduced.

        Raises:
            DataError: there was no block.
        """
        if not self._states:
            raise DataError("There are no influences to reduce; pass at least one batch of each.")
        return joined([self._reduction.result(state) for state in self._states.values()])


def checked_reduction(
    reduction: Reduction[Any, R], over: str, nan_policy: str
) -> Reduction[Any, R]:
    """Return the reduction, made to leave out marked samples if these are to be omitted.

    Raises:
        TypeError: `reduction` is not one, or is a class instead of an instance.
        ValueError: `over` or `nan_policy` is something else.
    """
    if isinstance(reduction, type) or not isinstance(reduction, Reduction):
        raise TypeError(
            "Pass an object with the methods of a Reduction, such as TopK(10) or Max(); "
            f"got {reduction!r}."
        )
    if over not in get_args(Over):
        raise ValueError(f"`over` must be 'training' or 'test'; got {over!r}.")
    if nan_policy not in get_args(NanReduction):
        raise ValueError(f"`nan_policy` must be 'raise' or 'omit'; got {nan_policy!r}.")
    return Omitting(reduction) if nan_policy == "omit" else reduction


def contribution(
    reduction: Reduction[Any, Any], block: NDArray[Any], row: int, column: int, over: Over
) -> Any:
    """Return what a block (k, n, *x) adds, given the indices of its first test and training sample.

    Raises:
        NonFiniteError: an influence is NaN or infinite.
    """
    if not isinstance(reduction, Omitting):
        _check_finite(block, row, column)
    if over == "training":
        return reduction.of(block, column)
    return reduction.of(np.swapaxes(block, 0, 1), row)


def joined(results: Sequence[R]) -> R:
    """Join results of consecutive samples along the first axis of each of their arrays.

    Raises:
        DataError: all influences are NaN and were left out.
    """
    results = with_blanks_filled(results)
    first: Any = results[0]
    if isinstance(first, tuple):
        arrays: Any = zip(*results, strict=True)
        make: Any = getattr(type(first), "_make", type(first))
        joint: R = make(np.concatenate(parts) for parts in arrays)
        return joint
    whole: Any = np.concatenate(results)  # type: ignore[arg-type]  # they are arrays
    return whole  # type: ignore[no-any-return]  # as above


def _check_finite(block: NDArray[Any], row: int, column: int) -> None:
    with np.errstate(all="ignore"):  # what follows says it better
        if np.isfinite(np.sum(block)):  # a single bad number would spread to the sum
            return
    bad = np.argwhere(~np.isfinite(block))
    if len(bad):
        raise NonFiniteError(
            f"The influence of training sample {column + bad[0][1]} on test sample "
            f"{row + bad[0][0]} is NaN or infinite, so there is no order among influences and no "
            "sum. Look there for NaN in the data, or for a loss that is not finite; to leave out "
            "samples that were marked, pass nan_policy='omit'."
        )
