"""Chunks that are far too small or far too large are told of, with a size that is neither."""

import re
import warnings

import dask.array as da
import numpy as np
import pytest
from calculators.dask_problems import calculator
from calculators.problems import problem

from upweight import ChunkSizeWarning

MODEL, _, _ = problem()


def lazily(n_test, test_chunk, n_train, train_chunk, *, max_memory=2**28, mode="up"):
    def data(n, chunk):
        return da.zeros((n, 4), chunks=(chunk, 4)), da.zeros(n, chunks=chunk, dtype=int)

    calc = calculator(MODEL, max_memory=max_memory)
    return calc.influences(*data(n_test, test_chunk), *data(n_train, train_chunk), mode)


def advised(message):
    return int(re.search(r"x\.rechunk\(\{0: (\d+)\}\)", message)[1])


def test_too_many_tasks():
    with pytest.warns(
        ChunkSizeWarning, match="larger `max_memory`, or chunks of more than 5 "
    ) as told:
        lazily(100, 1, 10_000, 5, max_memory=1)
    assert told[0].filename == __file__
    size = advised(str(told[0].message))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lazily(100, 1, 10_000, size, max_memory=1)


@pytest.mark.parametrize("mode", ["up", "perturbation"])
def test_too_large_blocks(mode):
    with pytest.warns(ChunkSizeWarning, match="smaller chunks") as told:
        lazily(20_000, 20_000, 10**6, 10**6, mode=mode)
    size = advised(str(told[0].message))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.prod(lazily(20_000, 20_000, 10**6, size, mode=mode).chunksize) * 8 > 2**26


def test_too_large_inputs():
    with pytest.warns(ChunkSizeWarning, match="smaller chunks"):
        lazily(1, 1, 10**8, 10**8)


def test_ordinary_chunks_are_not_told_of():
    lazily(10_000, 100, 10_000, 100)
