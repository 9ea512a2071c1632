r"""Derivatives of the reference problem, written by hand in NumPy.

First derivatives are those of the chain rule. Second ones are complex steps of these,
\(f'(t) = \operatorname{Im} f(t + ih) / h\), exact to rounding for the tiny h that they allow: hence
nothing here takes a magnitude or a maximum. Vectors are flattened in the order of
`upweight.testing.reference.SHAPES`.

References:
    Squire and Trapp, "Using Complex Variables to Estimate Derivatives of Real Functions",
    SIAM Review 40 (1998).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = Mapping[str, Array]

#: So small that its square vanishes beside 1.
STEP = 1e-30


def outputs(weights: Weights, x: Array) -> Array:
    """Return the outputs of the network, (n, c)."""
    return _hidden(weights, x) @ weights["head.weight"].T + weights["head.bias"]


def losses(weights: Weights, x: Array, y: Array) -> Array:
    """Return the cross-entropy of each sample, (n,)."""
    z = outputs(weights, x)
    total: Array = np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]
    return total


def slopes(weights: Weights, x: Array, y: Array) -> Array:
    """Return the gradient of each loss in the output, (n, c)."""
    slope = _probabilities(weights, x)
    slope[np.arange(len(y)), y] -= 1
    return slope


def layers(weights: Weights, x: Array, directions: Array) -> dict[str, tuple[Array, Array]]:
    """Return inputs (n, i) and output gradients (n, o) of each layer, for directions (n, c)."""
    hidden = _hidden(weights, x)
    below = directions @ weights["head.weight"] * (1 - hidden**2)
    return {"hidden": (x, below), "head": (hidden, directions)}


def output_gradients(weights: Weights, x: Array, directions: Array) -> Array:
    """Return Jᵀu for the direction u of each sample, with J the Jacobian of its output, (n, p)."""
    pieces = []
    for inputs, gradients in layers(weights, x, directions).values():
        outer = gradients[:, :, None] * inputs[:, None, :]
        pieces += [outer.reshape(len(x), -1), gradients]
    return np.concatenate(pieces, axis=1)


def gradients(weights: Weights, x: Array, y: Array) -> Array:
    """Return the gradient of each loss in the parameters, (n, p)."""
    return output_gradients(weights, x, slopes(weights, x, y))


def hessian(weights: Weights, x: Array, y: Array) -> Array:
    """Return the Hessian of the mean loss, (p, p)."""
    theta = np.concatenate([value.ravel() for value in weights.values()])
    rows = []
    for moved in theta + 1j * STEP * np.eye(len(theta)):
        values, start = {}, 0
        for name, value in weights.items():
            values[name] = moved[start : start + value.size].reshape(value.shape)
            start += value.size
        rows.append(gradients(values, x, y).mean(0).imag / STEP)
    return np.stack(rows)


def output_hessians(weights: Weights, x: Array) -> Array:
    """Return the Hessian of each loss in the output, (n, c, c)."""
    q = _probabilities(weights, x)
    curved: Array = q[:, :, None] * np.eye(q.shape[1]) - q[:, :, None] * q[:, None, :]
    return curved


def gauss_newton(weights: Weights, x: Array) -> Array:
    """Return the Gauss-Newton matrix of the mean loss, (p, p)."""
    c = weights["head.bias"].size
    jacobians = np.stack(
        [output_gradients(weights, x, np.tile(unit, (len(x), 1))) for unit in np.eye(c)], axis=1
    )
    matrices = np.swapaxes(jacobians, 1, 2) @ output_hessians(weights, x) @ jacobians
    mean: Array = matrices.mean(0)
    return mean


def empirical_fisher(weights: Weights, x: Array, y: Array) -> Array:
    """Return the mean of outer products of the gradients, (p, p)."""
    rows = gradients(weights, x, y)
    mean: Array = rows.T @ rows / len(x)
    return mean


def input_gradients(rows: Array, weights: Weights, x: Array, y: Array) -> Array:
    """Return ∇x ⟨row, ∇θ loss⟩ for each pair of a row and a sample, (k, n, *x)."""
    derivatives = []
    for unit in np.eye(math.prod(x.shape[1:])):
        moved = x + 1j * STEP * unit.reshape(x.shape[1:])
        derivatives.append(rows @ gradients(weights, moved, y).imag.T / STEP)
    return np.stack(derivatives, axis=-1).reshape(len(rows), *x.shape)


def _hidden(weights: Weights, x: Array) -> Array:
    hidden: Array = np.tanh(x @ weights["hidden.weight"].T + weights["hidden.bias"])
    return hidden


def _probabilities(weights: Weights, x: Array) -> Array:
    exponentials = np.exp(outputs(weights, x))
    normalised: Array = exponentials / exponentials.sum(1, keepdims=True)
    return normalised
