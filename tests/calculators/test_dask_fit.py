"""A fit on Dask arrays gives the model that a fit on the same samples in memory gives."""

import dask
import dask.array as da
import numpy as np
import pytest
from calculators.fits import METHODS, Coverless, Layered, Noisy, Undrawn, of_kind, on_dask
from curvatures import dense_curvature, dense_factors
from oracle import gradients
from reference import softmax_problem

from upweight.models import EkfacInfluence, GramInfluence, LissaInfluence

CHUNKS = {"even": (10, 10, 10), "ragged": (8, 8, 8, 6), "uneven": (1, 12, 17), "one": (30,)}


@pytest.fixture(autouse=True)
def synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


def problem(kind=Layered, **options):
    """Return an objective, 30 training samples and 7 test samples."""
    objective, train = softmax_problem(**options)
    return of_kind(kind, objective), train, softmax_problem(n=7, seed=5)[1]


def chunked(batch, sizes):
    x, y = batch
    return da.from_array(x, chunks=(sizes, x.shape[1])), da.from_array(y, chunks=(sizes,))


def assert_same(method, kind=Layered, sizes=CHUNKS["ragged"]):
    objective, train, test = problem(kind)
    local = method(objective).fit([train], progress=False)
    spread = method(objective).fit(on_dask(chunked(train, sizes)), progress=False)
    for ask in ("influence_factors", "self_influences"):
        np.testing.assert_allclose(
            getattr(spread, ask)(*test), getattr(local, ask)(*test), rtol=1e-8, atol=1e-10
        )
    return spread


@pytest.mark.parametrize("sizes", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("method", METHODS)
def test_factors_are_those_of_a_local_fit(method, sizes):
    assert_same(METHODS[method], sizes=sizes)


@pytest.mark.parametrize("method", METHODS)
def test_factors_are_the_same_with_tasks_in_threads(method):
    with dask.config.set(scheduler="threads", num_workers=4):
        assert_same(METHODS[method], sizes=(3,) * 10)


@pytest.mark.parametrize("method", METHODS)
def test_one_sample_is_enough(method):
    objective, train, test = problem(n=1)
    local = METHODS[method](objective).fit([train], progress=False)
    spread = METHODS[method](objective).fit(on_dask(chunked(train, (1,))), progress=False)
    expected = local.influence_factors(*test)
    np.testing.assert_allclose(spread.influence_factors(*test), expected, rtol=1e-8, atol=1e-10)


def test_factors_are_those_of_the_dense_curvature():
    objective, train, test = problem()
    spread = METHODS["direct"](objective).fit(on_dask(chunked(train, (8, 22))), progress=False)
    expected = dense_factors(
        dense_curvature(objective, train), gradients(objective, test), damping=0.1
    )
    np.testing.assert_allclose(spread.influence_factors(*test), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", [Undrawn, Noisy, Coverless])
@pytest.mark.parametrize("method", ["ekfac", "ekfac, exact"])
def test_statistics_of_layers_are_the_same_for_other_losses_and_models(kind, method):
    assert_same(METHODS[method], kind)


@pytest.mark.parametrize("kind", [Layered, Noisy])
def test_drawn_labels_do_not_depend_on_the_batches(kind):
    objective, train, test = problem(kind)
    x, y = train
    models = [
        EkfacInfluence(objective, draws=3).fit(batches, progress=False)
        for batches in ([train], [(x[:11], y[:11]), (x[11:], y[11:])])
    ]
    one, two = (model.influence_factors(*test) for model in models)
    np.testing.assert_allclose(two, one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "method",
    [
        lambda o: LissaInfluence(o, regularization=0.1, rtol=1e-10),
        lambda o: GramInfluence(o, landmarks=20),
    ],
    ids=["lissa", "gram"],
)
def test_methods_that_do_not_sum_read_the_chunks(method):
    objective, train, test = problem()
    x, y = train
    batches = [(x[:10], y[:10]), (x[10:], y[10:])]
    local = method(objective).fit(batches, progress=False)
    spread = method(objective).fit(on_dask(chunked(train, (10, 20))), progress=False)
    expected = local.influence_factors(*test)
    np.testing.assert_allclose(spread.influence_factors(*test), expected, rtol=1e-10, atol=1e-12)


def test_it_is_a_collection_of_batches():
    _, train, _ = problem()
    data = on_dask(chunked(train, (8, 22)))
    assert len(data) == 2
    for _ in range(2):
        joined = [np.concatenate(arrays) for arrays in zip(*data, strict=True)]
        np.testing.assert_array_equal(joined[0], train[0])
        np.testing.assert_array_equal(joined[1], train[1])


def test_inputs_may_be_several():
    objective, (x, y), test = problem()
    halves = {"a": x[:, :1], "b": x[:, 1:]}
    parts = {name: da.from_array(half, chunks=(9, -1)) for name, half in halves.items()}
    data = on_dask((parts, da.from_array(y, chunks=9)))
    spread = METHODS["direct"](objective).fit(data, progress=False)
    local = METHODS["direct"](objective).fit([(x, y)], progress=False)
    np.testing.assert_allclose(
        spread.influence_factors(*test), local.influence_factors(*test), rtol=1e-10
    )


def test_a_fit_that_keeps_no_data_has_another_damping_without_it():
    objective, train, test = problem()
    data = on_dask(chunked(train, (8, 22)))
    spread = METHODS["ekfac"](objective).fit(data, progress=False).with_regularization(0.5)
    local = METHODS["ekfac"](objective).fit([train], progress=False).with_regularization(0.5)
    assert not spread.solves_on_workers
    np.testing.assert_allclose(
        spread.influence_factors(*test), local.influence_factors(*test), rtol=1e-8
    )
