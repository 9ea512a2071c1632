"""Who speaks for and against each test sample, and who harms on average, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from upweight.errors import DataError
from upweight.reductions import BottomK, Ranked, TopK

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

#: A value, and the index of the training sample that it belongs to.
Pair = tuple[int, float]


@dataclass(frozen=True)
class Ranking:
    """The training samples that matter most to one test sample.

    Attributes:
        index: Of the test sample.
        proponents: Of positive influence, the largest first.
        opponents: Of negative influence, the smallest first.
        left_out: How many influences are NaN or infinite.
    """

    index: int
    proponents: list[Pair]
    opponents: list[Pair]
    left_out: int


@dataclass(frozen=True)
class Suspect:
    """A training sample that may be wrong.

    Attributes:
        index: Of the training sample.
        value: Its mean influence on the test samples, or its self-influence.
        opposed: Of how many test samples it is among the opponents.
    """

    index: int
    value: float
    opposed: int


def rank_tests(
    array: zarr.Array[Any],
    shown: Sequence[int],
    k: int,
    suspects: int,
    advance: Callable[[int], object],
) -> tuple[list[Ranking], list[Suspect]]:
    """Return the rankings of test samples, and the training samples of the lowest mean influence.

    Every block is read once, and only those of the test samples shown if there are to be no suspects.
    The mean is over the test samples whose number is finite; suspects have a negative one.

    Args:
        array: Influences, (test, train).
        shown: Indices of test samples.
        k: Most proponents, and most opponents.
        suspects: Most suspects.
        advance: Called with the number of test samples that were read.

    Raises:
        DataError: there is no finite number.
    """
    n = array.shape[1]
    total, count, opposed = np.zeros(n), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    wanted, found = set(shown), {}
    for rows in _steps(array.shape[0], array.chunks[0]):
        here = wanted.intersection(rows)
        if here or suspects:
            tops, bottoms, left_out = _fold(array, rows, k, total, count)
            against = bottoms.indices[bottoms.values < 0]
            opposed += np.bincount(against, minlength=n)
            for index in here:
                place = index - rows.start
                found[index] = Ranking(
                    index,
                    _pairs(tops, place, lambda values: values > 0),
                    _pairs(bottoms, place, lambda values: values < 0),
                    int(left_out[place]),
                )
        advance(len(rows))
    if not count.any():
        raise DataError("All influences are NaN: there is nothing to report.")
    return [found[index] for index in shown], _suspects(total, count, opposed, suspects)


def rank_samples(array: zarr.Array[Any], n: int) -> tuple[list[Suspect], int]:
    """Return the samples with the largest numbers of a result (n,), and how many are left out.

    Raises:
        DataError: there is no finite number.
    """
    state, left_out = None, 0
    for columns in _steps(array.shape[0], array.chunks[0]):
        block = np.asarray(array[columns.start : columns.stop])
        finite = np.isfinite(block)
        left_out += int(np.count_nonzero(~finite))
        part = TopK(n).of(np.where(finite, block, -np.inf)[None], columns.start)
        state = part if state is None else TopK(n).merge(state, part)
    if state is None or left_out == array.shape[0]:
        raise DataError("All numbers are NaN: there is nothing to report.")
    pairs = _pairs(TopK(n).result(state), 0, np.isfinite)
    return [Suspect(index, value, 0) for index, value in pairs], left_out


def _fold(
    array: zarr.Array[Any],
    rows: range,
    k: int,
    total: NDArray[np.float64],
    count: NDArray[np.int64],
) -> tuple[Ranked, Ranked, NDArray[np.int64]]:
    """Return the extremes of some rows and how many numbers are left out, and add to the sums."""
    largest, smallest = TopK(k), BottomK(k)
    top = bottom = None
    left_out = np.zeros(len(rows), dtype=np.int64)
    for columns in _steps(array.shape[1], array.chunks[1]):
        place = slice(columns.start, columns.stop)
        block = np.asarray(array[rows.start : rows.stop, place])
        finite = np.isfinite(block)
        # Zero is on no side and adds nothing, so that it may stand for what is left out.
        block = np.where(finite, block, 0.0)
        total[place] += block.sum(axis=0, dtype=np.float64)
        count[place] += finite.sum(axis=0)
        left_out += np.count_nonzero(~finite, axis=1)
        above = largest.of(block, columns.start)
        below = smallest.of(block, columns.start)
        top = above if top is None else largest.merge(top, above)
        bottom = below if bottom is None else smallest.merge(bottom, below)
    assert top is not None
    assert bottom is not None
    return largest.result(top), smallest.result(bottom), left_out


def _suspects(
    total: NDArray[np.float64],
    count: NDArray[np.int64],
    opposed: NDArray[np.int64],
    n: int,
) -> list[Suspect]:
    means = np.full(len(total), np.nan)
    np.divide(total, count, out=means, where=count > 0)
    first = np.argsort(means, kind="stable")[:n]  # NaN comes last
    return [Suspect(int(i), float(means[i]), int(opposed[i])) for i in first if means[i] < 0]


def _pairs(
    ranked: Ranked, row: int, keep: Callable[[NDArray[Any]], NDArray[np.bool_]]
) -> list[Pair]:
    """Return indices and values of the numbers in a row that are to be kept."""
    values, indices = ranked.values[row], ranked.indices[row]
    chosen = keep(values)
    return list(zip(indices[chosen].tolist(), values[chosen].tolist(), strict=True))


def _steps(n: int, step: int) -> Iterator[range]:
    return (range(start, min(start + step, n)) for start in range(0, n, step))
