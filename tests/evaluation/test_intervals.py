"""Intervals hold the truth about as often as they say, and come out the same again."""

import numpy as np
import pytest

from upweight.evaluation import Retrained, linear_datamodeling_score
from upweight.evaluation.intervals import Bootstrap


def test_intervals_of_means_hold_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held = 0
    for seed in range(300):
        score = Bootstrap(0.9, 200, seed).mean(generator.exponential(size=60))
        held += score.low <= 1 <= score.high
    assert 0.83 <= held / 300 <= 0.95


def test_intervals_of_the_datamodeling_score_hold_the_truth_not_too_rarely():
    # With one influence for each subset, sums are normal, and so are the outputs: the expected
    # correlation of ranks is 6/π arcsin of half of `rho` (Pearson, 1907).
    generator = np.random.default_rng(1)
    count, k, rho = 40, 12, 0.6
    truth = 6 / np.pi * np.arcsin(rho / 2)
    subsets = [np.array([i]) for i in range(count)]
    held = 0
    for seed in range(100):
        influences = generator.normal(size=(k, count))
        noise = generator.normal(size=(count, 1, k))
        outputs = -rho * influences.T[:, None] + np.sqrt(1 - rho**2) * noise
        score = linear_datamodeling_score(
            influences, Retrained(subsets, outputs), positive="lowers", resamples=100, seed=seed
        )
        held += score.low <= truth <= score.high
    assert held >= 90


def test_the_same_seed_gives_the_same_interval_and_another_another():
    values = np.random.default_rng(0).normal(size=50)
    first, again, other = (Bootstrap(0.95, 100, seed).mean(values)[:3] for seed in (0, 0, 1))
    assert first == again != other


def test_a_single_sample_has_an_interval_without_width():
    score = Bootstrap(0.95, 20, 0).mean(np.array([2.5]))
    assert score[:3] == (2.5, 2.5, 2.5)


@pytest.mark.parametrize("options", [(0, 10, 0), (1, 10, 0), (0.9, 0, 0)])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must"):
        Bootstrap(*options)
