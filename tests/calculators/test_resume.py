"""A run that broke off is continued: only what is missing is computed, and nothing else fits in."""

import errno
import shutil

import numpy as np
import pytest
import zarr
from calculators.problems import NumpyIdentity, batches, forget, joined, problem
from zarr.storage import MemoryStore

from upweight import (
    DataError,
    IncompleteResultError,
    LazyChunkSequence,
    ResumeError,
    SequentialInfluenceCalculator,
    StoredChunks,
    open_result,
)
from upweight.models import DirectInfluence

SIZES = 2, 7  # samples in test and training batches: 4 and 3 of them, the last ones shorter
ROOMY, TINY = "1 GiB", 1


class PowerCutError(Exception):
    """Nothing more is written."""


class CutAfter(NumpyIdentity):
    """A converter that breaks off after so many chunks."""

    def __init__(self, chunks):
        self.left = chunks

    def to_numpy(self, x):
        if self.left == 0:
            raise PowerCutError
        self.left -= 1
        return x


def influences(model, test, train, mode="up", *, max_memory=ROOMY):
    calc = SequentialInfluenceCalculator(model, max_memory=max_memory, progress=False)
    return calc.influences(batches(test, SIZES[0]), batches(train, SIZES[1]), mode)


def from_factors(model, test, train, *, max_memory=ROOMY):
    calc = SequentialInfluenceCalculator(model, max_memory=max_memory, progress=False)
    factors = [model.influence_factors(*batch) for batch in batches(test, SIZES[0])]
    forget(model)
    return calc.influences_from_factors(factors, batches(train, SIZES[1]))


def factors(model, test, train):
    calc = SequentialInfluenceCalculator(model, progress=False)
    return calc.influence_factors(batches(test, SIZES[0]))


def self_influences(model, test, train):
    return SequentialInfluenceCalculator(model, progress=False).self_influences(
        batches(train, SIZES[1])
    )


def tiny(make):
    return lambda *args: make(*args, max_memory=TINY)


KINDS = {
    "one group": influences,
    "many groups": tiny(influences),
    "perturbations": lambda *args: influences(*args, "perturbation"),
    "from factors": from_factors,
    "from factors, many groups": tiny(from_factors),
    "factors": factors,
    "self-influences": self_influences,
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def interrupted(lazy, store, *, after):
    with pytest.raises(PowerCutError):
        lazy.to_zarr(store, CutAfter(after))


def begun(make, *, after=5):
    """Return a store in which a run broke off."""
    store = MemoryStore()
    interrupted(make(*problem()), store, after=after)
    return store


@pytest.mark.parametrize("after", range(12))
def test_wherever_it_broke_off_the_result_is_that_of_one_run(kind, after):
    model, test, train = problem()
    whole = kind(model, test, train).to_zarr(MemoryStore(), NumpyIdentity(), return_stored=True)
    store = MemoryStore()
    try:
        kind(model, test, train).to_zarr(store, CutAfter(after))
    except PowerCutError:
        kind(model, test, train).to_zarr(store, NumpyIdentity(), resume=True)
    assert np.array_equal(open_result(store)[...], whole[...])
    assert open_result(store).shape == whole.shape


@pytest.mark.parametrize("cuts", [1, 2, 5])
def test_a_run_may_break_off_many_times(kind, cuts):
    model, test, train = problem()
    whole = kind(model, test, train).to_zarr(MemoryStore(), NumpyIdentity(), return_stored=True)
    store = MemoryStore()
    for _ in range(cuts):
        try:
            kind(model, test, train).to_zarr(store, CutAfter(2), resume=True)
        except PowerCutError:
            continue
    kind(model, test, train).to_zarr(store, NumpyIdentity(), resume=True)
    assert np.array_equal(open_result(store)[...], whole[...])


def test_only_what_is_missing_is_computed_besides_the_first_values():
    model, test, train = problem()
    store = MemoryStore()
    interrupted(tiny(influences)(model, test, train), store, after=7)  # of 12 blocks
    forget(model)
    tiny(influences)(model, test, train).to_zarr(store, NumpyIdentity(), resume=True)
    check, *computed = [call for call in model.calls if call[0] == "influences"]
    assert check == ("influences", 2, 7)
    assert computed == [
        *[("influences", 2, 7), ("influences", 2, 6)],  # of the third group
        *[("influences", 1, 7), ("influences", 1, 7), ("influences", 1, 6)],
    ]
    assert [call for call in model.calls if call[0] == "factors"] == [
        ("factors", 2),  # the check
        ("factors", 2),
        ("factors", 1),
    ]


def test_a_complete_result_is_checked_and_nothing_is_computed(kind):
    model, test, train = problem()
    store = MemoryStore()
    kind(model, test, train).to_zarr(store, NumpyIdentity())
    before = open_result(store)[...]
    forget(model)
    kind(model, test, train).to_zarr(store, NumpyIdentity(), resume=True)
    assert len(model.calls) <= 2
    assert np.array_equal(open_result(store)[...], before)


def test_there_may_be_nothing_to_resume(kind):
    store = MemoryStore()
    kind(*problem()).to_zarr(store, NumpyIdentity(), resume=True)
    assert np.all(np.isfinite(open_result(store)[...]))


@pytest.mark.parametrize("name", KINDS)
def test_an_array_that_breaks_off_cannot_be_mistaken_for_a_complete_one(name):
    store = begun(KINDS[name], after=2 if name in ("factors", "self-influences") else 5)
    with pytest.raises(IncompleteResultError, match=r"blocks are written.*resume=True"):
        open_result(store)
    values = open_result(store, incomplete=True)[...]
    assert np.any(np.isnan(values))


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


def test_the_array_is_there_in_its_final_shape_from_the_beginning():
    model, test, train = problem(n_test=8, n_train=21)
    store = MemoryStore()
    interrupted(tiny(influences)(model, test, train), store, after=2)
    assert open_result(store, incomplete=True).shape == (8, 21)


def test_the_array_says_what_it_is():
    stored = influences(*problem()).to_zarr(MemoryStore(), NumpyIdentity(), return_stored=True)
    notes = stored.attrs["upweight"]
    assert stored.metadata.dimension_names == ("test", "train")
    assert notes["identity"]["method"] == "TalliedInfluence"
    assert notes["identity"]["regularization"] == {"full": 0.1}
    assert notes["identity"]["mode"] == "up"
    assert notes["version"]
    assert {name: len(seen) for name, seen in notes["fingerprints"].items()} == {
        "test": 4,
        "training": 3,
    }


class FullDisk(MemoryStore):
    """A store that takes no more after so many blocks."""

    room = 5

    async def set(self, key, value, *args):
        if key.startswith("c/"):
            if self.room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= 1
        await super().set(key, value, *args)


def test_a_full_disk_stops_the_run_which_is_resumed_where_there_is_room():
    model, test, train = problem()
    store = FullDisk()
    with pytest.raises(OSError, match="No space left"):
        tiny(influences)(model, test, train).to_zarr(store, NumpyIdentity())
    with pytest.raises(IncompleteResultError, match="5 of about 12 blocks"):
        open_result(store)
    store.room = 100
    tiny(influences)(model, test, train).to_zarr(store, NumpyIdentity(), resume=True)
    whole = tiny(influences)(model, test, train)
    expected = whole.to_zarr(MemoryStore(), NumpyIdentity(), return_stored=True)
    assert np.array_equal(open_result(store)[...], expected[...])


@pytest.mark.parametrize("gone", ["c/1/0", ""], ids=["a block", "everything"])
def test_what_is_removed_during_the_run_is_missed_at_its_end(tmp_path, gone):
    place = tmp_path / "results.zarr"

    class Removes(CutAfter):
        def to_numpy(self, x):
            self.left -= 1
            if self.left == 0 and gone:
                (place / gone).unlink()
            elif self.left == 0:
                shutil.rmtree(place)
            return x

    with pytest.raises(IncompleteResultError, match="removed meanwhile"):
        tiny(influences)(*problem()).to_zarr(place, Removes(8))
    with pytest.raises((IncompleteResultError, FileNotFoundError)):
        open_result(place)


def test_options_of_zarr_are_passed_on():
    stored = influences(*problem()).to_zarr(
        MemoryStore(),
        NumpyIdentity(),
        return_stored=True,
        encoding={"dtype": "float32", "compressors": None},
    )
    assert (stored.dtype, stored.compressors) == (np.dtype("float32"), ())


def test_factors_on_disk_are_used_chunk_by_chunk(tmp_path):
    model, test, train = problem()
    calc = SequentialInfluenceCalculator(model, progress=False)
    place = tmp_path / "factors.zarr"
    calc.influence_factors(batches(test, 2)).to_zarr(place, NumpyIdentity())
    stored = StoredChunks(place, NumpyIdentity())
    assert [len(chunk) for chunk in stored] == [2, 2, 2, 1]
    assert len(stored) == 4
    lazy = calc.influences_from_factors(stored, batches(train, 7))
    assert np.allclose(joined(lazy), model.influences(*test, *train))


def test_factors_that_are_not_complete_are_not_used():
    store = begun(factors, after=2)
    with pytest.raises(IncompleteResultError):
        StoredChunks(store, NumpyIdentity())
