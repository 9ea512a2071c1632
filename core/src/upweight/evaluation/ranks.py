"""Ranks with ties, and correlations, when samples count several times as in a bootstrap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Ranking:
    r"""The order of each column of an array (n, k), known once for ranks under any weights.

    Attributes:
        order: Which rows come one after the other, rising.
        first: Where, in that order, those that equal a row begin.
        last: Where they end.
    """

    order: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[Any]) -> Ranking:
        """Sort each column."""
        order = np.argsort(values, axis=0, kind="stable")
        rising = np.take_along_axis(values, order, axis=0)
        n, places = len(values), np.arange(len(values))[:, None]
        differs = rising[1:] != rising[:-1]
        edge = np.ones((1, values.shape[1]), dtype=bool)
        begins = np.where(np.concatenate([edge, differs]), places, 0)
        ends = np.where(np.concatenate([differs, edge]), places, n - 1)
        first = np.maximum.accumulate(begins, axis=0)
        last = np.minimum.accumulate(ends[::-1], axis=0)[::-1]
        back = np.argsort(order, axis=0, kind="stable")
        return cls(order, *(np.take_along_axis(some, back, axis=0) for some in (first, last)))

    def below(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """Return how many are less than each, row i counted `weights[i]` times, (n, k)."""
        return np.take_along_axis(self._cumulated(weights), self.first, axis=0)

    def up_to(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """Return how many are less than each or equal to it, counted in the same way, (n, k)."""
        return np.take_along_axis(self._cumulated(weights), self.last + 1, axis=0)

    def ranks(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """Return ranks from 1, the mean rank where values are equal, (n, k)."""
        ranks: NDArray[np.float64] = (self.below(weights) + self.up_to(weights) + 1) / 2
        return ranks

    def _cumulated(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        sums = np.cumsum(weights.astype(np.float64)[self.order], axis=0)
        return np.concatenate([np.zeros((1, sums.shape[1])), sums])


def correlations(
    a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[Any]
) -> NDArray[np.float64]:
    """Return Pearson's correlation of each column of a with that of b, (k,).

    It is NaN where one of the two does not vary among the rows that count.

    Args:
        a: Values, (n, k).
        b: Other values, (n, k).
        weights: How often each row counts, (n,).
    """
    # First by a row that counts, so that a column without variation is exactly zero.
    a, b = (values - values[np.argmax(weights > 0)] for values in (a, b))
    a, b = (values - weights @ values / weights.sum() for values in (a, b))
    scale = np.sqrt((weights @ a**2) * (weights @ b**2))
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = np.where(scale > 0, weights @ (a * b) / scale, np.nan)
    return np.clip(found, -1, 1)
