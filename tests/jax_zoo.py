"""Small JAX models of many kinds, each with the same network in NumPy and random data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from complex_step import SteppedNetwork
from flax import nnx
from jax_networks import (
    CLASSES,
    Attention,
    Convolution,
    attention_forward,
    convolution_forward,
    embedded,
    embedded_forward,
    masked,
    masked_forward,
    mlp,
    mlp_forward,
    recurrent,
    recurrent_forward,
    strided,
    strided_forward,
)

import upweight_jax
from upweight_jax import JaxModel, JaxObjective, cross_entropy


@dataclass(frozen=True)
class Case:
    """A model, the same in NumPy, what it eats, and the weights in layers with their biases."""

    name: str
    make: Callable[[], Any]
    forward: Callable[[Any, Any], Any]
    inputs: Callable[[np.random.Generator, int], Any]
    covered: dict[str, str | None]

    def __str__(self):
        return self.name

    def model(self, dtype="float64"):
        """Return the model with weights that are the same in every call."""
        return cast(self.make(), dtype)

    def objective(self, dtype="float64", loss=cross_entropy, **options):
        """Return an objective, kept so that the tests share what is compiled for it."""
        key = self.name, dtype, loss, str(options)
        if key not in _OBJECTIVES:
            _OBJECTIVES[key] = JaxObjective(self.model(dtype), loss, **options)
        return _OBJECTIVES[key]

    def network(self):
        """Return the oracle."""
        values = self.objective()._problem.model.values
        return SteppedNetwork(self.forward, {name: np.asarray(v) for name, v in values.items()})

    def batch(self, n, dtype="float64", seed=0):
        """Return a batch `(x, y)` of n samples, in NumPy."""
        rng = np.random.default_rng(seed)
        x = jax.tree.map(
            lambda leaf: leaf.astype(dtype) if leaf.dtype.kind == "f" else leaf, self.inputs(rng, n)
        )
        return x, rng.integers(0, CLASSES, n)


_OBJECTIVES = {}


def cast(model, dtype):
    """Return a model of any kind with floating-point arrays of a type, no two of them equal."""
    if isinstance(model, nnx.Module):
        graph, params, rest = nnx.split(model, nnx.Param, ...)
        typed = jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, rest)
        return nnx.merge(graph, cast(params, dtype), typed)
    if isinstance(model, JaxModel):
        return JaxModel(model.apply, cast(model.params, dtype))
    floating = [leaf for leaf in jax.tree.leaves(model) if eqx.is_inexact_array(leaf)]
    rng = np.random.default_rng(len(floating))

    def one(leaf):
        if not eqx.is_inexact_array(leaf):
            return leaf
        return jnp.asarray(0.5 + 0.4 * rng.standard_normal(leaf.shape), dtype)

    return jax.tree.map(one, model)


def normal(*shape):
    return lambda rng, n: rng.standard_normal((n, *shape))


def tokens_and_mask(rng, n):
    lengths = rng.integers(1, 5, n)
    return {"tokens": rng.integers(0, 6, (n, 4)), "mask": np.arange(4) < lengths[:, None]}


def zeros(**shapes):
    return {name: jnp.zeros(shape) for name, shape in shapes.items()}


def case(name):
    """Return the case of this name."""
    return next(case for case in ZOO if case.name == name)


MLP = Case(
    "equinox mlp",
    mlp,
    mlp_forward,
    normal(4),
    {f"layers.{i}.weight": f"layers.{i}.bias" for i in range(3)},
)
CONVOLUTION = Case(
    "equinox convolution",
    Convolution,
    convolution_forward,
    normal(1, 4, 4),
    {f"{name}.weight": f"{name}.bias" for name in ("conv", "head")},
)
ATTENTION = Case(
    "nnx attention",
    Attention,
    attention_forward,
    normal(3, 4),
    {
        f"attention.{name}.kernel": f"attention.{name}.bias"
        for name in ("query", "key", "value", "out")
    }
    | {"head.kernel": "head.bias"},
)
STRIDED = Case(
    "linen convolution",
    strided,
    strided_forward,
    normal(5, 2),
    {f"{name}.kernel": f"{name}.bias" for name in ("Conv_0", "Dense_0", "Dense_1")},
)
TOKENS = Case(
    "mapping of tokens and mask",
    lambda: JaxModel(masked, {"embedding": jnp.zeros((6, 4)), "head": zeros(w=(6, CLASSES))}),
    masked_forward,
    tokens_and_mask,
    {"head.w": None},
)
LOOP = Case(
    "loop and einsum",
    lambda: JaxModel(
        recurrent,
        {
            "cell": zeros(w=(2, 4), u=(4, 4)),
            "query": zeros(w=(2, 4, 4)),
            "head": [jnp.zeros((CLASSES, 8)), jnp.zeros(CLASSES)],
        },
    ),
    recurrent_forward,
    normal(3, 2),
    {"head.0": "head.1"},
)
PAIR = Case(
    "tuple of inputs",
    lambda: JaxModel(
        embedded,
        {
            "embedding": zeros(table=(6, 3)),
            "first": zeros(w=(2, 3, 5), b=6),
            "last": zeros(w=(6, CLASSES)),
            "scale": jnp.zeros(CLASSES),
        },
    ),
    embedded_forward,
    lambda rng, n: (rng.integers(0, 6, n), rng.standard_normal((n, 2))),
    {"first.w": "first.b", "last.w": "scale"},
)

#: Every kind of model.
ZOO = [MLP, CONVOLUTION, ATTENTION, STRIDED, TOKENS, LOOP, PAIR]


def in_batches(batch, size):
    n = len(batch[1])
    return [
        jax.tree.map(lambda leaf: leaf[start : start + size], batch)  # noqa: B023
        for start in range(0, n, size)
    ]


def fitted(name, case, train, size=4, **options):
    method = getattr(upweight_jax, name)
    loss = options.pop("loss", upweight_jax.cross_entropy)
    return method(case.model(), loss, **options).fit(in_batches(train, size), progress=False)


def close(value, expected, rtol=1e-7):
    expected = np.asarray(expected)
    np.testing.assert_allclose(value, expected, rtol=0, atol=rtol * np.abs(expected).max())
