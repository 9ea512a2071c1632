"""Influences do not depend on how samples fall into batches, chunks and groups, nor on who asks."""

import numpy as np
from calculators.dask_problems import calculator, computed, dask_batch
from calculators.problems import MODES, assert_close, batches, dense, joined, problem
from hypothesis import given, settings
from hypothesis import strategies as st

from upweight import SequentialInfluenceCalculator

N_TEST, N_TRAIN = 7, 20
MODEL, TEST, TRAIN = problem(n_test=N_TEST, n_train=N_TRAIN)
EXPECTED = {mode: dense(MODEL, TEST, TRAIN, mode) for mode in MODES}


def cuts(n):
    """Return a strategy of the sizes that n samples may be cut into."""
    return st.sets(st.integers(1, n - 1)).map(
        lambda ends: tuple(int(size) for size in np.diff([0, *sorted(ends), n]))
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cuts(N_TEST), cuts(N_TRAIN), st.sampled_from(MODES), st.integers(1, 6000))
def test_sequential_influences_are_those_of_one_call(test_sizes, train_sizes, mode, max_memory):
    calc = SequentialInfluenceCalculator(MODEL, max_memory=max_memory, progress=False)
    lazy = calc.influences(batches(TEST, *test_sizes), batches(TRAIN, *train_sizes), mode)
    assert_close(joined(lazy), EXPECTED[mode])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cuts(N_TEST), cuts(N_TRAIN), st.sampled_from(MODES), st.integers(1, 1000))
def test_dask_influences_are_those_of_one_call(test_chunks, train_chunks, mode, max_memory):
    calc = calculator(MODEL, max_memory=max_memory)
    lazy = calc.influences(*dask_batch(TEST, test_chunks), *dask_batch(TRAIN, train_chunks), mode)
    assert_close(computed(lazy), EXPECTED[mode])
