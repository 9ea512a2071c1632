"""A run that broke off is continued: only what is missing is computed."""

import errno
import shutil

import numpy as np
import pytest
from calculators.problems import NumpyIdentity, batches, forget, joined, problem
from calculators.stored_runs import (
    KINDS,
    CutAfter,
    PowerCutError,
    begun,
    factors,
    influences,
    interrupted,
    tiny,
)
from zarr.storage import MemoryStore

from upweight import (
    IncompleteResultError,
    SequentialInfluenceCalculator,
    StoredChunks,
    open_result,
)


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


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
