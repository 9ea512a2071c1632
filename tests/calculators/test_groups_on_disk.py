"""Results in a group, with the ids of samples beside them, and in shards of smaller chunks."""

import json

import dask.array as da
import numpy as np
import pytest
import zarr
from calculators.dask_problems import calculator, dask_batch
from calculators.problems import NumpyIdentity, batches, dense, problem
from calculators.stored_runs import factors, influences, interrupted, tiny
from zarr.storage import MemoryStore

from upweight import IncompleteResultError, SequentialInfluenceCalculator, StoredChunks, open_result

MODEL, TEST, TRAIN = problem()
EXPECTED = dense(MODEL, TEST, TRAIN)
IDS = {"test": [f"test-{i}" for i in range(7)], "train": np.arange(100, 120)}
INSIDE = {"component": "influences"}


def sequential(store, **options):
    return influences(MODEL, TEST, TRAIN).to_zarr(store, NumpyIdentity(), **options)


def on_dask(store, **options):
    calc = calculator(MODEL)
    lazy = calc.influences(*dask_batch(TEST, 2), *dask_batch(TRAIN, 7))
    return calc.to_zarr(lazy, store, progress=False, **options)


both = pytest.mark.parametrize("write", [sequential, on_dask])


@both
def test_a_group_has_the_array_and_the_ids(write, tmp_path):
    write(tmp_path / "r.zarr", **INSIDE, coords=IDS)
    stored = open_result(tmp_path / "r.zarr", "influences")
    np.testing.assert_allclose(stored[...], EXPECTED, rtol=1e-10)
    group = zarr.open_group(tmp_path / "r.zarr", mode="r")
    assert sorted(group) == ["influences", "test", "train"]
    assert group["test"][...].tolist() == IDS["test"]
    assert group["train"][...].tolist() == IDS["train"].tolist()
    assert group["train"].metadata.dimension_names == ("train",)
    plain = da.from_zarr(str(tmp_path / "r.zarr"), component="influences")
    np.testing.assert_array_equal(plain.compute(), stored[...])


@both
def test_ids_are_not_needed(write):
    store = MemoryStore()
    write(store, **INSIDE)
    assert list(zarr.open_group(store, mode="r")) == ["influences"]


def test_several_arrays_share_a_group():
    store = MemoryStore()
    sequential(store, **INSIDE, coords=IDS)
    factors(MODEL, TEST, TRAIN).to_zarr(
        store, NumpyIdentity(), component="factors", coords={"sample": IDS["test"]}
    )
    assert sorted(zarr.open_group(store, mode="r")) == [
        "factors",
        "influences",
        "sample",
        "test",
        "train",
    ]
    there = list(StoredChunks(store, NumpyIdentity(), "factors"))
    np.testing.assert_allclose(np.concatenate(there), MODEL.influence_factors(*TEST), rtol=1e-10)


@both
@pytest.mark.parametrize(
    ("coords", "message"),
    [
        ({"rows": [1]}, "ids for \\['rows'\\]; the axes are \\['test', 'train'\\]"),
        ({"train": [1.5] * 20}, "integers or strings"),
        ({"train": [[1]] * 20}, "integers or strings"),
        ({"train": [1, "a"] + [2] * 18}, "differ|integers or strings"),
        ({"train": [None] * 20}, "integers or strings"),
        ({"train": [1] * 20}, "differ"),
    ],
)
def test_ids_that_cannot_be_are_refused_before_any_work(write, coords, message):
    store = MemoryStore()
    with pytest.raises(ValueError, match=message):
        write(store, **INSIDE, coords=coords)
    assert not store._store_dict


@both
@pytest.mark.parametrize("coords", [{"train": range(19)}, {"train": range(21)}, {"test": range(8)}])
def test_another_number_of_ids_is_refused_and_what_was_computed_kept(write, coords):
    store = MemoryStore()
    with pytest.raises(ValueError, match="Pass one for each"):
        write(store, **INSIDE, coords=coords)
    if write is sequential:  # which did not know how many there are
        with pytest.raises(IncompleteResultError):
            open_result(store, "influences")
    write(store, **INSIDE, overwrite=True, coords=IDS)
    assert open_result(store, "influences").shape == EXPECTED.shape


@both
def test_ids_need_a_group(write):
    with pytest.raises(ValueError, match='component="influences"'):
        write(MemoryStore(), coords=IDS)


@both
@pytest.mark.parametrize("component", ["", "a/b", "/influences"])
def test_a_component_is_a_name(write, component):
    with pytest.raises(ValueError, match="name without slashes"):
        write(MemoryStore(), component=component)


@both
def test_other_ids_are_replaced_only_if_asked(write):
    store = MemoryStore()
    write(store, **INSIDE, coords=IDS)
    other = {"train": np.arange(20)}
    with pytest.raises(FileExistsError):
        write(store, component="again", coords=other)
    with pytest.raises(FileExistsError, match="other ids for the axis 'train'"):
        write(store, **INSIDE, coords=other, resume=True)
    write(store, **INSIDE, coords=other, overwrite=True)
    assert zarr.open_array(store, path="train")[...].tolist() == list(range(20))


def test_an_array_is_no_group():
    store = MemoryStore()
    sequential(store)
    with pytest.raises(FileExistsError, match="cannot hold 'influences' as well"):
        sequential(store, **INSIDE)


def test_a_group_is_no_array():
    store = MemoryStore()
    sequential(store, **INSIDE)
    with pytest.raises(FileExistsError, match="give `component`"):
        sequential(store)


def test_a_run_in_a_group_is_resumed(tmp_path):
    store = tmp_path / "r.zarr"
    many = tiny(influences)(MODEL, TEST, TRAIN)
    interrupted_inside(many, store)
    with pytest.raises(IncompleteResultError, match="influences is not complete: 5 of"):
        open_result(store, "influences")
    many.to_zarr(store, NumpyIdentity(), resume=True, **INSIDE, coords=IDS)
    np.testing.assert_allclose(open_result(store, "influences")[...], EXPECTED, rtol=1e-10)


def interrupted_inside(lazy, store):
    class Inside:
        def to_zarr(self, store, converter):
            return lazy.to_zarr(store, converter, **INSIDE, coords=IDS)

    interrupted(Inside(), store, after=5)


def test_what_the_group_says_is_not_what_was(tmp_path):
    store = tmp_path / "r.zarr"
    sequential(store, **INSIDE, coords=IDS)
    assert said_in_group(store) is True

    class Broken(NumpyIdentity):
        def to_numpy(self, x):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        influences(MODEL, TEST, TRAIN).to_zarr(store, Broken(), overwrite=True, **INSIDE)
    assert said_in_group(store) in {None, True}  # nothing was begun: that of before is whole

    class Later(NumpyIdentity):
        calls = 0

        def to_numpy(self, x):
            self.calls += 1
            if self.calls > 5:
                raise KeyboardInterrupt
            return x

    with pytest.raises(KeyboardInterrupt):
        influences(MODEL, TEST, TRAIN).to_zarr(store, Later(), overwrite=True, **INSIDE)
    assert said_in_group(store) is None
    sequential(store, resume=True, **INSIDE)
    assert said_in_group(store) is True


def said_in_group(path):
    """Return what the copy of the metadata in the group says of completeness, None if none is."""
    overview = json.loads((path / "zarr.json").read_text()).get("consolidated_metadata")
    if not overview:
        return None
    return overview["metadata"]["influences"]["attributes"]["upweight"]["complete"]


@both
def test_blocks_are_shards_of_the_chunks_that_are_asked_for(write):
    store = MemoryStore()
    calc = SequentialInfluenceCalculator(MODEL, progress=False)
    if write is sequential:
        lazy = calc.influences(batches(TEST, 7), batches(TRAIN, 10))
        lazy.to_zarr(store, NumpyIdentity(), encoding={"chunks": (7, 5)})
    else:
        on_workers = calculator(MODEL)
        lazy = on_workers.influences(*dask_batch(TEST, 7), *dask_batch(TRAIN, 10))
        on_workers.to_zarr(lazy, store, progress=False, encoding={"chunks": (7, 5)})
    stored = open_result(store)
    assert (stored.shards, stored.chunks) == ((7, 10), (7, 5))
    np.testing.assert_allclose(stored[...], EXPECTED, rtol=1e-10)


def test_runs_of_shards_are_resumed():
    lazy = tiny(influences)(MODEL, TEST, TRAIN)  # blocks of 2 and 7
    store = MemoryStore()
    encoding = {"chunks": (1, 7)}

    class Sharded:
        def to_zarr(self, store, converter):
            return lazy.to_zarr(store, converter, encoding=encoding)

    interrupted(Sharded(), store, after=5)
    with pytest.raises(IncompleteResultError, match="5 of about 12 blocks"):
        open_result(store)
    MODEL.calls.clear()
    stored = lazy.to_zarr(store, NumpyIdentity(), True, resume=True, encoding=encoding)
    computed = [call for call in MODEL.calls if call[0] == "influences"]
    assert len(computed) == 1 + 12 - 5  # the first values are compared
    np.testing.assert_allclose(stored[...], EXPECTED, rtol=1e-10)


@pytest.mark.parametrize("chunks", [(2, 3), (3, 7), (7,), 7, (0, 7)])
def test_chunks_that_do_not_divide_blocks_are_refused(chunks):
    with pytest.raises(ValueError, match="chunks"):
        tiny(influences)(MODEL, TEST, TRAIN).to_zarr(
            MemoryStore(), NumpyIdentity(), encoding={"chunks": chunks}
        )


@both
def test_shards_of_several_blocks_are_refused(write):
    store = MemoryStore()
    with pytest.raises(ValueError, match="A block is a shard"):
        write(store, encoding={"shards": (7, 20)})
    assert not store._store_dict
