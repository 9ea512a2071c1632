"""Influences on a cluster: whose workers may run the model, and what travels to them."""

import cloudpickle
import pytest
from calculators.dask_problems import calculator, dask_batch
from calculators.problems import MODES, assert_close, dense, forget, problem, taken, tally

from upweight import DisableClientSingleThreadCheck, ThreadSafetyViolationError

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    """Return a function that gives the client of a worker of this process with some threads."""
    clients = {}

    def client(threads):
        if threads not in clients:
            clients[threads] = distributed.Client(
                processes=False,
                n_workers=1,
                threads_per_worker=threads,
                dashboard_address=":0",
                set_as_default=False,
            )
        return clients[threads]

    yield client
    for one in clients.values():
        one.close()
        one.cluster.close()


@pytest.fixture
def client(cluster):
    with cluster(2).as_current():
        yield cluster(2)


@pytest.mark.parametrize("mode", MODES)
def test_influences_on_a_cluster_are_those_of_one_call(client, mode):
    model, test, train = problem()
    expected = dense(model, test, train, mode)
    lazy = calculator(model, client).influences(*dask_batch(test, 3), *dask_batch(train, 6), mode)
    assert_close(lazy.compute(), expected)


@pytest.mark.parametrize("max_memory", [1, "1 GiB"])
@pytest.mark.parametrize("mode", MODES)
def test_no_factor_is_solved_twice_on_a_cluster(client, mode, max_memory):
    model, test, train = problem()
    forget(model)
    calc = calculator(model, client, max_memory=max_memory)
    calc.influences(*dask_batch(test, 2), *dask_batch(train, 7), mode).compute()
    # Workers of this process have the model itself, so that what they do is tallied here.
    assert taken(tally(model).gradients_of, test[0]) == [1] * 7


def test_a_model_that_is_not_thread_safe_is_refused_where_workers_have_several_threads(cluster):
    model, _, _ = problem(thread_safe=False)
    with pytest.raises(ThreadSafetyViolationError, match="threads_per_worker=1"):
        calculator(model, cluster(2))


def test_a_model_that_is_not_thread_safe_runs_where_workers_have_one_thread(cluster):
    model, test, train = problem(thread_safe=False)
    expected = dense(model, test, train)
    lazy = calculator(model, cluster(1)).influences(*dask_batch(test, 3), *dask_batch(train, 6))
    with cluster(1).as_current():
        assert_close(lazy.compute(), expected)


def test_the_check_of_threads_can_be_disabled(client):
    model, test, train = problem(thread_safe=False)
    expected = dense(model, test, train)
    calc = calculator(model, DisableClientSingleThreadCheck)
    assert_close(calc.influences(*dask_batch(test, 3), *dask_batch(train, 6)).compute(), expected)


def test_the_model_is_sent_once_for_all_that_is_asked(client, monkeypatch):
    sent = []
    scatter = client.scatter
    monkeypatch.setattr(client, "scatter", lambda *a, **k: sent.append(a) or scatter(*a, **k))
    model, test, train = problem()
    calc = calculator(model, client)
    for mode in MODES:
        calc.influences(*dask_batch(test, 3), *dask_batch(train, 6), mode).compute()
    assert sent == [(model,)]


@pytest.mark.parametrize("mode", MODES)
def test_the_graph_holds_a_future_in_place_of_the_model(client, mode):
    model, test, train = problem()
    model.weight_in_bytes = b"large" * 100_000
    lazy = calculator(model, client).influences(*dask_batch(test, 3), *dask_batch(train, 6), mode)
    assert len(cloudpickle.dumps(lazy.__dask_graph__())) < 100_000


def test_influences_on_disk_are_those_of_one_call(client, tmp_path):
    zarr = pytest.importorskip("zarr")
    model, test, train = problem()
    expected = dense(model, test, train)
    lazy = calculator(model, client, max_memory=1).influences(
        *dask_batch(test, 3), *dask_batch(train, 6)
    )
    lazy.to_zarr(str(tmp_path / "influences.zarr"))
    assert_close(zarr.open_array(tmp_path / "influences.zarr", mode="r")[...], expected)
