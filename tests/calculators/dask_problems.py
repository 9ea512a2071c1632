"""Dask arrays of the small problems, and what they must declare."""

import dask
import dask.array as da
import numpy as np
from calculators.problems import NumpyIdentity

from upweight import DaskInfluenceCalculator, DisableClientSingleThreadCheck


def dask_batch(batch, chunks):
    """Return a batch as Dask arrays, chunked along the samples only."""
    x, y = batch
    if isinstance(x, dict):
        return {name: dask_array(leaf, chunks) for name, leaf in x.items()}, dask_array(y, chunks)
    if isinstance(x, tuple):
        return tuple(dask_array(leaf, chunks) for leaf in x), dask_array(y, chunks)
    return dask_array(x, chunks), dask_array(y, chunks)


def dask_array(array, chunks):
    return da.from_array(array, chunks=(chunks, *array.shape[1:]))


def calculator(model, client=DisableClientSingleThreadCheck, **options):
    return DaskInfluenceCalculator(model, NumpyIdentity(), client, **options)


def computed(array):
    """Return the values, computed in this thread."""
    return array.compute(scheduler="synchronous")


def assert_blocks_are_as_declared(array):
    """Compare type and shape of each block that is computed with those declared to Dask."""
    blocks = np.empty(array.numblocks, dtype=object)
    keys = list(np.ndindex(array.numblocks))
    computed = dask.compute(*(array.blocks[key] for key in keys), scheduler="synchronous")
    for key, values in zip(keys, computed, strict=True):
        blocks[key] = (values.dtype, values.shape)
    declared = np.empty(array.numblocks, dtype=object)
    for key in keys:
        sizes = tuple(c[i] for c, i in zip(array.chunks, key, strict=True))
        declared[key] = (array.dtype, sizes)
    assert (blocks == declared).all()
    assert array._meta.dtype == array.dtype
    assert array._meta.ndim == array.ndim
