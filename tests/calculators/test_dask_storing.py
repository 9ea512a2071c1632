"""Dask results on disk: written by workers, resumed, and never taken for complete too early."""

import signal

import dask
import dask.array as da
import numpy as np
import pytest
from calculators.dask_problems import calculator, dask_batch
from calculators.problems import MODES, DyingInfluence, dense, forget, problem, tally
from zarr.storage import MemoryStore

from upweight import (
    DataError,
    IncompleteResultError,
    InvalidDimensionChunksError,
    ResumeError,
    open_result,
)

distributed = pytest.importorskip("distributed")


class PowerCutError(Exception):
    """A worker is gone."""


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def influences(calc, test, train, mode="up", *, sizes=(3, 6)):
    return calc.influences(*dask_batch(test, sizes[0]), *dask_batch(train, sizes[1]), mode)


def begun(model, test, train, *, after, mode="up", max_memory=1):
    """Return a store in which a run broke off after so many blocks."""
    store, calc = MemoryStore(), calculator(model, max_memory=max_memory)
    array = influences(calc, test, train, mode)
    plain, left = type(model).influences_from_factors, [after]

    def until_the_power_is_cut(self, *args):
        if left[0] == 0:
            raise PowerCutError
        left[0] -= 1
        return plain(self, *args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(model), "influences_from_factors", until_the_power_is_cut)
        with pytest.raises(PowerCutError):
            calc.to_zarr(array, store, progress=False)
    return store


@pytest.mark.parametrize("max_memory", [1, "1 GiB"])
@pytest.mark.parametrize("mode", MODES)
def test_what_is_stored_is_what_is_computed(mode, max_memory):
    model, test, train = problem()
    calc = calculator(model, max_memory=max_memory)
    stored = calc.to_zarr(
        influences(calc, test, train, mode), MemoryStore(), return_stored=True, progress=False
    )
    np.testing.assert_allclose(stored[...], dense(model, test, train, mode), rtol=1e-10)
    assert stored.attrs["upweight"]["complete"] is True
    assert stored.metadata.dimension_names[:2] == ("test", "train")


def test_factors_and_self_influences_are_stored():
    model, test, train = problem()
    calc = calculator(model)
    for array, expected in (
        (calc.influence_factors(*dask_batch(test, 3)), model.influence_factors(*test)),
        (calc.self_influences(*dask_batch(train, 6)), model.self_influences(*train)),
    ):
        stored = calc.to_zarr(array, MemoryStore(), return_stored=True, progress=False)
        np.testing.assert_allclose(stored[...], expected, rtol=1e-10)


@pytest.mark.parametrize("after", range(0, 12, 3))
def test_wherever_it_broke_off_the_result_is_that_of_one_run(after):
    model, test, train = problem()
    calc = calculator(model, max_memory=1)
    whole = calc.to_zarr(
        influences(calc, test, train), MemoryStore(), return_stored=True, progress=False
    )
    store = begun(model, test, train, after=after)
    with pytest.raises(IncompleteResultError):
        open_result(store)
    forget(model)
    again = calculator(model, max_memory=1)
    again.to_zarr(influences(again, test, train), store, resume=True, progress=False)
    assert np.array_equal(open_result(store)[...], whole[...])
    computed = [call for call in model.calls if call[0] == "influences"]
    assert len(computed) == 12 - after + int(after > 0)  # one to compare


def test_another_model_is_refused():
    model, test, train = problem()
    store = begun(model, test, train, after=3)
    other = calculator(model.with_regularization(0.2), max_memory=1)
    with pytest.raises(ResumeError, match="regularization"):
        other.to_zarr(influences(other, test, train), store, resume=True, progress=False)


def test_other_parameters_are_refused():
    model, test, train = problem()
    store = begun(model, test, train, after=3)
    tally(model).weight[0, 0] += 1e-3
    other = calculator(model, max_memory=1)
    with pytest.raises(ResumeError, match="come out differently"):
        other.to_zarr(influences(other, test, train), store, resume=True, progress=False)


@pytest.mark.parametrize(("which", "name", "chunk"), [(0, "test", 2), (1, "training", 3)])
def test_other_data_is_refused_by_the_chunk_that_differs(which, name, chunk):
    model, *data = problem()
    store = begun(model, *data, after=3)
    x, y = data[which]
    data[which] = x + np.eye(len(x), 1, k=1 - len(x)), y  # the last sample only
    calc = calculator(model, max_memory=1)
    with pytest.raises(DataError, match=f"Chunk {chunk} of the {name} data"):
        calc.to_zarr(influences(calc, *data), store, resume=True, progress=False)


def test_other_chunks_are_refused():
    model, test, train = problem()
    store = begun(model, test, train, after=3)
    calc = calculator(model, max_memory=1)
    array = influences(calc, test, train, sizes=(3, 5))
    with pytest.raises(DataError, match=r"Chunk 0|same chunks"):
        calc.to_zarr(array, store, resume=True, progress=False)


def test_another_memory_makes_other_chunks_and_is_refused():
    model, test, train = problem()
    store = begun(model, test, train, after=3)
    calc = calculator(model)
    with pytest.raises((FileExistsError, ResumeError), match=r"chunks|shape"):
        calc.to_zarr(influences(calc, test, train), store, resume=True, progress=False)


def test_blocks_of_several_sizes_are_refused_before_anything_is_computed():
    model, test, _ = problem()
    calc = calculator(model)
    x, y = (da.from_array(part, chunks=((2, 3, 2), *part.shape[1:])) for part in test)
    forget(model)
    with pytest.raises(InvalidDimensionChunksError, match="Rechunk"):
        calc.to_zarr(calc.self_influences(x, y), MemoryStore(), progress=False)
    assert model.calls == []


def test_an_array_that_was_changed_is_refused():
    model, test, train = problem()
    calc = calculator(model)
    with pytest.raises(ValueError, match="as this calculator returned it"):
        calc.to_zarr(influences(calc, test, train) * 2, MemoryStore())


def test_shards_are_refused():
    model, test, train = problem()
    calc = calculator(model)
    with pytest.raises(ValueError, match="A block is a shard"):
        calc.to_zarr(influences(calc, test, train), MemoryStore(), encoding={"shards": (7, 20)})


def test_progress_is_shown_for_each_block(capsys):
    model, test, train = problem()
    calc = calculator(model, max_memory=1)
    calc.to_zarr(influences(calc, test, train), MemoryStore())
    shown = capsys.readouterr().err
    assert "Blocks" in shown
    assert "12/12" in shown


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is of POSIX")
def test_a_worker_that_is_killed_costs_its_tasks_only(tmp_path):
    plain, test, train = problem()
    model = DyingInfluence(plain._objective).fit([train], progress=False)
    model.grave = tmp_path / "grave"
    with distributed.Client(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as client:
        calc = calculator(model, client, max_memory=1)
        calc.to_zarr(influences(calc, test, train), tmp_path / "results.zarr", progress=False)
    assert model.grave.exists()
    expected = dense(plain, test, train)
    np.testing.assert_allclose(open_result(tmp_path / "results.zarr")[...], expected, rtol=1e-10)


@pytest.mark.parametrize("processes", [False, True])
def test_workers_of_a_cluster_write(tmp_path, processes):
    model, test, train = problem()
    with distributed.Client(
        processes=processes,
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=":0",
    ) as client:
        calc = calculator(model, client, max_memory=1)
        calc.to_zarr(influences(calc, test, train), tmp_path / "results.zarr", progress=False)
    expected = dense(model, test, train)
    np.testing.assert_allclose(open_result(tmp_path / "results.zarr")[...], expected, rtol=1e-10)
