"""Influences do not depend on how samples fall into batches, chunks and groups, nor on who asks."""

import numpy as np
from calculators.dask_problems import calculator, computed, dask_batch
from calculators.problems import (
    MODES,
    TOLERANCE,
    NumpyIdentity,
    assert_close,
    batches,
    dense,
    fitted_model,
    joined,
    samples,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from upweight import SequentialInfluenceCalculator

N_TEST, N_TRAIN = 7, 20
INPUTS = {"vectors": (4,), "images": (2, 2, 1)}


def several_inputs(data):
    """Return the data with a second input, the ids of tokens, beside the first."""
    x, y = data
    return {"real": x, "tokens": np.arange(2 * len(y)).reshape(len(y), 2) % 5}, y


def problem(dtype, inputs):
    shape = INPUTS.get(inputs, (3,))
    data = samples(shape, n_test=N_TEST, n_train=N_TRAIN, dtype=dtype)
    test, train = map(several_inputs, data) if inputs == "mapping" else data
    if inputs == "images":
        flat = train[0].reshape(N_TRAIN, -1), train[1]
        return fitted_model(flat, dtype=dtype), test, train
    return fitted_model(train, dtype=dtype), test, train


PROBLEMS = {
    (dtype, inputs): problem(dtype, inputs)
    for dtype in TOLERANCE
    for inputs in (*INPUTS, "mapping")
}
EXPECTED = {(key, mode): dense(*PROBLEMS[key], mode) for key in PROBLEMS for mode in MODES}


def cuts(n):
    """Return a strategy of the sizes that n samples may be cut into."""
    return st.sets(st.integers(1, n - 1)).map(
        lambda ends: tuple(int(size) for size in np.diff([0, *sorted(ends), n]))
    )


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    st.sampled_from(list(PROBLEMS)),
    cuts(N_TEST),
    cuts(N_TRAIN),
    st.sampled_from(MODES),
    st.integers(1, 6000),
)
def test_both_calculators_and_one_dense_call_agree(kind, test_cut, train_cut, mode, max_memory):
    model, test, train = PROBLEMS[kind]
    expected = EXPECTED[kind, mode]
    calc = SequentialInfluenceCalculator(model, max_memory=max_memory, progress=False)
    lazy = calc.influences(batches(test, *test_cut), batches(train, *train_cut), mode)
    assert_close(joined(lazy), expected)
    assert_close(lazy.to_zarr(MemoryStore(), NumpyIdentity(), True)[...], expected)
    on_dask = calculator(model, max_memory=max_memory)
    chunked = dask_batch(test, test_cut), dask_batch(train, train_cut)
    assert_close(computed(on_dask.influences(*chunked[0], *chunked[1], mode)), expected)
