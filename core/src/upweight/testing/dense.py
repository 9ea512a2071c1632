"""What influence methods compute in their exact limit, in dense float64 NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from upweight.testing import oracle
from upweight.testing.oracle import Weights
from upweight.testing.reference import LAYERS, SHAPES, Array, P

Samples = tuple[Array, Array]


def factors(
    exact: str, weights: Weights, train: Samples, rows: Array, *, by_layer: bool, damping: float
) -> Array:
    """Return the inverse of the damped curvature times each row, (k, p).

    Args:
        exact: Which curvature, as in `Case.exact`.
        weights: The parameters.
        train: The training samples.
        rows: Vectors, (k, p).
        by_layer: Whether the curvature between layers counts as zero.
        damping: What is added to the diagonal.
    """
    if exact == "identity":
        return rows
    inverses = [
        np.linalg.inv(_within_layers(curvature, by_layer) + damping * np.eye(P))
        for curvature in _curvatures(exact, weights, *train)
    ]
    solved: Array = rows @ np.mean(inverses, axis=0)
    return solved


def _curvatures(exact: str, weights: Weights, x: Array, y: Array) -> list[Array]:
    if exact == "harmonic_mean":
        rows = [slice(i, i + 1) for i in range(len(x))]
        return [oracle.empirical_fisher(weights, x[one], y[one]) for one in rows]
    if exact == "gauss_newton":
        return [oracle.gauss_newton(weights, x)]
    function: Any = getattr(oracle, exact)
    return [function(weights, x, y)]


def _within_layers(curvature: Array, by_layer: bool) -> Array:
    if not by_layer:
        return curvature
    layer_of = np.concatenate(
        [
            np.full(math.prod(SHAPES[name]), number)
            for number, names in enumerate(LAYERS.values())
            for name in names
        ]
    )
    within: Array = curvature * (layer_of[:, None] == layer_of[None, :])
    return within
