"""Scores with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Score(NamedTuple):
    """A mean over samples and its confidence interval.

    Attributes:
        value: The mean.
        low: Lower end of the interval.
        high: Upper end of the interval.
        by_sample: What the mean is of, one number a sample.
    """

    value: float
    low: float
    high: float
    by_sample: NDArray[np.float64]


@dataclass(frozen=True)
class Bootstrap:
    """Percentile intervals from resamples, each drawn with replacement.

    What a score depends on, test samples and subsets for example, is resampled in every way at once,
    which makes intervals a little too wide rather than too narrow.

    Args:
        confidence: How often an interval is to hold the true value, between 0 and 1.
        resamples: How many to draw.
        seed: Of the random numbers.

    Raises:
        ValueError: an option is out of its range.

    References:
        Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13, for the percentile
        interval; Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007), for two
        ways at once.
    """

    confidence: float
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"`confidence` must lie between 0 and 1; got {self.confidence}.")
        if self.resamples < 1:
            raise ValueError(f"`resamples` must be at least 1; got {self.resamples}.")

    def score(
        self,
        statistic: Callable[..., float],
        sizes: Sequence[int],
        by_sample: NDArray[np.float64],
    ) -> Score:
        """Return the statistic with its interval.

        Args:
            statistic: A function of weights, one array for each of `sizes`, that say how often each
                item counts; it may be NaN, and such resamples are left out.
            sizes: How many items are resampled, in each way.
            by_sample: What the score is to tell of each sample.
        """
        generator = np.random.default_rng(self.seed)
        value = statistic(*(np.ones(size) for size in sizes))
        drawn = np.array(
            [
                statistic(*(_weights(size, generator) for size in sizes))
                for _ in range(self.resamples)
            ]
        )
        tail = (1 - self.confidence) / 2
        kept = drawn[~np.isnan(drawn)]
        ends = np.quantile(kept, [tail, 1 - tail]) if kept.size else (np.nan, np.nan)
        return Score(float(value), float(ends[0]), float(ends[1]), by_sample)

    def mean(self, by_sample: NDArray[np.float64]) -> Score:
        """Return the mean over samples with its interval."""
        return self.score(
            lambda weights: weighted_mean(by_sample, weights), [len(by_sample)], by_sample
        )


def weighted_mean(values: NDArray[np.float64], weights: NDArray[Any]) -> float:
    """Return the mean of the values that are not NaN, or NaN if there are none."""
    there = ~np.isnan(values)
    total = weights[there].sum()
    return float(weights[there] @ values[there] / total) if total else np.nan


def _weights(size: int, generator: np.random.Generator) -> NDArray[Any]:
    """Return how often each of the items is drawn, with replacement, in as many draws."""
    return np.bincount(generator.integers(size, size=size), minlength=size)
