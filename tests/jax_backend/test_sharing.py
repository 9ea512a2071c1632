"""Objectives are shared by threads, and sent to other processes."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import jax
import numpy as np
import pytest
from flax import nnx
from jax_zoo import ATTENTION, MLP, STRIDED, TOKENS, ZOO

from upweight_jax import CgInfluence, JaxObjective, cross_entropy


@pytest.mark.parametrize("case", ZOO, ids=str)
def test_an_objective_may_be_sent(case):
    objective, batch = case.objective(), case.batch(3)
    expected = objective.gradients(batch)
    again = cloudpickle.loads(cloudpickle.dumps(objective))
    assert list(again.parameters.items()) == list(objective.parameters.items())
    np.testing.assert_allclose(again.gradients(batch), expected, rtol=1e-12)


def test_a_fitted_model_may_be_sent():
    train, test = STRIDED.batch(5), STRIDED.batch(2, seed=1)
    model = CgInfluence(
        STRIDED.model(),
        cross_entropy,
        regularization=1.0,
        rtol=1e-10,
        second_order_mode="gauss_newton",
    )
    expected = model.fit([train], progress=False).influences(*test, *train)
    again = cloudpickle.loads(cloudpickle.dumps(model))
    np.testing.assert_allclose(again.influences(*test, *train), expected, rtol=1e-9)


def test_what_python_can_pickle_needs_no_more():
    """A Flax module of a class that can be imported is such a model."""
    objective = JaxObjective(
        nnx.Linear(4, 3, rngs=nnx.Rngs(0), param_dtype="float64"), cross_entropy
    )
    batch = MLP.batch(3)
    again = pickle.loads(pickle.dumps(objective))
    np.testing.assert_array_equal(again.gradients(batch), objective.gradients(batch))


def test_a_process_in_single_precision_refuses_a_model_in_double(tmp_path):
    (tmp_path / "model").write_bytes(
        pickle.dumps(
            JaxObjective(nnx.Linear(4, 3, rngs=nnx.Rngs(0), param_dtype="float64"), cross_entropy)
        )
    )
    script = f"import pickle; pickle.load(open({str(tmp_path / 'model')!r}, 'rb'))"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "JAX_ENABLE_X64" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("case", [ATTENTION, TOKENS], ids=str)
def test_threads_do_not_disturb_each_other(case):
    # A loss of its own, so that the threads have to compile at once.
    objective = case.objective(loss=lambda output, y: 2 * cross_entropy(output, y))
    batches = [case.batch(3, seed=seed) for seed in range(8)]

    def work(batch):
        rows = np.ones(objective.zeros(2).shape)
        layers = objective.layers(batch)
        products = objective.hessian_product(rows, batch)
        return [products, *(layer.gradients for layer in layers.values())]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(work, batches))
    for batch, values in zip(batches, found, strict=True):
        jax.tree.map(np.testing.assert_array_equal, values, work(batch))


def test_the_model_of_the_user_stays_in_training_mode():
    class Network(nnx.Module):
        def __init__(self):
            self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
            self.layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0), param_dtype="float64")

        def __call__(self, x):
            return self.layer(self.drop(x))

    network = Network()
    objective = JaxObjective(network, cross_entropy)
    first, second = objective.losses(MLP.batch(3)), objective.losses(MLP.batch(3))
    np.testing.assert_array_equal(first, second)
    assert not network.drop.deterministic
