"""The reference problem of the conformance kit, rebuilt in JAX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from numpy.typing import NDArray

from upweight_jax.batches import Loss
from upweight_jax.converter import JaxNumpyConverter
from upweight_jax.losses import cross_entropy
from upweight_jax.model import FunctionalModel, JaxModel


def reference(weights: Mapping[str, NDArray[Any]]) -> tuple[JaxModel, Loss, tuple[str, ...]]:
    """Return the network with these weights, its loss, and the order of its parameters.

    Raises:
        BatchError: the weights are float64, and JAX is set to single precision.
    """
    params: dict[str, dict[str, jax.Array]] = {}
    for name, value in weights.items():
        layer, _, own = name.partition(".")
        stored = value.T if own == "weight" else value  # (i, o), as in Flax
        params.setdefault(layer, {})[own] = JaxNumpyConverter().from_numpy(stored)
    model = JaxModel(_network, params)
    names = FunctionalModel(model).values  # JAX has sorted them
    return model, cross_entropy, tuple(f"{n}.T" if n.endswith(".weight") else n for n in names)


def _network(params: Any, x: jax.Array) -> jax.Array:
    hidden = jnp.tanh(x @ params["hidden"]["weight"] + params["hidden"]["bias"])
    outputs: jax.Array = hidden @ params["head"]["weight"] + params["head"]["bias"]
    return outputs
