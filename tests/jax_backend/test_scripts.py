"""Jobs that the conformance kit does not try: batches in NumPy, and worker processes of Dask."""

import threading

import dask
import dask.array as da
import jax.numpy as jnp
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster
from flax import nnx

from upweight import DaskInfluenceCalculator, SequentialInfluenceCalculator
from upweight.errors import ModelError
from upweight_jax import (
    CgInfluence,
    GradientInfluence,
    JaxModel,
    JaxNumpyConverter,
    NestedJaxCatAggregator,
    cross_entropy,
)

MODES = ["up", "perturbation"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 55)
    x = (rng.standard_normal((55, 4)) + y[:, None]).astype("float32")
    return (x[:40], y[:40]), (x[40:], y[40:])


@pytest.fixture(scope="module")
def fitted(data):
    network = nnx.Sequential(
        nnx.Linear(4, 5, rngs=nnx.Rngs(0)), jnp.tanh, nnx.Linear(5, 3, rngs=nnx.Rngs(1))
    )
    influence = CgInfluence(
        network,
        cross_entropy,
        regularization=1.0,
        rtol=1e-6,
        second_order_mode="gauss_newton",
    )
    return influence.fit(batches(data[0], 16), progress=False)


@pytest.fixture(scope="module")
def expected(fitted, data):
    train, test = data
    return {mode: np.asarray(fitted.influences(*test, *train, mode=mode)) for mode in MODES}


@pytest.fixture(scope="module")
def client():
    with (
        dask.config.set({"distributed.worker.daemon": True}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def batches(part, size):
    x, y = part
    return [
        (jnp.asarray(x[i : i + size]), jnp.asarray(y[i : i + size])) for i in range(0, len(y), size)
    ]


def dask_arrays(data):
    return [
        da.from_array(array, chunks=(10, *array.shape[1:])) for part in data[::-1] for array in part
    ]


def assert_close(value, expected):
    np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4)


def test_numpy_batches_will_do(fitted, data, expected):
    train, test = data
    lazy = SequentialInfluenceCalculator(fitted).influences([test], [train])
    assert_close(lazy.compute(aggregator=NestedJaxCatAggregator()), expected["up"])


@pytest.mark.parametrize("mode", MODES)
def test_dask_on_worker_processes_into_zarr(fitted, data, expected, mode, client, tmp_path):
    calculator = DaskInfluenceCalculator(fitted, JaxNumpyConverter(), client=client)
    influences = calculator.influences(*dask_arrays(data), mode=mode)
    influences.to_zarr(str(tmp_path / "influences"))
    assert_close(zarr.open_array(str(tmp_path / "influences"), mode="r")[:], expected[mode])


def test_a_model_that_cannot_be_sent_is_refused_with_what_it_holds(client, data):
    lock = threading.Lock()

    def apply(params, x):
        with lock:
            return x @ params["w"]

    model = GradientInfluence(JaxModel(apply, {"w": np.ones((4, 3), "float32")}), cross_entropy)
    model.fit(batches(data[0], 40), progress=False)
    with pytest.raises(ModelError, match=r"worker processes.*cannot pickle '_thread.lock' object"):
        DaskInfluenceCalculator(model, JaxNumpyConverter(), client=client)
