"""How far a prediction changes when the training samples that matter most to it are removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from upweight.evaluation.attributions import Direction, fall_of_measurement
from upweight.evaluation.intervals import Bootstrap, Score, weighted_mean
from upweight.evaluation.retraining import Train, retrain
from upweight.evaluation.subsets import without

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Brittleness:
    """What removing training samples did to the measurement of each of k test samples.

    Attributes:
        change: Measurement after samples were removed, less that after training on all, mean over
            retrainings: positive where attributions are right and the push was "up", negative where it
            was "down".
        change_at_random: The same for as many samples drawn at random; the interval takes into
            account which were drawn.
        flipped: Share of the test samples whose measurement crossed the threshold; None without one.
        flipped_at_random: The same for samples drawn at random.
    """

    change: Score
    change_at_random: Score
    flipped: Score | None
    flipped_at_random: Score | None


def brittleness(
    attributions: Any,
    train: Train,
    *,
    positive: Direction,
    push: Literal["up", "down"],
    remove: int,
    draws: int = 10,
    threshold: float | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    **options: Any,
) -> Brittleness:
    """Remove, for each test sample, what should push its measurement furthest; train, and compare.

    Trains k + draws + 1 times, times `retrainings`: without the chosen samples of each test sample,
    without samples at random, and on everything.

    Args:
        attributions: Of k test samples to n training samples, (k, n). Of equal ones, the sample of
            the lower index is removed first.
        train: As for `retrain`; returns the measurements of the k test samples.
        positive: What more weight on a training sample of positive attribution does to the
            measurement, "lowers" or "raises"; as for `linear_datamodeling_score`.
        push: Which way removing samples is to push the measurement: "up" for a loss, "down" for a
            margin or for the probability of the label.
        remove: How many training samples to remove for each test sample.
        draws: How many sets of as many samples are drawn at random.
        threshold: Where the measurement has to cross for a prediction to count as flipped: 0 for a
            margin, for example.
        confidence: How often an interval is to hold the true mean.
        resamples: Number of bootstrap resamples.
        seed: Of the samples drawn at random, of the resamples, and the first seed of training.
        **options: Further options of `retrain`: retrainings, store, resume, overwrite, settings,
            map_jobs and progress.

    Raises:
        ValueError: shapes or options are wrong, found before any training; or `train` does not
            return k measurements.

    References:
        Ilyas, Park, Engstrom, Leclerc and Madry, "Datamodels: Predicting Predictions from Training
        Data" (ICML 2022), on removing the samples that a prediction depends on.
    """
    fall = fall_of_measurement(attributions, positive)
    k, n = fall.shape
    bootstrap = Bootstrap(confidence, resamples, seed)
    if not 0 < remove < n or draws < 1:
        raise ValueError(
            f"Of {n} training samples, at least one is removed and one kept, and at random at least "
            f"once; got remove={remove}, draws={draws}."
        )
    if push not in ("up", "down"):
        raise ValueError(f'`push` must be "up" or "down"; got {push!r}.')
    # More weight on a sample lowers the measurement by its influence, so removing it raises it.
    top = np.argsort(-fall if push == "up" else fall, axis=1, kind="stable")[:, :remove]
    generator = np.random.default_rng([seed, 1])  # others than those of the resamples
    drawn = [generator.choice(n, remove, replace=False) for _ in range(draws)]
    subsets = [np.arange(n), *(without(n, removed) for removed in [*top, *drawn])]
    outputs = retrain(_Checked(train, k), subsets, seed=seed, **options).outputs.mean(axis=1)
    before, after, at_random = outputs[0], np.diagonal(outputs[1 : k + 1]), outputs[k + 1 :]
    change = bootstrap.mean(after - before), _both_ways(at_random - before, bootstrap)
    if threshold is None:
        return Brittleness(*change, None, None)
    crossed, by_chance = ((some > threshold) != (before > threshold) for some in (after, at_random))
    flipped = bootstrap.mean(crossed * 1.0), _both_ways(by_chance * 1.0, bootstrap)
    return Brittleness(*change, *flipped)


@dataclass(frozen=True)
class _Checked:
    """A training that must return as many measurements as there are test samples."""

    train: Train
    k: int

    def __call__(self, indices: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
        measured = np.asarray(self.train(indices, seed), dtype=np.float64)
        if measured.shape != (self.k,):
            raise ValueError(
                f"`train` must return one measurement for each of the {self.k} test samples that "
                f"attributions are of; it returned the shape {measured.shape}."
            )
        return measured


def _both_ways(values: NDArray[np.float64], bootstrap: Bootstrap) -> Score:
    """Return the mean of (draws, k) values, when other draws and test samples could have come."""

    def mean(draws: NDArray[Any], samples: NDArray[Any]) -> float:
        return weighted_mean(draws @ values / draws.sum(), samples)

    return bootstrap.score(mean, values.shape, values.mean(axis=0))
