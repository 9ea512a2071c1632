"""Subsets are of the size asked for, without repetition, and the same for the same seed."""

import numpy as np
import pytest

from upweight.evaluation import leave_one_out_subsets, random_subsets


def test_subsets_have_the_size_asked_for_and_each_sample_once():
    subsets = random_subsets(21, count=7, fraction=0.3, seed=3)
    assert subsets.shape == (7, 6)
    assert (np.diff(subsets, axis=1) > 0).all()
    assert subsets.min() >= 0
    assert subsets.max() < 21


def test_every_sample_is_drawn_about_equally_often():
    counts = np.bincount(random_subsets(10, count=2000).ravel())
    assert np.abs(counts - 1000).max() < 100


def test_a_seed_decides_the_subsets():
    first, again, other = (random_subsets(30, count=3, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_each_sample_is_left_out_in_turn():
    assert leave_one_out_subsets(3).tolist() == [[1, 2], [0, 2], [0, 1]]
    assert leave_one_out_subsets(4, [2, 0]).tolist() == [[0, 1, 3], [1, 2, 3]]


@pytest.mark.parametrize("options", [{"fraction": 0}, {"fraction": 1}, {"count": 0}])
def test_subsets_of_nothing_are_refused(options):
    with pytest.raises(ValueError, match=r"leave some|at least 1"):
        random_subsets(10, **options)


def test_only_samples_that_are_there_can_be_left_out():
    with pytest.raises(IndexError, match="0 to 3"):
        leave_one_out_subsets(4, [4])
    with pytest.raises(ValueError, match="at least two"):
        leave_one_out_subsets(1)
