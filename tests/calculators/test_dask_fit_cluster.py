"""Fits on a cluster: what travels, whose workers may run, and a worker that dies."""

import dask.array as da
import numpy as np
import pytest
from calculators.fits import (
    METHODS,
    Dying,
    Layered,
    SingleThreaded,
    of_kind,
    on_dask,
)
from reference import softmax_problem

from upweight import ModelError, NonFiniteError, ThreadSafetyViolationError

distributed = pytest.importorskip("distributed")


def cluster(**options):
    return distributed.Client(dashboard_address=":0", set_as_default=False, **options)


@pytest.fixture(scope="module")
def threads():
    with cluster(processes=False, n_workers=1, threads_per_worker=2) as client:
        yield client


@pytest.fixture(scope="module")
def processes():
    with cluster(processes=True, n_workers=2, threads_per_worker=1) as client:
        yield client


def problem(kind=Layered):
    objective, train = softmax_problem()
    return of_kind(kind, objective), train


def chunked(batch, size=7):
    x, y = batch
    return da.from_array(x, chunks=(size, x.shape[1])), da.from_array(y, chunks=size)


def assert_same(method, client, *, progress=False):
    objective, train = problem()
    spread = METHODS[method](objective).fit(on_dask(chunked(train), client), progress=progress)
    local = METHODS[method](objective).fit([train], progress=False)
    np.testing.assert_allclose(
        spread.influence_factors(*train), local.influence_factors(*train), rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("method", METHODS)
def test_factors_are_those_of_a_local_fit(threads, method):
    assert_same(method, threads)


@pytest.mark.parametrize("method", ["direct", "cg", "ekfac"])
def test_workers_may_be_processes(processes, method):
    assert_same(method, processes)


def test_chunks_that_are_persisted_stay_on_the_workers(processes):
    objective, train = problem()
    data = on_dask(processes.persist(chunked(train)), processes)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in data]), train[0])
    local = METHODS["cg"](objective).fit([train], progress=False)
    spread = METHODS["cg"](objective).fit(data, progress=False)
    np.testing.assert_allclose(
        spread.influence_factors(*train), local.influence_factors(*train), rtol=1e-8, atol=1e-10
    )


def test_progress_is_reported(processes, capsys):
    assert_same("direct", processes, progress=True)
    assert "5/5" in capsys.readouterr().err


def test_an_objective_is_sent_once_and_rows_once_a_step(threads, monkeypatch):
    sent = []
    scatter = threads.scatter
    monkeypatch.setattr(
        threads, "scatter", lambda held, **k: sent.append(held.value) or scatter(held, **k)
    )
    objective, train = problem()
    model = METHODS["cg"](objective).fit(on_dask(chunked(train), threads), progress=False)
    model.influence_factors(*train)
    steps = max(model.solve_diagnostics["full"].steps)
    assert [value is objective for value in sent] == [True] + [False] * (steps + 1)


def test_a_loss_that_is_nan_names_the_chunk(processes):
    objective, (x, y) = problem()
    x[9] = np.nan
    with pytest.raises(NonFiniteError, match=r"samples \[2\]") as refused:
        METHODS["cg"](objective).fit(on_dask(chunked((x, y)), processes), progress=False)
    assert refused.value.__notes__ == ["This arose at training batch 1."]


def test_a_model_that_is_not_thread_safe_is_refused_where_workers_have_several_threads(threads):
    objective, train = problem(SingleThreaded)
    with pytest.raises(ThreadSafetyViolationError, match="threads_per_worker=1"):
        METHODS["direct"](objective).fit(on_dask(chunked(train), threads), progress=False)


def test_a_model_that_cannot_be_pickled_is_refused(processes):
    objective, train = problem()
    objective.hook = (i for i in ())
    with pytest.raises(ModelError, match="generator"):
        METHODS["direct"](objective).fit(on_dask(chunked(train), processes), progress=False)


def test_a_fit_survives_the_death_of_a_worker(tmp_path):
    objective, train = problem(Dying)
    objective.grave = tmp_path / "grave"
    with cluster(processes=True, n_workers=2, threads_per_worker=1) as client:
        spread = METHODS["direct"](objective).fit(on_dask(chunked(train), client), progress=False)
    assert objective.grave.exists()
    local = METHODS["direct"](objective).fit([train], progress=False)
    np.testing.assert_allclose(
        spread.influence_factors(*train), local.influence_factors(*train), rtol=1e-10
    )
