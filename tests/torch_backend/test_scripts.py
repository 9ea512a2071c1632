"""The main jobs from end to end: batch after batch, and on Dask, each into Zarr."""

import dask
import numpy as np
import pytest
import torch
import zarr
from distributed import Client, LocalCluster
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset, TensorDataset

from upweight import (
    DaskInfluenceCalculator,
    DisableClientSingleThreadCheck,
    SequentialInfluenceCalculator,
)
from upweight_torch import (
    CgInfluence,
    NestedTorchCatAggregator,
    TorchCatAggregator,
    TorchNumpyConverter,
    torch_dataset_to_dask_array,
)

MODES = ["up", "perturbation"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 55)
    x = rng.standard_normal((55, 4)) + y[:, None]
    whole = TensorDataset(torch.as_tensor(x).float(), torch.as_tensor(y))
    return Subset(whole, range(40)), Subset(whole, range(40, 55))


@pytest.fixture(scope="module")
def fitted(data):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    x, y = next(iter(DataLoader(data[0], batch_size=99)))
    for _ in range(50):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    influence = CgInfluence(model, functional.cross_entropy, regularization=1.0, rtol=1e-6)
    return influence.fit(DataLoader(data[0], batch_size=16), progress=False)


@pytest.fixture(scope="module")
def expected(fitted, data):
    train, test = (next(iter(DataLoader(part, batch_size=99))) for part in data)
    return {mode: fitted.influences(*test, *train, mode=mode).numpy() for mode in MODES}


@pytest.fixture(scope="module")
def client():
    with (
        dask.config.set({"distributed.worker.daemon": True}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def loaders(data):
    return DataLoader(data[1], batch_size=10), DataLoader(data[0], batch_size=16)


def dask_arrays(data):
    return *torch_dataset_to_dask_array(data[1], 10), *torch_dataset_to_dask_array(data[0], 10)


def assert_close(value, expected):
    np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_batch_after_batch(fitted, data, expected, mode):
    calculator = SequentialInfluenceCalculator(fitted)
    lazy = calculator.influences(*loaders(data), mode=mode)
    assert_close(lazy.compute(aggregator=NestedTorchCatAggregator()), expected[mode])


@pytest.mark.parametrize("mode", MODES)
def test_batch_after_batch_into_zarr(fitted, data, expected, mode, tmp_path):
    calculator = SequentialInfluenceCalculator(fitted)
    lazy = calculator.influences(*loaders(data), mode=mode)
    lazy.to_zarr(str(tmp_path / "influences"), TorchNumpyConverter())
    assert_close(zarr.open_array(str(tmp_path / "influences"), mode="r")[:], expected[mode])


def test_from_factors(fitted, data, expected):
    test, train = loaders(data)
    calculator = SequentialInfluenceCalculator(fitted)
    factors = calculator.influence_factors(test).compute()
    lazy = calculator.influences_from_factors(factors, train)
    assert_close(lazy.compute(NestedTorchCatAggregator()), expected["up"])


def test_factors_are_one_row_a_test_sample(fitted, data):
    factors = SequentialInfluenceCalculator(fitted).influence_factors(loaders(data)[0])
    assert factors.compute(TorchCatAggregator()).shape == (15, fitted.n_parameters)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_dask_without_a_client(fitted, data, expected, mode, scheduler):
    calculator = DaskInfluenceCalculator(
        fitted, TorchNumpyConverter(), DisableClientSingleThreadCheck
    )
    lazy = calculator.influences(*dask_arrays(data), mode=mode)
    assert_close(lazy.compute(scheduler=scheduler), expected[mode])


@pytest.mark.parametrize("mode", MODES)
def test_dask_on_worker_processes_into_zarr(fitted, data, expected, mode, client, tmp_path):
    converter = TorchNumpyConverter(device=torch.device("cpu"))
    calculator = DaskInfluenceCalculator(fitted, converter=converter, client=client)
    influences = calculator.influences(*dask_arrays(data), mode=mode)
    influences.to_zarr(str(tmp_path / "influences"))
    assert_close(zarr.open_array(str(tmp_path / "influences"), mode="r")[:], expected[mode])
