"""Fitted models come back bit for bit, on the same parameters and constants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_zoo import ATTENTION, CONVOLUTION, MLP, fitted
from zarr.storage import MemoryStore

import upweight_jax.plugin
from upweight import backends, load, plugins
from upweight.errors import ParametersError
from upweight.models import EkfacPreconditioner
from upweight_jax import EkfacInfluence, JaxModel, cross_entropy

METHODS = {
    "DirectInfluence": {"block_structure": "layer_wise"},
    "CgInfluence": {"preconditioner": EkfacPreconditioner()},
    "EkfacInfluence": {},
    "GramInfluence": {},
}


@pytest.fixture(autouse=True)
def _backend():
    registered = "jax" in backends()
    if not registered:
        plugins.register(upweight_jax.plugin, "jax")
    yield
    if not registered:
        plugins.unregister("jax")


def loaded(influence, model, data=None):
    store = MemoryStore()
    influence.save(store)
    return load(store, model, cross_entropy, data=data)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_loaded_is_what_was_saved(method):
    train, test = MLP.batch(9), MLP.batch(4, seed=1)
    influence = fitted(method, MLP, train, regularization=4.0, **METHODS[method])
    again = loaded(influence, MLP.model(), [tuple(map(jnp.asarray, train))])
    assert type(again) is type(influence)
    for mode in ("up", "perturbation"):
        was, now = (m.influences(*test, *train, mode=mode) for m in (influence, again))
        np.testing.assert_array_equal(was, now)
    np.testing.assert_array_equal(influence.self_influences(*test), again.self_influences(*test))


@pytest.mark.parametrize("case", [CONVOLUTION, ATTENTION], ids=str)
def test_other_kinds_of_models(case):
    train, test = case.batch(5), case.batch(2, seed=1)
    influence = fitted("EkfacInfluence", case, train)
    again = loaded(influence, case.model())
    np.testing.assert_array_equal(
        influence.influences(*test, *train), again.influences(*test, *train)
    )


def linear(params, x):
    return x @ params["kernel"] + params["bias"]


def model(bias=0.0):
    kernel = jax.random.normal(jax.random.key(0), (4, 3), "float64")
    return JaxModel(linear, {"kernel": kernel, "bias": jnp.full(3, bias, "float64")})


def test_what_was_trainable_is_so_again():
    train = MLP.batch(9)
    influence = EkfacInfluence(model(), cross_entropy, trainable=["kernel"])
    influence.fit([train], progress=False)
    again = loaded(influence, model())
    assert again.n_parameters == 12
    np.testing.assert_array_equal(influence.self_influences(*train), again.self_influences(*train))
    with pytest.raises(ParametersError, match="'bias', which has other values"):
        loaded(influence, model(bias=1e-9))
