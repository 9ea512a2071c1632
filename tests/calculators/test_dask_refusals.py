"""What the Dask calculator refuses while the graph is built."""

import dask.array as da
import numpy as np
import pytest
from calculators.dask_problems import calculator, dask_batch
from calculators.problems import NumpyIdentity, fitted_model, problem, samples
from reference import softmax_problem

from upweight import (
    BatchError,
    DaskInfluenceCalculator,
    InvalidDimensionChunksError,
    NotFittedError,
    UnalignedChunksError,
    UnsupportedInfluenceModeError,
)
from upweight.models import DirectInfluence

METHODS = ["factors", "test", "train", "given factors"]


@pytest.fixture
def ask():
    """Return a function that passes a batch to the calculator, as the named argument."""
    model, test, train = problem()
    calc = calculator(model)
    test, train = dask_batch(test, 3), dask_batch(train, 6)

    def ask(x, y, where):
        if where == "factors":
            return calc.influence_factors(x, y)
        if where == "test":
            return calc.influences(x, y, *train)
        if where == "train":
            return calc.influences(*test, x, y)
        return calc.influences_from_factors(calc.influence_factors(*test), x, y)

    return ask


@pytest.mark.parametrize("where", METHODS)
def test_arrays_chunked_differently_along_the_samples_are_refused(ask, where):
    x, y = da.zeros((12, 4), chunks=(4, 4)), da.zeros(12, chunks=3, dtype=int)
    with pytest.raises(UnalignedChunksError, match=r"\(4, 4, 4\) and \(3, 3, 3, 3\)"):
        ask(x, y, where)


@pytest.mark.parametrize("where", METHODS)
def test_arrays_of_different_lengths_are_refused(ask, where):
    x, y = da.zeros((12, 4), chunks=(4, 4)), da.zeros(8, chunks=4, dtype=int)
    with pytest.raises(UnalignedChunksError, match=r"\(4, 4, 4\) and \(4, 4\)"):
        ask(x, y, where)


@pytest.mark.parametrize("where", METHODS)
def test_inputs_chunked_along_another_axis_are_refused(ask, where):
    x, y = da.zeros((12, 4), chunks=(4, 2)), da.zeros(12, chunks=4, dtype=int)
    with pytest.raises(InvalidDimensionChunksError, match="rechunk"):
        ask(x, y, where)


@pytest.mark.parametrize("where", METHODS)
def test_labels_chunked_along_another_axis_are_refused(ask, where):
    x, y = da.zeros((12, 4), chunks=(4, 4)), da.zeros((12, 2), chunks=(4, 1), dtype=int)
    with pytest.raises(InvalidDimensionChunksError, match="rechunk"):
        ask(x, y, where)


@pytest.mark.parametrize("where", METHODS)
def test_chunks_of_unknown_size_are_refused(ask, where):
    x, y = da.zeros((12, 4), chunks=(4, 4)), da.zeros(12, chunks=4, dtype=int)
    with pytest.raises(InvalidDimensionChunksError, match="compute_chunk_sizes"):
        ask(x[y == 0], y[y == 0], where)


@pytest.mark.parametrize("where", METHODS)
def test_arrays_that_are_not_of_dask_are_refused(ask, where):
    with pytest.raises(TypeError, match="Dask arrays; got 'ndarray'"):
        ask(np.zeros((12, 4)), np.zeros(12, dtype=int), where)


@pytest.mark.parametrize("where", METHODS)
def test_arrays_without_samples_are_refused(ask, where):
    with pytest.raises(BatchError, match=r"\(0, 4\)"):
        ask(da.zeros((0, 4)), da.zeros(0, dtype=int), where)


def test_one_input_of_several_chunked_differently_is_refused(ask):
    x = {"ids": da.zeros((12, 4), chunks=(4, 4)), "mask": da.zeros((12, 4), chunks=(6, 4))}
    with pytest.raises(UnalignedChunksError):
        ask(x, da.zeros(12, chunks=4, dtype=int), "factors")


@pytest.mark.parametrize("given", ["x", "y"])
def test_only_one_of_inputs_and_labels_is_refused(given):
    model, test, train = problem()
    x, y = dask_batch(train, 6)
    with pytest.raises(ValueError, match=f"only `{given}`"):
        calculator(model).influences(*dask_batch(test, 3), **{given: {"x": x, "y": y}[given]})


@pytest.mark.parametrize("width", [14, 16])
def test_factors_of_another_width_are_refused(width):
    model, _, train = problem()
    with pytest.raises(BatchError, match=r"\(k, 15\)"):
        calculator(model).influences_from_factors(da.zeros((5, width)), *dask_batch(train, 6))


def test_factors_chunked_along_the_parameters_are_refused():
    model, _, train = problem()
    factors = da.zeros((5, 15), chunks=(5, 5))
    with pytest.raises(InvalidDimensionChunksError, match="rechunk"):
        calculator(model).influences_from_factors(factors, *dask_batch(train, 6))


def test_factors_that_are_no_dask_array_are_refused():
    model, _, train = problem()
    with pytest.raises(TypeError, match="z_test_factors"):
        calculator(model).influences_from_factors(np.zeros((5, 15)), *dask_batch(train, 6))


@pytest.mark.parametrize("mode", ["UP", "perturb", None])
def test_an_unknown_mode_is_refused(mode):
    model, test, train = problem()
    with pytest.raises(UnsupportedInfluenceModeError, match="perturbation"):
        calculator(model).influences(*dask_batch(test, 3), *dask_batch(train, 6), mode)


def test_perturbing_token_ids_is_refused():
    test, train = samples((4,), n_test=4, n_train=9, dtype="int64")
    model = fitted_model(train)
    with pytest.raises(UnsupportedInfluenceModeError, match="int64"):
        calculator(model).influences(*dask_batch(test, 2), *dask_batch(train, 3), "perturbation")


@pytest.mark.parametrize("client", [None, "tcp://scheduler", object()])
def test_a_client_that_is_none_is_refused(client):
    model, _, _ = problem()
    with pytest.raises(TypeError, match="DisableClientSingleThreadCheck"):
        DaskInfluenceCalculator(model, NumpyIdentity(), client)


def test_a_model_that_is_not_fitted_is_refused():
    objective, _ = softmax_problem()
    with pytest.raises(NotFittedError, match="fit"):
        calculator(DirectInfluence(objective))


@pytest.mark.parametrize("max_memory", [0, -1, "0 B", "many"])
def test_memory_that_is_no_positive_size_is_refused(max_memory):
    model, _, _ = problem()
    with pytest.raises(ValueError, match=r"max_memory|byte unit"):
        calculator(model, max_memory=max_memory)
