"""The influence of each sample on itself, through both calculators."""

import numpy as np
import pytest
from calculators.dask_problems import (
    assert_blocks_are_as_declared,
    calculator,
    computed,
    dask_batch,
)
from calculators.problems import assert_close, batches, dense, problem

from upweight import DataError, SequentialInfluenceCalculator, UnalignedChunksError

SPLITS = [(20,), (7, 13), (6, 6, 6, 2), (1,) * 20]


def diagonal(model, batch):
    return np.diag(dense(model, batch, batch))


@pytest.mark.parametrize("sizes", SPLITS)
def test_chunks_join_to_the_diagonal_of_the_matrix(sizes):
    model, _, train = problem()
    chunks = SequentialInfluenceCalculator(model).self_influences(batches(train, *sizes))
    assert_close(np.concatenate(chunks.compute()), diagonal(model, train))


@pytest.mark.parametrize("sizes", SPLITS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dask_blocks_join_to_the_diagonal_of_the_matrix(sizes, dtype):
    model, _, train = problem(dtype=dtype)
    values = calculator(model).self_influences(*dask_batch(train, sizes))
    assert_close(computed(values), diagonal(model, train))


def test_dask_declares_what_is_computed():
    model, _, train = problem(dtype="float32")
    values = calculator(model).self_influences(*dask_batch(train, (7, 13)))
    assert (values.shape, values.dtype, values.chunks) == ((20,), np.float32, ((7, 13),))
    assert_blocks_are_as_declared(values)


def test_data_that_can_be_read_only_once_is_refused():
    model, _, train = problem()
    with pytest.raises(DataError, match="once"):
        SequentialInfluenceCalculator(model).self_influences(iter([train]))


def test_chunks_that_do_not_align_are_refused():
    model, _, train = problem()
    x, _ = dask_batch(train, (10, 10))
    _, y = dask_batch(train, (5, 15))
    with pytest.raises(UnalignedChunksError):
        calculator(model).self_influences(x, y)
