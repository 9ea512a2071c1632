"""The reference network of the conformance kit in three frameworks, with the same weights."""

from collections import OrderedDict
from functools import cache

import jax.numpy as jnp

from upweight.testing.problem import problem_of
from upweight.testing.reference import LAYERS, reference_weights
from upweight_autograd.backend import autograd_backend
from upweight_jax import JaxModel
from upweight_jax.backend import jax_backend
from upweight_jax.losses import cross_entropy
from upweight_torch.backend import torch_backend


def apply(params, x):
    hidden = jnp.tanh(x @ params["hidden"]["weight"].T + params["hidden"]["bias"])
    return hidden @ params["head"]["weight"].T + params["head"]["bias"]


def built_in_jax(weights):
    # A plain dict is sorted by JAX. What is drawn at random belongs to places in a vector of
    # parameters, so that the order has to be that of the others.
    params = OrderedDict(
        (layer, OrderedDict((name.split(".")[1], jnp.asarray(weights[name])) for name in names))
        for layer, names in LAYERS.items()
    )
    return JaxModel(apply, params), cross_entropy, tuple(weights)


FRAMEWORKS = {
    "torch": (torch_backend, torch_backend.reference),
    "jax": (jax_backend, built_in_jax),
    "autograd": (autograd_backend, autograd_backend.reference),
}


@cache
def problem(framework):
    """Return the reference problem in float64."""
    backend, build = FRAMEWORKS[framework]
    return problem_of(backend, build(reference_weights("float64")), "float64")
