"""Do attributions predict what comes out when a model is trained on other data?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from upweight.evaluation.attributions import Direction, fall_of_measurement
from upweight.evaluation.intervals import Bootstrap, Score, weighted_mean
from upweight.evaluation.ranks import Ranking, correlations
from upweight.evaluation.subsets import checked_indices, without

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from upweight.evaluation.retraining import Retrained


def linear_datamodeling_score(
    attributions: Any,
    retrained: Retrained,
    *,
    positive: Direction,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Score:
    r"""Rank subsets by the sum of attributions, and by what training on them gave.

    With the influences \(I\) of this library, a subset \(S\) is predicted to give a measurement that
    is lower by a multiple of \(\sum_{i \in S} I_i\). The score of a test sample is Spearman's
    correlation of \(-\sum_{i \in S} I_i\) with the measurement, mean over retrainings, over subsets;
    equal values have the mean of their ranks. It is 1 where the order of subsets is right, 0 for
    attributions that tell nothing, and below 0 where signs are wrong.

    Args:
        attributions: Of k test samples to n training samples, (k, n).
        retrained: What `retrain` gave on subsets of one size, as of `random_subsets`.
        positive: What more weight on a training sample of positive attribution does to the
            measurement: "lowers" it, as for influences of this library on a loss or on whatever
            other measurement is returned by `train`; or "raises" it, as for those on a loss where
            `train` returns a margin, and for TRAK's attributions of a margin.
        confidence: How often the interval is to hold the true mean.
        resamples: Number of bootstrap resamples, over test samples and subsets at once.
        seed: Of the resamples.

    Returns:
        The mean over test samples, its interval, and the correlation of each test sample, (k,).

    Raises:
        ValueError: shapes differ from those retrained, sizes of subsets differ, or attributions or
            measurements of a test sample are the same for all subsets, so that there is no order.

    References:
        Park, Georgiev, Ilyas, Leclerc and Madry, "TRAK: Attributing Model Behavior at Scale" (ICML
        2023), section 2, where the score is defined.
    """
    sizes = {len(subset) for subset in retrained.subsets}
    if len(sizes) != 1:
        raise ValueError(f"Subsets must be of one size; got {sorted(sizes)[:10]}.")
    bootstrap = Bootstrap(confidence, resamples, seed)
    return _score(attributions, retrained, positive, bootstrap, ranked=True)


def leave_one_out_correlation(
    attributions: Any,
    retrained: Retrained,
    *,
    positive: Direction,
    kind: Literal["pearson", "spearman"] = "pearson",
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Score:
    """Correlate attributions with what leaving single samples out did to the measurement.

    With the influences I of this library, leaving sample i out raises the measurement by about I / n.

    Args:
        attributions: Of k test samples to n training samples, (k, n).
        retrained: What `retrain` gave on `leave_one_out_subsets(n, samples)`.
        positive: As for `linear_datamodeling_score`.
        kind: Pearson's correlation, which asks for proportions and follows the largest changes, or
            Spearman's, which asks for the order.
        confidence: How often the interval is to hold the true mean.
        resamples: Number of bootstrap resamples, over test samples and samples left out at once.
        seed: Of the resamples.

    Returns:
        The mean over test samples, its interval, and the correlation of each test sample, (k,).

    Raises:
        ValueError: shapes differ from those retrained, more or less than one sample was left out, or
            attributions or measurements of a test sample do not vary.

    References:
        Koh and Liang, "Understanding Black-box Predictions via Influence Functions" (ICML 2017),
        section 4.1.
    """
    if kind not in ("pearson", "spearman"):
        raise ValueError(f'`kind` must be "pearson" or "spearman"; got {kind!r}.')
    n = np.shape(attributions)[-1] if np.ndim(attributions) else 0
    if any(len(subset) != n - 1 for subset in retrained.subsets):
        raise ValueError(
            f"Each subset must have all of the {n} samples but one; see `leave_one_out_subsets`."
        )
    bootstrap = Bootstrap(confidence, resamples, seed)
    return _score(attributions, retrained, positive, bootstrap, ranked=kind == "spearman")


def _score(
    attributions: Any,
    retrained: Retrained,
    positive: Direction,
    bootstrap: Bootstrap,
    *,
    ranked: bool,
) -> Score:
    fall = fall_of_measurement(attributions, positive)
    measured = retrained.outputs.mean(axis=1)
    if len(fall) != measured.shape[1]:
        raise ValueError(
            f"Attributions are of {len(fall)} test samples, and `train` returned "
            f"{measured.shape[1]} measurements."
        )
    predicted = _predicted(fall, retrained)
    for values, what in ((predicted, "sum of attributions"), (measured, "measurement")):
        _check_varies(values, what)
    # An order has to be found once; weights then give the ranks of any resample.
    a, b = (Ranking.of(values) for values in (predicted, measured))

    def of_samples(weights: NDArray[Any]) -> NDArray[np.float64]:
        if ranked:
            return correlations(a.ranks(weights), b.ranks(weights), weights)
        return correlations(predicted, measured, weights)

    def mean(subsets: NDArray[Any], samples: NDArray[Any]) -> float:
        return weighted_mean(of_samples(subsets), samples)

    count = len(predicted)
    return bootstrap.score(mean, measured.shape, of_samples(np.ones(count)))


def _predicted(fall: NDArray[np.float64], retrained: Retrained) -> NDArray[np.float64]:
    """Return by how much each subset raises the measurements, up to a constant, (subsets, k)."""
    n, rows = fall.shape[1], []
    for subset in retrained.subsets:
        kept = checked_indices(subset, n)
        removed = without(n, kept)
        # The two differ by the sum over all samples; the shorter one has less rounding.
        shorter = removed.size < kept.size
        rows.append(fall[:, removed].sum(axis=1) if shorter else -fall[:, kept].sum(axis=1))
    return np.stack(rows)


def _check_varies(values: NDArray[np.float64], what: str) -> None:
    same = np.flatnonzero(np.ptp(values, axis=0) == 0)
    if same.size:
        raise ValueError(
            f"The {what} is the same for all subsets for test samples {same.tolist()[:10]}, so that "
            "nothing can be correlated. Leave these test samples out, or measure something finer."
        )
