"""Reductions that leave out samples whose influences are NaN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

import numpy as np

from upweight.errors import DataError, NonFiniteError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from upweight.protocols import Reduction

S = TypeVar("S")
R = TypeVar("R")


class Omitted(NamedTuple):
    """What blocks say of the samples that are not left out.

    Attributes:
        state: Of the reduction; None where all samples so far are left out.
        bad: The marked rows, (k,).
    """

    state: Any
    bad: NDArray[np.bool_]


class Omitting(Generic[S, R]):
    """A reduction over the samples that are not marked, which have NaN for all of their influences.

    A marked row of the result has NaN in place of numbers and -1 in place of indices.

    Args:
        reduction: What to keep of the others.
    """

    def __init__(self, reduction: Reduction[S, R]) -> None:
        self._reduction = reduction

    def of(self, block: NDArray[Any], first: int) -> Omitted:
        """Return what a block (k, n, *x) says.

        Raises:
            NonFiniteError: a number is NaN or infinite where neither sample is marked.
        """
        finite = np.all(np.isfinite(block), axis=tuple(range(2, block.ndim)))
        rows, columns = np.any(finite, axis=1), np.any(finite, axis=0)
        wrong = np.argwhere(~finite & np.outer(rows, columns))
        if len(wrong):
            raise NonFiniteError(
                f"An influence of sample {first + wrong[0][1]} is NaN or infinite, and others of "
                "this sample are not, so it was not marked when influences were computed."
            )
        changes = np.flatnonzero(np.diff(columns, prepend=False, append=False)).tolist()
        pieces = [
            self._reduction.of(np.where(_like(rows, block), block, 0)[:, start:stop], first + start)
            for start, stop in list(pairwise(changes))[::2]
        ]
        return Omitted(reduce(self._reduction.merge, pieces) if pieces else None, ~rows)

    def merge(self, left: Omitted, right: Omitted) -> Omitted:
        """Return what two neighbouring blocks say.

        Raises:
            NonFiniteError: a row has finite numbers in one of them only.
        """
        if left.state is None or right.state is None:
            return right if left.state is None else left
        if np.any(left.bad != right.bad):
            raise NonFiniteError(
                f"Row {np.flatnonzero(left.bad != right.bad)[0]} has finite influences in some "
                "blocks and none in others, so it was not marked when influences were computed."
            )
        return Omitted(self._reduction.merge(left.state, right.state), left.bad)

    def result(self, state: Omitted) -> R:
        """Return the result of the reduction, its marked rows filled, or a `Blank`."""
        if state.state is None:
            return cast(R, Blank(len(state.bad)))
        return each_array(self._reduction.result(state.state), lambda a: _filled(a, state.bad))


@dataclass(frozen=True)
class Blank:
    """A result all of whose rows are marked."""

    rows: int


def with_blanks_filled(results: Sequence[R]) -> list[R]:
    """Return the results, with marked rows in place of blanks.

    Raises:
        DataError: there are only blanks.
    """
    known = [result for result in results if not isinstance(result, Blank)]
    if not known:
        raise DataError("All influences are NaN, so there is nothing left to reduce.")

    def filled(rows: int) -> R:
        return each_array(
            known[0],
            lambda a: _filled(np.zeros((rows, *a.shape[1:]), a.dtype), np.ones(rows, dtype=bool)),
        )

    return [filled(r.rows) if isinstance(r, Blank) else r for r in results]


def each_array(result: R, function: Callable[[NDArray[Any]], NDArray[Any]]) -> R:
    """Apply a function to a result that is an array, or to each array of one that is a tuple."""
    if not isinstance(result, tuple):
        return cast(R, function(cast(Any, result)))
    make: Any = getattr(type(result), "_make", type(result))
    return cast(R, make(map(function, result)))


def _filled(array: NDArray[Any], bad: NDArray[np.bool_]) -> NDArray[Any]:
    gap = np.nan if array.dtype.kind == "f" else -1
    return np.where(_like(bad, array), np.asarray(gap, dtype=array.dtype), array)


def _like(rows: NDArray[np.bool_], array: NDArray[Any]) -> NDArray[np.bool_]:
    return rows.reshape(-1, *(1 for _ in array.shape[1:]))
