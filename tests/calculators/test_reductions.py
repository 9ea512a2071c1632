"""Both calculators reduce influences to what the matrix of one dense call is reduced to."""

import tracemalloc

import numpy as np
import pytest
from calculators.dask_problems import calculator, dask_batch
from calculators.problems import (
    MODES,
    TOLERANCE,
    NumpyIdentity,
    batches,
    dense,
    forget,
    problem,
    samples,
)
from dense_reductions import REDUCTIONS, cuts, expected
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import softmax_problem

from upweight import Mean, SequentialInfluenceCalculator, TopK, reduce_influences
from upweight.models import DirectInfluence

N_TEST, N_TRAIN = 7, 20
OVER = ("training", "test")
PROBLEMS = {dtype: problem(n_test=N_TEST, n_train=N_TRAIN, dtype=dtype) for dtype in TOLERANCE}
DENSE = {(dtype, mode): dense(*PROBLEMS[dtype], mode) for dtype in TOLERANCE for mode in MODES}


def assert_close(result, desired, dtype):
    """Compare indices exactly and values to the rounding of the influences themselves."""
    arrays = result if isinstance(result, tuple) else (result,)
    for array, wanted in zip(arrays, desired, strict=True):
        tolerance = 0 if array.dtype == np.int64 else 20 * TOLERANCE[dtype]
        assert array.shape == wanted.shape
        np.testing.assert_allclose(
            array, wanted.astype(array.dtype), rtol=tolerance, atol=tolerance
        )


draws = given(
    cuts(N_TEST),
    cuts(N_TRAIN),
    st.sampled_from(list(REDUCTIONS)),
    st.integers(1, 25),
    st.sampled_from(OVER),
    st.sampled_from(MODES),
    st.sampled_from(list(TOLERANCE)),
    st.integers(1, 2000),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@draws
def test_sequential_reductions_are_those_of_one_call(
    test_sizes, train_sizes, name, k, over, mode, dtype, max_memory
):
    model, test, train = PROBLEMS[dtype]
    calc = SequentialInfluenceCalculator(model, max_memory=max_memory, progress=False)
    lazy = calc.influences(batches(test, *test_sizes), batches(train, *train_sizes), mode)
    result = lazy.reduce(REDUCTIONS[name][0](k), NumpyIdentity(), over=over)
    assert_close(result, expected(name, DENSE[dtype, mode], k=k, over=over), dtype)


@settings(max_examples=100, deadline=None, derandomize=True)
@draws
def test_dask_reductions_are_those_of_one_call(
    test_chunks, train_chunks, name, k, over, mode, dtype, max_memory
):
    model, test, train = PROBLEMS[dtype]
    lazy = calculator(model, max_memory=max_memory).influences(
        *dask_batch(test, test_chunks), *dask_batch(train, train_chunks), mode
    )
    reduced = reduce_influences(lazy, REDUCTIONS[name][0](k), over=over)
    result = reduced.compute(scheduler="synchronous")
    assert_close(result, expected(name, DENSE[dtype, mode], k=k, over=over), dtype)


def test_influences_from_factors_are_reduced_too():
    model, test, train = PROBLEMS["float64"]
    calc = SequentialInfluenceCalculator(model, progress=False)
    factors = calc.influence_factors(batches(test, 3)).compute()
    result = calc.influences_from_factors(factors, batches(train, 6)).reduce(
        TopK(4), NumpyIdentity()
    )
    assert_close(result, expected("TopK", DENSE["float64", "up"], k=4), "float64")


# A test sample takes 8 bytes for each of its 15 factors, and for each result of one batch of 7.
@pytest.mark.parametrize(("mode", "row_bytes"), [("up", 8 * (15 + 7)), ("perturbation", 8 * 43)])
@pytest.mark.parametrize("rows", [1, 4, 6])
@pytest.mark.parametrize("consume", ["reduce", "to_zarr"])
def test_a_group_need_not_hold_more_than_a_column_of_results(
    mode, row_bytes, rows, consume, tmp_path
):
    model, test, train = problem()
    calc = SequentialInfluenceCalculator(model, max_memory=rows * row_bytes, progress=False)
    lazy = calc.influences(batches(test, 2), batches(train, 7), mode)
    forget(model)
    if consume == "reduce":
        lazy.reduce(Mean(), NumpyIdentity())
    else:
        lazy.to_zarr(tmp_path / "influences.zarr", NumpyIdentity())
    groups = [call[1] for call in model.calls if call[0] == "influences"][::3]
    assert groups == {1: [2, 2, 2, 1], 4: [4, 3], 6: [6, 1]}[rows]


class Generated:
    """Training batches that are made when they are read, so that they take no memory."""

    def __init__(self, count, size):
        self.count, self.size = count, size

    def __len__(self):
        return self.count

    def __iter__(self):
        for seed in range(self.count):
            yield samples((4,), n_test=1, n_train=self.size, seed=seed)[1]


def peak(model, test, count):
    """Return the bytes taken at most while influences of many training batches are reduced."""
    calc = SequentialInfluenceCalculator(model, progress=False)
    lazy = calc.influences(batches(test, 100), Generated(count, 500))
    tracemalloc.start()
    lazy.reduce(TopK(10), NumpyIdentity())
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return used


def test_memory_does_not_grow_with_the_number_of_training_samples():
    test, train = samples((4,), n_test=300, n_train=50)
    objective, _ = softmax_problem(n=1, d=4)  # a tallied one remembers every sample
    model = DirectInfluence(objective, regularization=0.1).fit([train], progress=False)
    peak(model, test, 1)  # for imports and caches
    few, many = (peak(model, test, count) for count in (10, 100))
    assert many < 1.1 * few
    assert few < 6 * 8 * 300 * 500  # a few blocks at most
