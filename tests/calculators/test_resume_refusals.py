"""A run that broke off is not continued with anything else than it was begun with."""

import numpy as np
import pytest
import zarr
from calculators.problems import NumpyIdentity, batches, problem
from calculators.stored_runs import KINDS, begun, influences, tiny
from zarr.storage import MemoryStore

from upweight import DataError, LazyChunkSequence, ResumeError, SequentialInfluenceCalculator
from upweight.models import DirectInfluence


def test_another_regularization_is_refused():
    store = begun(influences)
    model, test, train = problem()
    other = model.with_regularization(0.1 + 1e-9)
    with pytest.raises(ResumeError, match=r"regularization = \{'full': 0.1\}"):
        influences(other, test, train).to_zarr(store, NumpyIdentity(), resume=True)


def test_other_parameters_are_refused():
    store = begun(influences)
    model, test, train = problem()
    model._objective.weight[0, 0] += 1e-4
    with pytest.raises(ResumeError, match="come out differently"):
        influences(model, test, train).to_zarr(store, NumpyIdentity(), resume=True)


def test_another_fit_is_refused():
    store = begun(influences)
    model, test, train = problem()
    model.fit([train, test], progress=False)
    with pytest.raises(ResumeError, match="come out differently"):
        influences(model, test, train).to_zarr(store, NumpyIdentity(), resume=True)


def test_another_method_is_refused():
    store = begun(influences)
    model, test, train = problem()
    other = DirectInfluence(model._objective, regularization=0.1).fit([train], progress=False)
    with pytest.raises(ResumeError, match=r"method = 'TalliedInfluence'.*'DirectInfluence'"):
        influences(other, test, train).to_zarr(store, NumpyIdentity(), resume=True)


def test_another_mode_is_refused():
    store = begun(influences)
    with pytest.raises(ResumeError, match="mode = 'up'"):
        KINDS["perturbations"](*problem()).to_zarr(store, NumpyIdentity(), resume=True)


def test_another_memory_is_refused_because_it_makes_other_groups():
    store = begun(influences)
    with pytest.raises(ResumeError, match="max_memory"):
        tiny(influences)(*problem()).to_zarr(store, NumpyIdentity(), resume=True)


def changed(data, *, sample):
    x, y = data
    x = x.copy()
    x[sample, 0] += 1e-3
    return x, y


@pytest.mark.parametrize(("sample", "batch"), [(0, 0), (13, 1), (19, 2)])
def test_other_training_data_is_refused_by_the_batch_that_differs(sample, batch):
    store = begun(tiny(influences), after=4)  # into the second group
    model, test, train = problem()
    other = changed(train, sample=sample)
    with pytest.raises(DataError, match=rf"Batch {batch} of the training data .* stored result"):
        tiny(influences)(model, test, other).to_zarr(store, NumpyIdentity(), resume=True)


@pytest.mark.parametrize(("sample", "batch"), [(0, 0), (3, 1)])
def test_other_test_data_is_refused_by_the_batch_that_differs(sample, batch):
    store = begun(tiny(influences), after=4)
    model, test, train = problem()
    other = changed(test, sample=sample)
    with pytest.raises(DataError, match=rf"Batch {batch} of the test data .* stored result"):
        tiny(influences)(model, other, train).to_zarr(store, NumpyIdentity(), resume=True)


def test_more_training_data_is_refused():
    store = begun(tiny(influences), after=4)
    model, test, train = problem()
    more = tuple(np.concatenate([part, part]) for part in train)
    with pytest.raises(DataError, match=r"training data"):
        tiny(influences)(model, test, more).to_zarr(store, NumpyIdentity(), resume=True)


def test_less_training_data_is_refused():
    store = begun(tiny(influences), after=4)
    model, test, train = problem()
    less = tuple(part[:14] for part in train)
    with pytest.raises(DataError, match="held at least 3 batches before and 2 now"):
        tiny(influences)(model, test, less).to_zarr(store, NumpyIdentity(), resume=True)


@pytest.mark.parametrize("kind", [influences, tiny(influences)])
def test_batches_of_several_sizes_are_stored_and_cannot_be_resumed(kind):
    model, test, train = problem()
    calc = SequentialInfluenceCalculator(model, progress=False)
    lazy = calc.influences(batches(test, 2), batches(train, 3, 7))
    store = MemoryStore()
    stored = lazy.to_zarr(store, NumpyIdentity(), return_stored=True)
    assert np.allclose(stored[...], model.influences(*test, *train))
    with pytest.raises(FileExistsError, match="batches of several sizes"):
        lazy.to_zarr(store, NumpyIdentity(), resume=True)


def test_to_resume_and_to_overwrite_is_too_much():
    with pytest.raises(ValueError, match="one of the two"):
        influences(*problem()).to_zarr(MemoryStore(), NumpyIdentity(), resume=True, overwrite=True)


def test_what_does_not_come_from_a_calculator_cannot_be_resumed():
    with pytest.raises(ValueError, match="Only results of a calculator"):
        LazyChunkSequence(lambda: iter([np.ones(3)])).to_zarr(
            MemoryStore(), NumpyIdentity(), resume=True
        )


def test_an_array_of_somebody_else_is_not_resumed():
    store = MemoryStore()
    zarr.create_array(store, shape=(7, 20), chunks=(2, 7), dtype="float64")
    with pytest.raises(FileExistsError, match="was not written by `to_zarr`"):
        influences(*problem()).to_zarr(store, NumpyIdentity(), resume=True)
