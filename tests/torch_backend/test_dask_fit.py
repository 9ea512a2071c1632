"""A fit of torch models on Dask arrays gives the model that a fit in memory gives."""

import dask
import numpy as np
import pytest
import torch
from layer_problems import in_batches, problem
from torch.nn import functional

from upweight import DaskTrainingData, DisableClientSingleThreadCheck
from upweight_torch import (
    CgInfluence,
    DirectInfluence,
    EkfacInfluence,
    TorchNumpyConverter,
    torch_dataset_to_dask_array,
)

METHODS = {
    "direct": lambda m, loss: DirectInfluence(
        m, loss, regularization=0.1, second_order_mode="gauss_newton"
    ),
    "direct, layers": lambda m, loss: DirectInfluence(
        m,
        loss,
        regularization=0.1,
        second_order_mode="gauss_newton",
        block_structure="layer_wise",
    ),
    "cg": lambda m, loss: CgInfluence(
        m, loss, regularization=0.1, rtol=1e-12, second_order_mode="gauss_newton"
    ),
    "ekfac": lambda m, loss: EkfacInfluence(m, loss, draws=2),
    "ekfac, exact": lambda m, loss: EkfacInfluence(m, loss, fisher="exact"),
}


def on_dask(batch, size, client=DisableClientSingleThreadCheck):
    arrays = torch_dataset_to_dask_array(torch.utils.data.TensorDataset(*batch), chunk_size=size)
    return DaskTrainingData(*arrays, TorchNumpyConverter(), client)


def assert_same(method, name="mlp", loss=functional.cross_entropy, labels=None, client=None):
    model, (x, y) = problem(name)
    batch = x, y if labels is None else labels
    local = METHODS[method](model, loss).fit(in_batches(batch, 16), progress=False)
    data = on_dask(batch, 7, client) if client else on_dask(batch, 7)
    spread = METHODS[method](model, loss).fit(data, progress=False)
    expected, actual = (m.influence_factors(*batch) for m in (local, spread))
    np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-8, atol=1e-10)
    assert actual.dtype == expected.dtype


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("method", METHODS)
def test_factors_are_those_of_a_local_fit(method, scheduler):
    with dask.config.set(scheduler=scheduler):
        assert_same(method)


@pytest.mark.parametrize("name", ["convolution", "shared"])
def test_statistics_of_layers_are_those_of_a_local_fit(name):
    with dask.config.set(scheduler="synchronous"):
        assert_same("ekfac", name)


def test_labels_of_a_squared_error_are_drawn_alike():
    labels = torch.zeros(40, 3, dtype=torch.float64)
    with dask.config.set(scheduler="synchronous"):
        assert_same("ekfac", loss=functional.mse_loss, labels=labels)


@pytest.mark.parametrize("method", ["direct", "cg", "ekfac"])
def test_workers_may_be_processes(method, processes):
    assert_same(method, client=processes)


@pytest.fixture(scope="module")
def processes():
    distributed = pytest.importorskip("distributed")
    with distributed.Client(
        processes=True,
        n_workers=1,
        threads_per_worker=1,
        dashboard_address=":0",
        set_as_default=False,
    ) as client:
        yield client
