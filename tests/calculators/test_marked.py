"""Samples whose numbers are NaN or infinite are marked, and all others are as if these were not."""

import re

import numpy as np
import pytest
from calculators.dask_problems import calculator, computed, dask_batch
from calculators.problems import MODES, NumpyIdentity, batches, dense, problem
from dense_reductions import REDUCTIONS, cuts, expected
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from upweight import (
    DataError,
    NonFiniteError,
    NonFiniteWarning,
    SequentialInfluenceCalculator,
    TopK,
    open_result,
    reduce_influences,
)

N_TEST, N_TRAIN = 7, 20
MODEL, TEST, TRAIN = problem(n_test=N_TEST, n_train=N_TRAIN)
EXPECTED = {mode: dense(MODEL, TEST, TRAIN, mode) for mode in MODES}
OVER = ("training", "test")
marking = pytest.mark.filterwarnings("ignore::upweight.NonFiniteWarning")
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
some = st.sets(st.integers(0, 6), max_size=7)
several = st.sets(st.integers(0, 19), max_size=20)


def spoilt(data, samples):
    """Return the data with NaN or infinity in one number of each of the samples."""
    x = data[0].copy()
    for sample in samples:
        x[sample, sample % x.shape[1]] = np.nan if sample % 2 else np.inf
    return x, data[1]


def marked(values, test, train):
    values = values.copy()
    values[sorted(test)] = np.nan
    values[:, sorted(train)] = np.nan
    return values


def sequential(test, train, mode="up", sizes=((3,), (6,)), *, nan_policy="propagate", **options):
    calc = SequentialInfluenceCalculator(MODEL, progress=False, nan_policy=nan_policy, **options)
    cut = batches(spoilt(TEST, test), *sizes[0]), batches(spoilt(TRAIN, train), *sizes[1])
    return calc.influences(*cut, mode)


def on_dask(test, train, mode="up", chunks=((3, 3, 1), (8, 8, 4)), *, nan_policy="propagate"):
    calc = calculator(MODEL, nan_policy=nan_policy)
    cut = (
        *dask_batch(spoilt(TEST, test), chunks[0]),
        *dask_batch(spoilt(TRAIN, train), chunks[1]),
    )
    return calc.influences(*cut, mode)


@marking
@settings(max_examples=60, deadline=None, derandomize=True)
@given(some, several, cuts(N_TEST), cuts(N_TRAIN), st.sampled_from(MODES), st.integers(1, 6000))
def test_marked_samples_are_nan_and_the_others_as_before(
    test, train, test_sizes, train_sizes, mode, max_memory
):
    sizes = test_sizes, train_sizes
    wanted = marked(EXPECTED[mode], test, train)
    rows = sequential(test, train, mode, sizes, max_memory=max_memory).compute()
    values = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    np.testing.assert_allclose(values, wanted, rtol=1e-10, atol=1e-12)
    there = computed(on_dask(test, train, mode, sizes))
    np.testing.assert_allclose(there, wanted, rtol=1e-10, atol=1e-12)


@marking
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    some,
    st.sets(st.integers(0, 19), max_size=19),
    cuts(N_TRAIN),
    st.sampled_from(list(REDUCTIONS)),
    st.integers(1, 5),
    st.sampled_from(OVER),
)
def test_reductions_leave_out_marked_samples(test, train, chunks, name, k, over):
    reduced, rows = (train, sorted(test)) if over == "training" else (test, sorted(train))
    left = np.array(sorted({*range(N_TRAIN if over == "training" else N_TEST)} - reduced))
    if not len(left) or len(rows) == (N_TEST if over == "training" else N_TRAIN):
        return
    matrix = EXPECTED["up"] if over == "training" else EXPECTED["up"].T
    wanted = expected(name, matrix[:, left], k=k, over="training")
    lazy = sequential(test, train, sizes=((3,), chunks))
    results = [
        lazy.reduce(REDUCTIONS[name][0](k), NumpyIdentity(), over=over, nan_policy="omit"),
        reduce_influences(
            on_dask(test, train, chunks=((3, 3, 1), chunks)),
            REDUCTIONS[name][0](k),
            over=over,
            nan_policy="omit",
        ).compute(scheduler="synchronous"),
    ]
    for result in results:
        arrays = result if isinstance(result, tuple) else (result,)
        for array, values in zip(arrays, wanted, strict=True):
            positions = array.dtype == np.int64
            right = left[values] if positions else values.astype(array.dtype)
            right[rows] = -1 if positions else np.nan
            np.testing.assert_allclose(array, right, rtol=1e-9, atol=1e-12)


@marking
def test_factors_and_self_influences_are_marked():
    x, y = spoilt(TRAIN, {4, 19})
    for make, dense_values in (
        ("influence_factors", MODEL.influence_factors(*TRAIN)),
        ("self_influences", MODEL.self_influences(*TRAIN)),
    ):
        wanted = dense_values.copy()
        wanted[[4, 19]] = np.nan
        calc = SequentialInfluenceCalculator(MODEL, progress=False, nan_policy="propagate")
        chunks = getattr(calc, make)(batches((x, y), 6)).compute()
        np.testing.assert_allclose(np.concatenate(chunks), wanted, rtol=1e-10)
        lazy = getattr(calculator(MODEL, nan_policy="propagate"), make)(*dask_batch((x, y), 6))
        np.testing.assert_allclose(computed(lazy), wanted, rtol=1e-10)


@marking
def test_stored_factors_that_are_marked_mark_influences():
    factors = MODEL.influence_factors(*TEST)
    factors[2] = np.nan
    calc = SequentialInfluenceCalculator(MODEL, progress=False, nan_policy="propagate")
    values = calc.influences_from_factors([factors], batches(TRAIN, 6)).compute()[0]
    wanted = marked(EXPECTED["up"], {2}, ())
    np.testing.assert_allclose(np.concatenate(values, axis=1), wanted, rtol=1e-10, atol=1e-12)


def test_marked_samples_are_told_of():
    with pytest.warns(NonFiniteWarning, match=re.escape("Samples [3] of a batch have NaN")):
        sequential((), {9}).compute()


@marking
def test_a_run_that_stopped_is_resumed_with_marks():
    store = MemoryStore()
    with pytest.raises(NonFiniteError, match=r"\[3\]"):
        sequential((), {9}, nan_policy="raise").to_zarr(store, NumpyIdentity())
    wanted = marked(EXPECTED["up"], (), {9})
    before = open_result(store, incomplete=True)[:7, :6]
    np.testing.assert_allclose(before, wanted[:, :6], rtol=1e-10)
    sequential((), {9}).to_zarr(store, NumpyIdentity(), resume=True)
    np.testing.assert_allclose(open_result(store)[:], wanted, rtol=1e-10, atol=1e-12)


@marking
@pytest.mark.parametrize("bad", [{0}, {3}, set(range(6))])
def test_what_begins_with_marked_samples_is_resumed(bad):
    store = MemoryStore()
    for _ in range(2):
        sequential((), bad).to_zarr(store, NumpyIdentity(), resume=True)
    wanted = marked(EXPECTED["up"], (), bad)
    np.testing.assert_allclose(open_result(store)[:], wanted, rtol=1e-10, atol=1e-12)


def test_a_chunk_on_dask_is_named():
    with pytest.raises(NonFiniteError, match=r"\[1\]") as caught:
        computed(on_dask((), {9}, nan_policy="raise"))
    assert any("chunk 1 of the training data" in note for note in caught.value.__notes__)
    with pytest.raises(NonFiniteError, match=r"\[0\]") as caught:
        computed(on_dask({6}, (), nan_policy="raise"))
    assert any("chunk 2 of the given or test data" in note for note in caught.value.__notes__)


@marking
def test_marked_samples_are_not_reduced_unasked():
    with pytest.raises(NonFiniteError, match="nan_policy='omit'"):
        sequential((), {9}).reduce(TopK(3), NumpyIdentity())


@marking
def test_nothing_is_left_to_reduce():
    with pytest.raises(DataError, match="nothing left"):
        sequential((), set(range(20))).reduce(TopK(3), NumpyIdentity(), nan_policy="omit")


@pytest.mark.parametrize("place", [(0, 0), (5, 19)])
def test_numbers_that_were_not_marked_are_not_left_out(place):
    import dask.array as da

    matrix = EXPECTED["up"].copy()
    matrix[place] = np.nan
    for chunks in ((7, 20), (7, 5), (2, 1)):
        lazy = reduce_influences(da.from_array(matrix, chunks=chunks), TopK(3), nan_policy="omit")
        with pytest.raises(NonFiniteError, match="not marked"):
            lazy.compute(scheduler="synchronous")


def test_other_policies_are_refused():
    with pytest.raises(ValueError, match="'raise' or 'propagate'; got 'omit'"):
        SequentialInfluenceCalculator(MODEL, nan_policy="omit")
    with pytest.raises(ValueError, match="'raise' or 'propagate'; got 'mark'"):
        calculator(MODEL, nan_policy="mark")
    with pytest.raises(ValueError, match="'raise' or 'omit'; got 'propagate'"):
        sequential((), ()).reduce(TopK(3), NumpyIdentity(), nan_policy="propagate")
