"""How well scores of training samples find those whose label is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from upweight.evaluation.intervals import Bootstrap, Score, weighted_mean
from upweight.evaluation.ranks import Ranking

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class MislabelDetection:
    """How well a score finds mislabeled samples.

    Attributes:
        roc_auc: Area under the ROC curve: the share of pairs of a mislabeled and a clean sample in
            which the mislabeled is the more suspicious, equal scores counting half. By sample: this
            share for each mislabeled sample, in their order.
        average_precision: Mean over mislabeled samples of the precision among all that are at least
            as suspicious as this one. By sample: this precision. Chance gives the share of mislabeled
            samples.
    """

    roc_auc: Score
    average_precision: Score


def mislabel_detection(
    scores: Any,
    mislabeled: Any,
    *,
    suspicious: Literal["high", "low"],
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> MislabelDetection:
    """Compare scores of training samples with which of them are mislabeled.

    Args:
        scores: One number for each training sample, (n,).
        mislabeled: Whether the label of each is wrong, booleans, (n,).
        suspicious: Which scores are suspicious: "high" for self-influences, "low" for the mean
            influence on correctly labeled test samples.
        confidence: How often an interval is to hold the true value.
        resamples: Number of bootstrap resamples, of mislabeled and of clean samples each.
        seed: Of the resamples.

    Raises:
        TypeError: `mislabeled` is no mask.
        ValueError: shapes differ, a score is NaN, or there is none of either kind.

    References:
        Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27 (2006), for the area
        as the share of pairs.
    """
    values, wrong = _checked(scores, mislabeled, suspicious)
    bootstrap = Bootstrap(confidence, resamples, seed)
    ranking = Ranking.of(values[:, None])
    n_wrong = int(wrong.sum())
    sizes = n_wrong, len(values) - n_wrong

    def of_all(of_wrong: NDArray[Any], of_clean: NDArray[Any]) -> NDArray[Any]:
        weights = np.empty(len(values))
        weights[wrong], weights[~wrong] = of_wrong, of_clean
        return weights

    def shares(of_wrong: NDArray[Any], of_clean: NDArray[Any]) -> NDArray[np.float64]:
        clean = of_all(0 * of_wrong, of_clean)
        more_or_half = (ranking.below(clean) + ranking.up_to(clean)) / 2
        found: NDArray[np.float64] = more_or_half[wrong, 0] / of_clean.sum()
        return found

    def precisions(of_wrong: NDArray[Any], of_clean: NDArray[Any]) -> NDArray[np.float64]:
        counts = (of_all(of_wrong, zero * of_clean) for zero in (0, 1))
        hits, found = (sum(w) - ranking.below(w)[wrong, 0] for w in counts)
        # A sample that was not drawn, and is above all that were, has no precision, and no weight.
        none = np.zeros(n_wrong)
        return np.asarray(np.divide(hits, found, out=none, where=found > 0))

    return MislabelDetection(
        *(
            bootstrap.score(
                lambda of_wrong, of_clean, each=each: weighted_mean(
                    each(of_wrong, of_clean), of_wrong
                ),
                sizes,
                each(*map(np.ones, sizes)),
            )
            for each in (shares, precisions)
        )
    )


def _checked(
    scores: Any, mislabeled: Any, suspicious: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores, the more suspicious the higher, and the mask."""
    if suspicious not in ("high", "low"):
        raise ValueError(f'`suspicious` must be "high" or "low"; got {suspicious!r}.')
    values, wrong = np.asarray(scores, dtype=np.float64), np.asarray(mislabeled)
    if wrong.dtype != np.bool_:
        raise TypeError(f"`mislabeled` must be a mask of booleans; got {wrong.dtype}.")
    if values.ndim != 1 or values.shape != wrong.shape:
        raise ValueError(
            "`scores` and `mislabeled` must have one number each for every training sample, (n,); "
            f"got {values.shape} and {wrong.shape}."
        )
    if np.isnan(values).any():
        raise ValueError(f"Scores of samples {np.flatnonzero(np.isnan(values))[:10]} are NaN.")
    if wrong.all() or not wrong.any():
        raise ValueError("There must be both mislabeled and clean samples; got only one kind.")
    return (values if suspicious == "high" else -values), wrong
