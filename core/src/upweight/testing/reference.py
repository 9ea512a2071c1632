"""The problem that every backend rebuilds: a small network, its loss and a few samples.

The network is x ↦ head(tanh(hidden(x))) with 4 inputs, 5 hidden units and 3 outputs, where a layer
with weight W (o, i) and bias b (o,) maps a to W a + b. Its loss is the mean cross-entropy of the
softmax of the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Name and shape of each parameter, in the order in which the oracle flattens them.
SHAPES = {"hidden.weight": (5, 4), "hidden.bias": (5,), "head.weight": (3, 5), "head.bias": (3,)}

#: The parameters of each layer.
LAYERS = {"hidden": ("hidden.weight", "hidden.bias"), "head": ("head.weight", "head.bias")}

#: Number p of parameters.
P = sum(map(math.prod, SHAPES.values()))

#: What the name of a parameter ends with where a backend stores its transpose.
TRANSPOSED = ".T"


def reference_weights(dtype: str) -> dict[str, Array]:
    """Return the value of each parameter, by name."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.6, shape).astype(dtype) for name, shape in SHAPES.items()}


def training_samples(dtype: str) -> tuple[Array, Array]:
    """Return the inputs (12, 4) and labels (12,) that methods are fitted to."""
    return _samples(12, dtype, seed=1)


def held_out_samples(dtype: str) -> tuple[Array, Array]:
    """Return the inputs (4, 4) and labels (4,) whose influences are taken."""
    return _samples(4, dtype, seed=2)


def columns_of(order: Sequence[str]) -> NDArray[np.intp]:
    """Return where the numbers of a model's own vector are in the vector of the oracle, (p,).

    Args:
        order: Names of the parameters in the model's own order, with `".T"` after those that it
            stores transposed.

    Raises:
        ValueError: these are not the parameters of the reference, each once.
    """
    names = [entry.removesuffix(TRANSPOSED) for entry in order]
    if sorted(names) != sorted(SHAPES):
        raise ValueError(
            f"`build` must return the names of the parameters {list(SHAPES)} in the model's own "
            f"order, with '.T' after those that are stored transposed; got {list(order)}."
        )
    places = np.split(np.arange(P), np.cumsum([math.prod(s) for s in SHAPES.values()])[:-1])
    grids = {n: p.reshape(SHAPES[n]) for n, p in zip(SHAPES, places, strict=True)}
    return np.concatenate(
        [
            (grids[name].T if entry.endswith(TRANSPOSED) else grids[name]).ravel()
            for name, entry in zip(names, order, strict=True)
        ]
    )


def _samples(n: int, dtype: str, *, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (n, 4)).astype(dtype), rng.integers(0, 3, n)
