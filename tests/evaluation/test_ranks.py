"""Ranks and correlations are those of the textbook, and weights mean repetition."""

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from upweight.evaluation.ranks import Ranking, correlations


def column(*values):
    return np.array(values, dtype=float)[:, None]


def test_equal_values_share_the_mean_of_their_ranks():
    ranks = Ranking.of(column(3, 1, 3, 2, 3)).ranks(np.ones(5))
    assert ranks[:, 0].tolist() == [4, 1, 4, 2, 4]


@pytest.mark.parametrize("levels", [1, 2, 4, 1000])
def test_ranks_are_those_of_scipy(levels):
    values = np.random.default_rng(levels).integers(levels, size=(30, 4)).astype(float)
    assert np.array_equal(Ranking.of(values).ranks(np.ones(30)), rankdata(values, axis=0))


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_weights_count_rows_so_many_times(levels):
    generator = np.random.default_rng(levels)
    values = generator.integers(levels, size=(20, 3)).astype(float)
    weights = generator.integers(4, size=20)
    repeated = np.repeat(values, weights, axis=0)
    ranks = np.repeat(Ranking.of(values).ranks(weights), weights, axis=0)
    assert np.array_equal(ranks, rankdata(repeated, axis=0))


def test_correlations_of_ranks_are_those_of_scipy():
    generator = np.random.default_rng(0)
    a, b = generator.integers(5, size=(2, 25, 3)).astype(float)
    ones = np.ones(25)
    found = correlations(Ranking.of(a).ranks(ones), Ranking.of(b).ranks(ones), ones)
    expected = [spearmanr(a[:, i], b[:, i]).statistic for i in range(3)]
    assert np.allclose(found, expected, atol=1e-14)


def test_a_constant_column_has_no_correlation():
    found = correlations(column(1, 2, 3, 4), column(7, 0.1, 0.1, 0.1), np.array([0, 2, 1, 3]))
    assert np.isnan(found).all()
