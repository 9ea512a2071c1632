"""What a fit on Dask arrays refuses, and that it says so as a local fit does."""

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
from calculators.fits import METHODS, Layered, NumpyIdentity, SingleThreaded, of_kind, on_dask
from reference import softmax_problem

from upweight import (
    BatchError,
    DaskInfluenceCalculator,
    DaskTrainingData,
    DisableClientSingleThreadCheck,
    InvalidDimensionChunksError,
    ModelError,
    NonFiniteError,
    UnalignedChunksError,
)
from upweight.models import GradientInfluence


@pytest.fixture(autouse=True)
def synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


def problem(kind=Layered):
    objective, train = softmax_problem(n=20)
    return of_kind(kind, objective), train


def data_of(train, sizes=(8, 8, 4)):
    x, y = train
    return on_dask((da.from_array(x, chunks=(sizes, 4)), da.from_array(y, chunks=(sizes,))))


@pytest.mark.parametrize("method", ["direct", "cg", "ekfac", "arnoldi", "nystroem", "harmonic"])
def test_a_loss_that_is_nan_names_the_chunk(method):
    objective, (x, y) = problem()
    x[9] = np.nan
    with pytest.raises(NonFiniteError, match=r"samples \[1\]") as refused:
        METHODS[method](objective).fit(data_of((x, y)), progress=False)
    assert refused.value.__notes__ == ["This arose at training batch 1."]


@pytest.mark.parametrize("method", ["direct", "ekfac", "arnoldi", "nystroem"])
def test_a_curvature_that_is_nan_is_refused(method):
    class Broken(Layered):
        def hessian_product(self, rows, batch):
            return super().hessian_product(rows, batch) * np.nan

        def layers(self, batch, directions=None):
            return super().layers(batch, directions * np.nan)

    objective, train = problem(Broken)
    with pytest.raises(NonFiniteError, match="curvature of"):
        METHODS[method](objective).fit(data_of(train), progress=False)


@pytest.mark.parametrize("method", ["direct", "cg"])
def test_what_the_objective_refuses_names_the_chunk(method):
    class Refusing(Layered):
        def losses(self, batch):
            if len(batch[1]) == 4:
                raise ModelError("No four samples.")
            return super().losses(batch)

    objective, train = problem(Refusing)
    with pytest.raises(ModelError, match="No four") as refused:
        METHODS[method](objective).fit(data_of(train), progress=False)
    assert refused.value.__notes__ == ["This arose at training batch 2."]


@pytest.mark.parametrize(
    ("x", "y", "error"),
    [
        (da.zeros((12, 4), chunks=(4, 4)), da.zeros(12, chunks=6), UnalignedChunksError),
        (da.zeros((12, 4), chunks=(4, 2)), da.zeros(12, chunks=4), InvalidDimensionChunksError),
        (da.zeros((0, 4)), da.zeros(0), BatchError),
        (np.zeros((12, 4)), np.zeros(12), TypeError),
    ],
    ids=["unaligned", "features", "empty", "numpy"],
)
def test_arrays_that_are_not_chunked_along_samples_are_refused(x, y, error):
    with pytest.raises(error):
        on_dask((x, y))


@pytest.mark.parametrize("client", [None, "tcp://scheduler", object()])
def test_a_client_that_is_none_is_refused(client):
    with pytest.raises(TypeError, match="DisableClientSingleThreadCheck"):
        DaskTrainingData(da.zeros((3, 4)), da.zeros(3), NumpyIdentity(), client)


def test_the_check_of_threads_can_be_disabled():
    objective, train = problem(SingleThreaded)
    assert METHODS["direct"](objective).fit(data_of(train), progress=False).is_fitted


@pytest.mark.parametrize("method", ["cg", "harmonic"])
def test_a_task_cannot_solve_with_a_model_whose_solves_are_tasks(method):
    objective, train = problem()
    model = METHODS[method](objective).fit(data_of(train), progress=False)
    with pytest.raises(ModelError, match=r"model\.influence_factors"):
        DaskInfluenceCalculator(model, NumpyIdentity(), DisableClientSingleThreadCheck)


def test_its_factors_serve_a_calculator():
    objective, train = problem()
    model = METHODS["cg"](objective).fit(data_of(train), progress=False)
    factors = da.from_array(model.influence_factors(*train), chunks=(10, 15))
    sender = GradientInfluence(objective).fit([train])
    calculator = DaskInfluenceCalculator(sender, NumpyIdentity(), DisableClientSingleThreadCheck)
    x, y = da.from_array(train[0], chunks=(8, 4)), da.from_array(train[1], chunks=8)
    influences = calculator.influences_from_factors(factors, x, y).compute()
    expected = METHODS["cg"](objective).fit([train], progress=False).influences(*train)
    np.testing.assert_allclose(influences, expected, rtol=1e-8, atol=1e-10)


def test_a_model_whose_solves_are_tasks_cannot_be_pickled():
    objective, train = problem()
    model = METHODS["cg"](objective).fit(data_of(train), progress=False)
    with pytest.raises(TypeError, match="workers of a cluster cannot be pickled"):
        cloudpickle.dumps(model)


def test_a_model_whose_solves_are_tasks_cannot_be_saved(tmp_path):
    objective, train = problem()
    objective.numpy_converter = objective.parameter_values = dict
    model = METHODS["cg"](objective).fit(data_of(train), progress=False)
    with pytest.raises(ModelError, match="nothing to save but its options"):
        model.save(tmp_path / "model.zarr")
    assert not (tmp_path / "model.zarr").exists()


@pytest.mark.parametrize("method", ["direct", "ekfac", "arnoldi", "nystroem"])
def test_other_models_forget_the_data(method):
    objective, train = problem()
    model = METHODS[method](objective).fit(data_of(train), progress=False)
    again = cloudpickle.loads(cloudpickle.dumps(model))
    np.testing.assert_array_equal(again.influence_factors(*train), model.influence_factors(*train))
    DaskInfluenceCalculator(model, NumpyIdentity(), DisableClientSingleThreadCheck)
